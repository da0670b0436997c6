"""What the keeper loads, re-drives and takes over."""

from collections import Counter
from random import Random

import pytest

from consumer.keeper import Keeper
from consumer.shards import Shards
from infra.memory import MemoryShardLeases, MemoryTimerStore
from tests.builders import NOW_MS, FakeClock, RecordingQueue, Unobserving, make_timer
from timers.errors import TimerError
from timers.state import State
from timers.timer import Timer

HOUR_MS = 3_600_000
SHARDS = 4


class Scene:
    """A keeper of every shard over timers in memory."""

    def __init__(self, store: MemoryTimerStore | None = None) -> None:
        self.clock = FakeClock()
        self.store = store or MemoryTimerStore(shards=SHARDS)
        self.queue = RecordingQueue()
        self.leases = MemoryShardLeases()
        self.backlog = 0
        self.shards, self.keeper = self.new_keeper("a")

    def new_keeper(self, owner: str) -> tuple[Shards, Keeper]:
        shards = Shards(self.leases, self.clock, Random(1), owner=owner, shards=SHARDS)
        keeper = Keeper(
            self.store,
            self.queue,
            shards,
            self.clock,
            horizon_ms=HOUR_MS,
            backlog=lambda: self.backlog,
            observer=Unobserving(),
        )
        return shards, keeper

    async def add(self, *timers: Timer) -> None:
        for timer in timers:
            await self.store.create(timer)

    async def round(self, times: int = 1, *, every: float = 1.0) -> None:
        for _ in range(times):
            await self.shards.beat()
            await self.keeper.round()
            self.clock.advance(every)

    def published(self) -> Counter[str]:
        return Counter(hint.timer_id for hint in self.queue.hints)


@pytest.fixture
def scene() -> Scene:
    return Scene()


class Unwilling(MemoryTimerStore):
    """A store that refuses every write to one timer."""

    async def save(self, before: Timer, after: Timer) -> None:
        if before.id == "refused":
            raise TimerError("the table will not have it")
        await super().save(before, after)


async def test_a_timer_that_cannot_be_taken_over_does_not_keep_the_others_waiting() -> None:
    scene = Scene(Unwilling(shards=SHARDS))
    over = {"state": State.FIRING, "version": 2, "lease_until_ms": NOW_MS - 60_000, "due_at_ms": NOW_MS - 90_000}
    await scene.add(*(make_timer(name, **over) for name in ("refused", *"abcdefgh")))
    await scene.add(*(make_timer(name, due_at_ms=NOW_MS - 60_000) for name in "ijklmnop"))
    await scene.round()
    assert set(scene.published()) == set("abcdefghijklmnop")


def due_in(seconds: float, timer_id: str = "timer-1", **changes: object) -> Timer:
    return make_timer(timer_id, due_at_ms=NOW_MS + round(seconds * 1000), **changes)


async def test_what_comes_within_the_horizon_is_loaded_exactly_once_and_in_time(scene: Scene) -> None:
    await scene.add(*(due_in(3_000 + 10 * number, f"timer-{number}") for number in range(200)))
    loaded = scene.published()
    while scene.clock.now_ms() < NOW_MS + 1_500_000:
        await scene.round()
        loaded = scene.published()
        must = [timer for timer in scene.store.timers.values() if timer.due_at_ms < scene.clock.now_ms() + 3_500_000]
        assert all(loaded[timer.id] == 1 for timer in must)
    assert set(loaded.values()) == {1}
    assert len(loaded) == 200


async def test_what_is_beyond_the_horizon_stays_in_the_table(scene: Scene) -> None:
    await scene.add(due_in(3_700))
    await scene.round()
    assert not scene.queue.taken


@pytest.mark.parametrize("state", [State.CANCELLED, State.DELIVERED, State.DEAD, State.FIRING])
async def test_only_scheduled_timers_are_loaded(scene: Scene, state: State) -> None:
    await scene.add(due_in(60, state=state, lease_until_ms=NOW_MS + HOUR_MS))
    await scene.round()
    assert not scene.queue.taken


async def test_thousands_of_timers_at_one_instant_are_all_loaded(scene: Scene) -> None:
    await scene.add(*(due_in(60, f"timer-{number}") for number in range(5_000)))
    await scene.round(8)
    assert len(scene.published()) == 5_000


async def test_more_than_a_page_is_loaded_in_the_next_rounds_without_repeats(scene: Scene) -> None:
    await scene.add(*(due_in(60 + number / 1000, f"timer-{number}") for number in range(5_000)))
    await scene.round(8)
    assert len(scene.published()) == 5_000
    assert sum(scene.published().values()) <= 5_000 + 4 * SHARDS


async def test_whoever_follows_goes_on_where_the_dead_keeper_was(scene: Scene) -> None:
    await scene.add(*(due_in(60 + number, f"timer-{number}") for number in range(100)))
    await scene.round(2)
    scene.shards, scene.keeper = scene.new_keeper("b")
    await scene.round(12)
    assert len(scene.shards.mine) == SHARDS
    assert set(scene.published().values()) == {1}


async def test_what_is_overdue_by_more_than_the_grace_is_driven_again(scene: Scene) -> None:
    await scene.add(due_in(-2.001, "overdue"), due_in(-2, "in-grace"))
    await scene.round()
    assert [hint.timer_id for hint in scene.queue.hints] == ["overdue"]


async def test_what_was_driven_lately_is_left_in_peace_for_a_while(scene: Scene) -> None:
    await scene.add(due_in(-10))
    await scene.round(5)
    assert len(scene.queue.taken) == 1
    await scene.round(2)
    assert len(scene.queue.taken) == 2


