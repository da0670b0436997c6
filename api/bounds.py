"""What is refused before it is read: too many requests at once, too many headers, too much body."""

from __future__ import annotations

from typing import Final

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem

MAX_REQUEST_BYTES: Final = 1024 * 1024
MAX_BATCH_BYTES: Final = 16 * 1024 * 1024
_MAX_HEADERS: Final = 100
_MAX_HEADER_BYTES: Final = 32 * 1024
_BATCHES: Final = frozenset({"/v1/timers/batch", "/v1/timers/batch-cancel"})
_ALWAYS: Final = frozenset({"/healthz", "/readyz", "/metrics"})


class Bounds:
    """ASGI middleware; ``pending`` is how many requests may be in progress at once."""

    def __init__(self, app: ASGIApp, *, pending: int) -> None:
        self._app = app
        self._most = pending
        self._pending = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _too_many_headers(scope):
            await problem(431, "Too many or too large headers.")(scope, receive, send)
        elif self._pending >= self._most and scope["path"] not in _ALWAYS:
            answer = problem(429, "Too many requests are in progress.", {"retry-after": "1"})
            await answer(scope, receive, send)
        else:
            await self._pass(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        read = 0
        most = MAX_BATCH_BYTES if scope["path"] in _BATCHES else MAX_REQUEST_BYTES

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise HTTPException(413, f"This request has at most {most} bytes.", {"connection": "close"})
            return message

        self._pending += 1
        try:
            await self._app(scope, bounded, send)
        finally:
            self._pending -= 1


def _too_many_headers(scope: Scope) -> bool:
    headers = scope["headers"]
    return len(headers) > _MAX_HEADERS or sum(len(k) + len(v) for k, v in headers) > _MAX_HEADER_BYTES
