"""Pull queues over timers in memory: who gets what, and what becomes of it."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from infra.memory import MemoryQueueRegistry, MemoryTimerStore
from infra.vault import AesVault, LocalKeys
from tests.builders import NOW_MS, FakeClock, RecordingQueue, Unobserving, make_queued, make_spec, turns
from timers import limits
from timers.body import Body, BodyKind
from timers.errors import BrokenTimer, Conflict, Invalid, LeaseEnded, NotEmpty, Overloaded, Unavailable
from timers.lease_token import LeaseToken
from timers.polling import Wish
from timers.ports import Position
from timers.queues import Purged, Queues, token_of
from timers.retry import RetryPolicy
from timers.secret import BODY
from timers.service import Timers
from timers.state import State
from timers.target import QueueTarget
from timers.timer import AFTER_LEASE_MS, QueueName, Timer

JOBS = QueueName("default", "jobs")
HOUR_MS = 3_600_000
WAIT = Wish(wait_s=30)
VAULT = AesVault([LocalKeys({"k1": bytes(32)})])


class Store(MemoryTimerStore):
    """Timers in memory; some are broken, some writes are held up, refused or lost against another."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: set[str] = set()
        self.away = False
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.written = asyncio.Event()
        self.looks = 0
        self.stale: list[Position] = []

    async def get(self, timer_id: str) -> Timer:
        if timer_id in self.broken:
            raise BrokenTimer("no timer")
        return await super().get(timer_id)

    async def save(self, before: Timer, after: Timer) -> None:
        await self.may_write.wait()
        if self.away:
            raise Unavailable("dynamodb")
        await super().save(before, after)
        self.written.set()

    async def waiting(self, queue: QueueName, *, limit: int) -> list[Position]:
        self.looks += 1
        if self.away:
            raise Unavailable("dynamodb")
        there = [*self.stale, *await super().waiting(queue, limit=10_000)]
        return sorted(there, key=lambda place: (place.at_ms, place.timer_id))[:limit]


class Scene:
    """One process's queues, and timers that are scheduled through it."""

    def __init__(self, *, waiting: int = 10, capacity: int = 0) -> None:
        self.clock = FakeClock()
        self.store = Store()
        self.registry = MemoryQueueRegistry()
        self.wheel = RecordingQueue()
        self.queues = self.process(waiting=waiting, capacity=capacity)
        self.timers = Timers(self.store, self.wheel, self.clock, Random(1), HOUR_MS, VAULT, arrivals=self.queues)

    def process(self, *, waiting: int = 10, capacity: int = 0, vault: AesVault | None = VAULT) -> Queues:
        return Queues(
            self.store,
            self.registry,
            self.wheel,
            self.clock,
            Random(1),
            horizon_ms=HOUR_MS,
            waiting=waiting,
            capacity=capacity,
            observer=Unobserving(),
            vault=vault,
        )

    async def put(self, name: str, queue: str = "jobs", *, delay_ms: int = 0, **fields: Any) -> Timer:
        due_at_ms = self.clock.now_ms() + delay_ms
        return await self.timers.schedule(make_spec(due_at_ms=due_at_ms, target=QueueTarget(queue), **fields), name)

    async def lease(self, most: int = 1, *, lease_ms: int = 30_000) -> list[Timer]:
        return await self.queues.lease(JOBS, Wish(most, lease_ms))

    def wait(self, wish: Wish = WAIT) -> asyncio.Task[list[Timer]]:
        return asyncio.create_task(self.queues.lease(JOBS, wish))

    async def commit(self, *timers: Timer) -> list[object]:
        return _kinds(await self.queues.commit(JOBS, [token_of(timer) for timer in timers]))


def _kinds(outcomes: list[Any]) -> list[object]:
    return [None if outcome is None else type(outcome) for outcome in outcomes]


