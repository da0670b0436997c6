"""A consumer's own pages, over real connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx2
import pytest

from consumer.health import Pages, serve
from infra.connections import Patience
from tests.services.port import free_port

BOUND_S: Final = 30.0
"""Far longer than anything here may take, so that what hangs fails."""

CONNECTIONS: Final = 20
PATIENCE: Final = Patience(connections=CONNECTIONS, seconds=0.3)


class Broker:
    """Whether the broker is up."""

    def __init__(self) -> None:
        self.up = True


@asynccontextmanager
async def served(broker: Broker | None = None) -> AsyncIterator[int]:
    """Serve the pages, and give their port."""
    shown = broker or Broker()
    port = free_port()
    async with serve("127.0.0.1", port, Pages({"broker": lambda: shown.up}, lambda: b"timers 1\n"), patience=PATIENCE):
        yield port


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Read until the other side has ended the connection, whichever way."""
    async with asyncio.timeout(BOUND_S):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def test_the_pages_tell_how_the_consumer_does() -> None:
    broker = Broker()
    async with served(broker) as port, httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        alive, ready, page = [await http.get(path) for path in ("/healthz", "/readyz", "/metrics")]
        broker.up = False
        waiting = await http.get("/readyz")
        statuses = [(await http.request(*asked)).status_code for asked in (("GET", "/x"), ("POST", "/readyz"))]
        head = await http.head("/metrics")
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "broker": "up"})
    assert (waiting.status_code, waiting.json()) == (503, {"status": "not ready", "broker": "down"})
    assert (page.text, page.headers["content-type"].split(";")[0]) == ("timers 1\n", "text/plain")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "9")
    assert statuses == [404, 405]


async def test_port_0_is_no_page() -> None:
    async with serve("127.0.0.1", 0, Pages({}, bytes)):
        pass


@pytest.mark.parametrize("said", [b"", b"GET /metrics HTTP/1.1\r\nhost: a\r\nx-a: "], ids=["nothing", "half a head"])
async def test_who_keeps_the_page_waiting_is_cut_off(said: bytes) -> None:
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        assert await rest(reader) == b""
        writer.transport.abort()


async def test_a_head_without_end_is_cut_off() -> None:
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\nx-a: " + b"a" * 1_000_000)
        await rest(reader)
        writer.transport.abort()


async def test_connections_of_others_that_say_nothing_keep_nobody_out() -> None:
    async with served() as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3 * CONNECTIONS)]
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            answer = await http.get("/healthz")
        assert await asyncio.gather(*(rest(reader) for reader, _ in silent)) == [b""] * len(silent)
        for _, writer in silent:
            writer.transport.abort()
    assert answer.status_code == 200


async def test_the_end_waits_for_nobody() -> None:
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        await reader.readuntil(b"alive")
    assert b"HTTP" not in await rest(reader)
    writer.transport.abort()
