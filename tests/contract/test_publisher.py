"""Messages of clients on a real broker: confirmed, returned, refused, and the broker away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any
from uuid import uuid4

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from infra.rabbitmq import publisher as publisher_module
from infra.rabbitmq.destinations import DestinationList
from infra.rabbitmq.publisher import RabbitPublisher
from tests.services import RabbitMQ
from timers.amqp import Destination
from timers.ports import Message
from timers.retry import Answer

NOBODY = Destination("", "nobody-listens")


def message(to: Destination, timer_id: str | None = None, **changes: Any) -> Message:
    properties: dict[str, str | int] = {"message_id": timer_id or str(uuid4()), "timestamp": 1_800_000_000}
    return replace(Message(to, {"timer-attempt": 1}, properties, b"body", 10.0), **changes)


@contextmanager
def channel_to(rabbitmq: RabbitMQ) -> Iterator[BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
    try:
        yield connection.channel()
    finally:
        connection.close()


def take(rabbitmq: RabbitMQ, queue: str) -> tuple[pika.BasicProperties, bytes]:
    """Return the next message of a queue."""
    with channel_to(rabbitmq) as channel:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        assert method is not None
        assert properties is not None
        assert body is not None
        return properties, body


def depth(rabbitmq: RabbitMQ, queue: str) -> int:
    with channel_to(rabbitmq) as channel:
        return int(channel.queue_declare(queue, passive=True).method.message_count)


@pytest.fixture
def queue(rabbitmq: RabbitMQ) -> Iterator[str]:
    """A durable queue of the test's own."""
    name = f"orders.{uuid4().hex[:12]}"
    with channel_to(rabbitmq) as channel:
        channel.queue_declare(name, durable=True)
    yield name
    with channel_to(rabbitmq) as channel:
        channel.queue_delete(name)


def new_publisher(rabbitmq: RabbitMQ, allowed: str = "*") -> RabbitPublisher:
    return RabbitPublisher(rabbitmq.url, allowed=DestinationList.parse(allowed), random=Random(1))


@pytest.fixture
async def publisher(rabbitmq: RabbitMQ) -> AsyncIterator[RabbitPublisher]:
    built = new_publisher(rabbitmq)
    built.start()
    yield built
    await built.stop()


async def test_a_message_arrives_whole(publisher: RabbitPublisher, rabbitmq: RabbitMQ, queue: str) -> None:
    sent = message(
        Destination("", queue),
        "order-42",
        headers={"timer-attempt": 2, "text": "☃", "whole": -(2**63), "no": False, "yes": True},
        content=b"\x00\xff",
    )
    properties: dict[str, str | int] = {"content_type": "text/csv", "correlation_id": "c", "app_id": "a"}
    properties |= {"priority": 9, "expiration": 60_000}
    answer = await publisher.publish(replace(sent, properties={**sent.properties, **properties}))

    assert answer == Answer()
    assert answer.delivered
    arrived, body = take(rabbitmq, queue)
    assert body == b"\x00\xff"
    assert arrived.headers == sent.headers
    assert (arrived.message_id, arrived.timestamp, arrived.delivery_mode) == ("order-42", 1_800_000_000, 2)
    assert (arrived.content_type, arrived.correlation_id, arrived.priority) == ("text/csv", "c", 9)
    assert (arrived.expiration, arrived.app_id) == ("60000", "a")


async def test_a_message_that_no_queue_takes_has_failed_and_says_so(publisher: RabbitPublisher) -> None:
    answer = await publisher.publish(message(NOBODY))
    assert answer == Answer(312, "returned: no queue takes 'nobody-listens'")
    assert not answer.delivered
    assert answer.well


async def test_an_exchange_that_does_not_exist_fails_its_own_message_only(
    publisher: RabbitPublisher, rabbitmq: RabbitMQ, queue: str
) -> None:
    good = [message(Destination("", queue)) for _ in range(200)]
    bad = [message(Destination(f"missing-{number}", "x")) for number in range(20)]
    answers = await asyncio.gather(
        *(publisher.publish(one) for pair in zip(good, bad * 10, strict=True) for one in pair)
    )

    assert set(answers[::2]) == {Answer()}
    assert {answer.status for answer in answers[1::2]} == {404}
    assert "no exchange 'missing-0'" in (answers[1].error or "")
    assert depth(rabbitmq, queue) == 200