def names(timers: list[Timer]) -> list[str]:
    return [timer.name for timer in timers]


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_what_is_ready_is_leased_oldest_first_and_up_to_what_was_asked_for(scene: Scene) -> None:
    for name, delay_ms in (("third", 0), ("first", -50), ("second", -1), ("ahead", 1)):
        await scene.put(name, delay_ms=delay_ms)
    assert names(await scene.lease(2)) == ["first", "second"]
    assert names(await scene.lease(5)) == ["third"]
    assert await scene.lease() == []
    scene.clock.advance(0.001)
    assert names(await scene.lease()) == ["ahead"]


async def test_a_lease_lasts_as_long_as_was_asked_for_and_its_end_is_watched(scene: Scene) -> None:
    await scene.put("timer")
    [leased] = await scene.lease(lease_ms=7_000)
    assert leased.lease_until_ms == NOW_MS + 7_000
    [(hint, at_ms)] = scene.wheel.taken
    assert (hint.pulled, hint.version, at_ms) == (True, leased.version - 1, NOW_MS + 7_000 + AFTER_LEASE_MS)


async def test_a_lease_that_ends_beyond_the_horizon_is_left_to_the_keeper(scene: Scene) -> None:
    await scene.put("timer")
    await scene.lease(lease_ms=HOUR_MS + 1)
    assert not scene.wheel.taken


async def test_each_tenant_has_its_own_queues(scene: Scene) -> None:
    acme = scene.timers.of("acme")
    await acme.schedule(make_spec(target=QueueTarget("jobs")), "theirs")
    assert await scene.lease() == []
    [leased] = await scene.queues.lease(QueueName("acme", "jobs"), Wish())
    assert await scene.commit(leased) == [LeaseEnded], "nor is its token good elsewhere"
    assert _kinds(await scene.queues.commit(QueueName("acme", "jobs"), [token_of(leased)])) == [None]


async def test_a_commit_delivers_and_may_be_repeated(scene: Scene) -> None:
    await scene.put("timer")
    [leased] = await scene.lease()
    scene.clock.advance(2)
    assert await scene.commit(leased, leased) == [None, None]
    timer = await scene.store.get("timer")
    assert timer.state is State.DELIVERED
    [attempt] = timer.attempts
    assert (attempt.started_at_ms, attempt.finished_at_ms) == (NOW_MS, NOW_MS + 2_000)


async def test_a_lease_holds_until_its_last_millisecond(scene: Scene) -> None:
    await scene.put("first", delay_ms=-5)
    await scene.put("second")
    first, second = await scene.lease(2)
    scene.clock.advance(30)
    assert await scene.commit(first) == [None]
    scene.clock.advance(0.001)
    assert await scene.commit(second) == [LeaseEnded]
    assert _kinds(await scene.queues.extend(JOBS, [token_of(second)], 30_000)) == [LeaseEnded]
    assert (await scene.store.get("second")).state is State.FIRING, "it is nobody's until somebody takes it over"


async def test_an_extended_lease_has_the_same_token_and_is_watched_anew(scene: Scene) -> None:
    await scene.put("timer")
    [leased] = await scene.lease()
    scene.clock.advance(20)
    assert _kinds(await scene.queues.extend(JOBS, [token_of(leased)], 60_000)) == [None]
    extended = await scene.store.get("timer")
    assert extended.lease_until_ms == NOW_MS + 80_000
    assert [hint.version for hint in scene.wheel.hints] == [leased.version - 1, extended.version - 1]
    scene.clock.advance(60)
    assert await scene.commit(leased) == [None]
    assert (await scene.store.get("timer")).attempts[0].started_at_ms == NOW_MS


