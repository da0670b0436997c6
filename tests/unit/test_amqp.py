"""Which messages can be published, and where."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.rabbitmq.destinations import DestinationList
from infra.rabbitmq.topology import Lane
from tests.builders import NOW_MS, amqp_targets, make_timer
from timers import limits
from timers.amqp import RESERVED, AmqpTarget, Destination, check_amqp
from timers.body import Body, BodyKind
from timers.call import action_for
from timers.errors import Invalid
from timers.ports import Message
from timers.target import Target, check_target

ORDERS = Destination("", "orders")
DEAD = Destination("", "orders.dead")
PLAIN = AmqpTarget(ORDERS)
LONG = "é" * (limits.MAX_AMQP_NAME_BYTES // 2 + 1)
BIG = "a" * (limits.MAX_HEADER_BYTES - 10)

BAD: list[tuple[AmqpTarget, str]] = [
    (AmqpTarget(Destination("", "")), "/target/routing_key"),
    (AmqpTarget(Destination("", "timers.v1.0.due")), "/target/routing_key"),
    (AmqpTarget(Destination("timers.v1.0.due", "00.00")), "/target/exchange"),
    (AmqpTarget(Destination("timers.v9.anything", "x")), "/target/exchange"),
    (AmqpTarget(Destination("", "amq.rabbitmq.reply-to.g1h2AA5yZXBseQ")), "/target/routing_key"),
    (AmqpTarget(Destination("amq.rabbitmq.trace", "x")), "/target/exchange"),
    (AmqpTarget(Destination("x", LONG)), "/target/routing_key"),
    (AmqpTarget(Destination(LONG, "x")), "/target/exchange"),
    (AmqpTarget(Destination("x\n", "y")), "/target/exchange"),
    (AmqpTarget(Destination("x", "y\x00")), "/target/routing_key"),
    (replace(PLAIN, headers={"CC": "timers.v1.0.due"}), "/target/headers/CC"),
    (replace(PLAIN, headers={"bcc": "x"}), "/target/headers/bcc"),
    (replace(PLAIN, headers={"x-death": "x"}), "/target/headers/x-death"),
    (replace(PLAIN, headers={"Timer-Attempt": 7}), "/target/headers/Timer-Attempt"),
    (replace(PLAIN, headers={"": "x"}), "/target/headers/"),
    (replace(PLAIN, headers={"a/b~c\n": "x"}), "/target/headers/a~1b~0c\n"),
    (replace(PLAIN, headers={LONG: "x"}), f"/target/headers/{LONG}"),
    (replace(PLAIN, headers={"x": 2**63}), "/target/headers/x"),
    (replace(PLAIN, headers={"x": -(2**63) - 1}), "/target/headers/x"),
    (replace(PLAIN, headers={"x": "a" * limits.MAX_HEADER_BYTES}), "/target/headers/x"),
    (replace(PLAIN, headers={f"x-{n}": BIG for n in range(9)}), "/target/headers"),
    (replace(PLAIN, headers={f"x-{n}": n for n in range(limits.MAX_HEADERS + 1)}), "/target/headers"),
    (replace(PLAIN, headers={"x": 1.5}), "/target/headers/x"),  # type: ignore[dict-item]
    (replace(PLAIN, headers={"x": None}), "/target/headers/x"),  # type: ignore[dict-item]
    (replace(PLAIN, properties={"message_id": "mine"}), "/target/properties/message_id"),
    (replace(PLAIN, properties={"priority": 256}), "/target/properties/priority"),
    (replace(PLAIN, properties={"priority": True}), "/target/properties/priority"),
    (replace(PLAIN, properties={"expiration": "1"}), "/target/properties/expiration"),
    (replace(PLAIN, properties={"type": 1}), "/target/properties/type"),
    (replace(PLAIN, properties={"correlation_id": LONG}), "/target/properties/correlation_id"),
    (replace(PLAIN, properties={"reply_to": "amq.rabbitmq.reply-to"}), "/target/properties/reply_to"),
    (replace(PLAIN, properties={"reply_to": "timers.v1.0.due"}), "/target/properties/reply_to"),
    (replace(PLAIN, redeliveries_left=1), "/target/dead_letter"),
    (replace(PLAIN, dead_letter=DEAD), "/target/redeliveries_left"),
    (replace(PLAIN, redeliveries_left=-1, dead_letter=DEAD), "/target/redeliveries_left"),
    (replace(PLAIN, redeliveries_left=limits.MAX_REDELIVERIES + 1, dead_letter=DEAD), "/target/redeliveries_left"),
    (replace(PLAIN, redeliveries_left=1, dead_letter=Destination("", "")), "/target/dead_letter/routing_key"),
    (replace(PLAIN, redeliveries_left=1, dead_letter=Destination("", "timers.v1")), "/target/dead_letter/routing_key"),
    (replace(PLAIN, body=Body(BodyKind.BASE64, "!")), "/target/body_base64"),
]


@pytest.mark.parametrize(("target", "pointer"), BAD, ids=[f"{n}-{p[:30]}" for n, (_, p) in enumerate(BAD)])
def test_a_message_that_cannot_be_published_is_refused_by_name(target: AmqpTarget, pointer: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_target(target)
    assert refusal.value.pointer == pointer


@pytest.mark.parametrize(
    "target",
    [
        PLAIN,
        AmqpTarget(Destination("amq.topic", "timers.orders")),
        AmqpTarget(Destination("fanout", "")),
        replace(PLAIN, headers={"x": True, "y": -(2**63), "ü": "☃"}, properties={"priority": 255}),
        replace(PLAIN, redeliveries_left=0, dead_letter=DEAD),
        AmqpTarget(Destination("", "a" * limits.MAX_AMQP_NAME_BYTES)),
    ],
)
def test_a_message_that_can_be_published_is_kept_as_it_is(target: AmqpTarget) -> None:
    assert check_target(target) == target


@given(amqp_targets)
def test_any_message_can_be_published_or_is_invalid(target: AmqpTarget) -> None:
    try:
        check_amqp(target)
    except Invalid:
        return


def test_every_name_of_the_wheel_is_reserved() -> None:
    lane = Lane(63)
    names = [queue.name for queue in lane.queues()] + [exchange.name for exchange in lane.exchanges()]
    assert [name for name in names if not name.startswith(RESERVED)] == []


@pytest.mark.parametrize(("left", "key"), [(None, "amqp:/orders"), (1, "amqp:/orders"), (0, "amqp:/orders.dead")])
def test_messages_are_told_apart_by_where_they_go(left: int | None, key: str) -> None:
    target = replace(PLAIN, redeliveries_left=left, dead_letter=None if left is None else DEAD)
    assert target.key == key


def message(target: Target, **changes: object) -> Message:
    made = action_for(make_timer("order-42", target=target, **changes), started_at_ms=NOW_MS + 7, random=Random(1))
    assert isinstance(made, Message)
    return made


def test_a_message_says_which_timer_it_is_and_when_it_was_due() -> None:
    made = message(replace(PLAIN, body=Body(BodyKind.TEXT, "é"), headers={"x": 1}), attempts_made=2)
    assert made.headers == {
        "x": 1,
        "timer-attempt": 3,
        "timer-due-at": "2027-01-15T08:00:00.000Z",
        "timer-lateness-ms": 7,
        "timer-status": "on-time",
    }
    assert made.properties == {
        "content_type": "text/plain; charset=utf-8",
        "message_id": "order-42",
        "timestamp": NOW_MS // 1000,
    }
    assert (made.to, made.content) == (ORDERS, "é".encode())


def test_a_content_type_of_the_clients_goes_first() -> None:
    target = replace(PLAIN, body=Body(BodyKind.JSON, "1"), properties={"content_type": "text/csv"})
    assert message(target).properties["content_type"] == "text/csv"


@pytest.mark.parametrize(("left", "header", "to"), [(3, 2, ORDERS), (1, 0, ORDERS), (0, 0, DEAD)])
def test_redeliveries_count_down_to_the_dead_letters(left: int, header: int, to: Destination) -> None:
    made = message(replace(PLAIN, redeliveries_left=left, dead_letter=DEAD))
    assert (made.headers["timer-redeliveries-left"], made.to) == (header, to)


@pytest.mark.parametrize(
    ("allowed", "to", "admitted"),
    [
        ("", ORDERS, False),
        ("*", ORDERS, True),
        ("*", Destination("a/b", "c\nd"), True),
        ("/orders", ORDERS, True),
        ("/orders", DEAD, False),
        ("/orders*", DEAD, True),
        ("/orders", Destination("x", "orders"), False),
        ("x/*", Destination("x", ""), True),
        ("x/*", Destination("xy", "a"), False),
        ("*/orders", ORDERS, True),
        ("*/orders", Destination("x", "orders"), True),
        ("/a.b", Destination("", "aXb"), False),
        ("/a, x/b ,", Destination("x", "b"), True),
        ("/orders.*.new", Destination("", "orders.eu.new"), True),
        ("/orders.*.new", Destination("", "orders.new"), False),
    ],
)
def test_patterns_say_where_messages_may_go(allowed: str, to: Destination, admitted: bool) -> None:
    assert (to in DestinationList.parse(allowed)) is admitted


@pytest.mark.parametrize("text", ["orders", "**", "a,b/c"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not exchange/routing-key"):
        DestinationList.parse(text)


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_pattern_without_stars_admits_itself(exchange: str, routing_key: str) -> None:
    exchange, routing_key = (text.translate({ord(c): None for c in "*,/"}).strip() for text in (exchange, routing_key))
    assert Destination(exchange, routing_key) in DestinationList.parse(f"{exchange}/{routing_key}")
