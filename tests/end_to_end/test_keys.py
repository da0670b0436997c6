"""Nobody comes in without a key, and nobody does more than the key allows."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from random import Random

import httpx2
import pytest

from tests.end_to_end.client import Client
from tests.receiver import Receiver
from tests.stack import API_KEY, Member, Stack, open_client
from timers.keys import Token

URL = "http://127.0.0.1:1024/never"
WISH = {"delay": 3600, "target": {"url": URL}}
ROUTES = [
    ("GET", "/v1/timers"),
    ("POST", "/v1/timers"),
    ("GET", "/v1/timers/x"),
    ("PUT", "/v1/timers/x"),
    ("PATCH", "/v1/timers/x"),
    ("DELETE", "/v1/timers/x"),
    ("POST", "/v1/timers/x/fire"),
    ("POST", "/v1/timers/x/replay"),
    ("POST", "/v1/timers/batch"),
    ("POST", "/v1/timers/batch-cancel"),
    ("GET", "/v1/stats"),
    ("GET", "/v1/nothing"),
    ("GET", "/v1"),
    ("PROPFIND", "/v1/timers"),
]


def own_address() -> str:
    """Return an address of this machine that is not its loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        address: str = probe.getsockname()[0]
        return address


async def shut_out(http: httpx2.AsyncClient) -> None:
    """Wait until a key opens nothing any more, for as long as it may take."""
    deadline = time.monotonic() + 10
    while (await http.get("/v1/stats")).status_code == 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert (await http.get("/v1/stats")).status_code == 401


@pytest.fixture(scope="module")
def key(running: Stack) -> str:
    """A key of the tenant acme."""
    return running.key("create", "--tenant", "acme", "--scopes", "read,write")


