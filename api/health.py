"""/healthz, /readyz and /metrics."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from api.strict_json import dumps
from infra.metrics import CONTENT_TYPE
from timers.errors import TimerError

router = APIRouter(tags=["health"])

_PATIENCE_S: Final = 2.0


class Broker(Protocol):
    """What is asked of the delay queue."""

    @property
    def connected(self) -> bool: ...


@router.get("/healthz", summary="Alive")
async def alive() -> dict[str, str]:
    return {"status": "alive"}


@router.get("/readyz", summary="Table and broker reachable", responses={503: {"description": "Something is away"}})
async def ready(request: Request) -> Response:
    table = await _table_answers(request)
    broker = request.app.state.parts.broker.connected
    status = 200 if table and broker else 503
    return Response(dumps(_report(table=table, broker=broker)), status, media_type="application/json")


@router.get("/metrics", summary="Prometheus", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    return Response(request.app.state.parts.metrics(), headers={"content-type": CONTENT_TYPE})


async def _table_answers(request: Request) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await request.app.state.parts.timers.store.check()
    except (TimerError, TimeoutError):
        return False
    return True


def _report(*, table: bool, broker: bool) -> dict[str, Any]:
    works = []
    if table:
        works += ["schedule", "read", "edit", "cancel"]
    if table and broker:
        works += ["fire on time"]
    status = "ready" if table and broker else "degraded" if table else "not ready"
    return {
        "status": status,
        "table": "up" if table else "down",
        "broker": "up" if broker else "down",
        "works": works,
    }
