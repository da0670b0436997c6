"""The receiver: a fast port, a slow one and one that never answers, each a target of its own."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from tests.faults.ledger import Call, Ledger
from tests.faults.moment import now_ms
from timers.stamps import parse_rfc3339

FAST: Final = "fast"
SLOW: Final = "slow"
SILENT: Final = "silent"
_WORK_S: Final = 0.4

Script = Callable[[Call], tuple[int, float]]
"""Says the status and the seconds that a call gets."""


def quick(_: Call) -> tuple[int, float]:
    return 200, 0


def working(_: Call) -> tuple[int, float]:
    return 200, _WORK_S


def flaky(call: Call) -> tuple[int, float]:
    return (500, 0) if call.attempt == 1 else (200, 0)


def slow(_: Call) -> tuple[int, float]:
    return 200, 1.0


def silent(_: Call) -> tuple[int, float]:
    return 200, 3600


class Target:
    """Answers ``/SCRIPT/MARKER`` by its script and writes every call into the ledger of the day."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.ports: dict[str, int] = {}
        self.scripts: dict[str, Script] = {
            "quick": quick,
            "working": working,
            "flaky": flaky,
            "slow": slow,
            "silent": silent,
        }
        self.open: Counter[str] = Counter()
        self.most_open: Counter[str] = Counter()
        self.arrived = asyncio.Event()

    def url(self, script: str, marker: int = 0, host: str = FAST) -> str:
        return f"http://127.0.0.1:{self.ports[host]}/{script}/{marker}"

    async def handle(self, request: web.Request) -> web.Response:
        started_ms = now_ms()
        script = request.match_info["script"]
        self.open[script] += 1
        self.most_open[script] = max(self.most_open[script], self.open[script])
        call = await _call(request, started_ms)
        self.ledger.calls[call.timer_id].append(call)
        self.arrived.set()
        try:
            status, seconds = self.scripts[script](call)
            if seconds:
                await asyncio.sleep(seconds)
            call.status = status
            return web.Response(status=status)
        finally:
            call.ended_ms = now_ms()
            self.open[script] -= 1


async def _call(request: web.Request, started_ms: float) -> Call:
    headers = request.headers
    return Call(
        timer_id=headers["webhook-id"],
        attempt=int(headers["timer-attempt"]),
        marker=json.loads(await request.read())["marker"],
        path_marker=int(request.match_info["marker"]),
        due_ms=parse_rfc3339(headers["timer-due-at"]),
        started_ms=started_ms,
    )


@asynccontextmanager
async def target() -> AsyncIterator[Target]:
    """Serve three ports of the loopback interface."""
    built = Target()
    app = web.Application()
    app.router.add_post("/{script}/{marker}", built.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        for number, name in enumerate((FAST, SLOW, SILENT)):
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            built.ports[name] = runner.addresses[number][1]
        yield built
    finally:
        await runner.cleanup()