async def test_an_exchange_that_is_made_later_can_be_published_to(
    publisher: RabbitPublisher, rabbitmq: RabbitMQ, queue: str
) -> None:
    exchange = f"late.{uuid4().hex[:12]}"
    before = await publisher.publish(message(Destination(exchange, "any")))
    with channel_to(rabbitmq) as channel:
        channel.exchange_declare(exchange, "fanout")
        channel.queue_bind(queue, exchange)
    after = await publisher.publish(message(Destination(exchange, "any")))
    with channel_to(rabbitmq) as channel:
        channel.exchange_delete(exchange)
    gone = await publisher.publish(message(Destination(exchange, "any")))

    assert (before.status, after, gone.status) == (404, Answer(), 404)


async def test_one_that_comes_back_is_not_taken_for_another(
    publisher: RabbitPublisher, rabbitmq: RabbitMQ, queue: str
) -> None:
    """Two tenants may have chosen the same id."""
    wanted = message(Destination("", queue), "same")
    unwanted = message(NOBODY, "same")
    answers = await asyncio.gather(*(publisher.publish(one) for one in (wanted, unwanted) * 50))

    assert [answer.status for answer in answers] == [None, 312] * 50
    assert depth(rabbitmq, queue) == 50


async def test_a_queue_that_is_full_has_failed(publisher: RabbitPublisher, rabbitmq: RabbitMQ) -> None:
    name = f"full.{uuid4().hex[:12]}"
    with channel_to(rabbitmq) as channel:
        channel.queue_declare(name, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    answers = [await publisher.publish(message(Destination("", name))) for _ in range(2)]
    with channel_to(rabbitmq) as channel:
        channel.queue_delete(name)

    assert answers[0].delivered
    assert (answers[1].error or "").startswith("refused:")
    assert not answers[1].well


async def test_what_is_not_allowed_is_not_published(rabbitmq: RabbitMQ, queue: str) -> None:
    publisher = new_publisher(rabbitmq, "/other")
    publisher.start()
    answer = await publisher.publish(message(Destination("", queue)))
    await publisher.stop()

    assert answer.error == f"address: /{queue} is not allowed"
    assert depth(rabbitmq, queue) == 0


async def test_many_exchanges_take_a_bounded_number_of_channels(
    publisher: RabbitPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "_CHANNELS", 3)
    kinds = ("direct", "fanout", "topic", "headers", "match")
    answers = [await publisher.publish(message(Destination(f"amq.{kind}", "x"))) for kind in kinds]

    assert {answer.status for answer in answers} == {312}
    assert list(publisher._outlets) == ["amq.topic", "amq.headers", "amq.match"]


async def test_a_broker_that_does_not_answer_has_failed_in_bounded_time(
    publisher: RabbitPublisher, rabbitmq: RabbitMQ, queue: str
) -> None:
    assert (await publisher.publish(message(Destination("", queue)))).delivered
    rabbitmq.pause()
    try:
        answer = await publisher.publish(message(Destination("", queue), timeout=0.2))
    finally:
        rabbitmq.resume()
    assert answer.error == "timeout: no confirm within 0.2 s"


async def test_a_broker_that_is_away_has_failed_and_is_found_again(
    publisher: RabbitPublisher, rabbitmq: RabbitMQ, queue: str
) -> None:
    assert (await publisher.publish(message(Destination("", queue)))).delivered
    rabbitmq.stop()
    try:
        away = await publisher.publish(message(Destination("", queue), timeout=0.2))
    finally:
        rabbitmq.start()
    again = await publisher.publish(message(Destination("", queue), timeout=30.0))

    assert away.error
    assert not away.delivered
    assert not away.well
    assert again.delivered
    assert depth(rabbitmq, queue) == 2


async def test_what_is_under_way_when_the_connection_ends_may_have_arrived(
    publisher: RabbitPublisher, rabbitmq: RabbitMQ, queue: str
) -> None:
    assert (await publisher.publish(message(Destination("", queue)))).delivered
    rabbitmq.pause()
    waiting = asyncio.create_task(publisher.publish(message(Destination("", queue))))
    await asyncio.sleep(0)
    session = publisher._supervisor.session
    assert session is not None
    session.end("cut")
    rabbitmq.resume()
    answer = await waiting

    assert answer.error == "broker: the connection ended"
    assert not answer.delivered
