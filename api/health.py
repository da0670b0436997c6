"""/healthz, /readyz and /metrics."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from api.door import is_local, judge
from api.problems import documented
from api.strict_json import dumps
from infra.metrics import CONTENT_TYPE
from timers.errors import TimerError
from timers.keys import Scope

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
    report = _report(table=table, broker=broker)
    if await _refusal(request) is not None:
        report = {"status": report["status"]}
    return Response(dumps(report), status, media_type="application/json")


@router.get("/metrics", summary="Prometheus", response_class=PlainTextResponse, responses=documented(401, 403))
async def metrics(request: Request) -> Response:
    refusal = await _refusal(request)
    if refusal is not None:
        return refusal
    return Response(request.app.state.parts.metrics(), headers={"content-type": CONTENT_TYPE})


async def _refusal(request: Request) -> Response | None:
    """Return why a request may not see how the service does inside: it is neither local nor has an admin's key."""
    if is_local(request.scope):
        return None
    verdict = await judge(request.scope, Scope.ADMIN)
    return verdict if isinstance(verdict, Response) else None


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
