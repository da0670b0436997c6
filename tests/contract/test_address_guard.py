"""
No call reaches an address that is not allowed, however it is written and whatever DNS says.

The real client makes the calls. Wherever a bypass would lead to this machine, a real server listens there.
"""

# ruff: noqa: RUF001 look-alikes of ASCII are what some of these are about

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from infra.callbacks import HttpCallbacks, tls_context
from infra.dialling import Guard
from infra.guard import AddressList, HostList, PortList, Rules
from tests.receiver import Receiver, Reply, receiving
from timers.ports import Call
from timers.retry import Answer

PUBLIC = Rules(allow_http=True)
LOCAL_SETUP = Rules(allow_addresses=AddressList.parse("public,private,loopback"), allow_http=True)

# How this machine can be written, for curl, for getaddrinfo, or for a parser somewhere between.
THIS_MACHINE = [
    "127.0.0.1",
    "127.0.0.2",
    "127.1.2.3",
    "127.255.255.254",
    "127.1",
    "127.0.1",
    "127.0.0.1.",
    "127.0.0.1..",
    "0127.0.0.1",
    "0177.0.0.1",
    "0177.0.0.01",
    "00000177.0.0.1",
    "0177.1",
    "017700000001",
    "0x7f.0.0.1",
    "0x7F.0.0.1",
    "0x7f.1",
    "0x7f.0x0.0x0.0x1",
    "0x7f000001",
    "0x7F000001",
    "0x000000007f000001",
    "2130706433",
    "02130706433",
    "127.0x1",
    "127.000.000.001",
    "127.65535",
    "4294967295.127.0.1",
    "6425673729",
    "0",
    "00",
    "0x0",
    "0.0",
    "0.0.0.0",
    "0.0.0.1",
    "000.000.000.000",
    "localhost",
    "LOCALHOST",
    "LocalHost.",
    "localhost..",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[::0:1]",
    "[::0001]",
    "[::]",
    "[0::0]",
    "[::ffff:127.0.0.1]",
    "[::FFFF:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:0001]",
    "[::ffff:0.0.0.0]",
    "[::127.0.0.1]",
    "[::7f00:1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::127.0.0.1]",
    "[2002:7f00:1::]",
    "[2002:7f00:0001::1]",
    "[2001:0:7f00:1::80ff:fffe]",
    "[fe80::5efe:127.0.0.1]",
    "[::1%25lo]",
    "[::1%251]",
    "[fe80::1%25lo]",
    "[::1%lo]",
    "１２７.０.０.１",
    "１２７．０．０．１",
    "127。0。0。1",
    "127｡0｡0｡1",
    "127．0．0．1",
    "①②⑦.⓪.⓪.①",
    "𝟏𝟐𝟕.𝟎.𝟎.𝟏",
    "１２７.1",
    "2１30706433",
    "٠",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "ｌｏｃａｌｈｏｓｔ",
    "loca\u00adlhost",
    "localho\u017ft",
    "ℓocalhost",
    "127.0.0.1%2f",
    "127%2e0%2e0%2e1",
    "%31%32%37.0.0.1",
    "127.0.0.1%00.example.com",
    "%6c%6f%63alhost",
    "example.com@127.0.0.1",
    "1.1.1.1:80@127.0.0.1",
    "1.1.1.1%2f@127.0.0.1",
    "example.com%40127.0.0.1",
]

# What is inside somewhere else.
ELSEWHERE = [
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "012.0.0.1",
    "0xa.0.0.1",
    "167772161",
    "100.64.0.1",
    "100.127.255.255",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.43518",
    "2852039166",
    "0xa9fea9fe",
    "0xa9.0xfe.0xa9.0xfe",
    "0251.0376.0251.0376",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "3232235521",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "4294967295",
    "[::ffff:10.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[::ffff:8.8.8.8]",
    "[::169.254.169.254]",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::a00:1]",
    "[100::1]",
    "[2001::1]",
    "[2001:2::1]",
    "[2001:10::1]",
    "[2001:20::1]",
    "[2001:db8::1]",
    "[2002:a00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2620:0:1::5efe:10.0.0.1]",
    "[2620:0:1::200:5efe:a00:1]",
    "[3fff::1]",
    "[5f00::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fd00:ec2::23]",
    "[fd20:ce::254]",
    "[fd12:3456:789a::1]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fec0::1]",
    "[ff02::1]",
    "[ff05::2]",
    "[1000::1]",
    "[4000::1]",
    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]",
]

