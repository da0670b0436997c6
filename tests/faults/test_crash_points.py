"""A process dies at every point of its work; each timer ends as promised."""

from __future__ import annotations

from asyncio import Event, sleep, timeout, to_thread, wait_for
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio

from tests.faults.crash import OnAnswer, OnRequest
from tests.faults.ledger import Call
from tests.faults.moment import now_ms
from tests.faults.proxy import Proxy, proxy
from tests.faults.world import HORIZON_S, World, client, through, world
from tests.services import DynamoDB, RabbitMQ
from tests.stack import Member

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(150)]

Arm = Callable[["Victim", str], OnRequest]
_STRUCK_S = 30.0
_THINKS_S = 3.0
_BATCH = 20


class Victim:
    """A process with proxies of its own, to be killed by what it sends or is answered."""

    def __init__(self, member: Member, table: Proxy, broker: Proxy) -> None:
        self.member = member
        self.table = table
        self.broker = broker

    def at_table_request(self, *words: str) -> OnRequest:
        self.table.tap = tap = OnRequest(words, self.member.kill)
        return tap

    def at_table_answer(self, *words: str) -> OnRequest:
        self.table.tap = tap = OnAnswer(words, self.member.kill)
        return tap

    def at_publish(self, *words: str) -> OnRequest:
        self.broker.tap = tap = OnRequest(words, self.member.kill)
        return tap

    def before_ack(self, *words: str) -> OnRequest:
        """The settle's answer gets through; what the consumer then says to the broker does not."""
        last = OnRequest([], self.member.kill)

        def arm() -> None:
            self.broker.tap = last

        self.table.tap = _PassingOnAnswer(words, arm)
        return last


class _PassingOnAnswer(OnAnswer):
    """Strikes likewise, and the answer gets through."""

    def _struck(self) -> bool:
        super()._struck()
        return True


