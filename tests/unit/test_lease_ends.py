"""What becomes of a lease whose worker never reports back: by the wheel, and by the keeper."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from consumer.handler import Handler
from consumer.keeper import Keeper
from consumer.shards import Shards
from infra.memory import MemoryShardLeases, MemoryTimerStore
from infra.metrics import Metrics
from infra.rabbitmq.messages import decode, encode
from tests.builders import NOW_MS, Answers, FakeClock, RecordingQueue, make_leased, make_queued, make_timer
from timers.errors import Unavailable
from timers.retry import RetryPolicy
from timers.settle import committed, lapsed, rejected
from timers.state import State
from timers.timer import AFTER_LEASE_MS, Timer

HOUR_MS = 3_600_000
UNTIL_MS = NOW_MS + 30_000
OVER_MS = UNTIL_MS + 5_001
ONCE = RetryPolicy(max_attempts=1)


class Scene:
    """A consumer's handler and keeper, and one leased timer."""

    def __init__(self, now_ms: int) -> None:
        self.clock = FakeClock(now_ms)
        self.store = MemoryTimerStore(shards=1)
        self.wheel = RecordingQueue()
        callbacks = Answers([200], clock=self.clock)
        self.callbacks = callbacks
        self.metrics = Metrics()
        self.handler = Handler(self.store, self.wheel, callbacks, self.clock, Random(1), HOUR_MS, self.metrics)
        self.shards = Shards(MemoryShardLeases(), self.clock, Random(1), owner="a", shards=1)
        self.keeper = Keeper(
            self.store,
            self.wheel,
            self.shards,
            self.clock,
            horizon_ms=HOUR_MS,
            backlog=lambda: 0,
            observer=self.metrics,
        )

    async def handle(self, timer: Timer) -> None:
        await self.store.create(timer)
        await self.handler.handle(timer.lease_end_hint, redelivered=False, leave=lambda _: None)
        assert not self.callbacks.calls

    async def keep(self, *timers: Timer) -> None:
        for timer in timers:
            await self.store.create(timer)
        await self.shards.beat()
        await self.keeper.round()


def test_the_message_travels_like_any_other() -> None:
    hint = make_leased().lease_end_hint
    assert decode(encode(hint)) == hint
    assert (hint.pulled, hint.at_ms) == (True, UNTIL_MS + AFTER_LEASE_MS)


async def test_when_a_lease_is_over_its_timer_is_ready_again_at_once() -> None:
    scene = Scene(OVER_MS)
    await scene.handle(make_leased())
    timer = await scene.store.get("timer-1")
    assert (timer.state, timer.next_attempt_at_ms, timer.lease) == (State.SCHEDULED, OVER_MS, None)
    assert timer.attempts_made == 1
    assert not scene.wheel.taken, "nobody has to be told of what waits in a queue"


async def test_each_lease_that_lapses_is_counted_once_whoever_notices() -> None:
    by_the_wheel, by_the_keeper = Scene(OVER_MS), Scene(OVER_MS)
    await by_the_wheel.handle(make_leased())
    await by_the_wheel.handler.handle(make_leased().lease_end_hint, redelivered=True, leave=lambda _: None)
    await by_the_keeper.keep(make_leased(), make_leased("timer-2"), make_timer("called").claimed(UNTIL_MS, NOW_MS))
    for scene, lapses in ((by_the_wheel, 1), (by_the_keeper, 2)):
        assert f'timers_leases_total{{event="lapsed"}} {lapses}.0' in scene.metrics.page().decode()


async def test_a_lease_that_may_still_run_is_looked_at_again_later() -> None:
    scene = Scene(OVER_MS - 1)
    await scene.handle(make_leased())
    assert (await scene.store.get("timer-1")).state is State.FIRING
    [(hint, at_ms)] = scene.wheel.taken
    assert (hint.at_ms, at_ms) == (UNTIL_MS + AFTER_LEASE_MS, UNTIL_MS + AFTER_LEASE_MS)


