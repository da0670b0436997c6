"""The Python client: what it does, its errors by type, and its guide."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.docs.markdown import code_blocks, read
from tests.services.port import free_port
from tests.stack import API_KEY, Member, Stack
from timers_client import (
    Conflict,
    Invalid,
    KnownQueue,
    Lease,
    LeaseEnded,
    PreconditionFailed,
    PullQueue,
    QueueCounts,
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


async def until(read: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Read until there is what is wanted; the index is up to a second late."""
    async with asyncio.timeout(30):
        while await read() != wanted:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)


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

    await until(lambda: found(limit=1), [timer.id for timer in created])
    assert await found(due_before=due_at + timedelta(hours=1)) == [created[0].id]


@pytest.fixture
def jobs(timers: TimersClient) -> PullQueue:
    return timers.queue(f"jobs-{uuid4().hex}")


async def put(timers: TimersClient, jobs: PullQueue, body: object = None, **fields: Any) -> Timer:
    target = {"type": "queue", "queue": jobs.name, "body": body}
    return await timers.create(**{"delay": 0, **fields, "target": target})


async def test_a_worker_commits_what_it_has_done(timers: TimersClient, jobs: PullQueue) -> None:
    await put(timers, jobs, {"order": 42})
    async for lease in jobs.leases():
        async with jobs.working(lease) as timer:
            assert (timer.target["body"], lease.attempt) == ({"order": 42}, 1)
        break
    assert (await timers.get(lease.timer.id)).state == "delivered"


async def test_what_a_worker_fails_to_do_is_rejected(timers: TimersClient, jobs: PullQueue) -> None:
    created = await put(timers, jobs, retry={"max_attempts": 1})
    [lease] = await jobs.lease(wait_s=10)
    with pytest.raises(ZeroDivisionError):
        async with jobs.working(lease):
            _ = 1 / 0
    assert (await timers.get(created.id)).state == "dead"


async def test_a_worker_keeps_its_lease_as_long_as_it_works(timers: TimersClient, jobs: PullQueue) -> None:
    await put(timers, jobs)
    [lease] = await jobs.lease(wait_s=10, lease_s=3)
    async with jobs.working(lease):
        while datetime.now(UTC) < lease.expires_at:  # noqa: ASYNC110 - the clock tells nobody
            await asyncio.sleep(0.05)
    assert (await timers.get(lease.timer.id)).state == "delivered"


async def test_a_worker_outlasts_a_service_that_is_away(running: Stack, timers: TimersClient, jobs: PullQueue) -> None:
    created = await put(timers, jobs)
    member = running.api()
    async with TimersClient(f"http://127.0.0.1:{member.port}", API_KEY) as away:
        with pytest.raises(Unreachable):
            await away.queue(jobs.name).lease()

        async def first() -> Lease:
            return await anext(away.queue(jobs.name).leases())

        leasing = asyncio.create_task(first())
        await asyncio.to_thread(member.start)
        assert (await leasing).timer.id == created.id
    member.stop()


async def test_a_worker_is_told_that_its_lease_has_ended(timers: TimersClient, jobs: PullQueue) -> None:
    await put(timers, jobs)
    [lease] = await jobs.lease(wait_s=10)
    assert await jobs.reject(lease, delay=timedelta(hours=1)) == [None]
    with pytest.raises(LeaseEnded):
        async with jobs.working(lease):
            pass
    [extended] = await jobs.extend(lease)
    assert isinstance(extended, LeaseEnded)


async def test_several_leases_are_settled_in_one_request(timers: TimersClient, jobs: PullQueue) -> None:
    for number in range(3):
        await put(timers, jobs, number)
    leases = [lease for _ in range(3) for lease in await jobs.lease(wait_s=10)]
    assert await jobs.extend(*leases, lease_s=60) == [None] * 3
    assert await jobs.commit(*leases) == [None] * 3


async def test_an_owner_counts_pauses_purges_and_deletes_a_queue(timers: TimersClient, jobs: PullQueue) -> None:
    await put(timers, jobs, delay=600)
    await jobs.pause()
    assert KnownQueue(jobs.name, paused=True) in await timers.queues()
    counts = QueueCounts(scheduled=1, ready=0, leased=0, oldest_ready_seconds=None, paused=True)
    await until(jobs.counts, counts)
    with pytest.raises(Conflict):
        await jobs.delete()
    await jobs.resume()
    assert await jobs.purge() == 1
    await until(jobs.counts, replace(counts, scheduled=0, paused=False))
    await jobs.delete()
    assert jobs.name not in {queue.name for queue in await timers.queues()}


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
    script, worker = code_blocks(read(GUIDE), "python")
    names: dict[str, Any] = {"__name__": "guide"}
    exec(compile(script, GUIDE, "exec"), names)
    await names["main"](f"http://127.0.0.1:{api.port}", API_KEY)
    assert "cancelled" in capsys.readouterr().out

    names["print"] = lambda *_: None
    exec(compile(worker, GUIDE, "exec"), names)
    async with TimersClient(f"http://127.0.0.1:{api.port}", API_KEY) as timers:
        created = await put(timers, timers.queue("jobs"), {"order": 42})
        working = asyncio.create_task(names["work"](timers))
        await until(lambda: state_of(timers, created), "delivered")
        working.cancel()


async def state_of(timers: TimersClient, timer: Timer) -> str:
    return (await timers.get(timer.id)).state
