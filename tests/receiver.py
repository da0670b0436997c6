"""A real HTTP server that takes the calls of a test's timers and answers as told."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain, repeat

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Received:
    """One call, as it arrived; times in epoch milliseconds."""

    at_ms: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def timer_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def attempt(self) -> int:
        return int(self.headers["timer-attempt"])


@dataclass(slots=True)
class Reply:
    """What a call gets, after ``after`` seconds; ``never`` keeps it waiting until the receiver closes."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    after: float = 0.0
    never: bool = False


class Receiver:
    """Calls by path, in the order of their arrival."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.calls: dict[str, list[Received]] = defaultdict(list)
        self.open_calls: dict[str, int] = defaultdict(int)
        self.most_open: dict[str, int] = defaultdict(int)
        self._replies: dict[str, Iterator[Reply]] = {}
        self._arrived = asyncio.Event()
        self._closing = asyncio.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def answer(self, path: str, *replies: Reply) -> None:
        """Answer a path with these in turn, and with the last one from then on."""
        self._replies[path] = chain(replies, repeat(replies[-1]))

    def __getitem__(self, path: str) -> list[Received]:
        return self.calls[path]

    async def wait(self, path: str, count: int = 1, timeout: float = 30) -> list[Received]:
        """Wait until a path was called ``count`` times and return its calls."""
        await self.until(lambda: len(self.calls[path]) >= count, timeout, f"{count} calls of {path}")
        return self.calls[path]

    async def until(self, condition: Callable[[], bool], timeout: float, wanted: str) -> None:
        """Wait until a condition over the calls holds."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            seen = {path: len(calls) for path, calls in self.calls.items()}
            raise AssertionError(f"no {wanted} within {timeout} s, but {seen}") from None

    def close(self) -> None:
        self._closing.set()

    async def handle(self, request: web.Request) -> web.Response:
        at_ms = time.time_ns() // 1_000_000
        path = request.path.removeprefix("/")
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.open_calls[path] += 1
        self.most_open[path] = max(self.most_open[path], self.open_calls[path])
        try:
            body = await request.read()
            self.calls[path].append(Received(at_ms, request.method, path, headers, body))
            self._arrived.set()
            reply = next(self._replies.get(path) or iter([Reply()]))
            if reply.never:
                await self._closing.wait()
            await asyncio.sleep(reply.after)
            return web.Response(status=reply.status, headers=reply.headers, body=reply.body)
        finally:
            self.open_calls[path] -= 1


@asynccontextmanager
async def receiving(port: int = 0, *, everywhere: bool = False) -> AsyncIterator[Receiver]:
    """Serve on 127.0.0.1, or on every address of the machine, on a free port unless told which."""
    app = web.Application(client_max_size=2**20)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
    receiver = Receiver(port)
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    await runner.setup()
    listening = _everywhere(port) if everywhere else socket.create_server(("127.0.0.1", port))
    await web.SockSite(runner, listening).start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        receiver.close()
        await runner.cleanup()


def _everywhere(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))