LATER: dict[str, Callable[[Timer], Timer]] = {
    "committed": lambda timer: committed(timer, NOW_MS + 1),
    "extended": lambda timer: timer.extended(UNTIL_MS + 60_000, NOW_MS + 1),
    "released": lambda timer: timer.released(NOW_MS + 1),
    "rejected": lambda timer: rejected(timer, 0, now_ms=NOW_MS + 1, random=Random(1)),
}


@pytest.mark.parametrize("later", LATER)
async def test_what_happened_to_a_lease_meanwhile_stays(later: str) -> None:
    scene = Scene(OVER_MS)
    leased = make_leased()
    after = LATER[later](leased)
    await scene.store.create(after)
    await scene.handler.handle(leased.lease_end_hint, redelivered=True, leave=lambda _: None)
    assert await scene.store.get("timer-1") == after
    assert not scene.wheel.taken


async def test_while_the_table_is_away_a_lease_is_looked_at_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(OVER_MS)

    async def away(*_: object) -> Timer:
        raise Unavailable("dynamodb")

    with monkeypatch.context() as patched:
        patched.setattr(scene.store, "get", away)
        await scene.handle(make_leased())
    [(hint, _)] = scene.wheel.taken
    await scene.handler.handle(hint, redelivered=False, leave=lambda _: None)
    assert (await scene.store.get("timer-1")).state is State.SCHEDULED


async def test_the_keeper_takes_back_what_nobody_noticed_and_leaves_the_rest() -> None:
    scene = Scene(OVER_MS)
    await scene.keep(make_leased("over"), make_leased("runs", until_ms=UNTIL_MS + 1), make_queued("waits"))
    states = {timer.id: timer.state for timer in scene.store.timers.values()}
    assert states == {"over": State.SCHEDULED, "runs": State.FIRING, "waits": State.SCHEDULED}
    assert not scene.wheel.taken


async def test_the_keeper_looks_at_leases_seldom() -> None:
    scene = Scene(OVER_MS)
    await scene.keep()
    await scene.keep(make_leased())
    assert (await scene.store.get("timer-1")).state is State.FIRING
    scene.clock.advance(5)
    await scene.keep()
    assert (await scene.store.get("timer-1")).state is State.SCHEDULED


async def test_the_keeper_takes_back_more_than_a_page() -> None:
    scene = Scene(OVER_MS)
    await scene.keep(*(make_leased(f"timer-{number}") for number in range(450)))
    for _ in range(2):
        scene.clock.advance(1)
        await scene.keep()
    assert {timer.state for timer in scene.store.timers.values()} == {State.SCHEDULED}


def test_a_lease_that_ends_counts_as_an_attempt_and_the_last_one_is_the_end() -> None:
    after = lapsed(make_leased(), OVER_MS)
    [attempt] = after.attempts
    assert (attempt.number, attempt.started_at_ms, attempt.finished_at_ms) == (1, NOW_MS, UNTIL_MS)
    assert "lease ended" in (attempt.error or "")
    assert lapsed(make_leased(retry=ONCE), OVER_MS).state is State.DEAD


def test_the_last_rejection_is_the_end_whatever_delay_it_asks_for() -> None:
    assert rejected(make_leased(retry=ONCE), 5_000, now_ms=NOW_MS, random=Random(1)).state is State.DEAD


def test_a_clock_that_is_behind_writes_no_attempt_that_ends_before_it_began() -> None:
    [attempt] = committed(make_leased(), NOW_MS - 3_000).attempts
    assert attempt.started_at_ms == attempt.finished_at_ms == NOW_MS


def test_a_leased_timer_is_listed_by_the_end_of_its_lease() -> None:
    assert make_leased().listed_at_ms == UNTIL_MS
    assert committed(make_leased(), NOW_MS).listed_at_ms == NOW_MS
    assert make_leased().released(NOW_MS).listed_at_ms == NOW_MS
