"""What every delay queue keeps to, and what RabbitMQ's does when the broker misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any, Protocol

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from infra.clock import SystemClock
from infra.memory import MemoryDelivery, MemoryWheel
from infra.metrics import Metrics
from infra.rabbitmq import messages
from infra.rabbitmq.deliveries import RabbitDeliveries, RabbitDelivery
from infra.rabbitmq.queue import RabbitDelayQueue
from infra.rabbitmq.topology import Lane
from tests.builders import make_hint
from tests.services import RabbitMQ
from timers.ports import DelayQueue
from timers.timer import Hint
from timers.wheel import Level, slot

PATIENCE_S = 40.0
QUORUM_LANE, CLASSIC_LANE = Lane(101), Lane(102, "classic")
TWO_LANES = (Lane(103, "classic"), Lane(104, "classic"))
LOST_LANE = Lane(105, "classic")
CLOCK = SystemClock()
_numbers = count()

Delivery = MemoryDelivery | RabbitDelivery


def due_in(seconds: float, name: str = "a") -> Hint:
    """Return the hint of a timer that no other test has."""
    return make_hint(f"{name}.{next(_numbers)}", at_ms=CLOCK.now_ms() + round(seconds * 1000))


class Inbox:
    """What one consumer got; it acknowledges only what it is told to, and what other tests left."""

    of_this_test = 0
    """The number of the first hint that this test can have put."""

    def __init__(self, *, keep: bool = False) -> None:
        self.deliveries: list[Delivery] = []
        self._keep = keep
        self._arrived = asyncio.Event()

    def receive(self, delivery: Delivery) -> None:
        if int(delivery.hint.timer_id.rpartition(".")[2]) < self.of_this_test:
            delivery.ack()
            return
        self.deliveries.append(delivery)
        if not self._keep:
            delivery.ack()
        self._arrived.set()

    @property
    def hints(self) -> list[Hint]:
        return [delivery.hint for delivery in self.deliveries]

    async def until(self, enough: Callable[[list[Hint]], bool]) -> None:
        """Wait until what has arrived is enough."""
        async with asyncio.timeout(PATIENCE_S):
            while not enough(self.hints):
                self._arrived.clear()
                await self._arrived.wait()

    async def until_all(self, *hints: Hint) -> None:
        await self.until(lambda got: set(hints) <= set(got))


@pytest.fixture(autouse=True)
def only_hints_of_this_test() -> None:
    Inbox.of_this_test = next(_numbers)


class Consumer(Protocol):
    """One consumer of a wheel."""

    inbox: Inbox

    async def pause(self) -> None: ...

    async def lose(self) -> None:
        """Lose its connection for good."""


class Wheel(Protocol):
    """A delay queue and as many consumers as a test asks for."""

    @property
    def queue(self) -> DelayQueue: ...

    async def consumer(self, *, keep: bool = False) -> Consumer: ...

    async def depth(self) -> int: ...


class MemoryConsumer:
    def __init__(self, wheel: MemoryWheel, inbox: Inbox) -> None:
        self.inbox = inbox
        self._wheel = wheel
        wheel.subscribe(inbox.receive)

    async def pause(self) -> None:
        self._wheel.unsubscribe(self.inbox.receive)

    async def lose(self) -> None:
        self._wheel.lose(self.inbox.receive)


class InMemory:
    def __init__(self) -> None:
        self.queue = MemoryWheel(CLOCK)
        self.queue.start()

    async def consumer(self, *, keep: bool = False) -> Consumer:
        return MemoryConsumer(self.queue, Inbox(keep=keep))

    async def depth(self) -> int:
        return await self.queue.depth()

    async def stop(self) -> None:
        await self.queue.stop()


class RabbitConsumer:
    def __init__(self, url: str, lanes: tuple[Lane, ...], inbox: Inbox, *, prefetch: int = 500) -> None:
        self.inbox = inbox
        self.deliveries = RabbitDeliveries(
            url,
            lanes=lanes,
            on_new=_nobody,
            prefetch=prefetch,
            on_delivery=inbox.receive,
            random=Random(),
            metrics=Metrics(),
        )
        self.deliveries.start()

    async def pause(self) -> None:
        await self.deliveries.pause()

    async def lose(self) -> None:
        await self.deliveries.stop()


async def _nobody() -> None: ...


class OnRabbitMQ:
    """The real thing; a lane is declared by whoever comes first."""

    def __init__(self, rabbitmq: RabbitMQ, *lanes: Lane) -> None:
        self.url = rabbitmq.url
        self.lanes = lanes
        self.made = 0
        """How often it found no wheel and made one."""
        self.queue = RabbitDelayQueue(
            self.url, lanes=lanes, on_new=self._make, clock=CLOCK, random=Random(), metrics=Metrics()
        )
        self.queue.start()
        self._consumers: list[RabbitConsumer] = []

    async def _make(self) -> None:
        self.made += 1

    def connected(self) -> bool:
        return self.queue.connected

    async def ready(self) -> None:
        await self.queue.ready(PATIENCE_S)

    async def consumer(
        self, *, keep: bool = False, lanes: tuple[Lane, ...] = (), prefetch: int = 500
    ) -> RabbitConsumer:
        consumer = RabbitConsumer(self.url, lanes or self.lanes, Inbox(keep=keep), prefetch=prefetch)
        self._consumers.append(consumer)
        await consumer.deliveries.ready(PATIENCE_S)
        return consumer

    async def depth(self) -> int:
        return await self.queue.depth()

    async def stop(self) -> None:
        for consumer in self._consumers:
            await consumer.deliveries.stop()
        await self.queue.stop(1.0)


@pytest.fixture(params=["memory", "quorum", "classic"])
async def wheel(request: pytest.FixtureRequest) -> AsyncIterator[Wheel]:
    if request.param == "memory":
        in_memory = InMemory()
        yield in_memory
        await in_memory.stop()
        return
    lane = QUORUM_LANE if request.param == "quorum" else CLASSIC_LANE
    real = OnRabbitMQ(request.getfixturevalue("rabbitmq"), lane)
    await real.ready()
    yield real
    await real.stop()


@pytest.fixture
async def real(rabbitmq: RabbitMQ) -> AsyncIterator[OnRabbitMQ]:
    wheel = OnRabbitMQ(rabbitmq, QUORUM_LANE)
    await wheel.ready()
    yield wheel
    await wheel.stop()


@contextmanager
def channel_to(url: str) -> Iterator[BlockingChannel]:
    """A plain channel, to do to the broker what our code never does."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        connection.close()