async def test_a_new_version_is_driven_whatever_happened_to_the_old(scene: Scene) -> None:
    timer = due_in(-10)
    await scene.add(timer)
    await scene.round(3)
    await scene.store.save(timer, timer.fired(NOW_MS - 5_000))
    await scene.round(3)
    assert [hint.version for hint in scene.queue.hints] == [1, 2]


async def test_more_overdue_than_a_page_are_all_driven(scene: Scene) -> None:
    await scene.add(*(due_in(-10 - number / 1000, f"timer-{number}") for number in range(5_000)))
    await scene.round(12)
    assert len(scene.published()) == 5_000


async def test_thousands_overdue_at_one_instant_are_all_driven(scene: Scene) -> None:
    await scene.add(*(due_in(-10, f"timer-{number}") for number in range(5_000)))
    await scene.round(12)
    assert len(scene.published()) == 5_000


async def test_while_much_waits_for_consumers_nothing_is_driven_again(scene: Scene) -> None:
    await scene.add(due_in(-10, "overdue"), due_in(60, "ahead"))
    scene.queue.ready = 1_000
    await scene.round()
    assert [hint.timer_id for hint in scene.queue.hints] == ["ahead"], "loading goes on"
    scene.queue.ready = 999
    await scene.round()
    assert "overdue" in scene.published()


async def test_a_timer_whose_lease_ran_out_is_scheduled_again_at_once(scene: Scene) -> None:
    await scene.add(due_in(-60, state=State.FIRING, version=2, lease_until_ms=NOW_MS - 5_001))
    await scene.round()
    stored = await scene.store.get("timer-1")
    assert (stored.state, stored.version, stored.attempts_made) == (State.SCHEDULED, 3, 1)
    assert {(hint.version, hint.at_ms) for hint in scene.queue.hints} == {(3, NOW_MS)}


@pytest.mark.parametrize(("ready", "backlog"), [(1_000, 0), (0, 1_000), (50_000, 1_000)])
async def test_however_many_hints_wait_for_consumers_what_a_dead_one_left_is_taken_over(
    scene: Scene, ready: int, backlog: int
) -> None:
    await scene.add(due_in(-30, state=State.FIRING, version=2, lease_until_ms=NOW_MS - 5_001))
    await scene.add(*(due_in(-31, f"waiting-{number}") for number in range(2_000)))
    scene.queue.ready, scene.backlog = ready, backlog
    await scene.round(20)
    stored = await scene.store.get("timer-1")
    assert (stored.state, stored.version) == (State.SCHEDULED, 3)
    assert scene.published() == {"timer-1": 1}, "and nothing is driven again"


async def test_a_timer_whose_lease_may_still_run_is_left_alone(scene: Scene) -> None:
    await scene.add(due_in(-60, state=State.FIRING, version=2, lease_until_ms=NOW_MS - 5_000))
    await scene.round()
    assert (await scene.store.get("timer-1")).state is State.FIRING
    assert not scene.queue.taken


async def test_a_timer_that_keeps_losing_its_consumers_ends_dead(scene: Scene) -> None:
    await scene.add(due_in(-60, state=State.FIRING, attempts_made=10, lease_until_ms=NOW_MS - 6_000))
    await scene.round()
    assert (await scene.store.get("timer-1")).state is State.DEAD
    assert not scene.queue.taken


async def test_a_keeper_without_shards_does_nothing(scene: Scene) -> None:
    await scene.add(due_in(-60), due_in(60, "timer-2"))
    await scene.keeper.round()
    assert not scene.queue.taken


async def test_while_this_process_is_behind_only_the_long_overdue_are_driven_again(scene: Scene) -> None:
    await scene.add(make_timer("behind", due_at_ms=NOW_MS - 10_000), make_timer("lost", due_at_ms=NOW_MS - 90_000))
    scene.backlog = 1_000
    await scene.round(3)
    assert scene.published() == {"lost": 1}

    scene.backlog = 0
    await scene.round(3)
    assert scene.published() == {"lost": 1, "behind": 1}


async def test_what_stays_overdue_is_driven_again_more_and_more_seldom(scene: Scene) -> None:
    await scene.add(due_in(-10, "stuck"))
    await scene.round(40, every=5.0)
    assert scene.published() == {"stuck": 6}
    await scene.round(300, every=5.0)
    assert scene.published() == {"stuck": 9}


async def test_a_shard_that_is_lost_in_the_middle_leaves_nothing_to_do(scene: Scene) -> None:
    await scene.add(*(due_in(-10, f"timer-{number}") for number in range(2_000)))
    await scene.shards.beat()
    assert await scene.keeper.round()
    await scene.shards.leave()
    assert not await scene.keeper.round()


async def test_a_new_wheel_is_loaded_from_the_beginning(scene: Scene) -> None:
    await scene.add(*(due_in(60 + number / 1000, f"timer-{number}") for number in range(2_000)))
    await scene.round(8)
    scene.queue.taken.clear()
    await scene.leases.clear()
    await scene.round(8)
    assert len(scene.published()) == 2_000


async def test_a_wheel_that_is_new_in_the_middle_of_a_page_is_loaded_from_the_beginning(scene: Scene) -> None:
    await scene.add(*(due_in(60 + number / 1000, f"timer-{number}") for number in range(2_000)))
    await scene.round(1)
    assert 0 < len(scene.published()) < 2_000
    scene.queue.taken.clear()
    await scene.leases.clear()
    await scene.round(8)
    assert len(scene.published()) == 2_000
