"""The Python client: what it does, its errors by type, and its guide."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.docs.markdown import code_blocks, read
from tests.services.port import free_port
from tests.stack import API_KEY, Member
from timers_client import (
    Conflict,
    Invalid,
    PreconditionFailed,
    Timer,
    TimerNotFound,
    TimersClient,
    TimersError,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from timers_client.errors import error_of

GUIDE = "docs/how-to/use-from-python.md"
LOG = {"type": "log"}


@pytest.fixture
async def timers(api: Member, consumers: list[Member]) -> AsyncIterator[TimersClient]:
    async with TimersClient(f"http://127.0.0.1:{api.port}", API_KEY) as client:
        yield client


async def test_a_time_can_be_a_datetime_and_a_delay_a_timedelta(timers: TimersClient) -> None:
    at = datetime(2030, 1, 1, 9, tzinfo=UTC)
    timed = await timers.create(due_at=at, target=LOG, labels={"a": "b"})
    delayed = await timers.create(delay=timedelta(minutes=2), target=LOG)

    assert (timed.due_at, timed.labels, timed.target) == (at, {"a": "b"}, LOG)
    assert delayed.remaining == pytest.approx(120, abs=5)


async def test_a_create_under_a_key_is_done_once(timers: TimersClient) -> None:
    key = str(uuid4())
    first, second = [await timers.create(idempotency_key=key, delay=3600, target=LOG) for _ in range(2)]
    assert first == second


async def test_a_put_can_be_a_debounce(timers: TimersClient) -> None:
    timer_id = str(uuid4())
    await timers.put(timer_id, delay=600, target=LOG, keep="latest")
    kept = await timers.put(timer_id, delay=60, target=LOG, keep="latest", max_total_delay=timedelta(hours=1))
    replaced = await timers.put(timer_id, delay=60, target=LOG)

    assert kept.remaining is not None
    assert replaced.remaining is not None
    assert replaced.remaining <= 60 < kept.remaining


async def test_a_batch_may_be_longer_than_a_request_takes(timers: TimersClient) -> None:
    outcomes = await timers.batch_create({"delay": 3600, "target": LOG} for _ in range(1_001))
    ids = [outcome.id for outcome in outcomes if isinstance(outcome, Timer)]
    cancelled = await timers.batch_delete(ids)

    assert len(ids) == len(cancelled) == 1_001
    assert {outcome.state for outcome in cancelled if isinstance(outcome, Timer)} == {"cancelled"}


async def test_a_list_is_read_to_its_end(timers: TimersClient) -> None:
    queue = {"type": "queue", "queue": f"jobs-{uuid4().hex}"}
    due_at = datetime(2030, 1, 1, 9, tzinfo=UTC)
    created = [await timers.create(due_at=due_at + timedelta(hours=number), target=queue) for number in range(4)]

    async def found(**wanted: Any) -> list[str]:
        return [timer.id async for timer in timers.find(queue=queue["queue"], state="scheduled", **wanted)]

    deadline = asyncio.get_running_loop().time() + 30
    while await found(limit=1) != [timer.id for timer in created]:
        assert asyncio.get_running_loop().time() < deadline, "the index has not caught up"
    assert await found(due_before=due_at + timedelta(hours=1)) == [created[0].id]


async def test_an_error_has_a_type_of_its_own(timers: TimersClient) -> None:
    timer = await timers.create(delay=3600, target=LOG)
    with pytest.raises(Invalid) as invalid:
        await timers.create(delay=-1, target=LOG)
    with pytest.raises(TimerNotFound):
        await timers.get("a/b?c#d")
    with pytest.raises(Conflict) as conflict:
        await timers.replay(timer.id)
    with pytest.raises(PreconditionFailed):
        await timers.update(timer.id, delay=1, if_version=7)
    with pytest.raises(PreconditionFailed):
        await timers.delete(timer.id, if_version=7)

    assert invalid.value.errors[0]["pointer"] == "/delay"
    assert (conflict.value.state, conflict.value.status) == ("scheduled", 409)


async def test_without_a_key_nobody_is_let_in(api: Member) -> None:
    async with TimersClient(f"http://127.0.0.1:{api.port}", "nonsense") as client:
        with pytest.raises(Unauthorized):
            await client.get("any")


async def test_a_service_that_does_not_answer_is_unreachable() -> None:
    async with TimersClient(f"http://127.0.0.1:{free_port()}", API_KEY) as client:
        with pytest.raises(Unreachable, match="no answer") as unreachable:
            await client.get("any")
    assert unreachable.value.status == 0


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        ({"status": 503, "detail": "the table is away", "retry_after": 2}, Unavailable),
        ({"status": 502, "detail": "a proxy says so"}, TimersError),
        ({}, TimersError),
    ],
)
def test_every_problem_is_some_error(problem: dict[str, Any], kind: type[TimersError]) -> None:
    error = error_of(problem)
    assert type(error) is kind
    assert error.retry_after == problem.get("retry_after")


async def test_the_guide_works_as_printed(
    api: Member, consumers: list[Member], capsys: pytest.CaptureFixture[str]
) -> None:
    [script] = code_blocks(read(GUIDE), "python")
    names: dict[str, Any] = {"__name__": "guide"}
    exec(compile(script, GUIDE, "exec"), names)
    await names["main"](f"http://127.0.0.1:{api.port}", API_KEY)
    assert "cancelled" in capsys.readouterr().out
