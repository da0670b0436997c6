"""The real store where the network and the table misbehave: what was written is known, or said not to be."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from random import Random

import pytest

from infra.dynamodb.client import Rejected, Table
from infra.dynamodb.schema import BY_TENANT, LacksIndex, provision
from infra.dynamodb.statements import GONE, Statement, Statements, insert, update
from infra.dynamodb.store import DynamoTimerStore
from tests.builders import NOW_MS, make_queued, make_target, make_timer
from tests.contract.conftest import SHARDS, dynamo_store, open_table
from tests.contract.proxy import (
    Fault,
    Forward,
    Proxy,
    afterwards,
    cut_answer,
    lose_answer,
    meanwhile,
    refuse,
    reply,
)
from timers.body import Body, BodyKind
from timers.errors import AlreadyExists, Conflict, Invalid, TimerNotFound, Unavailable
from timers.ports import Filter
from timers.state import LIVE, State
from timers.tenant import DEFAULT
from timers.timer import Timer
from timers.wheel import slot

WRITE = "BatchExecuteStatement"
READ = "BatchGetItem"
LATER_MS = NOW_MS + 60_000
BOUND_S = 15.0
"""Far longer than anything here may take, so that what hangs fails."""

FAULTS: dict[str, Fault] = {
    "refused": refuse,
    "answer lost": lose_answer,
    "answer cut": cut_answer,
    "garbage": reply(200, b"<html>hello</html>"),
    "nothing": reply(200, {}),
    "throttled": reply(400, {"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "slow"}),
    "over quota": reply(400, {"__type": "x#ProvisionedThroughputExceededException", "message": "slow"}),
    "broken": reply(500, {"__type": "x#InternalServerError", "message": "oops"}),
    "away": reply(503, b"Service Unavailable"),
}
STATEMENT_CODES = [
    "ThrottlingError",
    "ProvisionedThroughputExceeded",
    "RequestLimitExceeded",
    "InternalServerError",
    "TransactionConflict",
]


@pytest.fixture
async def store(table: Table, proxy: Proxy) -> AsyncIterator[DynamoTimerStore]:
    """A store behind the proxy."""
    async with open_table(proxy.endpoint, table.name, timeout=0.5) as behind:
        yield dynamo_store(behind)


@pytest.fixture
async def impatient(table: Table, proxy: Proxy) -> AsyncIterator[DynamoTimerStore]:
    """A store behind the proxy that soon gives up."""
    async with open_table(proxy.endpoint, table.name, timeout=0.3) as behind:
        yield dynamo_store(behind, patience=1.0)


Write = Callable[[DynamoTimerStore], Awaitable[object]]


async def claim(store: DynamoTimerStore, version: int = 1) -> Timer | None:
    return await store.claim("timer-1", version, now_ms=NOW_MS, lease_until_ms=LATER_MS)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_creation_is_recognised_as_ones_own(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy, fault: str
) -> None:
    proxy.fail(WRITE, FAULTS[fault], FAULTS[fault])
    await store.create(make_timer())
    assert await direct.get("timer-1") == make_timer()


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_save_is_recognised_as_ones_own(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy, fault: str
) -> None:
    before = make_timer()
    await direct.create(before)
    proxy.fail(WRITE, FAULTS[fault], FAULTS[fault])
    after = before.cancelled(LATER_MS)
    await store.save(before, after)
    assert await direct.get("timer-1") == after


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_claim_is_recognised_as_ones_own(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy, fault: str
) -> None:
    await direct.create(make_timer())
    proxy.fail(WRITE, FAULTS[fault], FAULTS[fault])
    claimed = await claim(store)
    assert claimed == make_timer().claimed(LATER_MS, NOW_MS)
    assert await direct.get("timer-1") == claimed


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_read_is_tried_again(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy, fault: str
) -> None:
    await direct.create(make_timer())
    proxy.fail(READ, FAULTS[fault], FAULTS[fault])
    assert await store.get("timer-1") == make_timer()


@pytest.mark.parametrize("code", STATEMENT_CODES)
async def test_a_throttled_statement_is_tried_again(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy, code: str
) -> None:
    proxy.fail(WRITE, *[reply(200, {"Responses": [{"Error": {"Code": code, "Message": "slow"}}]})] * 2)
    await store.create(make_timer())
    assert await direct.get("timer-1") == make_timer()


async def test_a_key_left_unread_is_read_again(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy, table: Table
) -> None:
    await direct.create(make_timer())
    left_out = {table.name: {"Keys": [{"id": {"S": "timer-1"}}]}}
    proxy.fail(READ, reply(200, {"Responses": {table.name: []}, "UnprocessedKeys": left_out}))
    assert await store.get("timer-1") == make_timer()


@pytest.mark.parametrize("fault", [lose_answer, refuse], ids=["answer lost", "refused"])
async def test_somebody_elses_timer_is_never_taken_for_ones_own(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy, fault: Fault
) -> None:
    await direct.create(make_timer(labels={"whose": "theirs"}))
    proxy.fail(WRITE, fault)
    with pytest.raises(AlreadyExists):
        await store.create(make_timer(labels={"whose": "ours"}))
    assert (await direct.get("timer-1")).labels == {"whose": "theirs"}


@pytest.mark.parametrize("fault", [lose_answer, refuse], ids=["answer lost", "refused"])
async def test_somebody_elses_move_is_never_taken_for_ones_own(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy, fault: Fault
) -> None:
    before = make_timer()
    await direct.create(before)
    await direct.save(before, before.cancelled(NOW_MS))
    proxy.fail(WRITE, fault)
    with pytest.raises(Conflict):
        await store.save(before, before.cancelled(NOW_MS))
    proxy.fail(WRITE, fault)
    assert await claim(store) is None


async def test_of_two_claims_whose_answers_are_lost_exactly_one_wins(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy, table: Table
) -> None:
    await direct.create(make_timer())
    proxy.fail(WRITE, *[lose_answer] * 4)
    async with open_table(proxy.endpoint, table.name, timeout=0.5) as other:
        claims = await asyncio.gather(claim(store), claim(dynamo_store(other)))
    (winner,) = [claimed for claimed in claims if claimed]
    assert await direct.get("timer-1") == winner


async def test_a_creation_that_was_overtaken_is_still_known_as_ones_own(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy
) -> None:
    proxy.fail(WRITE, afterwards(lambda: claim(direct)))
    await store.create(make_timer())
    assert (await direct.get("timer-1")).state is State.FIRING


async def test_a_save_that_was_overtaken_says_that_it_does_not_know(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy
) -> None:
    before = make_timer()
    await direct.create(before)
    proxy.fail(WRITE, afterwards(lambda: claim(direct, 2)))
    with pytest.raises(Unavailable):
        await store.save(before, before.fired(NOW_MS))
    assert (await direct.get("timer-1")).version == 3


@pytest.mark.parametrize("fault", [lose_answer, refuse, FAULTS["throttled"]], ids=["lost", "refused", "throttled"])
@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.create(make_timer("timer-2")),
        lambda store: store.save(make_timer(), make_timer().cancelled(NOW_MS)),
        claim,
    ],
    ids=["create", "save", "claim"],
)
async def test_without_any_answer_a_write_ends_unavailable_in_bounded_time(
    impatient: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy, fault: Fault, write: Write
) -> None:
    await direct.create(make_timer())
    proxy.always(WRITE, fault)
    if fault is lose_answer:
        proxy.always(READ, fault)
    async with asyncio.timeout(BOUND_S):
        with pytest.raises(Unavailable):
            await write(impatient)


async def test_a_table_that_hangs_is_unavailable_in_bounded_time(impatient: DynamoTimerStore, proxy: Proxy) -> None:
    async def hang(_: Forward) -> bytes | None:
        await asyncio.Event().wait()
        return None

    for operation in (WRITE, READ, "Query"):
        proxy.always(operation, hang)
    attempts: list[Awaitable[object]] = [
        impatient.create(make_timer()),
        impatient.get("timer-1"),
        claim(impatient),
        impatient.live(0, from_ms=0, until_ms=NOW_MS, limit=9),
        impatient.select(Filter(), after=None, limit=9),
        impatient.count(tenant=DEFAULT, now_ms=NOW_MS, grace_ms=0),
        impatient.delivered(tenant=DEFAULT, since_ms=0, limit=9),
    ]
    async with asyncio.timeout(BOUND_S):
        results = await asyncio.gather(*attempts, return_exceptions=True)
    assert {type(result) for result in results} == {Unavailable}


async def test_a_write_that_arrives_long_after_its_time_undoes_nothing(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy
) -> None:
    """The first request is held up in the network; its retry succeeds and others move on; then it arrives."""
    before = make_timer()
    await direct.create(before)
    release, arrived = asyncio.Event(), asyncio.Event()

    async def held_up(forward: Forward) -> bytes | None:
        await release.wait()
        answer = await forward()
        arrived.set()
        return answer

    proxy.fail(WRITE, held_up)
    after = before.fired(NOW_MS)
    await store.save(before, after)
    cancelled = after.cancelled(NOW_MS)
    await direct.save(after, cancelled)
    release.set()
    async with asyncio.timeout(BOUND_S):
        await arrived.wait()
    assert await direct.get("timer-1") == cancelled


async def test_a_statement_that_is_wrong_fails_alone(table: Table, direct: DynamoTimerStore) -> None:
    statements = Statements(table)
    good = [insert(table.name, {"id": {"S": f"item-{number}"}, "n": {"N": "1"}}) for number in range(3)]
    bad = Statement("bad", "UPDATE nonsense", [])
    results = await asyncio.gather(
        *(statements.execute(statement) for statement in [*good, bad]), return_exceptions=True
    )
    assert results[:3] == [None] * 3
    assert isinstance(results[3], Rejected)


async def test_one_statement_sets_attributes_and_takes_another_away(table: Table) -> None:
    statements, key = Statements(table), {"id": {"S": "item"}}
    await statements.execute(insert(table.name, {**key, "n": {"N": "1"}, "mark": {"S": "x"}}))
    await statements.execute(update(table.name, "item", {"n": {"N": "2"}, "mark": GONE}, {"n": {"N": "1"}}))
    answer = await table.call("get_item", TableName=table.name, Key=key, ConsistentRead=True)
    assert answer["Item"] == {**key, "n": {"N": "2"}}


async def test_many_writes_through_a_patchy_network_all_happen_once(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy
) -> None:
    dice = Random(7)
    proxy.fail(WRITE, *(FAULTS[dice.choice(["refused", "answer lost", "throttled"])] for _ in range(10)))
    timers = [make_timer(f"timer-{number}") for number in range(200)]
    await asyncio.gather(*(store.create(timer) for timer in timers))
    proxy.fail(WRITE, *(FAULTS[dice.choice(["refused", "answer lost", "throttled"])] for _ in range(10)))
    claims = await asyncio.gather(
        *(store.claim(timer.id, 1, now_ms=NOW_MS, lease_until_ms=LATER_MS) for timer in timers)
    )
    assert claims == [timer.claimed(LATER_MS, NOW_MS) for timer in timers]
    assert await asyncio.gather(*(direct.get(timer.id) for timer in timers)) == claims


async def test_requests_of_one_moment_share_calls(store: DynamoTimerStore, proxy: Proxy) -> None:
    await asyncio.gather(*(store.create(make_timer(f"timer-{number}")) for number in range(100)))
    assert proxy.carried.count(WRITE) == 4


async def test_a_window_goes_on_past_timers_that_have_just_left_it(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy
) -> None:
    """Otherwise a short page would be taken for the end of the window, and the rest for loaded."""
    shard = slot("timer-0", SHARDS)
    timers = [make_timer(f"timer-{number}", due_at_ms=NOW_MS + number) for number in range(60)]
    mine = [timer for timer in timers if slot(timer.id, SHARDS) == shard]
    await asyncio.gather(*(direct.create(timer) for timer in timers))
    moved = replace(mine[1], version=2, due_at_ms=LATER_MS, next_attempt_at_ms=LATER_MS)

    async def move() -> None:
        await direct.save(mine[0], mine[0].cancelled(NOW_MS))
        await direct.save(mine[1], moved)

    proxy.fail(READ, meanwhile(move))
    found = await store.live(shard, from_ms=0, until_ms=2**50, limit=3)
    assert list(found) == mine[2:5]


async def test_a_list_skips_and_repeats_nothing_when_timers_move_while_it_is_read(
    store: DynamoTimerStore, direct: DynamoTimerStore, proxy: Proxy
) -> None:
    timers = [make_timer(f"timer-{number}", due_at_ms=NOW_MS + number) for number in range(6)]
    await asyncio.gather(*(direct.create(timer) for timer in timers))

    async def move() -> None:
        for timer in timers[:2]:
            at_ms = LATER_MS + timer.due_at_ms - NOW_MS
            await direct.save(timer, replace(timer, version=2, due_at_ms=at_ms, next_attempt_at_ms=at_ms))

    proxy.fail(READ, meanwhile(move))
    listed: list[str] = []
    page = await store.select(Filter(), after=None, limit=1)
    while page.next is not None:
        listed += [timer.id for timer in page.timers]
        page = await store.select(Filter(), after=page.next, limit=1)
    listed += [timer.id for timer in page.timers]
    assert {timer.id for timer in timers} == set(listed)
    assert [timer_id for timer_id in listed if timer_id in {"timer-2", "timer-3", "timer-4", "timer-5"}] == [
        "timer-2",
        "timer-3",
        "timer-4",
        "timer-5",
    ]


async def test_a_list_of_what_a_queue_has_looks_at_nothing_else(
    direct: DynamoTimerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [make_timer(f"timer-{number}", due_at_ms=NOW_MS - 1) for number in range(20)]
    queued = [make_queued(f"queued-{number}") for number in range(3)]
    await asyncio.gather(*(direct.create(timer) for timer in (*others, *queued)))
    monkeypatch.setattr("infra.dynamodb.store._EXAMINED", 5)
    page = await direct.select(Filter(states=LIVE, queue="jobs"), after=None, limit=4)
    assert (page.timers, page.next) == (tuple(queued), None)


async def test_a_broken_item_is_passed_over_in_lists_and_windows(table: Table, direct: DynamoTimerStore) -> None:
    await direct.create(make_timer())
    key = {"shard": {"S": f"live.{slot('timer-1', SHARDS):02}"}, "at_ms": {"N": str(NOW_MS - 1)}}
    await table.call("put_item", TableName=table.name, Item={"id": {"S": "broken"}, **key})
    assert (await direct.select(Filter(), after=None, limit=5)).timers == (make_timer(),)
    assert list(await direct.live(slot("timer-1", SHARDS), from_ms=0, until_ms=2**50, limit=1)) == [make_timer()]


async def test_a_timer_too_large_for_an_item_is_refused_before_it_is_sent(direct: DynamoTimerStore) -> None:
    with pytest.raises(Invalid):
        await direct.create(make_timer(target=make_target(body=Body(BodyKind.TEXT, '"' * 200_000))))
    with pytest.raises(TimerNotFound):
        await direct.get("timer-1")


async def test_a_table_is_provisioned_by_several_at_once_and_again(table: Table, direct: DynamoTimerStore) -> None:
    await direct.create(make_timer())
    await asyncio.gather(*(provision(table, shards=SHARDS) for _ in range(3)))
    assert await direct.get("timer-1") == make_timer()


async def drop_tenants(table: Table) -> None:
    """Make the table one of an earlier version."""
    await table.call(
        "update_table", TableName=table.name, GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": BY_TENANT}}]
    )


async def test_a_table_of_an_earlier_version_gets_its_second_index(table: Table, direct: DynamoTimerStore) -> None:
    await drop_tenants(table)
    await direct.create(make_timer())
    await asyncio.gather(*(provision(table, shards=SHARDS) for _ in range(3)))
    await direct.create(make_timer("acme/timer-1"))
    assert (await direct.select(Filter(tenant="acme"), after=None, limit=9)).timers == (make_timer("acme/timer-1"),)
    assert (await direct.select(Filter(), after=None, limit=9)).timers == (make_timer(),)


async def test_where_the_second_index_cannot_be_added_that_is_said(table: Table, proxy: Proxy) -> None:
    await drop_tenants(table)
    proxy.fail("UpdateTable", reply(400, {"__type": "x#ValidationException", "message": "not here"}))
    async with open_table(proxy.endpoint, table.name) as behind:
        with pytest.raises(LacksIndex, match=r"by_tenant.*not here"):
            await provision(behind, shards=SHARDS)


async def test_a_table_that_does_not_exist_is_unavailable(table: Table, proxy: Proxy) -> None:
    async with open_table(proxy.endpoint, "nowhere") as nowhere:
        with pytest.raises(Unavailable):
            await dynamo_store(nowhere).check()
        with pytest.raises(Unavailable):
            await dynamo_store(nowhere, patience=0.5).create(make_timer())
