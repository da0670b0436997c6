"""What every timer store keeps to."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from tests.builders import NOW_MS, make_attempt, make_target, make_timer
from tests.contract.conftest import SHARDS
from timers.body import Body, BodyKind
from timers.errors import AlreadyExists, Conflict, TimerNotFound
from timers.ports import Filter, Position, TimerStore
from timers.retry import Answer, RetryPolicy
from timers.state import LIVE, State
from timers.tenant import DEFAULT, qualified
from timers.timer import Timer
from timers.wheel import slot

LATER_MS = NOW_MS + 60_000
UNICODE = "grüße 🎉 \u202e \u202b \x00 \n \" ' \\\\ \ufffd \U0010ffff"
EVERYTHING = make_timer(
    target=make_target(
        url="https://bücher.example/ä?ö=ü",
        method="PATCH",
        headers={"x-team": "größe", "accept": "*/*"},
        body=Body(BodyKind.TEXT, UNICODE),
        timeout=0.25,
    ),
    retry=RetryPolicy(3, 0.5, 99.25, 1.5, 0.0),
    labels={UNICODE: UNICODE, "order": ""},
    trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    attempts=(make_attempt(1), make_attempt(2, status=None, error=UNICODE)),
    attempts_made=2,
)


def in_state(state: State, timer_id: str, **changes: Any) -> Timer:
    return make_timer(timer_id, state=state, **changes)


async def add(store: TimerStore, *timers: Timer) -> None:
    await asyncio.gather(*(store.create(timer) for timer in timers))


async def every_page(store: TimerStore, wanted: Filter, *, limit: int) -> list[Timer]:
    """Return all pages of a list, one after the other."""
    found: list[Timer] = []
    after: Position | None = None
    while True:
        page = await store.select(wanted, after=after, limit=limit)
        assert len(page.timers) <= limit
        found += page.timers
        if page.next is None:
            return found
        after = page.next


def ids(timers: Iterable[Timer]) -> list[str]:
    return [timer.id for timer in timers]


async def outcomes(*writes: Any) -> list[Any]:
    return await asyncio.gather(*writes, return_exceptions=True)


async def test_a_timer_is_read_as_it_was_created(store: TimerStore) -> None:
    await store.create(EVERYTHING)
    assert await store.get(EVERYTHING.id) == EVERYTHING


@pytest.mark.parametrize("body", [None, Body(BodyKind.JSON, '{"a":[1,null,"é"]}'), Body(BodyKind.BASE64, "AP8=")])
async def test_every_kind_of_body_is_kept(store: TimerStore, body: Body | None) -> None:
    timer = make_timer(target=make_target(body=body))
    await store.create(timer)
    assert await store.get(timer.id) == timer


async def test_the_largest_body_is_kept(store: TimerStore) -> None:
    timer = make_timer(target=make_target(body=Body(BodyKind.TEXT, "é" * (128 * 1024))))
    await store.create(timer)
    await store.save(timer, timer.fired(LATER_MS))
    assert (await store.get(timer.id)).target == timer.target


async def test_many_of_the_largest_travel_at_once(store: TimerStore) -> None:
    target = make_target(body=Body(BodyKind.TEXT, "a" * (256 * 1024)))
    timers = [make_timer(f"timer-{number}", target=target) for number in range(60)]
    await add(store, *timers)
    assert await asyncio.gather(*(store.get(timer.id) for timer in timers)) == timers


async def test_an_id_is_taken_only_once(store: TimerStore) -> None:
    await store.create(make_timer())
    with pytest.raises(AlreadyExists):
        await store.create(make_timer(labels={"second": "one"}))
    assert (await store.get("timer-1")).labels == {}


async def test_of_many_who_create_the_same_id_exactly_one_does(store: TimerStore) -> None:
    results = await outcomes(*(store.create(make_timer(labels={"n": str(number)})) for number in range(8)))
    assert [type(result) for result in results].count(AlreadyExists) == 7
    assert (await store.get("timer-1")).labels == {"n": str(results.index(None))}


async def test_what_does_not_exist_is_not_found(store: TimerStore) -> None:
    with pytest.raises(TimerNotFound):
        await store.get("nobody")


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"a": "b"}},
        {"target": make_target(url="https://other.example")},
        {"retry": RetryPolicy(max_attempts=1)},
        {"trace": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"},
        {"due_at_ms": LATER_MS},
        {"state": State.DEAD, "attempts": (make_attempt(),), "attempts_made": 1},
        {"state": State.FIRING, "lease_until_ms": LATER_MS},
        {"state": State.CANCELLED, "updated_at_ms": LATER_MS},
    ],
    ids=lambda change: next(iter(change)) + str(change.get("state", "")),
)
async def test_whatever_a_save_changes_is_kept(store: TimerStore, change: dict[str, Any]) -> None:
    before = EVERYTHING
    after = replace(before, version=before.version + 1, **change)
    await store.create(before)
    await store.save(before, after)
    assert await store.get(before.id) == after


async def test_a_save_over_somebody_elses_is_a_conflict_and_changes_nothing(store: TimerStore) -> None:
    before = make_timer()
    await store.create(before)
    await store.save(before, before.fired(LATER_MS))
    with pytest.raises(Conflict):
        await store.save(before, before.cancelled(LATER_MS))
    assert (await store.get("timer-1")).state is State.SCHEDULED


async def test_a_save_of_what_does_not_exist_is_a_conflict(store: TimerStore) -> None:
    with pytest.raises(Conflict):
        await store.save(make_timer(), make_timer().cancelled(NOW_MS))
    with pytest.raises(TimerNotFound):
        await store.get("timer-1")


async def test_of_many_concurrent_moves_exactly_one_wins(store: TimerStore) -> None:
    before = make_timer()
    await store.create(before)
    moves = [replace(before.cancelled(NOW_MS), labels={"n": str(number)}) for number in range(40)]
    results = await outcomes(*(store.save(before, after) for after in moves))
    assert [type(result) for result in results].count(Conflict) == 39
    assert await store.get("timer-1") == moves[results.index(None)]


async def test_of_a_claim_and_a_cancel_exactly_one_wins(store: TimerStore) -> None:
    timers = [make_timer(f"timer-{number}") for number in range(30)]
    await add(store, *timers)
    claims = [store.claim(timer.id, 1, now_ms=NOW_MS, lease_until_ms=LATER_MS) for timer in timers]
    cancels = [store.save(timer, timer.cancelled(NOW_MS)) for timer in timers]
    results = await outcomes(*(write for pair in zip(claims, cancels, strict=True) for write in pair))
    for timer, claimed, cancelled in zip(timers, results[::2], results[1::2], strict=True):
        stored = await store.get(timer.id)
        assert (claimed is None) == (cancelled is None)
        assert stored.state is (State.CANCELLED if cancelled is None else State.FIRING)


async def test_a_claim_returns_the_timer_as_it_is_stored_from_then_on(store: TimerStore) -> None:
    await store.create(EVERYTHING)
    claimed = await store.claim(EVERYTHING.id, 1, now_ms=LATER_MS, lease_until_ms=LATER_MS + 5)
    assert claimed == EVERYTHING.claimed(LATER_MS + 5, LATER_MS)
    assert await store.get(EVERYTHING.id) == claimed


async def test_of_eight_racing_claims_exactly_one_wins(store: TimerStore) -> None:
    timers = [make_timer(f"timer-{number}") for number in range(20)]
    await add(store, *timers)
    claims = await asyncio.gather(
        *(
            store.claim(timer.id, 1, now_ms=NOW_MS, lease_until_ms=LATER_MS + number)
            for number in range(8)
            for timer in timers
        )
    )
    for place, timer in enumerate(timers):
        (winner,) = [claim for claim in claims[place :: len(timers)] if claim]
        assert await store.get(timer.id) == winner


@pytest.mark.parametrize("version", [1, 3, 99])
async def test_only_the_exact_version_can_be_claimed(store: TimerStore, version: int) -> None:
    timer = make_timer(version=2)
    await store.create(timer)
    assert await store.claim(timer.id, version, now_ms=NOW_MS, lease_until_ms=LATER_MS) is None
    assert await store.get(timer.id) == timer


@pytest.mark.parametrize("state", [state for state in State if state is not State.SCHEDULED])
async def test_only_a_scheduled_timer_can_be_claimed(store: TimerStore, state: State) -> None:
    timer = make_timer(state=state)
    await store.create(timer)
    assert await store.claim(timer.id, 1, now_ms=NOW_MS, lease_until_ms=LATER_MS) is None
    assert await store.get(timer.id) == timer


async def test_nobody_cannot_be_claimed(store: TimerStore) -> None:
    assert await store.claim("nobody", 1, now_ms=NOW_MS, lease_until_ms=LATER_MS) is None
    with pytest.raises(TimerNotFound):
        await store.get("nobody")


async def test_a_whole_life_can_be_written(store: TimerStore) -> None:
    timer = make_timer(retry=RetryPolicy(max_attempts=2))
    await store.create(timer)
    for answer in (Answer(500), Answer(500)):
        claimed = await store.claim(timer.id, timer.version, now_ms=NOW_MS, lease_until_ms=LATER_MS)
        assert claimed is not None
        attempt = claimed.attempt(answer, NOW_MS, NOW_MS)
        timer = claimed.given_up(attempt, NOW_MS) if claimed.attempts else claimed.retried(attempt, LATER_MS, NOW_MS)
        await store.save(claimed, timer)
    replayed = timer.replayed(LATER_MS)
    await store.save(timer, replayed)
    assert await store.get(timer.id) == replayed
    assert ids((await store.select(Filter(), after=None, limit=10)).timers) == [timer.id]


async def test_the_live_ones_of_a_window_come_soonest_first(store: TimerStore) -> None:
    timers = [make_timer(f"timer-{number}", due_at_ms=NOW_MS + number % 7) for number in range(40)]
    await add(store, *timers)
    for shard in range(SHARDS):
        found = await store.live(shard, from_ms=NOW_MS + 1, until_ms=NOW_MS + 5, limit=100)
        expected = [timer for timer in timers if slot(timer.id, SHARDS) == shard and 1 <= timer.due_at_ms - NOW_MS < 5]
        assert sorted(found, key=lambda timer: timer.position) == sorted(expected, key=lambda timer: timer.position)
        assert [timer.due_at_ms for timer in found] == sorted(timer.due_at_ms for timer in found)


async def test_a_window_is_by_the_next_attempt_and_holds_firing_timers_too(store: TimerStore) -> None:
    shard = slot("timer-1", SHARDS)
    await store.create(make_timer(state=State.FIRING, due_at_ms=NOW_MS, next_attempt_at_ms=LATER_MS))
    assert not await store.live(shard, from_ms=0, until_ms=LATER_MS, limit=9)
    assert ids(await store.live(shard, from_ms=LATER_MS, until_ms=LATER_MS + 1, limit=9)) == ["timer-1"]
    assert not await store.live(shard, from_ms=LATER_MS + 1, until_ms=LATER_MS + 9, limit=9)
    assert not await store.live(shard, from_ms=LATER_MS, until_ms=LATER_MS, limit=9)


async def test_pages_of_many_timers_at_one_instant_follow_each_other(store: TimerStore) -> None:
    timers = [make_timer(f"timer-{number}", due_at_ms=NOW_MS) for number in range(100)]
    await add(store, *timers)
    for shard in range(SHARDS):
        found: list[Timer] = []
        place = None
        while page := await store.live(shard, from_ms=NOW_MS, until_ms=NOW_MS + 1, limit=3, after=place):
            found += page
            place = Position(*page[-1].position)
        assert sorted(ids(found)) == sorted(timer.id for timer in timers if slot(timer.id, SHARDS) == shard)


async def test_a_page_may_begin_behind_a_place_outside_its_window(store: TimerStore) -> None:
    await store.create(make_timer())
    shard = slot("timer-1", SHARDS)
    before, behind = Position(NOW_MS - 9, "x"), Position(NOW_MS + 9, "x")
    assert ids(await store.live(shard, from_ms=NOW_MS, until_ms=NOW_MS + 1, limit=3, after=before)) == ["timer-1"]
    assert not await store.live(shard, from_ms=NOW_MS, until_ms=NOW_MS + 1, limit=3, after=behind)


@pytest.mark.parametrize("state", [state for state in State if state not in LIVE])
async def test_a_final_timer_is_not_live(store: TimerStore, state: State) -> None:
    await store.create(make_timer())
    await store.save(make_timer(), replace(make_timer(), version=2, state=state))
    assert not await store.live(slot("timer-1", SHARDS), from_ms=0, until_ms=2**50, limit=9)


async def test_the_soonest_fill_the_limit(store: TimerStore) -> None:
    timers = [make_timer(f"timer-{number}", due_at_ms=NOW_MS + number) for number in range(600)]
    await add(store, *timers)
    mine = [timer.id for timer in timers if slot(timer.id, SHARDS) == 1]
    for limit in (1, 7, len(mine), len(mine) + 1):
        assert ids(await store.live(1, from_ms=0, until_ms=2**50, limit=limit)) == mine[:limit]


async def test_a_list_comes_soonest_first_over_all_shards(store: TimerStore) -> None:
    timers = [make_timer(f"timer-{number}", due_at_ms=NOW_MS + 7 * number % 50) for number in range(50)]
    await add(store, *timers)
    expected = sorted(timers, key=lambda timer: timer.position)
    for limit in (1, 7, 50, 51, 500):
        assert await every_page(store, Filter(), limit=limit) == expected


async def test_an_empty_list_is_one_empty_page(store: TimerStore) -> None:
    page = await store.select(Filter(), after=None, limit=10)
    assert (page.timers, page.next) == ((), None)


async def test_hundreds_of_timers_at_one_instant_are_all_listed_and_none_twice(store: TimerStore) -> None:
    timers = [make_timer(f"timer-{number:03}") for number in range(350)]
    await add(store, *timers, make_timer("before", due_at_ms=NOW_MS - 1), make_timer("after", due_at_ms=LATER_MS))
    assert ids(await every_page(store, Filter(), limit=40)) == ["before", *ids(timers), "after"]


async def test_a_list_is_filtered_by_state(store: TimerStore) -> None:
    timers = [in_state(state, f"{state}-{number}", due_at_ms=NOW_MS + number) for state in State for number in range(5)]
    await add(store, *timers)
    for wanted in ({State.SCHEDULED}, {State.FIRING}, {State.DEAD}, {State.FIRING, State.CANCELLED}, set(State), set()):
        found = await every_page(store, Filter(states=frozenset(wanted)), limit=3)
        expected = [timer for timer in timers if timer.state in wanted]
        assert sorted(ids(found)) == sorted(ids(expected))
        assert [timer.position for timer in found] == sorted(timer.position for timer in found)


async def test_a_list_is_filtered_by_time_from_included_to_not(store: TimerStore) -> None:
    await add(store, *(make_timer(f"timer-{number}", due_at_ms=NOW_MS + number) for number in range(10)))
    wanted = Filter(due_after_ms=NOW_MS + 3, due_before_ms=NOW_MS + 6)
    assert ids(await every_page(store, wanted, limit=2)) == ["timer-3", "timer-4", "timer-5"]
    assert await every_page(store, Filter(due_after_ms=NOW_MS + 6, due_before_ms=NOW_MS + 3), limit=2) == []


async def test_a_list_is_filtered_by_all_labels_given(store: TimerStore) -> None:
    await add(
        store,
        make_timer("both", labels={"team": UNICODE, "order": "1"}),
        make_timer("one", labels={"team": UNICODE}),
        make_timer("other", labels={"team": "x", "order": "1"}),
        make_timer("none"),
    )
    assert ids(await every_page(store, Filter(labels={"team": UNICODE}), limit=1)) == ["both", "one"]
    assert ids(await every_page(store, Filter(labels={"team": UNICODE, "order": "1"}), limit=1)) == ["both"]
    assert ids(await every_page(store, Filter(labels={"team": ""}), limit=1)) == []


async def test_a_live_timer_is_listed_by_its_next_attempt_and_a_final_one_by_its_due_time(store: TimerStore) -> None:
    late = {"due_at_ms": NOW_MS, "next_attempt_at_ms": LATER_MS}
    await add(store, make_timer("live", **late), in_state(State.DEAD, "final", **late))
    assert ids(await every_page(store, Filter(due_before_ms=NOW_MS + 1), limit=9)) == ["final"]
    assert ids(await every_page(store, Filter(due_after_ms=LATER_MS), limit=9)) == ["live"]


async def test_a_moved_timer_is_listed_where_it_is_now(store: TimerStore) -> None:
    before = make_timer()
    await store.create(before)
    after = replace(before, version=2, due_at_ms=LATER_MS, next_attempt_at_ms=LATER_MS)
    await store.save(before, after)
    assert await every_page(store, Filter(due_before_ms=LATER_MS), limit=9) == []
    assert await every_page(store, Filter(), limit=9) == [after]


async def test_timers_are_counted_by_state(store: TimerStore) -> None:
    expected = {state: number + 1 for number, state in enumerate(State)}
    await add(store, *(in_state(state, f"{state}-{n}") for state, count in expected.items() for n in range(count)))
    counts = await store.count(tenant=DEFAULT, now_ms=NOW_MS, grace_ms=2_000)
    assert dict(counts.by_state) == expected
    assert (counts.overdue, counts.oldest_due_ms) == (0, None)


async def test_the_overdue_are_counted_past_their_grace_and_the_oldest_is_named(store: TimerStore) -> None:
    await add(
        store,
        make_timer("oldest", due_at_ms=NOW_MS - 50_000),
        make_timer("overdue", due_at_ms=NOW_MS - 2_001),
        make_timer("in-grace", due_at_ms=NOW_MS - 2_000),
        make_timer("ahead", due_at_ms=LATER_MS),
        in_state(State.FIRING, "being-called", due_at_ms=NOW_MS - 90_000),
        in_state(State.DEAD, "dead", due_at_ms=NOW_MS - 90_000),
    )
    counts = await store.count(tenant=DEFAULT, now_ms=NOW_MS, grace_ms=2_000)
    assert (counts.overdue, counts.oldest_due_ms) == (2, NOW_MS - 50_000)


async def test_the_latest_delivered_are_found(store: TimerStore) -> None:
    await add(
        store,
        *(in_state(State.DELIVERED, f"timer-{number}", due_at_ms=NOW_MS + number) for number in range(20)),
        in_state(State.DELIVERED, "long-ago", due_at_ms=NOW_MS - 1),
        in_state(State.DEAD, "dead", due_at_ms=LATER_MS),
    )
    assert sorted(ids(await store.delivered(tenant=DEFAULT, since_ms=NOW_MS, limit=1_000))) == sorted(
        f"timer-{n}" for n in range(20)
    )
    assert 4 <= len(await store.delivered(tenant=DEFAULT, since_ms=NOW_MS, limit=8)) <= 8


TENANTS = (DEFAULT, "acme", "acme-2", "zeta")


async def everybodys(store: TimerStore, *names: str, **changes: Any) -> dict[str, list[Timer]]:
    """Store timers of the same names for every tenant, and return them by tenant."""
    timers = {tenant: [make_timer(qualified(tenant, name), **changes) for name in names] for tenant in TENANTS}
    await add(store, *(timer for owned in timers.values() for timer in owned))
    return timers


async def test_a_name_may_be_taken_once_by_every_tenant(store: TimerStore) -> None:
    timers = await everybodys(store, "order-42")
    for [timer] in timers.values():
        assert await store.get(timer.id) == timer
        with pytest.raises(AlreadyExists, match=r"'order-42'"):
            await store.create(timer)


@pytest.mark.parametrize("tenant", TENANTS)
async def test_a_list_holds_the_timers_of_its_tenant_only(store: TimerStore, tenant: str) -> None:
    timers = await everybodys(store, *(f"timer-{number:02}" for number in range(12)), labels={"a": "b"})
    for limit in (1, 5, 12, 100):
        assert await every_page(store, Filter(tenant=tenant), limit=limit) == timers[tenant]
    assert await every_page(store, Filter(tenant=tenant, labels={"a": "b"}), limit=5) == timers[tenant]
    assert await every_page(store, Filter(tenant="nobody"), limit=5) == []


@pytest.mark.parametrize("tenant", TENANTS)
async def test_a_moved_timer_stays_in_the_lists_of_its_tenant(store: TimerStore, tenant: str) -> None:
    timers = await everybodys(store, "timer-1", "timer-2")
    before = timers[tenant][0]
    await store.save(before, before.cancelled(LATER_MS))
    for other in TENANTS:
        expected = ["timer-2"] if other == tenant else ["timer-1", "timer-2"]
        found = await every_page(store, Filter(tenant=other, states=frozenset({State.SCHEDULED})), limit=9)
        assert [timer.name for timer in found] == expected
    cancelled = await every_page(store, Filter(tenant=tenant, states=frozenset({State.CANCELLED})), limit=9)
    assert ids(cancelled) == [before.id]


async def test_a_tenants_timers_are_counted_for_it_alone(store: TimerStore) -> None:
    for share, tenant in enumerate(TENANTS, 1):
        await add(
            store,
            *(
                in_state(state, qualified(tenant, f"{state}-{number}"), due_at_ms=NOW_MS - 9_000)
                for state in State
                for number in range(share)
            ),
        )
    for share, tenant in enumerate(TENANTS, 1):
        counts = await store.count(tenant=tenant, now_ms=NOW_MS, grace_ms=2_000)
        assert dict(counts.by_state) == dict.fromkeys(State, share)
        assert (counts.overdue, counts.oldest_due_ms) == (share, NOW_MS - 9_000)
        delivered = await store.delivered(tenant=tenant, since_ms=0, limit=1_000)
        assert len(delivered) == share
        assert {timer.tenant for timer in delivered} == {tenant}
    assert (await store.count(tenant="nobody", now_ms=NOW_MS, grace_ms=0)).overdue == 0


async def test_whoever_keeps_a_shard_sees_everybodys_timers(store: TimerStore) -> None:
    timers = await everybodys(store, *(f"timer-{number}" for number in range(10)))
    found = [
        timer.id
        for shard in range(SHARDS)
        for timer in await store.live(shard, from_ms=NOW_MS, until_ms=NOW_MS + 1, limit=100)
    ]
    assert sorted(found) == sorted(timer.id for owned in timers.values() for timer in owned)


async def test_a_tenants_timer_can_be_claimed_and_comes_back_whole(store: TimerStore) -> None:
    [timer] = (await everybodys(store, "timer-1"))["acme"]
    assert await store.claim(timer.id, 1, now_ms=NOW_MS, lease_until_ms=LATER_MS) == timer.claimed(LATER_MS, NOW_MS)
    assert (await store.get("timer-1")).state is State.SCHEDULED


async def test_a_provisioned_store_is_ready(store: TimerStore) -> None:
    await store.check()