async def plainly(url: str, act: Callable[[BlockingChannel], Any]) -> None:
    def run() -> None:
        with channel_to(url) as channel:
            act(channel)

    await asyncio.to_thread(run)


async def test_a_hint_that_is_due_arrives_as_it_was_put(wheel: Wheel) -> None:
    consumer = await wheel.consumer()
    hint = due_in(0)
    wheel.queue.put(hint)
    await consumer.inbox.until_all(hint)
    assert [delivery.redelivered for delivery in consumer.inbox.deliveries] == [False]


async def test_a_hint_with_little_time_left_overtakes_those_with_much(wheel: Wheel) -> None:
    consumer = await wheel.consumer()
    for _ in range(20):
        wheel.queue.put(due_in(59, "slow"))
    quick = due_in(2.2, "quick")
    wheel.queue.put(quick)
    await consumer.inbox.until_all(quick)
    assert consumer.inbox.hints == [quick]


async def test_hints_arrive_in_the_order_of_their_times_and_at_most_two_seconds_early(wheel: Wheel) -> None:
    consumer = await wheel.consumer()
    last, middle, first = due_in(4.3), due_in(3.2), due_in(0)
    for hint in (last, middle, first):
        wheel.queue.put(hint)
    await consumer.inbox.until_all(middle)
    assert CLOCK.now_ms() >= middle.at_ms - 2_000
    await consumer.inbox.until_all(last)
    assert CLOCK.now_ms() >= last.at_ms - 2_000
    assert consumer.inbox.hints == [first, middle, last]


async def test_a_hint_can_be_put_off_beyond_its_own_time(wheel: Wheel) -> None:
    consumer = await wheel.consumer()
    put_off, other = due_in(-5, "put-off"), due_in(2.2, "other")
    wheel.queue.put(put_off, not_before_ms=CLOCK.now_ms() + 4_300)
    await wheel.queue.publish(other)
    await consumer.inbox.until_all(put_off)
    assert consumer.inbox.hints == [other, put_off]


async def test_a_confirmed_hint_is_on_the_wheel(wheel: Wheel) -> None:
    hints = [due_in(-1) for _ in range(2_500)]
    await asyncio.gather(*(wheel.queue.publish(hint) for hint in hints))
    consumer = await wheel.consumer()
    await consumer.inbox.until_all(*hints)
    assert len(consumer.inbox.hints) == len(hints)