# What a name may resolve to; the last ones are no address in the usual form, which connect() would read all the same.
RESOLVED = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.1.1",
    "127.0.0.1",
    "127.8.8.8",
    "169.254.169.254",
    "172.20.0.1",
    "192.168.1.1",
    "224.0.0.251",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::80ff:fffe",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "::1%lo",
    "ff02::1",
    "localhost",
    "127.1",
    "0177.0.0.1",
    "0x7f000001",
    "2130706433",
    "127.0.0.1.",
    " 127.0.0.1",
    "１２７.0.0.1",
    "",
]

# Still refused where setup.sh has allowed loopback and private addresses.
NEVER_LOCAL = [
    "0.0.0.0",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "192.0.0.192",
    "224.0.0.1",
    "255.255.255.255",
    "[::ffff:169.254.169.254]",
    "[::ffff:127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::]",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "[fe80::1]",
    "[ff02::1]",
]


def results(addresses: list[str], port: int) -> list[ResolveResult]:
    return [
        ResolveResult(hostname="", host=host, port=port, family=socket.AF_INET, proto=0, flags=0) for host in addresses
    ]


class Dns(AbstractResolver):
    """Answers by a script, name by name, the last answer for ever; other names as getaddrinfo does without asking."""

    def __init__(self, script: Mapping[str, list[list[str]]] | None = None) -> None:
        self._script = {name: chain(answers, repeat(answers[-1])) for name, answers in (script or {}).items()}
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked += 1
        if host in self._script:
            return results(next(self._script[host]), port)
        if host.lower().rstrip(".") == "localhost":
            return results(["::1", "127.0.0.1"], port)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return results([str(info[4][0]) for info in found], port)

    async def close(self) -> None: ...


class Dialled(list[Any]):
    """The addresses that anything on this loop has dialled."""


@pytest.fixture
async def dialled(monkeypatch: pytest.MonkeyPatch) -> Dialled:
    loop: Any = asyncio.get_running_loop()
    connect, seen = loop.sock_connect, Dialled()

    async def record(sock: socket.socket, address: Any) -> None:
        seen.append(address[0])
        await connect(sock, address)

    monkeypatch.setattr(loop, "sock_connect", record)
    return seen


@pytest.fixture
async def inside() -> AsyncIterator[Receiver]:
    """What must not be reached: it listens on every address of this machine."""
    async with receiving(everywhere=True) as receiver:
        yield receiver


@cache
def tls() -> ssl.SSLContext:
    """Return the one of this run; it takes longer to make than a call."""
    return tls_context()


@asynccontextmanager
async def client(rules: Rules = PUBLIC, dns: AbstractResolver | None = None) -> AsyncIterator[HttpCallbacks]:
    async with HttpCallbacks(connections=10, rules=rules, tls=tls(), resolver=dns or Dns()) as callbacks:
        yield callbacks


async def get(callbacks: HttpCallbacks, url: str) -> Answer:
    return await callbacks.invoke(Call(url, "GET", {}, None, 5))


async def refused(rules: Rules, url: str, dialled: Dialled, dns: Dns | None = None) -> str:
    """Make a call that must be refused without any connection, and return its error."""
    async with client(rules, dns) as callbacks:
        answer = await get(callbacks, url)
    assert answer.status is None
    assert answer.error is not None
    assert dialled == []
    return answer.error


def test_there_are_more_than_a_hundred_bypasses() -> None:
    bypasses = {*THIS_MACHINE, *ELSEWHERE, *(f"name of {address}" for address in RESOLVED)}
    assert len(bypasses) == len(THIS_MACHINE) + len(ELSEWHERE) + len(RESOLVED) >= 100


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", THIS_MACHINE)
async def test_no_spelling_of_this_machine_reaches_it(
    host: str, scheme: str, inside: Receiver, dialled: Dialled
) -> None:
    await refused(PUBLIC, f"{scheme}://{host}:{inside.port}/inside", dialled)
    assert not inside.calls


