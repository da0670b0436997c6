"""What the real client takes from a target: verified certificates only, and a bounded answer."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from consumer.__main__ import open_callbacks
from infra.callbacks import HttpCallbacks, tls_context
from infra.guard import AddressList, Rules
from infra.settings import Settings
from timers.ports import Call
from timers.retry import Answer

LOOPBACK = Rules(allow_addresses=AddressList.parse("loopback"), allow_http=True)
OK = b"HTTP/1.1 200 OK\r\n"

Respond = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate that signs itself, for ``localhost`` alone."""

    certificate: Path
    key: Path

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("tls")
    made = Authority(folder / "certificate.pem", folder / "key.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return made


@asynccontextmanager
async def serving(respond: Respond, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Give the port of a server that answers every request as told, by hand."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await respond(writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def fine(writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"content-length: 0\r\n\r\n")
    await writer.drain()


async def get(url: str, tls: ssl.SSLContext | None = None) -> Answer:
    async with HttpCallbacks(connections=1, rules=LOOPBACK, tls=tls) as callbacks:
        return await callbacks.invoke(Call(url, "GET", {}, None, 10))


async def test_a_certificate_that_nobody_vouches_for_is_refused(authority: Authority) -> None:
    async with serving(fine, authority.server()) as port:
        answer = await get(f"https://localhost:{port}/")
    assert answer.status is None
    assert answer.error is not None
    assert answer.error.startswith("tls: ")


async def test_a_certificate_of_the_file_in_the_settings_is_accepted(authority: Authority) -> None:
    async with serving(fine, authority.server()) as port:
        answer = await get(f"https://localhost:{port}/", tls_context(str(authority.certificate)))
    assert answer == Answer(200)


async def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    async with serving(fine, authority.server()) as port:
        answer = await get(f"https://127.0.0.1:{port}/", tls_context(str(authority.certificate)))
    assert answer.error is not None
    assert answer.error.startswith("tls: ")


async def test_the_authorities_of_the_system_stay_when_a_file_is_added(authority: Authority) -> None:
    alone, added = tls_context(), tls_context(str(authority.certificate))
    assert len(added.get_ca_certs()) == len(alone.get_ca_certs()) + 1
    assert (added.verify_mode, added.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert added.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("content", [None, "", "not a certificate"])
async def test_a_file_without_certificates_stops_the_start_with_one_line(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit):
        open_callbacks(Settings.from_environment({"TIMERS_CA_FILE": str(file)}))
    error = capsys.readouterr().err
    assert error.startswith(f"timers: TIMERS_CA_FILE='{file}': no certificates")
    assert error.count("\n") == 1


class Endless:
    """Writes for as long as it is let, and counts."""

    def __init__(self, head: bytes, again: bytes) -> None:
        self._head = head
        self._again = again
        self.written = 0

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self._head)
        while True:
            writer.write(self._again)
            await writer.drain()
            self.written += len(self._again)


MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("head", "again"),
    [
        (OK + b"\r\n", b"x" * 65536),
        (OK + b"content-length: 9999999999999\r\n\r\n", b"x" * 65536),
        (OK + b"transfer-encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        (OK + b"content-encoding: gzip\r\n\r\n", gzip.compress(bytes(10 * MIB))),
    ],
    ids=["until it closes", "of a length", "in chunks", "a gzip bomb"],
)
async def test_of_an_endless_answer_little_is_read(head: bytes, again: bytes) -> None:
    endless = Endless(head, again)
    async with serving(endless) as port, asyncio.timeout(5):
        answer = await get(f"http://127.0.0.1:{port}/")
    assert answer == Answer(200)
    assert endless.written < 8 * MIB  # what the kernel's buffers of both ends may hold


@pytest.mark.parametrize(
    ("head", "again"),
    [
        (OK + b"x: ", b"x" * 65536),
        (OK, b"x: y\r\n" * 10_000),
        (b"", b"x" * 65536),
        (b"HTTP/1.1 200 ", b"O" * 65536),
    ],
    ids=["one header", "headers", "no protocol", "a reason"],
)
async def test_endless_headers_are_an_error(head: bytes, again: bytes) -> None:
    endless = Endless(head, again)
    async with serving(endless) as port, asyncio.timeout(5):
        answer = await get(f"http://127.0.0.1:{port}/")
    assert answer.status is None
    assert answer.error is not None
    assert answer.error.startswith("connection: ")
    assert len(answer.error) <= 256
    assert endless.written < 8 * MIB
