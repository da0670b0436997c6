"""A consumer's own pages: /healthz (alive), /readyz (what is missing) and /metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from infra.metrics import CONTENT_TYPE

_OFF: Final = 0


@asynccontextmanager
async def serve(
    host: str, port: int, *, checks: Mapping[str, Callable[[], bool]], metrics: Callable[[], bytes]
) -> AsyncIterator[None]:
    """Serve the pages for the duration; ``checks`` tell by name what is up. Port 0: nowhere."""
    if port == _OFF:
        yield
        return

    async def alive(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def ready(_: web.Request) -> web.Response:
        parts = {name: "up" if check() else "down" for name, check in checks.items()}
        status = 200 if all(part == "up" for part in parts.values()) else 503
        return web.json_response({"status": "ready" if status == 200 else "not ready"} | parts, status=status)

    async def page(_: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"content-type": CONTENT_TYPE})

    app = web.Application()
    app.add_routes([web.get("/healthz", alive), web.get("/readyz", ready), web.get("/metrics", page)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()