async def test_without_the_guard_many_a_spelling_does_reach_it(
    inside: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table has teeth: 45 of them where this was written, as many as parsers and libraries let through."""
    async with client() as callbacks:
        monkeypatch.setattr(callbacks._guard, "admits", lambda _: True)
        answers = [await get(callbacks, f"http://{host}:{inside.port}/") for host in THIS_MACHINE]
    assert sum(answer.delivered for answer in answers) >= 25


@pytest.mark.parametrize("host", ELSEWHERE)
async def test_no_address_inside_is_dialled(host: str, dialled: Dialled) -> None:
    error = await refused(PUBLIC, f"http://{host}/", dialled)
    assert error.startswith("address: ")


def test_addresses_are_refused_when_asked_for_and_names_are_not() -> None:
    guard = Guard(PUBLIC)
    asked = [guard.forbids(f"http://{host}/") for host in [*THIS_MACHINE, *ELSEWHERE]]
    assert sum(refusal is not None for refusal in asked) >= 100
    assert guard.forbids("http://127.1/") == "127.1 is not allowed"
    assert guard.forbids("http://[::ffff:127.0.0.1]:8080/") is not None
    for allowed in ("http://example.com/", "http://localhost/", "http://1.1.1.1/", "https://[2606:4700::1]:8443/"):
        assert guard.forbids(allowed) is None


@pytest.mark.parametrize("address", RESOLVED)
async def test_no_name_leads_inside(address: str, inside: Receiver, dialled: Dialled) -> None:
    dns = Dns({"name.example": [[address]]})
    error = await refused(PUBLIC, f"http://name.example:{inside.port}/", dialled, dns)
    assert error == "address: name.example has no address that is allowed"
    assert not inside.calls


@pytest.mark.parametrize("address", RESOLVED)
async def test_what_slips_past_the_resolver_is_stopped_where_it_would_be_dialled(
    address: str, inside: Receiver, dialled: Dialled, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client() as callbacks:
        connector: Any = callbacks._session.connector
        connector._cached_hosts.add(("name.example", inside.port), results([address], inside.port))
        answer = await get(callbacks, f"http://name.example:{inside.port}/")
    assert answer.error is not None
    assert answer.error.startswith("address: ")
    assert dialled == []


@pytest.mark.parametrize("host", NEVER_LOCAL)
async def test_a_local_setup_does_not_open_the_rest(host: str, dialled: Dialled) -> None:
    assert (await refused(LOCAL_SETUP, f"http://{host}/", dialled)).startswith("address: ")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.8.7", "localhost", *(["[::1]"] * socket.has_dualstack_ipv6())])
async def test_what_is_allowed_is_reached(host: str, inside: Receiver) -> None:
    async with client(LOCAL_SETUP) as callbacks:
        assert await get(callbacks, f"http://{host}:{inside.port}/allowed") == Answer(200)
    assert Guard(LOCAL_SETUP).forbids(f"http://{host}:{inside.port}/allowed") is None
    assert len(inside["allowed"]) == 1


async def test_a_literal_that_is_refused_is_named(dialled: Dialled) -> None:
    assert await refused(PUBLIC, "http://127.0.0.1/", dialled) == "address: 127.0.0.1 is not allowed"


async def test_what_an_inner_name_resolves_to_is_not_told(dialled: Dialled) -> None:
    dns = Dns({"db.internal": [["10.20.30.40"]]})
    assert "10.20" not in await refused(PUBLIC, "http://db.internal/", dialled, dns)


@pytest.mark.parametrize("order", [["127.0.0.1", "127.0.0.9"], ["127.0.0.9", "127.0.0.1"], ["::1", "127.0.0.9"]])
async def test_of_several_addresses_only_those_allowed_are_dialled(
    order: list[str], inside: Receiver, dialled: Dialled
) -> None:
    rules = Rules(allow_addresses=AddressList.parse("127.0.0.9"), allow_http=True)
    async with client(rules, Dns({"both.example": [order]})) as callbacks:
        assert (await get(callbacks, f"http://both.example:{inside.port}/")).delivered
    assert dialled == ["127.0.0.9"]


async def test_where_the_allowed_address_does_not_answer_the_others_are_not_tried(dialled: Dialled) -> None:
    async with receiving() as lone:  # on 127.0.0.1 alone
        rules = Rules(allow_addresses=AddressList.parse("127.0.0.9"), allow_http=True)
        async with client(rules, Dns({"both.example": [["127.0.0.9", "127.0.0.1"]]})) as callbacks:
            answer = await get(callbacks, f"http://both.example:{lone.port}/")
    assert answer.error is not None
    assert answer.error.startswith("connection: ")
    assert set(dialled) == {"127.0.0.9"}
    assert not lone.calls


async def test_a_name_that_is_bound_anew_between_two_calls_leads_nowhere(inside: Receiver, dialled: Dialled) -> None:
    inside.answer("", Reply(headers={"connection": "close"}))
    rules = Rules(allow_addresses=AddressList.parse("127.0.0.9"), allow_http=True)
    dns = Dns({"rebind.example": [["127.0.0.9"], ["127.0.0.1"]]})
    url = f"http://rebind.example:{inside.port}/"

    async with client(rules, dns) as callbacks:
        first = await get(callbacks, url)
        cached = await get(callbacks, url)
        assert dns.asked == 1
        connector: Any = callbacks._session.connector
        connector.clear_dns_cache()
        bound_anew = await get(callbacks, url)

    assert (first.status, cached.status) == (200, 200)
    assert bound_anew.error == "address: rebind.example has no address that is allowed"
    assert dns.asked == 2
    assert dialled == ["127.0.0.9", "127.0.0.9"]


async def test_dns_is_asked_once_for_a_check_and_its_call(inside: Receiver, dialled: Dialled) -> None:
    """A second question, between checking and dialling, is what rebinding lives on."""
    dns = Dns({"rebind.example": [["127.0.0.9"], ["127.0.0.1"]]})
    rules = Rules(allow_addresses=AddressList.parse("127.0.0.9"), allow_http=True)
    async with client(rules, dns) as callbacks:
        await asyncio.gather(*(get(callbacks, f"http://rebind.example:{inside.port}/") for _ in range(10)))
    assert dns.asked == 1
    assert set(dialled) == {"127.0.0.9"}


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["http://127.0.0.1:{port}/inside", "//127.0.0.1:{port}/inside", "/inside"])
async def test_a_redirect_is_not_followed(status: int, location: str, inside: Receiver) -> None:
    inside.answer("hook", Reply(status, {"location": location.format(port=inside.port)}))
    async with client(LOCAL_SETUP) as callbacks:
        answer = await get(callbacks, f"http://127.0.0.1:{inside.port}/hook")
    assert answer == Answer(status, "redirect: not followed")
    assert list(inside.calls) == ["hook"]


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_a_proxy_of_the_environment_is_not_used(
    name: str, inside: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as proxy:
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with client(LOCAL_SETUP) as callbacks:
            assert (await get(callbacks, f"http://127.0.0.1:{inside.port}/")).delivered
    assert not proxy.calls


async def test_passwords_of_a_netrc_are_not_sent(
    inside: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login root password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with client(LOCAL_SETUP) as callbacks:
        assert (await get(callbacks, f"http://127.0.0.1:{inside.port}/")).delivered
    assert "authorization" not in inside[""][0].headers


@pytest.fixture
def rules_of_urls() -> Rules:
    return Rules(
        allow_addresses=AddressList.parse("loopback"),
        allow_hosts=HostList.parse("localhost, *.example, 127.0.0.1"),
        deny_hosts=HostList.parse("bad.example, *.worse.example"),
        allow_ports=PortList.parse("1024-65535"),
        allow_http=True,
    )


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://127.0.0.1:80/", "address: port 80 is not allowed"),
        ("http://127.0.0.1/", "address: port 80 is not allowed"),
        ("https://127.0.0.1/", "address: port 443 is not allowed"),
        ("http://127.0.0.1:1023/", "address: port 1023 is not allowed"),
        ("http://other.test:9000/", "address: other.test is not allowed"),
        ("http://example:9000/", "address: example is not allowed"),
        ("http://notexample:9000/", "address: notexample is not allowed"),
        ("http://bad.example:9000/", "address: bad.example is not allowed"),
        ("http://BAD.Example:9000/", "address: bad.example is not allowed"),
        ("http://bad.example.:9000/", "address: bad.example. is not allowed"),
        ("http://ｂａｄ.example:9000/", "address: bad.example is not allowed"),
        ("http://a.b.worse.example:9000/", "address: a.b.worse.example is not allowed"),
        ("http://[::1]:9000/", "address: ::1 is not allowed"),
    ],
)
async def test_hosts_and_ports_that_are_not_allowed(
    rules_of_urls: Rules, url: str, error: str, dialled: Dialled
) -> None:
    assert await refused(rules_of_urls, url, dialled) == error
    assert Guard(rules_of_urls).forbids(url) == error.removeprefix("address: ")


@pytest.mark.parametrize("host", ["localhost", "good.example", "worse.example", "a.b.example.", "127.0.0.1"])
async def test_hosts_and_ports_that_are_allowed(rules_of_urls: Rules, host: str, inside: Receiver) -> None:
    dns = Dns({name: [["127.0.0.1"]] for name in ("good.example", "worse.example", "a.b.example.")})
    async with client(rules_of_urls, dns) as callbacks:
        assert (await get(callbacks, f"http://{host}:{inside.port}/")).delivered
    assert Guard(rules_of_urls).forbids(f"http://{host}:{inside.port}/") is None


async def test_plain_http_has_to_be_allowed(dialled: Dialled) -> None:
    error = await refused(Rules(), "http://example.com/", dialled)
    assert error == "address: plain http is not allowed"
    assert Guard(Rules()).forbids("http://example.com/") == "plain http is not allowed"