POINTS: dict[str, tuple[Arm, list[int]]] = {
    "before the claim": (lambda victim, timer_id: victim.at_table_request(timer_id, "firing"), [1]),
    "after the claim": (lambda victim, timer_id: victim.at_table_answer(timer_id, "firing"), [2]),
    "after the call": (lambda victim, timer_id: victim.at_table_request(timer_id, '"delivered'), [1, 2]),
    "after the settle": (lambda victim, timer_id: victim.at_table_answer(timer_id, '"delivered'), [1]),
    "before the ack": (lambda victim, timer_id: victim.before_ack(timer_id, '"delivered'), [1]),
}
"""How a consumer is killed there, and the attempt numbers that the target then sees."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    rabbitmq: RabbitMQ, dynamodb: DynamoDB, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """A world with one api and no consumer."""
    async with world(rabbitmq, dynamodb, tmp_path_factory.mktemp("crashes"), apis=1, consumers=0) as built:
        yield built


async def test_a_consumer_killed_anywhere_leaves_every_timer_to_another(running: World) -> None:
    timers: dict[str, str] = {}
    for point, (arm, _) in POINTS.items():
        async with AsyncExitStack() as closing:
            victim = await _victim(running, closing, running.stack.consumer)
            await to_thread(victim.member.start)
            timer_id = timers[point] = str(uuid4())
            struck = arm(victim, timer_id)
            await _schedule(running.clients[0], running, timer_id, 1.5)
            await _wait(struck)

    successor = running.stack.consumer()
    await to_thread(successor.start)
    ends = {point: await running.final(timer_id) for point, timer_id in timers.items()}
    await to_thread(successor.stop)

    calls = running.target.ledger.calls
    assert {point: end["state"] for point, end in ends.items()} == dict.fromkeys(POINTS, "delivered")
    assert {point: [call.attempt for call in calls[timers[point]]] for point in POINTS} == {
        point: attempts for point, (_, attempts) in POINTS.items()
    }


PATIENT = {"TIMERS_TABLE_PATIENCE": "60", "TIMERS_DYNAMODB_TIMEOUT": "60"}
"""Otherwise a consumer that was frozen in a table call gives that up, and need not even look at its lease."""


@pytest.mark.parametrize("point", ["after the claim", "in the call"])
async def test_a_consumer_frozen_past_its_lease_starts_no_call_when_it_goes_on(running: World, point: str) -> None:
    timer_id = str(uuid4())
    async with AsyncExitStack() as closing:
        victim = await _victim(running, closing, running.stack.consumer, **PATIENT)
        await to_thread(victim.member.start)
        frozen = Event()

        def freeze() -> None:
            victim.member.pause()
            frozen.set()

        if point == "after the claim":
            victim.table.tap = _PassingOnAnswer([timer_id, "firing"], freeze)
        else:
            running.target.scripts["freezing"] = partial(_freezing, freeze, frozen)
        await _schedule(
            running.clients[0], running, timer_id, 1.5, script="freezing" if point == "in the call" else "quick"
        )
        await wait_for(frozen.wait(), _STRUCK_S)
        successor = running.stack.consumer()
        await to_thread(successor.start)
        end = await running.final(timer_id)
        victim.member.resume()
        await sleep(_THINKS_S)
        code = await to_thread(victim.member.stop)
        await to_thread(successor.stop)

    expected = [2] if point == "after the claim" else [1, 2]
    assert [call.attempt for call in running.target.ledger.calls[timer_id]] == expected
    assert end == await running.final(timer_id)
    assert code == 0


async def test_a_keeper_killed_in_the_middle_of_a_batch_leaves_it_to_another(running: World) -> None:
    ids = [str(uuid4()) for _ in range(_BATCH)]
    async with AsyncExitStack() as closing:
        victim = await _victim(running, closing, running.stack.consumer)
        await to_thread(victim.member.start)
        for timer_id in ids:
            await _schedule(running.clients[0], running, timer_id, HORIZON_S + 3)
        await _wait(victim.at_publish(ids[_BATCH // 2]))

    successor = running.stack.consumer()
    await to_thread(successor.start)
    ends = [await running.final(timer_id) for timer_id in ids]
    await to_thread(successor.stop)

    assert [end["state"] for end in ends] == ["delivered"] * _BATCH
    assert [len(running.target.ledger.calls[timer_id]) for timer_id in ids] == [1] * _BATCH


async def test_an_api_killed_between_write_and_publish_loses_nothing(running: World) -> None:
    unanswered, unpublished = str(uuid4()), str(uuid4())
    async with AsyncExitStack() as closing:
        victim = await _victim(running, closing, running.stack.api)
        await to_thread(victim.member.start)
        http = await closing.enter_async_context(client(victim.member))
        struck = victim.at_publish(unpublished)
        await _schedule(http, running, unpublished, 1)
        await _wait(struck)

        await to_thread(victim.member.start)
        victim.at_table_answer(unanswered, "INSERT")
        with pytest.raises(httpx2.TransportError):
            await _schedule(http, running, unanswered, 1)

    consumer = running.stack.consumer()
    await to_thread(consumer.start)
    ends = [await running.final(timer_id) for timer_id in (unanswered, unpublished)]
    await to_thread(consumer.stop)

    assert [end["state"] for end in ends] == ["delivered"] * 2
    assert [len(running.target.ledger.calls[timer_id]) for timer_id in (unanswered, unpublished)] == [1, 1]


def _freezing(freeze: Callable[[], None], frozen: Event, _: Call) -> tuple[int, float]:
    """Answer the first call once its caller is frozen."""
    if not frozen.is_set():
        freeze()
    return 200, 0.0


async def _victim(running: World, closing: AsyncExitStack, make: Callable[..., Member], **settings: str) -> Victim:
    table = await closing.enter_async_context(proxy(running.dynamodb.port))
    broker = await closing.enter_async_context(proxy(running.rabbitmq.port))
    settings |= {
        "TIMERS_DYNAMODB_ENDPOINT": f"http://127.0.0.1:{table.port}",
        "TIMERS_RABBITMQ_URL": through(running.rabbitmq.url, broker),
    }
    return Victim(make(**settings), table, broker)


async def _schedule(
    http: httpx2.AsyncClient, running: World, timer_id: str, delay: float, *, script: str = "quick"
) -> None:
    target = {"url": running.target.url(script), "body": {"marker": 0}, "timeout": 0.5}
    answer = await http.post(
        "/v1/timers", json={"id": timer_id, "due_at": round(now_ms() + delay * 1000), "target": target}
    )
    assert answer.status_code == 201, answer.text


async def _wait(tap: OnRequest) -> None:
    async with timeout(_STRUCK_S):
        await tap.struck.wait()
