"""A client that costs next to nothing, so that the machine is left to those it drives."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TIMEOUT_S: Final = 120.0


class Broken(Exception):
    """A connection ended, or an answer made no sense."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request got."""

    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time; ``headers`` go with each."""

    def __init__(self, headers: str = "") -> None:
        self._headers = headers
        self._parts: list[bytes] = []
        self._wanted = 0
        self._have = 0
        self._waiting: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, port: int, headers: str = "") -> Connection:
        """Connect to a port of this machine."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: cls(headers), "127.0.0.1", port)
        return connection

    @property
    def usable(self) -> bool:
        """Whether a request can be sent on it."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def request(self, method: str, path: str, value: object = None) -> Answer:
        """Send a request, its body as JSON, and wait for the answer. Raises Broken."""
        body = b"" if value is None else json.dumps(value, separators=(",", ":")).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{self._headers}"
        if body:
            head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        if self._transport is None or self._transport.is_closing():
            raise Broken("not connected")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(head.encode() + b"\r\n" + body)
        try:
            return await asyncio.wait_for(self._waiting, _TIMEOUT_S)
        except TimeoutError:
            self.close()
            raise Broken(f"no answer to {method} {path} within {_TIMEOUT_S:g} s") from None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not derived from it

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Broken(f"connection lost: {exc!r}"))

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        self._have += len(data)
        if self._have < self._wanted:
            return
        whole = b"".join(self._parts)
        end = whole.find(_END)
        length = _LENGTH.search(whole, 0, end) if end >= 0 else None
        self._parts = [whole]
        if end < 0:
            return
        self._wanted = end + 4 + (int(length[1]) if length else 0)
        if self._have >= self._wanted:
            self._finish(Answer(int(whole[9:12]), whole[end + 4 : self._wanted]))

    def _finish(self, answer: Answer) -> None:
        self._parts, self._have, self._wanted = [], 0, 0
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)


class Pool:
    """Connections to one port, lent out one request at a time."""

    def __init__(self, port: int, connections: list[Connection], headers: str) -> None:
        self.port = port
        self._headers = headers
        self.size = len(connections)
        self._free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
        for connection in connections:
            self._free.put_nowait(connection)

    async def request(self, method: str, path: str, value: object = None) -> Answer:
        """Send a request on whatever connection is free. Raises Broken."""
        connection = await self._free.get()
        try:
            if not connection.usable:  # a server closes what has been idle for long
                connection = await Connection.open(self.port, self._headers)
            return await connection.request(method, path, value)
        finally:
            self._free.put_nowait(connection)

    def close(self) -> None:
        while not self._free.empty():
            self._free.get_nowait().close()


@asynccontextmanager
async def connected(port: int, size: int, headers: str = "") -> AsyncIterator[Pool]:
    """Open so many connections to a port, for as long as the context lasts."""
    pool = Pool(port, [await Connection.open(port, headers) for _ in range(size)], headers)
    try:
        yield pool
    finally:
        pool.close()