@pytest.fixture(scope="module")
def open_api(running: Stack) -> Iterator[Member]:
    """An api that listens to the network."""
    member = running.api(TIMERS_API_HOST="0.0.0.0")
    member.start()
    yield member
    member.close()


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer x",
        f"Basic {API_KEY}",
        API_KEY,
        f"Bearer {Token.new(Random(5))}",
        f"Bearer {API_KEY}x",
    ],
    ids=["none", "empty", "no token", "no key", "basic", "no scheme", "unknown", "longer"],
)
async def test_without_a_key_nothing_of_a_request_is_looked_at(
    api: Member, method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{api.port}") as http:
        refused = await http.request(method, path, headers=headers, content=b"{nothing")
    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert refused.json()["type"] == "urn:timers:problem:unauthorized"


async def test_a_key_with_another_ones_secret_opens_nothing(api: Member, key: str) -> None:
    known, other = Token.parse(key), Token.parse(API_KEY)
    assert known
    assert other
    async with open_client(api, str(Token(known.key_id, other.secret))) as http:
        assert (await http.get("/v1/timers")).status_code == 401


async def test_two_authorizations_are_none(api: Member) -> None:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{api.port}") as http:
        headers = [("authorization", f"Bearer {API_KEY}"), ("authorization", f"Bearer {API_KEY}")]
        assert (await http.get("/v1/timers", headers=headers)).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"])
async def test_what_is_not_a_timers_is_open_to_this_machine(api: Member, path: str) -> None:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{api.port}") as http:
        assert (await http.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("scopes", "reads", "writes"),
    [("read", 200, 403), ("write", 403, 201), ("read,write", 200, 201), ("admin", 200, 201)],
)
async def test_a_key_allows_what_its_scopes_say(
    running: Stack, api: Member, scopes: str, reads: int, writes: int
) -> None:
    key = running.key("create", "--tenant", "acme", "--scopes", scopes)
    async with open_client(api, key) as http:
        answers = [await http.get("/v1/stats"), await http.post("/v1/timers", json=WISH)]
    assert [answer.status_code for answer in answers] == [reads, writes]
    for answer, needed in zip(answers, ("read", "write"), strict=True):
        if answer.status_code == 403:
            assert f"scope {needed}" in answer.json()["detail"]
            assert f'scope="{needed}"' in answer.headers["www-authenticate"]


async def test_a_large_body_without_a_key_is_not_waited_for(api: Member) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"POST /v1/timers HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
    await writer.drain()
    async with asyncio.timeout(20):
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()
    await writer.wait_closed()


async def test_a_timer_of_a_tenant_is_called_and_known_by_its_name(
    consumers: list[Member], api: Member, key: str, receiver: Receiver
) -> None:
    async with open_client(api, key) as http:
        client = Client(http)
        timer = await client.schedule(receiver.url("acme"), id="order-42")
        location = (await http.put("/v1/timers/other", json=WISH)).headers["location"]
        [call] = await receiver.wait("acme")
        await client.until("order-42", "delivered")
        taken = await http.post("/v1/timers", json={"id": "order-42", **WISH})
    assert timer["id"] == call.timer_id == "order-42"
    assert location == "/v1/timers/other"
    assert taken.json()["detail"] == "a timer with the id 'order-42' exists already"


async def test_a_revoked_key_opens_nothing_within_ten_seconds(running: Stack, api: Member) -> None:
    key = running.key("create", "--tenant", "acme", "--scopes", "read")
    async with open_client(api, key) as http:
        assert (await http.get("/v1/stats")).status_code == 200
        running.key("revoke", key.split("_")[1])
        await shut_out(http)


async def test_a_successor_opens_what_the_old_key_did(running: Stack, api: Member) -> None:
    old = running.key("create", "--tenant", "rotating", "--scopes", "read,write", "--remark", "billing")
    async with open_client(api, old) as http:
        await Client(http).schedule(URL, 3600, id="mine")
    new = running.key("rotate", old.split("_")[1], "--grace", "3600")
    for key in (old, new):
        async with open_client(api, key) as http:
            assert (await Client(http).read("mine"))["id"] == "mine"
    newest = running.key("rotate", new.split("_")[1])
    rows = {line.split()[0]: line for line in running.key("list").splitlines()}
    assert "rotating" in rows[newest.split("_")[1]]
    assert "billing" in rows[newest.split("_")[1]]
    async with open_client(api, newest) as http, open_client(api, new) as gone:
        assert (await http.get("/v1/stats")).status_code == 200
        await shut_out(gone)


async def test_a_list_of_keys_shows_no_secret(running: Stack, key: str) -> None:
    listed = running.key("list")
    assert key.split("_")[1] in listed
    for token in (key, API_KEY):
        parsed = Token.parse(token)
        assert parsed
        assert parsed.secret not in listed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["create"], "--tenant"),
        (["create", "--tenant", "A/b", "--scopes", "read"], "is no tenant"),
        (["create", "--tenant", "acme", "--scopes", "root"], "is no scope"),
        (["create", "--tenant", "acme", "--scopes", ""], "is no scope"),
        (["revoke", "f" * 16], "no key has the id"),
        (["revoke", "../x"], "no key has the id"),
        (["rotate", "f" * 16], "no key in force has the id"),
        (["rotate", "f" * 16, "--grace", "-1"], "no number of seconds"),
    ],
)
async def test_a_mistaken_command_makes_nothing_and_says_why(running: Stack, arguments: list[str], said: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        running.key(*arguments)
    assert failed.value.returncode == 2
    assert said in failed.value.stderr
    assert failed.value.stdout == ""


async def test_a_table_that_was_wiped_knows_the_first_key_again(running: Stack) -> None:
    running.provision()
    rows = [line for line in running.key("list").splitlines() if "TIMERS_API_KEY" in line]
    assert [row.split()[1:3] for row in rows] == [["default", "admin"]]


async def test_from_elsewhere_the_inside_is_shown_to_an_admin_only(running: Stack, open_api: Member, key: str) -> None:
    url = f"http://{own_address()}:{open_api.port}"
    async with httpx2.AsyncClient(base_url=url) as http:

        async def get(path: str, key: str | None = None, **headers: str) -> httpx2.Response:
            return await http.get(path, headers=headers | ({"authorization": f"Bearer {key}"} if key else {}))

        assert (await get("/healthz")).status_code == 200
        assert (await get("/readyz")).json() == {"status": "ready"}
        assert (await get("/readyz", key)).json() == {"status": "ready"}
        assert (await get("/readyz", API_KEY)).json()["table"] == "up"
        assert [(await get("/metrics", shown)).status_code for shown in (None, key, API_KEY)] == [401, 403, 200]
        for name in ("x-forwarded-for", "forwarded", "x-real-ip"):
            forged = "for=127.0.0.1" if name == "forwarded" else "127.0.0.1"
            assert (await get("/metrics", **{name: forged})).status_code == 401


async def test_who_is_turned_away_is_counted(running: Stack) -> None:
    api = running.api(TIMERS_TENANT_RATE="1")
    await asyncio.to_thread(api.start)
    reader = running.key("create", "--tenant", "counted", "--scopes", "read")
    async with open_client(api, reader) as http:
        statuses = [
            (await http.post("/v1/timers", json=WISH)).status_code,
            (await http.get("/v1/stats")).status_code,
            (await http.get("/v1/stats")).status_code,
            (await http.get("/v1/stats", headers={"authorization": "Bearer x"})).status_code,
            (await http.get("/v1/stats", headers={"x-long": "a" * 40_000})).status_code,
            (await http.get("/v1/nothing", headers={"authorization": f"Bearer {API_KEY}"})).status_code,
        ]
        page = (await http.get("/metrics")).text
    assert statuses == [403, 200, 429, 401, 431, 404]
    assert dict(re.findall(r'^timers_refused_total{status="(\d+)"} (\S+)$', page, re.MULTILINE)) == {
        "401": "1.0",
        "403": "1.0",
        "408": "0.0",
        "413": "0.0",
        "429": "1.0",
        "431": "1.0",
    }


async def test_what_a_proxy_of_this_machine_forwards_is_not_from_this_machine(api: Member) -> None:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{api.port}") as http:
        assert (await http.get("/metrics", headers={"x-forwarded-for": "203.0.113.7"})).status_code == 401
        assert (await http.get("/readyz", headers={"via": "1.1 gateway"})).json() == {"status": "ready"}