async def test_what_was_not_acknowledged_goes_to_another_when_its_consumer_is_lost(wheel: Wheel) -> None:
    dying = await wheel.consumer(keep=True)
    acknowledged, unacknowledged = due_in(0), due_in(0)
    await wheel.queue.publish(acknowledged)
    await wheel.queue.publish(unacknowledged)
    await dying.inbox.until_all(acknowledged, unacknowledged)
    next(delivery for delivery in dying.inbox.deliveries if delivery.hint == acknowledged).ack()
    await dying.lose()
    heir = await wheel.consumer()
    await heir.inbox.until_all(unacknowledged)
    assert [(got.hint, got.redelivered) for got in heir.inbox.deliveries] == [(unacknowledged, True)]


async def test_what_is_given_back_is_delivered_again(wheel: Wheel) -> None:
    consumer = await wheel.consumer(keep=True)
    hint = due_in(0)
    wheel.queue.put(hint)
    await consumer.inbox.until(lambda got: len(got) == 1)
    consumer.inbox.deliveries[0].give_back()
    await consumer.inbox.until(lambda got: len(got) == 2)
    assert [(got.hint, got.redelivered) for got in consumer.inbox.deliveries] == [(hint, False), (hint, True)]
    consumer.inbox.deliveries[1].ack()


async def test_two_consumers_share_the_hints(wheel: Wheel) -> None:
    one, other = await wheel.consumer(), await wheel.consumer()
    hints = [due_in(-1) for _ in range(200)]
    await asyncio.gather(*(wheel.queue.publish(hint) for hint in hints))
    both = one.inbox.until(lambda got: len(got) + len(other.inbox.hints) >= len(hints))
    either = other.inbox.until(lambda got: len(got) + len(one.inbox.hints) >= len(hints))
    waits = [asyncio.ensure_future(both), asyncio.ensure_future(either)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    assert {*one.inbox.hints, *other.inbox.hints} == set(hints)
    assert one.inbox.hints
    assert other.inbox.hints


async def test_who_pauses_gets_nothing_more_and_can_still_acknowledge(wheel: Wheel) -> None:
    pausing = await wheel.consumer(keep=True)
    held = due_in(0)
    wheel.queue.put(held)
    await pausing.inbox.until_all(held)
    await pausing.pause()
    other = await wheel.consumer()
    hints = [due_in(-1) for _ in range(20)]
    for hint in hints:
        wheel.queue.put(hint)
    await other.inbox.until_all(*hints)
    assert pausing.inbox.hints == [held]
    pausing.inbox.deliveries[0].ack()
    await pausing.lose()
    last = due_in(0)
    await wheel.queue.publish(last)
    await other.inbox.until_all(last)
    assert held not in other.inbox.hints


async def test_how_many_hints_wait_for_consumers_can_be_told(wheel: Wheel) -> None:
    consumer = await wheel.consumer()
    await consumer.lose()
    before = await wheel.depth()
    await wheel.queue.publish(due_in(59))
    for _ in range(3):
        await wheel.queue.publish(due_in(-1))
    async with asyncio.timeout(PATIENCE_S):
        while await wheel.depth() < before + 3:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.05)
    assert await wheel.depth() == before + 3


async def test_garbage_is_dropped_and_the_consumer_lives_on(real: OnRabbitMQ) -> None:
    consumer = await real.consumer()
    hint = due_in(0)

    def litter(channel: BlockingChannel) -> None:
        for body in (b"", b"garbage", b"[1]", b"\xff" * 100, messages.encode(hint)):
            channel.basic_publish("", QUORUM_LANE.due, body)

    await plainly(real.url, litter)
    await consumer.inbox.until_all(hint)
    await consumer.lose()
    heir = await real.consumer()
    last = due_in(0)
    await real.queue.publish(last)
    await heir.inbox.until_all(last)
    assert heir.inbox.hints == [last], "nothing was delivered again"


@pytest.mark.parametrize("level", [Level.SECONDS, Level.MINUTES])
async def test_what_cannot_be_routed_is_consumed_all_the_same(real: OnRabbitMQ, level: Level) -> None:
    consumer = await real.consumer()
    hint = due_in(0)
    await plainly(
        real.url, lambda channel: channel.basic_publish(QUORUM_LANE.exchange(level), "nowhere", messages.encode(hint))
    )
    await consumer.inbox.until_all(hint)


async def test_a_hint_that_was_returned_is_not_taken_for_confirmed(rabbitmq: RabbitMQ) -> None:
    wheel = OnRabbitMQ(rabbitmq, LOST_LANE)
    await wheel.ready()

    def destroy(channel: BlockingChannel) -> None:
        channel.queue_delete(LOST_LANE.due)
        channel.queue_delete(LOST_LANE.lost)

    await plainly(wheel.url, destroy)
    hint = due_in(0)
    wheel.queue.put(hint)
    await wheel.queue.publish(due_in(0))
    consumer = await wheel.consumer()
    await consumer.inbox.until_all(hint)
    await wheel.stop()


