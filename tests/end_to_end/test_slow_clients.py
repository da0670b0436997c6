"""Who says nothing, speaks a byte at a time or does not listen is cut off, and keeps nobody else from being served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx2
import pytest

from tests.end_to_end.client import Client
from tests.stack import Member, Stack

PATIENCE_S: Final = 60.0
CONNECTIONS: Final = 60
HEAD: Final = b"POST /v1/timers HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def api(running: Stack) -> Member:
    member = running.api(TIMERS_API_CONNECTIONS=str(CONNECTIONS), TIMERS_API_PATIENCE="1")
    member.start()
    return member


@pytest.fixture
def consumers() -> list[Member]:
    """Nobody calls anybody here."""
    return []


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(api: Member, limit: int = 2**16) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=limit)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def drip(writer: asyncio.StreamWriter, text: bytes) -> None:
    """Send a byte at a time, and the last one again and again."""
    while not writer.is_closing():
        writer.write(text[:1])
        text = text[1:] or text
        await asyncio.sleep(0.05)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Read until the other side has ended the connection, whichever way."""
    received = b""
    async with asyncio.timeout(PATIENCE_S):
        try:
            while part := await reader.read(2**16):
                received += part
        except ConnectionResetError:
            pass
    return received


async def ask_on(writer: asyncio.StreamWriter, request: bytes) -> None:
    """Send a request again and again until the other side ends the connection. Raises ConnectionError."""
    while True:
        writer.write(request)
        await writer.drain()
        await asyncio.sleep(0.01)


async def cut_off(streams: Streams, before: bytes, dripped: bytes) -> bytes:
    """Send something, drip the rest, and return what is answered until the end of the connection."""
    reader, writer = streams
    writer.write(before)
    dripping = asyncio.create_task(drip(writer, dripped))
    try:
        return await rest(reader)
    finally:
        dripping.cancel()


async def test_who_says_nothing_is_cut_off(client: Client, api: Member) -> None:
    async with connected(api) as (reader, _):
        assert await rest(reader) == b""
    assert (await client.http.get("/healthz")).status_code == 200


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"], ids=["first", "second"])
@pytest.mark.parametrize("dripped", [HEAD + b"x-a: " + b"a" * 10_000, b"\r\n" * 10_000], ids=["head", "blank"])
async def test_who_sends_the_head_of_a_request_byte_by_byte_is_cut_off(
    client: Client, api: Member, before: bytes, dripped: bytes
) -> None:
    async with connected(api) as streams:
        answered = await cut_off(streams, before, dripped)
    assert answered.count(b"HTTP/1.1 200") == bool(before)


@pytest.mark.parametrize(
    ("framing", "dripped"),
    [
        (b"content-length: 100000\r\n", b'{"delay": 1, "target": '),
        (b"transfer-encoding: chunked\r\n", b"1\r\n{\r\n" * 9999),
    ],
    ids=["length", "chunks"],
)
@pytest.mark.parametrize("path", [b"/v1/timers", b"/v1/timers/batch"])
async def test_who_sends_a_body_byte_by_byte_is_told_and_cut_off(
    client: Client, api: Member, path: bytes, framing: bytes, dripped: bytes
) -> None:
    authorization = client.http.headers.get("authorization", "")
    head = HEAD.replace(b"/v1/timers", path) + framing + f"authorization: {authorization}\r\n\r\n".encode()
    async with connected(api) as streams:
        answered = await cut_off(streams, head, dripped)
    assert answered.startswith(b"HTTP/1.1 408 ")
    assert b"urn:timers:problem:too-slow" in answered


async def test_a_head_without_end_is_cut_off(client: Client, api: Member) -> None:
    async with connected(api) as (reader, writer):
        writer.write(HEAD + b"x-a: " + b"a" * 1_000_000)
        await rest(reader)
    async with connected(api) as (reader, writer):
        writer.write(HEAD + b"".join(b"x-%d: a\r\n" % number for number in range(50_000)))
        await rest(reader)


async def test_who_does_not_read_answers_is_cut_off(client: Client, api: Member) -> None:
    """Every answer that waits is memory; the document of the api is some tens of kilobytes."""
    async with connected(api, limit=1) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        request = b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n"
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(ask_on(writer, request), PATIENCE_S)


async def test_connections_of_others_that_say_nothing_keep_nobody_out(client: Client, api: Member) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(3 * CONNECTIONS)]
    try:
        async with httpx2.AsyncClient(base_url=client.http.base_url, headers=client.http.headers, timeout=10) as http:
            timers = [await Client(http).schedule("https://example.com/", 3600) for _ in range(20)]
        ended = [asyncio.create_task(rest(reader)) for reader, _ in silent]
        assert await asyncio.gather(*ended) == [b""] * len(silent)
    finally:
        for _, writer in silent:
            writer.transport.abort()
    assert len(timers) == 20


async def test_slow_batches_keep_no_batch_waiting(client: Client, api: Member) -> None:
    authorization = client.http.headers.get("authorization", "")
    head = HEAD.replace(b"/v1/timers", b"/v1/timers/batch") + b"content-length: 99\r\n"
    head += f"authorization: {authorization}\r\n\r\n".encode() + b"{"
    slow = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(20)]
    try:
        for _, writer in slow:
            writer.write(head)
            await writer.drain()
        answer = await client.http.post("/v1/timers/batch", json={"timers": []}, timeout=10)
        open_still = [not reader.at_eof() for reader, _ in slow]
    finally:
        for _, writer in slow:
            writer.transport.abort()
    assert answer.status_code == 200
    assert all(open_still)
