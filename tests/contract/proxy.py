"""A proxy before a table server that loses, holds up and forges what it carries."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self

Forward = Callable[[], Awaitable[bytes]]
Fault = Callable[[Forward], Awaitable[bytes | None]]
"""Gets the means to forward a request, and returns the answer to send; None closes the connection instead."""


async def refuse(_: Forward) -> bytes | None:
    """The request never gets there."""
    return None


async def lose_answer(forward: Forward) -> bytes | None:
    """The request is carried out and nobody hears of it."""
    await forward()
    return None


async def cut_answer(forward: Forward) -> bytes | None:
    """The connection breaks in the middle of the answer."""
    answer = await forward()
    return answer[:-10]


def reply(status: int, body: object) -> Fault:
    """Answer in the server's stead; ``body`` is JSON, or bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} Reply\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {len(content)}"

    async def fault(_: Forward) -> bytes | None:
        return head.encode() + b"\r\n\r\n" + content

    return fault


def meanwhile(action: Callable[[], Awaitable[Any]], then: Fault | None = None) -> Fault:
    """Do something before the request goes on."""

    async def fault(forward: Forward) -> bytes | None:
        await action()
        return await (then(forward) if then else forward())

    return fault


def afterwards(action: Callable[[], Awaitable[Any]]) -> Fault:
    """Lose the answer, and do something before anybody can notice."""

    async def fault(forward: Forward) -> bytes | None:
        await forward()
        await action()
        return None

    return fault


class Proxy:
    """Carries requests, each operation's next ones with the faults that were set for it."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._always: dict[str, Fault] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.carried: list[str] = []
        """The operations of all requests so far."""

    def fail(self, operation: str, *faults: Fault) -> None:
        self._faults[operation].extend(faults)

    def always(self, operation: str, fault: Fault) -> None:
        self._always[operation] = fault

    @property
    def endpoint(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await _message(reader)
            operation = _operation(request)
            self.carried.append(operation)
            answer = await self._fault(operation)(lambda request=request: self._forward(request))  # type: ignore[misc]
            if answer is None:
                return
            writer.write(answer)
            await writer.drain()
            if len(answer) < _length(answer):
                return

    def _fault(self, operation: str) -> Fault:
        if operation in self._always:
            return self._always[operation]
        return self._faults[operation].popleft() if self._faults[operation] else _pass_on

    async def _forward(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            writer.write(request)
            return await _message(reader)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _pass_on(forward: Forward) -> bytes | None:
    return await forward()


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(_length(head) - len(head))


def _length(message: bytes) -> int:
    """Return how long a message is as a whole, by its head."""
    head = message[: message.index(b"\r\n\r\n") + 4]
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(head) + int(value)
    return len(head)


def _operation(request: bytes) -> str:
    for line in request.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"x-amz-target":
            return value.decode().strip().rpartition(".")[2]
    return ""
