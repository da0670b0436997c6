"""The routes over timers."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from api.door import key_of
from api.patching import patched
from api.problems import documented
from api.schemas import (
    NewTimerIn,
    StatsOut,
    TimerList,
    TimerOut,
    TimerPatch,
    fingerprint,
    stats_out,
    timer_out,
)
from api.stats import CachedStats
from api.strict_json import StrictRoute, dumps
from api.times import parse_time
from timers import limits
from timers.errors import Invalid, TimerNotFound
from timers.ports import Filter, Position
from timers.putting import Keep, Putting
from timers.service import IdempotencyKey, Precondition, Timers
from timers.stamps import traceparent
from timers.state import State
from timers.target import check_queue
from timers.timer import Timer

router = APIRouter(prefix="/v1", route_class=StrictRoute, responses=documented(429, 503))

_TAG: Final = r'(W/)?"[!#-~]*"'
_ENTITY_TAG: Final = re.compile(_TAG)
_OUR_TAG: Final = re.compile(r'"(\d{1,15})"')
_NO_VERSION: Final = 0
_PUT: Final = frozenset({"keep", "max_total_delay"})
_TIME: Final = {"oneOf": [{"format": "date-time"}, {"pattern": r"^[0-9]{1,15}$"}]}
_LISTED: Final = frozenset({"state", "due_after", "due_before", "label", "queue", "limit", "cursor"})


async def _service(request: Request) -> Timers:
    """Return the use cases of the tenant whose key was shown."""
    service: Timers = request.app.state.parts.timers
    return service.of(key_of(request.scope).tenant)


async def _stats(request: Request) -> CachedStats:
    stats: CachedStats = request.app.state.stats
    return stats


async def _known_id(timer_id: str) -> str:
    if not limits.ID_PATTERN.fullmatch(timer_id):
        raise TimerNotFound(timer_id[:128])
    return timer_id


async def _chosen_id(timer_id: str) -> str:
    if not limits.ID_PATTERN.fullmatch(timer_id):
        raise Invalid("/id", f"an id matches {limits.ID_PATTERN.pattern}")
    return timer_id


async def _precondition(
    if_match: Annotated[
        str | None,
        Header(
            description='The version that is expected: `"3"`, or `*`.',
            json_schema_extra={"pattern": rf"^(\*|{_TAG}( *, *{_TAG})*)$"},
        ),
    ] = None,
) -> Precondition:
    if if_match is None:
        return Precondition()
    if if_match.strip() == "*":
        return Precondition(versions=frozenset())
    tags = [tag.strip() for tag in if_match.split(",")]
    if not all(_ENTITY_TAG.fullmatch(tag) for tag in tags):
        raise Invalid("/headers/if-match", 'entity tags in quotes, like "3", or *')
    return Precondition(versions=frozenset(_version(tag) for tag in tags))


def _version(tag: str) -> int:
    """Return the version that an entity tag names; what we never gave out matches none (nor does a weak one)."""
    ours = _OUR_TAG.fullmatch(tag)
    return int(ours[1]) if ours else _NO_VERSION


async def _creation_precondition(
    matched: Annotated[Precondition, Depends(_precondition)],
    if_none_match: Annotated[
        str | None, Header(description="`*`: only create.", json_schema_extra={"pattern": r"^\*$"})
    ] = None,
) -> Precondition:
    if if_none_match is None:
        return matched
    if if_none_match.strip() != "*":
        raise Invalid("/headers/if-none-match", "only * is understood")
    return Precondition(matched.versions, absent=True)


async def _putting(
    request: Request,
    keep: Annotated[Keep | None, Query(description="Of the planned time and the new one.")] = None,
    max_total_delay: Annotated[
        float | None,
        Query(gt=0, le=limits.MAX_DELAY_MS / 1000, description="Seconds after its creation; it is never due later."),
    ] = None,
) -> Putting:
    _check_query(request, _PUT)
    return Putting(keep, None if max_total_delay is None else math.ceil(round(max_total_delay * 1000, 6)))


def _check_query(request: Request, known: frozenset[str]) -> None:
    for name in request.query_params:
        if name not in known:
            raise Invalid(f"/query/{name[:100]}", "there is no such parameter")


Service = Annotated[Timers, Depends(_service)]
KnownId = Annotated[str, Depends(_known_id)]
Expected = Annotated[Precondition, Depends(_precondition)]
Trace = Annotated[str | None, Header(alias="traceparent", description="W3C trace that the call continues.")]


def _answer(timer: Timer, status: int = 200, *, now_ms: int | None = None, **headers: str) -> Response:
    return Response(
        dumps(timer_out(timer, now_ms)),
        status,
        {"etag": f'"{timer.version}"', **headers},
        media_type="application/json",
    )


@router.post(
    "/timers",
    status_code=201,
    response_model=TimerOut,
    responses=documented(400, 409, 413, 415, 422),
    summary="Schedule a timer",
)
async def schedule(
    wish: NewTimerIn,
    service: Service,
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=255, description="Repeat a request under its key and it is done once."),
    ] = None,
    trace: Trace = None,
) -> Response:
    now_ms = service.clock.now_ms()
    spec = wish.spec(now_ms, traceparent(trace, service.random))
    if idempotency_key is None:
        timer = await service.schedule(spec, wish.id, now_ms=now_ms)
    else:
        key = IdempotencyKey(idempotency_key, fingerprint(wish))
        timer, created = await service.schedule_once(spec, key, wish.id, now_ms=now_ms)
        timer = timer if created else _as_created(timer, wish)
    return _answer(timer, 201, location=f"/v1/timers/{timer.name}")


def _as_created(timer: Timer, wish: NewTimerIn) -> Timer:
    """Return a timer as it was when this wish created it, whatever has become of it: the first answer again."""
    return Timer.create(timer.id, wish.spec(timer.created_at_ms, timer.trace), timer.created_at_ms)


@router.put(
    "/timers/{timer_id}",
    response_model=TimerOut,
    responses={201: {"model": TimerOut, "description": "Created"}, **documented(400, 409, 412, 413, 415, 422)},
    summary="Create a timer, or replace one whole",
)
async def replace(
    timer_id: Annotated[str, Depends(_chosen_id)],
    wish: NewTimerIn,
    service: Service,
    expected: Annotated[Precondition, Depends(_creation_precondition)],
    putting: Annotated[Putting, Depends(_putting)],
    trace: Trace = None,
) -> Response:
    if wish.id not in (None, timer_id):
        raise Invalid("/id", "not the id of the path")
    now_ms = service.clock.now_ms()
    spec = wish.spec(now_ms, traceparent(trace, service.random))
    timer, created = await service.replace(timer_id, spec, expected, putting, now_ms=now_ms)
    if created:
        return _answer(timer, 201, location=f"/v1/timers/{timer.name}")
    return _answer(timer)


@router.get("/timers/{timer_id}", response_model=TimerOut, responses=documented(404), summary="Read a timer")
async def read(timer_id: KnownId, service: Service) -> Response:
    return _answer(await service.get(timer_id), now_ms=service.clock.now_ms())


@router.patch(
    "/timers/{timer_id}",
    response_model=TimerOut,
    responses=documented(400, 404, 409, 412, 413, 415, 422),
    summary="Reschedule or edit a timer",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                kind: {"schema": TimerPatch.model_json_schema()}
                for kind in ("application/merge-patch+json", "application/json")
            },
        }
    },
)
async def edit(timer_id: KnownId, request: Request, service: Service, expected: Expected) -> Response:
    patch = await request.json()
    if not isinstance(patch, dict):
        raise Invalid("", "a JSON object with the changes")
    now_ms = service.clock.now_ms()
    return _answer(await service.edit(timer_id, lambda timer: patched(timer, patch, now_ms), expected))


@router.delete(
    "/timers/{timer_id}",
    response_model=TimerOut,
    responses=documented(404, 409, 412, 422),
    summary="Cancel a timer",
)
async def cancel(timer_id: KnownId, service: Service, expected: Expected) -> Response:
    return _answer(await service.cancel(timer_id, expected))


@router.post(
    "/timers/{timer_id}/fire",
    status_code=202,
    response_model=TimerOut,
    responses=documented(404, 409, 412, 422),
    summary="Run a timer now",
)
async def fire(timer_id: KnownId, service: Service, expected: Expected) -> Response:
    return _answer(await service.fire(timer_id, expected), 202)


@router.post(
    "/timers/{timer_id}/replay",
    status_code=202,
    response_model=TimerOut,
    responses=documented(404, 409, 412, 422),
    summary="Run a dead timer again, attempts counted afresh",
)
async def replay(timer_id: KnownId, service: Service, expected: Expected) -> Response:
    return _answer(await service.replay(timer_id, expected), 202)


@router.get("/timers", response_model=TimerList, responses=documented(422), summary="List timers, soonest first")
async def list_timers(  # noqa: PLR0913, PLR0917 - one argument a query parameter
    request: Request,
    service: Service,
    state: Annotated[list[State] | None, Query(description="May be given several times.")] = None,
    due_after: Annotated[
        str | None, Query(description="RFC 3339 or epoch ms; included.", json_schema_extra=_TIME)
    ] = None,
    due_before: Annotated[
        str | None, Query(description="RFC 3339 or epoch ms; not included.", json_schema_extra=_TIME)
    ] = None,
    label: Annotated[list[str] | None, Query(description="`key:value`; each one given must match.")] = None,
    queue: Annotated[
        str | None,
        Query(description="Of this pull queue.", json_schema_extra={"pattern": f"^{limits.QUEUE_PATTERN.pattern}$"}),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=limits.MAX_LIST)] = 100,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
) -> Response:
    _check_query(request, _LISTED)
    wanted = Filter(
        states=frozenset(state or State),
        due_after_ms=_query_time("due_after", due_after),
        due_before_ms=_query_time("due_before", due_before),
        labels=dict(_label(text) for text in label or ()),
        queue=None if queue is None else check_queue(queue, "/query/queue"),
    )
    page = await service.select(wanted, after=_position(cursor), limit=limit)
    now_ms = service.clock.now_ms()
    body = {
        "timers": [timer_out(timer, now_ms) for timer in page.timers],
        "next_cursor": None if page.next is None else _cursor(page.next),
    }
    return Response(dumps(body), media_type="application/json")


@router.get("/stats", response_model=StatsOut, summary="Counts, what is overdue, how late the last calls were")
async def stats(service: Service, cached: Annotated[CachedStats, Depends(_stats)]) -> Response:
    return Response(dumps(stats_out(await cached.get(service))), media_type="application/json")


def _query_time(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        time_ms = parse_time(int(text) if text.isascii() and text.isdigit() and len(text) < 16 else text)
    except ValueError as error:
        raise Invalid(f"/query/{name}", str(error)) from None
    return time_ms


def _label(text: str) -> tuple[str, str]:
    key, colon, value = text.partition(":")
    if not colon or not key:
        raise Invalid("/query/label", "key:value")
    return key, value


def _cursor(position: Position) -> str:
    return base64.urlsafe_b64encode(dumps([position.at_ms, position.timer_id])).decode().rstrip("=")


def _position(cursor: str | None) -> Position | None:
    if cursor is None:
        return None
    try:
        fields: Any = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        at_ms, timer_id = fields
        if not isinstance(at_ms, int) or not 0 <= at_ms < 10**15 or not limits.ID_PATTERN.fullmatch(timer_id):
            raise ValueError
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise Invalid("/query/cursor", "not a cursor that this service gave") from None
    return Position(at_ms, timer_id)
