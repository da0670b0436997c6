"""A consumer's own pages: /healthz (alive), /readyz (what is missing) and /metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from infra.connections import Connection, Patience
from infra.metrics import CONTENT_TYPE

PATIENCE: Final = Patience(connections=100, seconds=10.0)

_OFF: Final = 0
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Pages:
    """ASGI application; ``checks`` tell by name what is up."""

    checks: Mapping[str, Callable[[], bool]]
    metrics: Callable[[], bytes]

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        status, content_type, body = self._page(scope["method"], scope["path"])
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _page(self, method: str, path: str) -> tuple[int, str, bytes]:
        if method not in ("GET", "HEAD"):
            return 405, _JSON, _json(status="method not allowed")
        match path:
            case "/healthz":
                return 200, _JSON, _json(status="alive")
            case "/readyz":
                parts = {name: "up" if check() else "down" for name, check in self.checks.items()}
                missing = "down" in parts.values()
                return 503 if missing else 200, _JSON, _json(status="not ready" if missing else "ready", **parts)
            case "/metrics":
                return 200, CONTENT_TYPE, self.metrics()
        return 404, _JSON, _json(status="not found")


@asynccontextmanager
async def serve(host: str, port: int, pages: Pages, *, patience: Patience = PATIENCE) -> AsyncIterator[None]:
    """Serve the pages for the duration. Port 0: nowhere."""
    if port == _OFF:
        yield
        return
    config = uvicorn.Config(pages, ws="none", lifespan="off", log_config=None, access_log=False)
    state = ServerState()

    def connection() -> Connection:
        return Connection(config=config, server_state=state, app_state={}, patience=patience)

    server = await asyncio.get_running_loop().create_server(connection, host, port)
    try:
        yield
    finally:
        server.close()
        for opened in list(state.connections):
            opened.shutdown()


def _json(**fields: str) -> bytes:
    return json.dumps(fields).encode()
