"""How many live timers a tenant may have."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from infra import quota
from infra.memory import MemoryTimerStore
from infra.quota import CountedQuota
from tests.builders import FakeClock, RecordingQueue, make_spec, turns
from timers.errors import IllegalTransition, QuotaReached, Unavailable
from timers.service import Timers


class CountingStore(MemoryTimerStore):
    """Counts counts; may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = 0
        self.away = False

    async def pending(self, *, tenant: str) -> int:
        self.counts += 1
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("dynamodb")
        return await super().pending(tenant=tenant)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(monotonic=50.0)


@pytest.fixture
def timers(store: CountingStore, clock: FakeClock) -> Timers:
    return Timers(
        store, RecordingQueue(), clock, Random(1), 3_600_000, tenant="acme", quota=CountedQuota(store, clock, 10)
    )


async def schedule(timers: Timers, count: int) -> int:
    """Return how many of so many new timers are let in."""
    results = await asyncio.gather(*(timers.schedule(make_spec()) for _ in range(count)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(error, QuotaReached) for error in refused)
    return count - len(refused)


async def test_no_more_live_timers_than_the_quota_come_to_life(timers: Timers) -> None:
    assert await schedule(timers, 25) == 10
    with pytest.raises(QuotaReached) as refused:
        await timers.schedule(make_spec())
    assert refused.value.retry_after >= 1


async def test_tenants_have_quotas_of_their_own(timers: Timers) -> None:
    assert await schedule(timers, 12) == 10
    assert await schedule(timers.of("zeta"), 12) == 10


async def test_what_there_was_before_counts(timers: Timers, store: CountingStore, clock: FakeClock) -> None:
    assert await schedule(timers, 7) == 7
    other_process = Timers(
        store, timers.queue, clock, Random(2), 3_600_000, tenant="acme", quota=CountedQuota(store, clock, 10)
    )
    assert await schedule(other_process, 7) == 3


async def test_room_that_is_made_is_found_by_the_next_count(
    timers: Timers, store: CountingStore, clock: FakeClock
) -> None:
    assert await schedule(timers, 12) == 10
    for timer in list(store.timers.values())[:4]:
        await timers.cancel(timer.name)
    assert await schedule(timers, 1) == 0
    clock.advance(1)
    await schedule(timers, 1)
    await turns()
    assert await schedule(timers, 9) + 6 == 10


async def test_requests_share_counts_and_seldom_wait_for_one(
    timers: Timers, store: CountingStore, clock: FakeClock
) -> None:
    for _ in range(3):
        await schedule(timers, 50)
        await schedule(timers, 50)
        await turns()
        clock.advance(1)
    assert store.counts == 3


async def test_an_edit_and_a_new_time_need_no_room(timers: Timers) -> None:
    await schedule(timers, 9)
    await timers.schedule(make_spec(), "mine")
    await timers.edit("mine", lambda _: make_spec(labels={"a": "b"}))
    await timers.fire("mine")
    await timers.replace("mine", make_spec())


async def test_a_replay_needs_room(timers: Timers) -> None:
    await timers.schedule(make_spec(), "mine")
    with pytest.raises(IllegalTransition):
        await timers.replay("mine")
    await schedule(timers, 9)
    with pytest.raises(QuotaReached):
        await timers.replay("mine")


async def test_while_nothing_can_be_counted_the_last_count_holds(
    timers: Timers, store: CountingStore, clock: FakeClock
) -> None:
    await schedule(timers, 5)
    store.away = True
    clock.advance(60)
    assert await schedule(timers, 9) == 5
    with pytest.raises(Unavailable):
        await timers.of("zeta").schedule(make_spec())
    await turns()
    store.away = False
    await timers.of("zeta").schedule(make_spec())


async def test_few_tenants_are_remembered(
    store: CountingStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "_TENANTS", 10)
    counted = CountedQuota(store, clock, 10)
    for number in range(100):
        await counted.admit(f"tenant-{number}")
    assert len(counted._accounts) == 10
