"""What a client names is looked for among the timers of its tenant."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from infra.memory import MemoryTimerStore
from tests.builders import NOW_MS, FakeClock, RecordingQueue, make_spec
from timers.errors import TimerNotFound
from timers.ports import Filter, Position
from timers.service import IdempotencyKey, Timers
from timers.tenant import DEFAULT

TENANTS = (DEFAULT, "acme", "zeta")
Ask = Callable[[Timers], Awaitable[Any]]
ASKED: dict[str, Ask] = {
    "get": lambda timers: timers.get("order-42"),
    "edit": lambda timers: timers.edit("order-42", lambda _: make_spec(labels={"changed": "yes"})),
    "cancel": lambda timers: timers.cancel("order-42"),
    "fire": lambda timers: timers.fire("order-42"),
    "replay": lambda timers: timers.replay("order-42"),
}


@pytest.fixture
def store() -> MemoryTimerStore:
    return MemoryTimerStore()


@pytest.fixture
def timers(store: MemoryTimerStore) -> Timers:
    return Timers(store, RecordingQueue(), FakeClock(), Random(1), 3_600_000)


@pytest.mark.parametrize("owner", TENANTS)
@pytest.mark.parametrize("other", TENANTS)
@pytest.mark.parametrize("ask", ASKED)
async def test_another_tenants_timer_is_not_found_and_not_touched(
    timers: Timers, store: MemoryTimerStore, owner: str, other: str, ask: str
) -> None:
    if owner == other:
        return
    timer = await timers.of(owner).schedule(make_spec(), "order-42")
    with pytest.raises(TimerNotFound) as refused:
        await ASKED[ask](timers.of(other))
    assert list(store.timers.values()) == [timer]
    assert owner not in str(refused.value)


@pytest.mark.parametrize("tenant", TENANTS)
@pytest.mark.parametrize("name", ["acme/order-42", "/order-42", "#keeper.0", "#key/1", ""])
async def test_what_is_no_name_leads_to_nobody(timers: Timers, tenant: str, name: str) -> None:
    await timers.of("acme").schedule(make_spec(), "order-42")
    with pytest.raises(TimerNotFound):
        await timers.of(tenant).get(name)
    with pytest.raises(TimerNotFound):
        await timers.of(tenant).select(Filter(), after=Position(NOW_MS, name), limit=9)


async def test_every_tenant_has_its_own_names_and_idempotency_keys(timers: Timers) -> None:
    key = IdempotencyKey("once", "same")
    for tenant in TENANTS:
        own = timers.of(tenant)
        first, created = await own.schedule_once(make_spec(), key, now_ms=NOW_MS)
        again, repeated = await own.schedule_once(make_spec(), key, now_ms=NOW_MS)
        replaced, new = await own.replace("order-42", make_spec())
        assert (created, repeated, new) == (True, False, True)
        assert first == again
        assert (first.tenant, replaced.tenant) == (tenant, tenant)


async def test_a_place_in_a_list_is_one_of_the_tenants_own(timers: Timers) -> None:
    for tenant in TENANTS:
        for name in ("a", "b", "c"):
            await timers.of(tenant).schedule(make_spec(), name)
    for tenant in TENANTS:
        own = timers.of(tenant)
        first = await own.select(Filter(), after=None, limit=2)
        assert first.next == Position(NOW_MS, "b")
        rest = await own.select(Filter(tenant="acme"), after=first.next, limit=2)
        assert [timer.name for timer in (*first.timers, *rest.timers)] == ["a", "b", "c"]
        assert {timer.tenant for timer in (*first.timers, *rest.timers)} == {tenant}


async def test_stats_are_a_tenants_own(timers: Timers) -> None:
    await timers.of("acme").schedule(make_spec(), "a")
    counts = {tenant: (await timers.of(tenant).stats()).counts.by_state for tenant in TENANTS}
    assert {tenant: sum(by_state.values()) for tenant, by_state in counts.items()} == {DEFAULT: 0, "acme": 1, "zeta": 0}
