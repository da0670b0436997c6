"""What is refused before it is read: too many requests at once, too many headers, too much body or too slow a one."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Final

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem
from infra.metrics import REFUSED

MAX_REQUEST_BYTES: Final = 1024 * 1024
MAX_BATCH_BYTES: Final = 16 * 1024 * 1024
_MAX_BYTES_HELD: Final = 4 * MAX_BATCH_BYTES
_MAX_HEADERS: Final = 100
_MAX_HEADER_BYTES: Final = 32 * 1024
_BATCHES: Final = frozenset({"/v1/timers/batch", "/v1/timers/batch-cancel"})
_LEASE: Final = re.compile(r"/v1/queues/[^/]*/lease")
_ALWAYS: Final = frozenset({"/healthz", "/readyz", "/metrics"})


@dataclass(slots=True)
class _Places:
    most: int
    taken: int = 0


class Bounds:
    """
    ASGI middleware.

    ``pending`` is how many requests may be in progress at once, ``patience`` how many seconds a body may take.
    Requests that may wait for timers of a pull queue count by themselves, up to ``waiting``: neither kind keeps the
    other out. Whoever is turned away, here or further in, is counted.
    """

    def __init__(self, app: ASGIApp, *, pending: int, waiting: int, patience: float) -> None:
        self._app = app
        self._pending = _Places(pending)
        self._waiting = _Places(waiting)
        self._patience = patience
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in REFUSED:
                scope["app"].state.parts.refused(message["status"])
            await send(message)

        await self._admit(scope, receive, counted)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _too_many_headers(scope):
            await problem(431, "Too many or too large headers.")(scope, receive, send)
            return
        places = self._waiting if may_wait(scope["path"]) else self._pending
        if places.taken >= places.most and scope["path"] not in _ALWAYS:
            answer = problem(429, "Too many requests are in progress.", {"retry-after": "1"})
            await answer(scope, receive, send)
            return
        places.taken += 1
        try:
            await self._pass(scope, receive, send)
        finally:
            places.taken -= 1

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(receive, MAX_BATCH_BYTES if scope["path"] in _BATCHES else MAX_REQUEST_BYTES, self._patience)

        async def bounded() -> Message:
            message = await body.receive()
            size = len(message.get("body", b""))
            if self._held + size > _MAX_BYTES_HELD:
                raise HTTPException(429, "Too much is being read.", {"retry-after": "1", "connection": "close"})
            self._held += size
            body.held += size
            return message

        try:
            await self._app(scope, bounded, send)
        finally:
            self._held -= body.held


class _Body:
    """The body of one request, of ``most`` bytes and in ``patience`` seconds from when it is first asked for."""

    def __init__(self, receive: Receive, most: int, patience: float) -> None:
        self._receive = receive
        self._most = most
        self._patience = patience
        self._until: float | None = None
        self._whole = False
        self.held = 0

    async def receive(self) -> Message:
        if self._whole:  # what is awaited now is the end of the connection
            return await self._receive()
        if self._until is None:
            self._until = asyncio.get_running_loop().time() + self._patience
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            detail = f"The body did not arrive within {self._patience:g} s."
            raise HTTPException(408, detail, {"connection": "close"}) from None
        self._whole = not message.get("more_body", False)
        if self.held + len(message.get("body", b"")) > self._most:
            raise HTTPException(413, f"This request has at most {self._most} bytes.", {"connection": "close"})
        return message


def may_wait(path: str) -> bool:
    """Whether a request to a path may wait for timers of a pull queue: such count by themselves."""
    return _LEASE.fullmatch(path) is not None


def _too_many_headers(scope: Scope) -> bool:
    headers = scope["headers"]
    return len(headers) > _MAX_HEADERS or sum(len(k) + len(v) for k, v in headers) > _MAX_HEADER_BYTES
