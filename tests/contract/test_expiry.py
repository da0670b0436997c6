"""Final timers are removed when their retention has ended, and nothing else is."""

from __future__ import annotations

import asyncio

import pytest

from infra.dynamodb.client import Table
from infra.dynamodb.expiry import DynamoExpiry
from infra.dynamodb.store import DynamoTimerStore
from tests.builders import NOW_MS, make_timer
from tests.contract.conftest import SHARDS, WEEK_MS, dynamo_store
from timers.errors import TimerNotFound
from timers.state import FINAL, State
from timers.timer import Timer

HOUR_MS = 3_600_000


@pytest.fixture
def store(table: Table) -> DynamoTimerStore:
    return dynamo_store(table)


@pytest.fixture(params=[False, True], ids=["batches", "transactions"])
def expiry(request: pytest.FixtureRequest, table: Table) -> DynamoExpiry:
    return DynamoExpiry(table, retention_ms=WEEK_MS, transactions=request.param)


async def swept(expiry: DynamoExpiry, now_ms: int) -> int:
    return sum([await expiry.sweep(shard, now_ms=now_ms) for shard in range(SHARDS)])


async def left(store: DynamoTimerStore, *timers: Timer) -> list[str]:
    found = await asyncio.gather(*(store.get(timer.id) for timer in timers), return_exceptions=True)
    assert all(isinstance(one, Timer | TimerNotFound) for one in found)
    return [one.id for one in found if isinstance(one, Timer)]


@pytest.mark.parametrize("state", sorted(FINAL))
async def test_a_final_timer_is_removed_after_its_retention(
    store: DynamoTimerStore, expiry: DynamoExpiry, state: State
) -> None:
    timer = make_timer(state=state, updated_at_ms=NOW_MS)
    await store.create(timer)
    assert await swept(expiry, NOW_MS + WEEK_MS - HOUR_MS) == 0
    assert await left(store, timer) == [timer.id]
    assert await swept(expiry, NOW_MS + WEEK_MS + HOUR_MS) == 1
    assert await left(store, timer) == []


async def test_what_is_not_final_stays_however_old_it_is(store: DynamoTimerStore, expiry: DynamoExpiry) -> None:
    waiting = make_timer("waiting")
    firing = make_timer("firing", state=State.FIRING, lease_until_ms=NOW_MS)
    await store.create(waiting)
    await store.create(firing)
    assert await swept(expiry, NOW_MS + 100 * WEEK_MS) == 0
    assert await left(store, waiting, firing) == ["waiting", "firing"]


async def test_the_retention_begins_with_the_end_not_with_the_due_time(
    store: DynamoTimerStore, expiry: DynamoExpiry
) -> None:
    late = make_timer("late", due_at_ms=NOW_MS, state=State.DELIVERED, updated_at_ms=NOW_MS + 3 * HOUR_MS)
    await store.create(late)
    assert await swept(expiry, NOW_MS + WEEK_MS + HOUR_MS) == 0
    assert await swept(expiry, NOW_MS + WEEK_MS + 4 * HOUR_MS) == 1


async def test_a_dead_timer_that_is_replayed_stays(store: DynamoTimerStore, expiry: DynamoExpiry) -> None:
    dead = make_timer(state=State.DEAD, updated_at_ms=NOW_MS)
    await store.create(dead)
    await store.save(dead, dead.replayed(NOW_MS + WEEK_MS))
    assert await swept(expiry, NOW_MS + 2 * WEEK_MS) == 0
    assert await left(store, dead) == [dead.id]


async def test_thousands_are_removed_in_one_sweep(store: DynamoTimerStore, expiry: DynamoExpiry) -> None:
    timers = [make_timer(f"timer-{n}", state=State.DELIVERED, updated_at_ms=NOW_MS) for n in range(2_000)]
    await asyncio.gather(*(store.create(timer) for timer in timers))
    assert await swept(expiry, NOW_MS + WEEK_MS + HOUR_MS) == 2_000
    assert await swept(expiry, NOW_MS + WEEK_MS + HOUR_MS) == 0
