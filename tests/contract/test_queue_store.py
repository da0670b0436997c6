"""What every timer store keeps to about timers of pull queues."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.builders import NOW_MS, make_leased, make_queued, make_target, make_timer
from tests.contract.conftest import SHARDS
from timers.errors import Conflict
from timers.ports import Filter, Position, QueueCounts, TimerStore
from timers.settle import committed, lapsed
from timers.state import State
from timers.timer import Lease, QueueName, Timer
from timers.wheel import slot

JOBS = QueueName("default", "jobs")
LATER_MS = NOW_MS + 60_000
UNTIL_MS = NOW_MS + 30_000


async def add(store: TimerStore, *timers: Timer) -> None:
    await asyncio.gather(*(store.create(timer) for timer in timers))


async def waiting(store: TimerStore, queue: QueueName = JOBS, limit: int = 100) -> list[str]:
    return [place.timer_id for place in await store.waiting(queue, limit=limit)]


async def leased(store: TimerStore, timer: Timer, until_ms: int = UNTIL_MS) -> Timer:
    after = timer.leased(Lease("ab" * 16, NOW_MS), until_ms)
    await store.save(timer, after)
    return after


async def test_a_leased_timer_is_read_as_it_was_written(store: TimerStore) -> None:
    await add(store, make_queued())
    after = await leased(store, make_queued())
    assert await store.get("timer-1") == after
    longer = after.extended(LATER_MS, NOW_MS + 5)
    await store.save(after, longer)
    assert await store.get("timer-1") == longer


async def test_whatever_becomes_of_a_lease_is_read_as_it_was_written(store: TimerStore) -> None:
    moves: dict[str, Callable[[Timer], Timer]] = {
        "committed": lambda timer: committed(timer, NOW_MS + 9),
        "released": lambda timer: timer.released(NOW_MS + 9),
        "lapsed": lambda timer: lapsed(timer, LATER_MS),
    }
    for name, move in moves.items():
        await add(store, make_queued(name))
        before = await leased(store, make_queued(name))
        after = move(before)
        await store.save(before, after)
        assert await store.get(name) == after


async def test_of_many_who_lease_a_timer_exactly_one_does(store: TimerStore) -> None:
    await add(store, make_queued())
    results = await asyncio.gather(*(leased(store, make_queued()) for _ in range(8)), return_exceptions=True)
    assert [type(result) for result in results].count(Conflict) == 7


async def test_a_queue_has_its_own_scheduled_timers_soonest_first_due_or_not(store: TimerStore) -> None:
    await add(
        store,
        make_queued("second", due_at_ms=NOW_MS),
        make_queued("last", due_at_ms=LATER_MS),
        make_queued("first", due_at_ms=NOW_MS - 5),
        make_queued("other", queue="mail"),
        make_queued("acme/theirs"),
        make_timer("called"),
    )
    assert await store.waiting(JOBS, limit=10) == [
        Position(NOW_MS - 5, "first"),
        Position(NOW_MS, "second"),
        Position(LATER_MS, "last"),
    ]
    assert await waiting(store, limit=2) == ["first", "second"]
    assert await waiting(store, QueueName("acme", "jobs")) == ["acme/theirs"]
    assert await waiting(store, QueueName("default", "none")) == []


async def test_hundreds_at_one_instant_are_all_in_the_queue(store: TimerStore) -> None:
    names = {f"timer-{number}" for number in range(300)}
    await add(store, *(make_queued(name) for name in names))
    assert set(await waiting(store, limit=300)) == names
    assert len(set(await waiting(store, limit=150))) == 150


async def test_what_is_leased_cancelled_or_elsewhere_now_is_out_of_the_queue(store: TimerStore) -> None:
    await add(store, *(make_queued(name) for name in ("leased", "cancelled", "called", "mailed", "waits")))
    await leased(store, make_queued("leased"))
    await store.save(make_queued("cancelled"), make_queued("cancelled").cancelled(NOW_MS))
    for name, target in (("called", make_target()), ("mailed", make_queued(queue="mail").target)):
        before = make_queued(name)
        after = make_timer(name, target=target, version=2)
        await store.save(before, after)
        assert await store.get(name) == after
    assert await waiting(store) == ["waits"]
    assert await waiting(store, QueueName("default", "mail")) == ["mailed"]


async def test_a_timer_that_is_edited_into_a_queue_waits_there(store: TimerStore) -> None:
    await add(store, make_timer())
    await store.save(make_timer(), make_queued(version=2))
    assert await waiting(store) == ["timer-1"]


async def test_a_queue_is_counted(store: TimerStore) -> None:
    assert await store.count_queue(JOBS, now_ms=NOW_MS) == QueueCounts(0, 0, 0, None)
    await add(
        store,
        make_queued("old", due_at_ms=NOW_MS - 7_000),
        make_queued("ready"),
        make_queued("ahead", due_at_ms=NOW_MS + 1),
        make_queued("leased"),
        make_queued("done"),
        make_queued("other", queue="mail"),
    )
    await leased(store, make_queued("leased"), NOW_MS - 1)
    done = await leased(store, make_queued("done"))
    await store.save(done, committed(done, NOW_MS + 1))
    assert await store.count_queue(JOBS, now_ms=NOW_MS) == QueueCounts(1, 2, 1, NOW_MS - 7_000)


@pytest.mark.parametrize("tenant", ["", "acme/"])
async def test_all_timers_are_counted_by_state_wherever_they_wait(store: TimerStore, tenant: str) -> None:
    await add(store, make_queued(f"{tenant}waits"), make_queued(f"{tenant}taken"), make_timer(f"{tenant}called"))
    await leased(store, make_queued(f"{tenant}taken"))
    counts = await store.count(tenant=tenant.rstrip("/") or "default", now_ms=NOW_MS + 10_000, grace_ms=2_000)
    assert (counts.by_state[State.SCHEDULED], counts.by_state[State.FIRING]) == (2, 1)
    assert counts.overdue == 1, "nobody is late for what waits to be fetched"


async def test_lists_have_what_waits_in_queues_by_state(store: TimerStore) -> None:
    await add(store, make_queued("waits"), make_queued("taken"), make_timer("called", due_at_ms=NOW_MS + 1))
    await leased(store, make_queued("taken"))

    async def listed(*states: State) -> list[str]:
        page = await store.select(Filter(states=frozenset(states)), after=None, limit=10)
        return [timer.id for timer in page.timers]

    assert await listed(State.SCHEDULED) == ["waits", "called"]
    assert await listed(State.FIRING) == ["taken"]
    assert await listed(*State) == ["waits", "called", "taken"], "a leased one is listed by its lease's end"


@pytest.mark.parametrize("tenant", ["", "acme/"])
async def test_a_list_is_filtered_by_queue_and_by_all_else(store: TimerStore, tenant: str) -> None:
    names = [f"{tenant}{name}" for name in ("red", "blue", "taken", "done")]
    labels = {names[0]: {"colour": "red"}}
    await add(
        store,
        *(make_queued(name, due_at_ms=NOW_MS + 5 * n, labels=labels.get(name, {})) for n, name in enumerate(names)),
        *(make_queued(f"{tenant}mail-{number}", queue="mail", due_at_ms=NOW_MS + number) for number in range(20)),
        make_queued("other/red"),
        make_timer(f"{tenant}called"),
    )
    await leased(store, await store.get(names[2]))
    done = await leased(store, await store.get(names[3]))
    await store.save(done, committed(done, NOW_MS + 9))

    async def listed(**more: Any) -> list[str]:
        wanted = Filter(tenant=tenant.rstrip("/") or "default", queue="jobs", **more)
        found, after = [], None
        while True:
            page = await store.select(wanted, after=after, limit=1)
            found += [timer.name for timer in page.timers]
            after = page.next
            if after is None:
                return found

    assert await listed() == ["red", "blue", "done", "taken"]
    assert await listed(states=frozenset({State.SCHEDULED})) == ["red", "blue"]
    assert await listed(states=frozenset({State.FIRING})) == ["taken"]
    assert await listed(states=frozenset({State.DELIVERED})) == ["done"]
    assert await listed(states=frozenset({State.DEAD})) == []
    assert await listed(due_after_ms=NOW_MS + 1, due_before_ms=NOW_MS + 6) == ["blue"]
    assert await listed(labels={"colour": "red"}) == ["red"]


async def test_keepers_see_no_timers_of_queues_among_the_live(store: TimerStore) -> None:
    await add(store, make_queued("waits"), make_queued("taken"))
    await leased(store, make_queued("taken"))
    for shard in range(SHARDS):
        assert await store.live(shard, from_ms=0, until_ms=LATER_MS, limit=10) == []


async def test_leases_that_have_ended_are_found_soonest_first(store: TimerStore) -> None:
    names = [f"timer-{number}" for number in range(30)]
    await add(store, *(make_queued(name) for name in names))
    after = {name: await leased(store, make_queued(name), UNTIL_MS + number) for number, name in enumerate(names)}
    shard = slot(names[0], SHARDS)
    mine = [after[name] for name in names if slot(name, SHARDS) == shard]
    assert await store.lapsed(shard, until_ms=UNTIL_MS, limit=100) == []
    assert await store.lapsed(shard, until_ms=UNTIL_MS + 30, limit=100) == mine
    assert await store.lapsed(shard, until_ms=UNTIL_MS + 30, limit=2) == mine[:2]


async def test_a_lease_that_was_extended_ends_later(store: TimerStore) -> None:
    before = make_leased(until_ms=UNTIL_MS)
    await add(store, make_queued())
    await store.save(make_queued(), before)
    await store.save(before, before.extended(LATER_MS, NOW_MS))
    shard = slot("timer-1", SHARDS)
    assert await store.lapsed(shard, until_ms=LATER_MS, limit=9) == []
    assert len(await store.lapsed(shard, until_ms=LATER_MS + 1, limit=9)) == 1
