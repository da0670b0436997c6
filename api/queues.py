"""The routes over pull queues."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from api.door import key_of
from api.problems import describe_error, documented
from api.schemas import TimerOut, timer_out
from api.strict_json import StrictRoute, dumps
from api.targets import Strict
from api.times import DelayMs
from timers import limits
from timers.polling import Leases, Wish
from timers.queues import Outcome, Queues, token_of
from timers.stamps import rfc3339
from timers.target import check_queue
from timers.timer import QueueName, Timer

router = APIRouter(prefix="/v1/queues", route_class=StrictRoute, responses=documented(429, 503))

_CLOSED: Final = 499  # nobody reads it: the client has gone
Tokens = Annotated[
    list[Annotated[str, Field(max_length=256)]],
    Field(min_length=1, max_length=limits.MAX_LEASES, description="Of leases; each is judged by itself."),
]
LeaseS = Annotated[
    float, Field(ge=limits.MIN_LEASE_S, le=limits.MAX_LEASE_S, description="Seconds from now until the lease ends.")
]


class LeaseIn(Strict):
    """How many timers a worker takes, for how long, and how long it waits for the first."""

    max: int = Field(1, ge=1, le=limits.MAX_LEASES)
    wait: float = Field(0.0, ge=0, le=limits.MAX_WAIT_S, description="Seconds to wait where none is ready.")
    lease: LeaseS = 30.0


class TokensIn(Strict):
    """Leases that are done with."""

    tokens: Tokens


class RejectIn(TokensIn):
    """Leases to give up."""

    delay: DelayMs | None = Field(None, description="Until they can be had again; by their retry policy if missing.")


class ExtendIn(TokensIn):
    """Leases to have longer."""

    lease: LeaseS = 30.0


class LeaseOut(BaseModel):
    """A timer, and the token that its worker answers for it with."""

    token: str
    attempt: int
    expires_at: str
    timer: TimerOut


class LeasesOut(BaseModel):
    """What a worker was given; none where nothing came in time."""

    leases: list[LeaseOut]


class TokenOut(BaseModel):
    """What became of one token."""

    token: str
    status: int
    detail: str | None = None


class TokensOut(BaseModel):
    """What became of each token, in order."""

    results: list[TokenOut]


class QueueOut(BaseModel):
    """A pull queue."""

    name: str
    scheduled: int
    ready: int
    leased: int
    oldest_ready_seconds: float | None
    paused: bool


class KnownQueueOut(BaseModel):
    """A pull queue, uncounted."""

    name: str
    paused: bool


class QueueList(BaseModel):
    """The pull queues there are."""

    queues: list[KnownQueueOut]


class PurgedOut(BaseModel):
    """How many timers were cancelled; where there are more, ask again."""

    cancelled: int
    more: bool


async def _queues(request: Request) -> Queues:
    queues: Queues = request.app.state.parts.queues
    return queues


async def _tenant(request: Request) -> str:
    """Return the tenant whose key was shown."""
    return key_of(request.scope).tenant


Tenant = Annotated[str, Depends(_tenant)]


async def _named(queue: str, tenant: Tenant) -> QueueName:
    return QueueName(tenant, check_queue(queue, "/queue"))


Service = Annotated[Queues, Depends(_queues)]
Named = Annotated[QueueName, Depends(_named)]


@router.get("", response_model=QueueList, summary="The pull queues there are")
async def list_queues(queues: Service, tenant: Tenant) -> Response:
    known = await queues.known(tenant)
    names = sorted(known.names | known.paused)
    return _answer({"queues": [{"name": name, "paused": name in known.paused} for name in names]})


@router.get("/{queue}", response_model=QueueOut, responses=documented(422), summary="How many timers a pull queue has")
async def read(queue: Named, queues: Service) -> Response:
    now_ms = queues.clock.now_ms()
    counts, known = await asyncio.gather(queues.count(queue), queues.known(queue.tenant))
    oldest_ms = counts.oldest_ready_ms
    return _answer(
        {
            "name": queue.name,
            "scheduled": counts.scheduled,
            "ready": counts.ready,
            "leased": counts.leased,
            "oldest_ready_seconds": None if oldest_ms is None else max(0, now_ms - oldest_ms) / 1000,
            "paused": queue.name in known.paused,
        }
    )


@router.delete("/{queue}", status_code=204, responses=documented(409, 422), summary="Forget a pull queue that is empty")
async def remove(queue: Named, queues: Service) -> Response:
    await queues.remove(queue)
    return Response(status_code=204)


@router.post(
    "/{queue}/lease",
    response_model=LeasesOut,
    responses=documented(400, 413, 415, 422),
    summary="Take timers that are ready, or wait for some",
)
async def lease(queue: Named, wish: LeaseIn, queues: Service, request: Request) -> Response:
    asked = Wish(wish.max, round(wish.lease * 1000), wish.wait)
    leases = await _while_connected(request, queues.lease(queue, asked))
    if await request.is_disconnected():
        await queues.give_back(queue, leases)
        return Response(status_code=_CLOSED)
    return _answer({"leases": [_lease_out(timer) for timer in await queues.opened(leases)]})


@router.post("/{queue}/commit", response_model=TokensOut, responses=documented(400, 413, 415, 422), summary="Be done")
async def commit(queue: Named, done: TokensIn, queues: Service) -> Response:
    return _outcomes(done.tokens, await queues.commit(queue, done.tokens))


@router.post(
    "/{queue}/reject",
    response_model=TokensOut,
    responses=documented(400, 413, 415, 422),
    summary="Give timers up: the attempt is counted",
)
async def reject(queue: Named, given_up: RejectIn, queues: Service) -> Response:
    return _outcomes(given_up.tokens, await queues.reject(queue, given_up.tokens, given_up.delay))


@router.post(
    "/{queue}/extend", response_model=TokensOut, responses=documented(400, 413, 415, 422), summary="Have leases longer"
)
async def extend(queue: Named, held: ExtendIn, queues: Service) -> Response:
    return _outcomes(held.tokens, await queues.extend(queue, held.tokens, round(held.lease * 1000)))


@router.post("/{queue}/pause", status_code=204, responses=documented(422), summary="Give nothing out")
async def pause(queue: Named, queues: Service) -> Response:
    await queues.pause(queue)
    return Response(status_code=204)


@router.post("/{queue}/resume", status_code=204, responses=documented(422), summary="Give out again")
async def resume(queue: Named, queues: Service) -> Response:
    await queues.resume(queue)
    return Response(status_code=204)


@router.post(
    "/{queue}/purge",
    response_model=PurgedOut,
    responses=documented(422),
    summary="Cancel what waits, up to 1,000 at once",
)
async def purge(queue: Named, queues: Service) -> Response:
    purged = await queues.purge(queue)
    return _answer({"cancelled": purged.cancelled, "more": purged.more})


async def _while_connected(request: Request, work: Coroutine[Any, Any, Leases]) -> Leases:
    """Return what ``work`` returns, nothing where the client leaves before: then it is cancelled."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else []
    finally:
        leaving.cancel()
        working.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _lease_out(timer: Timer) -> dict[str, Any]:
    return {
        "token": token_of(timer),
        "attempt": timer.attempts_made + 1,
        "expires_at": rfc3339(timer.lease_until_ms),
        "timer": timer_out(timer),
    }


def _outcomes(tokens: Sequence[str], outcomes: Sequence[Outcome]) -> Response:
    return _answer({"results": [_outcome(token, outcome) for token, outcome in zip(tokens, outcomes, strict=True)]})


def _outcome(token: str, outcome: Outcome) -> dict[str, Any]:
    if outcome is None:
        return {"token": token, "status": 200}
    problem = describe_error(outcome)
    return {"token": token, "status": problem["status"], "detail": problem["detail"]}


def _answer(body: dict[str, Any]) -> Response:
    return Response(dumps(body), media_type="application/json")
