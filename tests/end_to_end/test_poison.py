"""What no process of ours wrote, in the broker and in the table: it is counted, dropped, and stops nobody."""

from __future__ import annotations

import asyncio
import json
import re
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import httpx2
import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from infra.dynamodb import codec
from infra.dynamodb.client import Item, Table
from infra.rabbitmq import messages
from infra.rabbitmq.topology import Lane
from tests.builders import make_hint, make_target, make_timer
from tests.end_to_end.client import Client
from tests.receiver import Receiver
from tests.services import DynamoDB, RabbitMQ, new_rabbitmq
from tests.stack import Member, Stack
from timers.body import Body, BodyKind
from timers.timer import Timer
from timers.wheel import Level, slot

PATIENCE_S: Final = 60.0
LANE: Final = Lane(0)
SHARDS: Final = 16
HOUR_MS: Final = 3_600_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def hint(**fields: Any) -> bytes:
    """Return the message of a hint that is due, of a timer that does not exist, with other fields."""
    known = json.loads(messages.encode(make_hint("nobody", at_ms=now_ms())))
    return json.dumps(known | fields).encode()


POISON: Final[dict[str, tuple[str, Callable[[], bytes]]]] = {
    "nothing": ("garbage", lambda: b""),
    "no JSON": ("garbage", lambda: b"\xff\xfe{"),
    "no object": ("garbage", lambda: b"[1, 2]"),
    "nested without end": ("garbage", lambda: b"[" * 30_000),
    "several megabytes": ("garbage", lambda: b"x" * 5_000_000),
    "a hint of several megabytes": ("garbage", lambda: hint(target="x" * 5_000_000)),
    "an id that is none": ("garbage", lambda: hint(id="#keeper.0")),
    "a version that is none": ("garbage", lambda: hint(version="1")),
    "a time before time": ("garbage", lambda: hint(at=-1)),
    "a time past all numbers": ("garbage", lambda: hint(at=10**400)),
    "bounces past all numbers": ("garbage", lambda: hint(bounces=2**53)),
    "another version": ("version", lambda: hint(v=2)),
    "nobody's": ("stale", hint),
    "nobody's for the second time": ("stale", lambda: hint(bounces=30)),
    "a time in a thousand years": ("far", lambda: hint(at=now_ms() + 1_000 * 366 * 24 * HOUR_MS)),
}
WAYS: Final = [
    ("", LANE.due),
    ("", LANE.lost),
    (LANE.exchange(Level.DUE), "anywhere"),
    (LANE.exchange(Level.SECONDS), "00.01"),
    (LANE.exchange(Level.MINUTES), "no.where"),
]


class Unreadable(pika.BasicProperties):
    """A header that AMQP allows and pika fails to read: a time past the year 9999."""

    def encode(self) -> list[bytes]:
        table = b"\x02atT" + struct.pack(">Q", 2**60)
        return [struct.pack(">HI", self.FLAG_HEADERS, len(table)) + table]


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A broker of this module's own, in which nobody else's timers come due."""
    with new_rabbitmq(tmp_path_factory.mktemp("broker")) as service:
        yield service


@contextmanager
def channel(rabbitmq: RabbitMQ) -> Iterator[BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
    try:
        opened = connection.channel()
        opened.confirm_delivery()  # what was not confirmed may be lost with the connection
        yield opened
    finally:
        connection.close()


def waiting(rabbitmq: RabbitMQ) -> int:
    """Return how many messages wait in the broker, but for those of timers that are not due yet."""
    with channel(rabbitmq) as asked:
        queues = [LANE.due, LANE.lost, *(queue.name for queue in LANE.queues() if queue.name.endswith(".s01"))]
        return sum(asked.queue_declare(name, passive=True).method.message_count for name in queues)


async def counted(members: list[Member], metric: str) -> Counter[str]:
    """Return a metric by its label, over several processes."""
    total: Counter[str] = Counter()
    async with httpx2.AsyncClient() as http:
        for member in members:
            page = (await http.get(f"http://127.0.0.1:{member.port}/metrics")).text
            for label, value in re.findall(rf'^{metric}(?:{{\w+="(\w+)"}})? ([0-9.e+]+)$', page, re.MULTILINE):
                total[label] += round(float(value))
    return total


async def until_counted(members: list[Member], metric: str, enough: Counter[str]) -> Counter[str]:
    """Wait until a metric is as high as it should be, and return it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := await counted(members, metric)) >= enough:
        assert time.monotonic() < deadline, f"{found}, not {enough}"
        await asyncio.sleep(0.1)
    return found