async def test_a_rejected_timer_waits_as_long_as_its_worker_says_or_its_policy(scene: Scene) -> None:
    policy = RetryPolicy(max_attempts=3, min_backoff=9, jitter=0)
    await scene.put("timer", retry=policy)
    for delay_ms, wait_ms in ((0, 0), (None, 18_000)):
        [leased] = await scene.lease()
        assert _kinds(await scene.queues.reject(JOBS, [token_of(leased)], delay_ms)) == [None]
        assert (await scene.store.get("timer")).next_attempt_at_ms == scene.clock.now_ms() + wait_ms
    scene.clock.advance(18)
    [leased] = await scene.lease()
    assert leased.attempts_made == 2
    await scene.queues.reject(JOBS, [token_of(leased)], 0)
    timer = await scene.store.get("timer")
    assert (timer.state, len(timer.attempts)) == (State.DEAD, 3)


async def test_of_several_who_settle_a_lease_one_does(scene: Scene) -> None:
    await scene.put("timer")
    [leased] = await scene.lease()
    token = [token_of(leased)]
    outcomes = await asyncio.gather(
        scene.queues.reject(JOBS, token, 0),
        scene.queues.commit(JOBS, token),
        scene.process().extend(JOBS, token, 5_000),
    )
    timer = await scene.store.get("timer")
    assert timer.version == 2 + sum(outcome == [None] for outcome in outcomes)
    assert timer.attempts_made == 1


async def test_what_is_no_token_of_the_queue_changes_nothing(scene: Scene) -> None:
    await scene.put("timer")
    [leased] = await scene.lease()
    tokens = [str(LeaseToken("timer", "0" * 32)), str(LeaseToken("nobody", "0" * 32)), "rubbish"]
    assert _kinds(await scene.queues.commit(JOBS, tokens)) == [LeaseEnded] * 3
    assert _kinds(await scene.queues.commit(QueueName("default", "mail"), [token_of(leased)])) == [LeaseEnded]
    assert await scene.store.get("timer") == leased


async def test_who_waits_is_served_in_order_by_what_arrives(scene: Scene) -> None:
    waits = [scene.wait() for _ in range(3)]
    await turns()
    assert scene.queues.waiting == 3
    for name in ("first", "second", "third"):
        await scene.put(name)
        await turns()
    assert [names(await wait) for wait in waits] == [["first"], ["second"], ["third"]]
    assert scene.queues.waiting == 0


async def test_waiting_for_what_is_far_off_costs_one_look(scene: Scene) -> None:
    wait = scene.wait()
    await turns()
    looks = scene.store.looks
    for number in range(20):
        await scene.put(f"far-{number}", delay_ms=HOUR_MS)
        await turns()
    assert scene.store.looks == looks
    wait.cancel()


async def test_who_is_cancelled_while_it_waits_gets_nothing(scene: Scene) -> None:
    leaves, stays = scene.wait(), scene.wait()
    await turns()
    leaves.cancel()
    await scene.put("timer")
    assert names(await stays) == ["timer"]


async def test_who_is_cancelled_while_the_table_is_written_gives_its_leases_back(scene: Scene) -> None:
    await scene.put("timer")
    scene.store.may_write.clear()
    leaves = scene.wait()
    await turns()
    leaves.cancel()
    scene.store.may_write.set()
    await turns(30)
    timer = await scene.store.get("timer")
    assert (timer.state, timer.attempts_made, timer.lease) == (State.SCHEDULED, 0, None)
    assert names(await scene.lease()) == ["timer"]


async def test_who_is_cancelled_with_leases_in_its_hands_gives_them_back(scene: Scene) -> None:
    await scene.put("timer")
    wait = scene.wait()
    await scene.store.written.wait()
    wait.cancel()
    await asyncio.wait([wait])
    await turns()
    if wait.cancelled():
        assert (await scene.store.get("timer")).state is State.SCHEDULED
    else:
        assert names(wait.result()) == ["timer"]


async def test_what_nobody_saw_goes_back_uncounted(scene: Scene) -> None:
    await scene.put("timer")
    leases = await scene.lease()
    await scene.queues.give_back(JOBS, leases)
    [again] = await scene.lease()
    assert (again.name, again.attempts_made) == ("timer", 0)
    assert await scene.commit(*leases) == [LeaseEnded]