async def test_a_wheel_whose_exchange_is_gone_is_declared_again(rabbitmq: RabbitMQ) -> None:
    wheel = OnRabbitMQ(rabbitmq, LOST_LANE)
    await wheel.ready()
    await plainly(wheel.url, lambda channel: channel.exchange_delete(LOST_LANE.exchange(Level.DUE)))
    hint = due_in(0)
    wheel.queue.put(hint)
    consumer = await wheel.consumer()
    await consumer.inbox.until_all(hint)
    await wheel.stop()


async def test_a_consumer_that_the_broker_cancels_consumes_again(rabbitmq: RabbitMQ) -> None:
    wheel = OnRabbitMQ(rabbitmq, LOST_LANE)
    consumer = await wheel.consumer()
    await plainly(wheel.url, lambda channel: channel.queue_delete(LOST_LANE.due))
    hint = due_in(0)
    wheel.queue.put(hint)
    await consumer.inbox.until_all(hint)
    await wheel.stop()


async def test_each_timer_keeps_to_its_lane(rabbitmq: RabbitMQ) -> None:
    wheel = OnRabbitMQ(rabbitmq, *TWO_LANES)
    of_first = await wheel.consumer(lanes=TWO_LANES[:1])
    of_both = await wheel.consumer(lanes=TWO_LANES[1:])
    hints = [due_in(-1) for _ in range(40)]
    await asyncio.gather(*(wheel.queue.publish(hint) for hint in hints))
    for lane, consumer in enumerate((of_first, of_both)):
        expected = [hint for hint in hints if slot(hint.timer_id, 2) == lane]
        await consumer.inbox.until_all(*expected)
        assert set(consumer.inbox.hints) == set(expected)
        assert expected
    await wheel.stop()


async def test_a_consumer_holds_no_more_than_its_prefetch(rabbitmq: RabbitMQ) -> None:
    wheel = OnRabbitMQ(rabbitmq, LOST_LANE)
    greedy = await wheel.consumer(keep=True, prefetch=5)
    hints = [due_in(-1) for _ in range(12)]
    await asyncio.gather(*(wheel.queue.publish(hint) for hint in hints))
    await greedy.inbox.until(lambda got: len(got) == 5)
    other = await wheel.consumer()
    await other.inbox.until(lambda got: len(got) == 7)
    assert len(greedy.inbox.hints) == 5
    for delivery in greedy.inbox.deliveries:
        delivery.ack()
    await wheel.stop()


async def test_what_is_put_while_the_broker_is_away_is_sent_when_it_is_back(
    real: OnRabbitMQ, rabbitmq: RabbitMQ
) -> None:
    consumer = await real.consumer(keep=True)
    unacknowledged, waiting, late = due_in(0), due_in(9), due_in(0)
    await real.queue.publish(unacknowledged)
    await real.queue.publish(waiting)
    await consumer.inbox.until_all(unacknowledged)
    await asyncio.to_thread(rabbitmq.stop)
    real.queue.put(late)
    assert not real.connected()
    await asyncio.to_thread(rabbitmq.start)
    await consumer.inbox.until_all(late, waiting)
    assert real.connected()
    await consumer.inbox.until(lambda got: got.count(unacknowledged) == 2)


async def test_a_broker_that_was_wiped_is_set_up_again(real: OnRabbitMQ, rabbitmq: RabbitMQ) -> None:
    consumer = await real.consumer()
    before, after = due_in(0), due_in(0)
    await real.queue.publish(before)
    await consumer.inbox.until_all(before)
    await asyncio.to_thread(rabbitmq.wipe)
    real.queue.put(after)
    await consumer.inbox.until_all(after)


async def test_whether_the_wheel_was_lost_is_told(rabbitmq: RabbitMQ) -> None:
    wheel = OnRabbitMQ(rabbitmq, Lane(110, "classic"))
    await wheel.ready()
    assert wheel.made == 1, "there was none"
    await asyncio.to_thread(rabbitmq.restart)
    await wheel.queue.publish(due_in(0))
    assert wheel.made == 1, "it is still there"
    await asyncio.to_thread(rabbitmq.wipe)
    wheel.queue.put(due_in(0))
    await wheel.ready()
    assert wheel.made == 2
    await wheel.stop()