@pytest.mark.parametrize("properties", [pika.BasicProperties(), Unreadable()], ids=["plain", "unreadable"])
async def test_messages_that_are_not_ours_are_counted_and_dropped_and_stop_nobody(
    client: Client,
    receiver: Receiver,
    consumers: list[Member],
    rabbitmq: RabbitMQ,
    properties: pika.BasicProperties,
) -> None:
    before = await counted(consumers, "timers_dropped_total")
    with channel(rabbitmq) as publisher:
        for _, body in POISON.values():
            for exchange, key in WAYS:
                publisher.basic_publish(exchange, key, body(), properties)
    timers = [await client.schedule(receiver.url("amid"), 0.5 + number / 20) for number in range(20)]
    expected = Counter(reason for reason, _ in POISON.values() for _ in WAYS)

    await receiver.wait("amid", len(timers))
    dropped = await until_counted(consumers, "timers_dropped_total", before + expected)
    delivered = [await client.until(timer["id"], "delivered") for timer in timers]
    for consumer in consumers:
        await asyncio.to_thread(consumer.stop)  # what it held without an acknowledgement would be in the queue again
    left = waiting(rabbitmq)
    for consumer in consumers:
        await asyncio.to_thread(consumer.start)

    assert {reason: dropped[reason] - before[reason] for reason in ("garbage", "version", "far", "failed")} == {
        "garbage": expected["garbage"],
        "version": expected["version"],
        "far": expected["far"],
        "failed": 0,
    }
    assert max(timer["attempts"][0]["lateness_ms"] for timer in delivered) < 2_000
    assert left == 0


BROKEN: Final[dict[str, Item | None]] = {
    "state": {"S": "asleep"},
    "version": None,
    "spec": {"S": "{"},
    "spec ": {"S": "[" * 100_000},
    "spec  ": {"B": "e30="},
    "due_at_ms": {"S": "soon"},
    "updated_at_ms": {"N": "-1"},
    "updated_at_ms ": {"N": "9" * 38},
    "at_ms": {"N": "1700000000000.5"},
    "next_attempt_at_ms": {"N": "1"},
    "lease_until_ms": {"N": "1E30"},
    "attempts": {"S": "[[1, 2]]"},
    "attempts ": {"S": "[[1, 0, 0, 1e999, 200, null]]"},
    "attempts  ": {"S": '[[1, 0, 0, 0, null, "\\ud800"]]'},
    "target.url": {"value": "http://["},
    "target.headers": {"value": {"x": 1}},
    "target.timeout": {"value": "long"},
    "target.body": {"value": ["base64", "a"]},
    "target.type": {"value": "carrier pigeon"},
    "retry": {"value": "often"},
    "retry ": {"value": [8, 1, 1e999, 2, 0.1]},
    "labels": {"value": None},
    "labels ": {"value": {"a": "\ud800"}},
    "labels  ": {"value": {"a": float("nan")}},
    "created_at_ms": {"value": 10**4_000},
    "trace": {"value": "untraceable"},
}


WRITTEN_BY_A_CLAIM: Final = {"lease_until_ms", "updated_at_ms"}


def item_of(timer: Timer) -> Item:
    return codec.encode(timer, shards=SHARDS, retention_ms=HOUR_MS)


def broken_item(number: int, name: str, value: Item | None) -> Item:
    """Return the item of a timer that is due, with one thing wrong: an attribute, or a part of its spec."""
    state = "firing" if number % 2 else "scheduled"
    item = {**item_of(make_timer(f"broken-{number}", due_at_ms=now_ms() - 5_000)), "state": {"S": state}}
    name = name.strip()
    if value is None:
        del item[name]
    elif "value" in value:
        item["spec"] = {"S": _spec_with(item["spec"]["S"], name.split("."), value["value"])}
    else:
        item[name] = value
    return item


def _spec_with(text: str, path: list[str], value: Any) -> str:
    spec = place = json.loads(text)
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return json.dumps(spec)