async def test_while_the_table_is_away_a_worker_is_told_so(scene: Scene) -> None:
    await scene.put("timer")
    scene.store.away = True
    with pytest.raises(Unavailable):
        await scene.lease()
    scene.store.away = False
    assert names(await scene.lease()) == ["timer"]


async def test_a_commit_that_the_table_refuses_is_not_taken_for_done(scene: Scene) -> None:
    await scene.put("timer")
    [leased] = await scene.lease()
    scene.store.away = True
    assert await scene.commit(leased) == [Unavailable]


async def test_a_broken_one_blocks_nobody(scene: Scene) -> None:
    scene.store.broken = {"broken"}
    await scene.put("broken", delay_ms=-5_000)
    await scene.put("timer")
    assert names([*await scene.lease(), *await scene.lease()]) == ["timer"]


async def test_what_the_index_still_shows_is_passed_over(scene: Scene) -> None:
    scene.store.stale = [Position(NOW_MS - 9_000 + number, f"gone-{number}") for number in range(50)]
    await scene.put("timer")
    found: list[Timer] = []
    while not found:
        found = await scene.lease(10)
    assert names(found) == ["timer"]


async def test_who_loses_a_race_for_one_takes_the_next(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.put("first", delay_ms=-5)
    await scene.put("second")
    real = scene.store.save

    async def save(before: Timer, after: Timer) -> None:
        if before.id == "first":
            raise Conflict("first")
        await real(before, after)

    monkeypatch.setattr(scene.store, "save", save)
    assert names(await scene.queues.lease(JOBS, WAIT)) == ["second"]


async def test_a_paused_queue_gives_nothing_out_and_takes_in(scene: Scene) -> None:
    await scene.put("timer")
    await scene.queues.pause(JOBS)
    assert await scene.lease() == []
    await scene.put("another")
    wait = scene.wait(Wish(most=2, wait_s=30))
    await turns()
    await scene.queues.resume(JOBS)
    assert len(await wait) == 2


async def test_a_pause_by_another_process_is_seen_after_a_second(scene: Scene) -> None:
    await scene.put("timer")
    assert len(await scene.lease()) == 1
    await scene.put("another")
    await scene.process().pause(JOBS)
    scene.clock.advance(1)
    assert await scene.lease() == []


async def test_more_of_a_tenant_who_wait_than_the_bound_are_refused(scene: Scene) -> None:
    waits = [scene.wait() for _ in range(10)]
    await turns()
    assert await scene.queues.lease(QueueName("acme", "jobs"), Wish()) == [], "others are not"
    with pytest.raises(Overloaded):
        await scene.lease()
    for wait in waits:
        wait.cancel()
    await asyncio.wait(waits)
    await scene.put("timer")
    assert len(await scene.lease()) == 1


async def test_whoever_waits_is_dismissed_at_the_end_and_nobody_waits_after_it(scene: Scene) -> None:
    wait = scene.wait()
    await turns()
    await scene.queues.stop()
    assert await wait == []
    assert await scene.queues.lease(JOBS, WAIT) == []


async def test_a_poller_that_fails_is_noticed_and_replaced(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(scene.store, "waiting", fails)
        with pytest.raises(Unavailable):
            await scene.lease()
    await scene.put("timer")
    assert len(await scene.lease()) == 1


async def test_a_purge_cancels_what_waits_and_nothing_else(scene: Scene) -> None:
    await scene.put("leased", delay_ms=-5)
    [leased] = await scene.lease()
    await scene.put("ready")
    await scene.put("ahead", delay_ms=HOUR_MS)
    await scene.put("mail", "mail")
    assert await scene.queues.purge(JOBS) == Purged(2, more=False)
    states = {timer.name: timer.state for timer in scene.store.timers.values()}
    assert states == {
        "leased": State.FIRING,
        "ready": State.CANCELLED,
        "ahead": State.CANCELLED,
        "mail": State.SCHEDULED,
    }
    assert await scene.commit(leased) == [None]


async def test_a_large_queue_is_purged_in_parts(scene: Scene) -> None:
    for number in range(1_001):
        await scene.store.create(make_queued(f"timer-{number}"))
    assert await scene.queues.purge(JOBS) == Purged(1_000, more=True)
    assert await scene.queues.purge(JOBS) == Purged(1, more=False)


async def test_a_queue_is_known_from_its_first_timer_until_it_is_removed_empty(scene: Scene) -> None:
    await scene.put("timer")
    assert (await scene.queues.known("default")).names == {"jobs"}
    with pytest.raises(NotEmpty):
        await scene.queues.remove(JOBS)
    await scene.timers.cancel("timer")
    await scene.queues.remove(JOBS)
    assert (await scene.queues.known("default")).names == frozenset()


async def test_one_more_queue_than_a_tenant_may_have_is_refused_and_stores_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_QUEUES", 2)
    await scene.put("a", "one")
    await scene.put("b", "two")
    with pytest.raises(Invalid):
        await scene.put("c", "three")
    await scene.put("d", "two")
    assert set(scene.store.timers) == {"a", "b", "d"}


async def test_a_full_queue_takes_no_more_until_there_is_room() -> None:
    scene = Scene(capacity=3)
    for name in ("a", "b", "c"):
        await scene.put(name)
    with pytest.raises(Overloaded):
        await scene.put("d")
    await scene.put("e", "mail")
    assert set(scene.store.timers) == {"a", "b", "c", "e"}
    await scene.timers.cancel("a")
    scene.clock.advance(60)
    await scene.put("d")
    with pytest.raises(Overloaded):
        await scene.put("f")


async def test_who_was_in_a_full_queue_may_be_edited_there_but_nobody_moves_in() -> None:
    scene = Scene(capacity=1)
    await scene.put("mine")
    await scene.put("theirs", "mail")
    await scene.timers.edit("mine", lambda _: make_spec(due_at_ms=NOW_MS + 5, target=QueueTarget("jobs")))
    with pytest.raises(Overloaded):
        await scene.timers.edit("theirs", lambda _: make_spec(target=QueueTarget("jobs")))


async def test_a_timer_of_a_queue_is_never_put_on_the_wheel_before_it_is_leased(scene: Scene) -> None:
    timer = await scene.put("timer")
    await scene.timers.fire(timer.name)
    await scene.timers.edit(timer.name, lambda _: make_spec(target=QueueTarget("mail")))
    assert not scene.wheel.taken


async def put_secret(scene: Scene) -> None:
    target = QueueTarget("jobs", secrets={BODY: Body(BodyKind.TEXT, "hunter2").packed()})
    await scene.timers.schedule(make_spec(target=target, retry=RetryPolicy(max_attempts=2)), "timer")


async def test_a_worker_gets_a_secret_body_opened_and_the_store_keeps_it_sealed(scene: Scene) -> None:
    await put_secret(scene)
    leases = await scene.lease()
    [opened] = await scene.queues.opened(leases)
    assert opened.target.body == Body(BodyKind.TEXT, "hunter2")
    assert token_of(opened) == token_of(leases[0])
    assert await scene.commit(opened) == [None]
    assert "hunter2" not in str((await scene.store.get("timer")).target.secrets)


async def test_a_secret_body_that_cannot_be_read_ends_the_attempt(scene: Scene) -> None:
    await put_secret(scene)
    without_keys = scene.process(vault=None)
    for state in (State.SCHEDULED, State.DEAD):
        leases = await without_keys.lease(JOBS, Wish())
        assert await without_keys.opened(leases) == []
        timer = await scene.store.get("timer")
        assert (timer.state, timer.lease) == (state, None)
        assert str(timer.attempts[-1].error).startswith("secret: ")
        scene.clock.advance(60)
