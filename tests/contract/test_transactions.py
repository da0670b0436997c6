"""Writes that travel together as one transaction: each still has its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from random import Random

import pytest

from infra.dynamodb.client import Rejected, Table
from infra.dynamodb.statements import Statement, Statements, insert, update
from infra.dynamodb.store import DynamoTimerStore
from tests.builders import NOW_MS, make_target, make_timer
from tests.contract.conftest import dynamo_store, open_table
from tests.contract.proxy import Proxy, reply
from tests.contract.test_dynamo_timer_store import FAULTS, LATER_MS, READ, WRITE
from timers.body import Body, BodyKind
from timers.errors import AlreadyExists, Conflict
from timers.timer import Timer

TOGETHER = "ExecuteTransaction"


@pytest.fixture
async def store(table: Table, proxy: Proxy) -> AsyncIterator[DynamoTimerStore]:
    async with open_table(proxy.endpoint, table.name, timeout=0.5) as behind:
        yield dynamo_store(behind, transactions=True)


def some(count: int) -> list[Timer]:
    return [make_timer(f"timer-{number}") for number in range(count)]


async def create(store: DynamoTimerStore, timers: Sequence[Timer]) -> list[BaseException | None]:
    return await asyncio.gather(*(store.create(timer) for timer in timers), return_exceptions=True)


async def stored(store: DynamoTimerStore, timers: Sequence[Timer]) -> list[Timer]:
    return await asyncio.gather(*(store.get(timer.id) for timer in timers))


async def claims(store: DynamoTimerStore, timers: Sequence[Timer]) -> list[Timer | None]:
    return await asyncio.gather(*(store.claim(timer.id, 1, now_ms=NOW_MS, lease_until_ms=LATER_MS) for timer in timers))


async def test_a_hundred_writes_of_one_moment_share_a_call(store: DynamoTimerStore, proxy: Proxy) -> None:
    timers = some(200)
    assert await create(store, timers) == [None] * 200
    assert (proxy.carried.count(TOGETHER), proxy.carried.count(WRITE)) == (2, 0)


async def test_a_lone_write_needs_no_transaction(store: DynamoTimerStore, proxy: Proxy) -> None:
    await store.create(make_timer())
    assert (proxy.carried.count(TOGETHER), proxy.carried.count(WRITE)) == (0, 1)


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_write_is_recognised_as_ones_own(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy, fault: str
) -> None:
    timers = some(30)
    proxy.fail(TOGETHER, FAULTS[fault], FAULTS[fault])
    assert await create(store, timers) == [None] * 30
    assert await stored(direct, timers) == timers
    proxy.fail(TOGETHER, FAULTS[fault], FAULTS[fault])
    claimed = await claims(store, timers)
    assert claimed == [timer.claimed(LATER_MS, NOW_MS) for timer in timers]
    proxy.fail(TOGETHER, FAULTS[fault], FAULTS[fault])
    released = [timer.released(NOW_MS) for timer in claimed if timer]
    await asyncio.gather(
        *(store.save(before, after) for before, after in zip(claimed, released, strict=True) if before)
    )
    assert await stored(direct, timers) == released


@pytest.mark.parametrize("fault", FAULTS)
async def test_claims_whose_items_cannot_be_read_at_first_are_still_ones_own(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy, fault: str
) -> None:
    timers = some(30)
    await create(direct, timers)
    proxy.fail(READ, FAULTS[fault])
    assert await claims(store, timers) == [timer.claimed(LATER_MS, NOW_MS) for timer in timers]


async def test_who_cannot_be_written_holds_up_nobody_else(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy
) -> None:
    timers = some(50)
    await create(direct, timers[:1])
    outcomes = await create(store, timers)
    assert [type(outcome) for outcome in outcomes] == [AlreadyExists] + [type(None)] * 49
    assert (proxy.carried.count(TOGETHER), proxy.carried.count(WRITE)) == (2, 0), "again without the one"

    moved = timers[7].cancelled(NOW_MS)
    await direct.save(timers[7], moved)
    claimed = await claims(store, timers)
    assert [number for number, timer in enumerate(claimed) if timer is None] == [7]
    assert await direct.get("timer-7") == moved


async def test_where_most_conditions_fail_transactions_are_left_alone(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy
) -> None:
    timers = some(50)
    await create(direct, timers[:40])
    for _ in range(3):
        outcomes = await create(store, timers)
        assert [type(outcome) for outcome in outcomes[:40]] == [AlreadyExists] * 40
    assert proxy.carried.count(TOGETHER) == 2
    assert await stored(direct, timers) == timers


async def test_of_many_who_claim_the_same_timers_each_is_won_once(table: Table, store: DynamoTimerStore) -> None:
    timers = some(100)
    await create(store, timers)
    stores = [dynamo_store(table, transactions=number % 2 == 0) for number in range(4)]
    shuffled = [Random(number).sample(timers, len(timers)) for number in range(4)]
    won = await asyncio.gather(*(claims(one, order) for one, order in zip(stores, shuffled, strict=True)))
    winners = [timer.id for of_one in won for timer in of_one if timer]
    assert sorted(winners) == sorted(timer.id for timer in timers)


async def test_two_writes_of_one_timer_never_share_a_transaction(
    store: DynamoTimerStore, direct: DynamoTimerStore
) -> None:
    timers = some(10)
    await create(direct, timers)
    both = [
        *((timer, timer.cancelled(NOW_MS)) for timer in timers),
        *((timer, timer.fired(NOW_MS)) for timer in timers),
    ]
    saves = await asyncio.gather(*(store.save(before, after) for before, after in both), return_exceptions=True)
    assert saves == [None] * 10 + [*saves[10:]]
    assert {type(outcome) for outcome in saves[10:]} == {Conflict}


async def test_a_wrong_statement_fails_alone(table: Table) -> None:
    statements = Statements(table, transactions=True)
    good = [insert(table.name, {"id": {"S": f"item-{number}"}, "n": {"N": "1"}}) for number in range(40)]
    bad = Statement("bad", "UPDATE nonsense", [])
    results = await asyncio.gather(*(statements.execute(one) for one in [*good, bad]), return_exceptions=True)
    assert results[:40] == [None] * 40
    assert isinstance(results[40], Rejected)


async def test_what_is_too_much_for_a_transaction_is_written_all_the_same(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy
) -> None:
    too_large = {"__type": "x#ValidationException", "message": "Transaction request size exceeded the limit"}
    proxy.fail(TOGETHER, reply(400, too_large))
    large = make_target(body=Body(BodyKind.TEXT, "x" * 200_000))
    timers = [replace(timer, target=large) for timer in some(30)]
    assert await create(store, timers) == [None] * 30
    assert await stored(direct, timers) == timers


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
async def test_a_transaction_that_is_in_the_way_of_another_is_tried_again(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy, code: str
) -> None:
    timers = some(2)
    cancelled = {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled",
        "CancellationReasons": [{"Code": code, "Message": "busy"}, {"Code": "None"}],
    }
    proxy.fail(TOGETHER, reply(400, cancelled))
    assert await create(store, timers) == [None] * 2
    assert await stored(direct, timers) == timers


async def test_a_condition_on_what_is_not_there_fails_alone(table: Table) -> None:
    statements = Statements(table, transactions=True)
    there = insert(table.name, {"id": {"S": "there"}, "n": {"N": "1"}})
    gone = update(table.name, "gone", {"n": {"N": "2"}}, {"n": {"N": "1"}}, returning=True)
    results = await asyncio.gather(*(statements.execute(one) for one in (there, gone)), return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], Rejected)
    assert results[1].code == "ConditionalCheckFailed"
