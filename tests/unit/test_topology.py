"""The wheel as declared, walked as RabbitMQ would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.rabbitmq.topology import CLASSIC, Lane, Queue
from timers.wheel import Level, route

LANE = Lane(3)
QUEUES = list(LANE.queues())
DELAYS = [queue for queue in QUEUES if "wheel" in queue.name]


def matches(pattern: str, key: str) -> bool:
    """Match a topic as RabbitMQ does, for the patterns in use: ``*`` is one word, ``#`` any."""
    if pattern == "#":
        return True
    words, wanted = key.split("."), pattern.split(".")
    return len(words) == len(wanted) and all(w in ("*", word) for w, word in zip(wanted, words, strict=True))


def routed(exchange: str, key: str) -> list[Queue]:
    return [
        queue
        for queue in QUEUES
        for source, pattern in queue.bindings
        if source == exchange and (matches(pattern, key) or source == LANE.lost)
    ]


def walk(exchange: str, key: str) -> tuple[Queue, list[int]]:
    """Return the queue in which a message ends, and how long it stayed in each on the way."""
    ttls: list[int] = []
    while True:
        (queue,) = routed(exchange, key)
        if "x-message-ttl" not in queue.arguments:
            return queue, ttls
        ttls.append(queue.arguments["x-message-ttl"])
        exchange = queue.arguments["x-dead-letter-exchange"]


def test_there_are_59_queues_of_minutes_and_59_of_seconds() -> None:
    assert len(DELAYS) == 118
    assert len({queue.name for queue in QUEUES}) == len(QUEUES) == 120


@pytest.mark.parametrize("queue", DELAYS, ids=lambda queue: queue.name)
def test_every_delay_queue_dead_letters_at_least_once(queue: Queue) -> None:
    level, digit = queue.name[-3], int(queue.name[-2:])
    assert queue.arguments == {
        "x-queue-type": "quorum",
        "x-message-ttl": digit * {"s": 1_000, "m": 60_000}[level],
        "x-dead-letter-exchange": LANE.exchange({"s": Level.DUE, "m": Level.SECONDS}[level]),
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def test_what_consumers_read_bounds_nothing_and_never_gives_up() -> None:
    for queue in QUEUES:
        if queue.name in (LANE.due, LANE.lost):
            assert queue.arguments == {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000}


def test_no_queue_expires_or_has_a_bound() -> None:
    for queue in QUEUES:
        assert not {"x-expires", "x-max-length", "x-max-length-bytes", "x-queue-mode"} & set(queue.arguments)


def test_classic_queues_have_no_argument_that_only_quorum_queues_take() -> None:
    of_quorum = {"x-dead-letter-strategy", "x-overflow", "x-delivery-limit"}
    for queue in Lane(0, CLASSIC).queues():
        assert queue.arguments["x-queue-type"] == "classic"
        assert not of_quorum & set(queue.arguments)


def test_what_no_exchange_can_route_goes_to_the_lost_queue() -> None:
    exchanges = {exchange.name: exchange for exchange in LANE.exchanges()}
    assert exchanges[LANE.lost].kind == "fanout"
    for level in Level:
        assert exchanges[LANE.exchange(level)].kind == "topic"
        assert exchanges[LANE.exchange(level)].arguments == {"alternate-exchange": LANE.lost}
    assert [queue.name for queue in routed(LANE.lost, "any.thing")] == [LANE.lost]


def test_an_exchange_is_declared_after_what_stands_in_for_it_and_a_queue_after_what_follows_it() -> None:
    assert next(iter(LANE.exchanges())).name == LANE.lost
    seconds = QUEUES.index(next(queue for queue in QUEUES if queue.name.endswith("s59")))
    minutes = QUEUES.index(next(queue for queue in QUEUES if queue.name.endswith("m01")))
    assert [queue.name for queue in QUEUES[:2]] == [LANE.lost, LANE.due]
    assert seconds < minutes


@given(st.integers(0, 3_600_999))
def test_every_way_through_the_wheel_ends_in_the_due_queue_in_time(remaining_ms: int) -> None:
    way = route(remaining_ms)
    queue, ttls = walk(LANE.exchange(way.level), way.key)
    assert queue.name == LANE.due
    assert len(ttls) <= 2
    early_ms = remaining_ms - sum(ttls)
    assert 1_000 <= early_ms < 2_000 or remaining_ms < 1_000


@pytest.mark.parametrize("key", [f"{minutes:02}.{seconds:02}" for minutes in range(60) for seconds in (0, 1, 59)])
def test_every_digit_has_its_queue(key: str) -> None:
    minutes, seconds = (int(digit) for digit in key.split("."))
    entry = Level.MINUTES if minutes else Level.SECONDS
    queue, ttls = walk(LANE.exchange(entry), key)
    assert (queue.name, sum(ttls)) == (LANE.due, (60 * minutes + seconds) * 1_000)


def test_lanes_share_no_name() -> None:
    names = {queue.name for queue in Lane(0).queues()} | {exchange.name for exchange in Lane(0).exchanges()}
    others = {queue.name for queue in Lane(1).queues()} | {exchange.name for exchange in Lane(1).exchanges()}
    assert not names & others
    assert all(name.startswith("timers.v1.") for name in names | others)
