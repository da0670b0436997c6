"""Many timers in one request, each with its own outcome, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Annotated, Any, Final, TypeVar
from weakref import WeakValueDictionary

from fastapi import APIRouter, Header, Request, Response
from pydantic import Field, ValidationError
from starlette.types import Message

from api.door import key_of, rates_of
from api.problems import describe_error, documented
from api.routes import Service
from api.schemas import BatchOut, NewTimerIn, timer_out
from api.strict_json import StrictRoute, dumps
from api.targets import Strict
from timers import limits
from timers.errors import TimerError, TimerNotFound
from timers.stamps import traceparent
from timers.timer import Timer

MAX_ITEMS: Final = 1_000
_AT_ONCE: Final = 4
_PORTION: Final = 100

Wish = TypeVar("Wish")


class _BoundedRoute(StrictRoute):
    """
    A route of which few requests are worked at at once, read before: who sends slowly keeps nobody waiting.

    One tenant leaves a place to others.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._tenants: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        super().__init__(*args, **kwargs)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            body = await request.body()

            async def again() -> Message:
                return {"type": "http.request", "body": body, "more_body": False}

            async with self._places_of(key_of(request.scope).tenant), self._places:
                return await handle(Request(request.scope, again))

        return bounded

    def _places_of(self, tenant: str) -> asyncio.Semaphore:
        return self._tenants.setdefault(tenant, asyncio.Semaphore(_AT_ONCE - 1))


router = APIRouter(prefix="/v1/timers", route_class=_BoundedRoute, responses=documented(400, 413, 415, 422, 429))


class BatchIn(Strict):
    """Timers to schedule; each is judged by itself."""

    timers: list[Any] = Field(
        max_length=MAX_ITEMS,
        json_schema_extra={"items": {"$ref": "#/components/schemas/NewTimerIn"}},
    )


class BatchCancelIn(Strict):
    """Timers to cancel."""

    ids: list[str] = Field(max_length=MAX_ITEMS)


@router.post("/batch", response_model=BatchOut, summary="Schedule up to 1,000 timers")
async def schedule_all(
    batch: BatchIn,
    service: Service,
    request: Request,
    trace: Annotated[str | None, Header(alias="traceparent")] = None,
) -> Response:
    _pay_for(request, len(batch.timers))
    now_ms = service.clock.now_ms()
    continued = traceparent(trace, service.random)

    async def schedule(wish: Any) -> Timer:
        new = NewTimerIn.model_validate(wish)
        return await service.schedule(new.spec(now_ms, continued), new.id, now_ms=now_ms)

    return await _outcomes(batch.timers, schedule, 201)


@router.post("/batch-cancel", response_model=BatchOut, summary="Cancel up to 1,000 timers")
async def cancel_all(batch: BatchCancelIn, service: Service, request: Request) -> Response:
    _pay_for(request, len(batch.ids))

    async def cancel(timer_id: str) -> Timer:
        if not limits.ID_PATTERN.fullmatch(timer_id):
            raise TimerNotFound(timer_id[:128])
        return await service.cancel(timer_id)

    return await _outcomes(batch.ids, cancel, 200)


def _pay_for(request: Request, items: int) -> None:
    """Count each item of a batch as a request; the first one is the request itself. Raises Overloaded."""
    rates = rates_of(request.scope)
    if rates is not None and items > 1:
        rates.take_more(key_of(request.scope).tenant, items - 1)


async def _outcomes(wishes: Sequence[Wish], act: Callable[[Wish], Awaitable[Timer]], status: int) -> Response:
    async def outcome(wish: Wish) -> dict[str, Any]:
        try:
            return {"status": status, "timer": timer_out(await act(wish))}
        except (TimerError, ValidationError) as error:
            problem = describe_error(error)
            return {"status": problem["status"], "problem": problem}

    started: list[asyncio.Task[dict[str, Any]]] = []
    for some in (wishes[at : at + _PORTION] for at in range(0, len(wishes), _PORTION)):
        started += [asyncio.create_task(outcome(wish)) for wish in some]
        await asyncio.sleep(0)  # these are on their way to the table while the next ones are checked
    results = await asyncio.gather(*started)
    return Response(dumps({"results": results}), media_type="application/json")