async def test_items_that_are_no_timers_are_counted_and_passed_over_and_stop_nobody(
    client: Client,
    receiver: Receiver,
    consumers: list[Member],
    running: Stack,
    rabbitmq: RabbitMQ,
    dynamodb: DynamoDB,
) -> None:
    broken = [broken_item(number, *kind) for number, kind in enumerate(BROKEN.items())]
    overdue = [
        make_timer(f"overdue-{n}", due_at_ms=now_ms() - 5_000, target=make_target(url=receiver.url("overdue")))
        for n in range(3 * SHARDS)
    ]
    assert {slot(timer.id, SHARDS) for timer in overdue} == set(range(SHARDS))
    async with Table(
        running.settings["TIMERS_TABLE"], endpoint=dynamodb.endpoint, region="us-east-1", timeout=10
    ) as table:
        for item in [*broken, *(item_of(timer) for timer in overdue)]:
            await table.call("put_item", TableName=table.name, Item=item)
    with channel(rabbitmq) as publisher:
        for item, name in zip(broken, BROKEN, strict=True):
            if name.strip() not in WRITTEN_BY_A_CLAIM:
                body = messages.encode(make_hint(item["id"]["S"], at_ms=now_ms()))
                publisher.basic_publish("", LANE.due, body)
    due = [await client.schedule(receiver.url("due"), 0.5) for _ in range(20)]

    calls = await receiver.wait("overdue", len(overdue), timeout=PATIENCE_S)
    await receiver.wait("due", len(due), timeout=PATIENCE_S)
    logged = await until_logged(consumers, {item["id"]["S"] for item in broken})
    met = await counted(consumers, "timers_broken_total")
    listed = await listed_ids(client)

    assert {call.timer_id for call in calls} == {timer.id for timer in overdue}
    assert all(len(names) == len(set(names)) for names in logged)
    assert met[""] == sum(len(names) for names in logged)
    assert not any("failed" in consumer.log() for consumer in consumers)
    assert {timer["id"] for timer in due} <= listed
    assert not listed & {item["id"]["S"] for item in broken}


async def until_logged(members: list[Member], wanted: set[str]) -> list[list[str]]:
    """Wait until broken items are logged by one process or another, and return which were by each."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        logged = [re.findall(r"broken item passed over.*item_id=(\S+)", member.log()) for member in members]
        missing = wanted - {name for names in logged for name in names}
        if not missing:
            return logged
        assert time.monotonic() < deadline, missing
        await asyncio.sleep(0.1)


BODIES: Final = [
    "{",
    "1e999",
    '{"a": [-1e999]}',
    "NaN",
    "-Infinity",
    '"\\ud800"',
    "9" * 5_000,
    "[" * 975 + "]" * 975,
    "[" * 100_000,
]
"""What stands in the table as JSON and is none."""


async def test_timers_with_bodies_that_are_no_json_are_called_and_listed_beside_others(
    client: Client, receiver: Receiver, running: Stack, dynamodb: DynamoDB
) -> None:
    target = make_target(url=receiver.url("odd"))
    timers = [
        make_timer(f"odd-{n}", due_at_ms=now_ms() - 5_000, target=replace(target, body=Body(BodyKind.JSON, text)))
        for n, text in enumerate(BODIES)
    ]
    async with Table(
        running.settings["TIMERS_TABLE"], endpoint=dynamodb.endpoint, region="us-east-1", timeout=10
    ) as table:
        for timer in timers:
            await table.call("put_item", TableName=table.name, Item=item_of(timer))
    calls = await receiver.wait("odd", len(timers), timeout=PATIENCE_S)
    for timer in timers:
        await client.until(timer.id, "delivered")
    listed = await listed_ids(client)

    assert {call.body.decode() for call in calls} == set(BODIES)
    assert {timer.id for timer in timers} <= listed


async def listed_ids(client: Client) -> set[str]:
    """Return the ids of all timers that the api lists."""
    found: set[str] = set()
    query = {"limit": "100"}
    while True:
        response = await client.http.get("/v1/timers", params=query)
        assert response.status_code == 200, response.text
        page = response.json()
        found |= {timer["id"] for timer in page["timers"]}
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


async def test_a_lease_that_is_none_is_written_anew(
    client: Client, receiver: Receiver, consumers: list[Member], running: Stack, dynamodb: DynamoDB
) -> None:
    async with Table(
        running.settings["TIMERS_TABLE"], endpoint=dynamodb.endpoint, region="us-east-1", timeout=10
    ) as table:
        for shard in range(SHARDS):
            item = {"id": {"S": f"#keeper.{shard}"}, "owner": {"N": "1"}, "beat": {"S": "thump"}}
            await table.call("put_item", TableName=table.name, Item=item)
        overdue = [
            make_timer(f"unkept-{n}", due_at_ms=now_ms() - 5_000, target=make_target(url=receiver.url("unkept")))
            for n in range(SHARDS)
        ]
        for timer in overdue:
            await table.call("put_item", TableName=table.name, Item=item_of(timer))
    calls = await receiver.wait("unkept", len(overdue), timeout=PATIENCE_S)
    assert {call.timer_id for call in calls} == {timer.id for timer in overdue}
