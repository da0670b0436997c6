"""Seed 5, echo-at-time (Node, Redis): a message, a time and an id; no url."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from uuid import uuid4

import pytest

from tests.end_to_end.client import Client
from tests.queues import Queues
from tests.receiver import Receiver, Reply
from tests.services import RabbitMQ, new_dynamodb
from tests.stack import Member, open_client, stack

QUICK = {"min_backoff": 0.1, "max_backoff": 1, "jitter": 0, "max_attempts": 2}


async def test_a_bare_message_is_echoed_to_the_log_at_its_time(client: Client, consumers: list[Member]) -> None:
    uuid = str(uuid4())
    timer = await client.create(id=uuid, delay=0.3, target={"type": "log", "body": f"remember {uuid}"})
    await client.until(uuid, "delivered")

    assert timer["id"] == uuid
    lines = [line for member in consumers for line in member.log().splitlines() if f"remember {uuid}" in line]
    assert len(lines) == 1


async def test_a_bare_message_lands_in_a_queue_at_its_time(client: Client, queues: Queues) -> None:
    uuid, queue = str(uuid4()), queues.new()
    await client.create(id=uuid, delay=0.3, target={"type": "amqp", "routing_key": queue, "body": "hello"})
    taken = await queues.take(queue)
    assert (taken.properties.message_id, taken.body) == (uuid, b"hello")


async def test_what_is_in_flight_when_a_server_dies_is_processed_by_another(
    client: Client, consumers: list[Member], receiver: Receiver
) -> None:
    receiver.answer("dying", Reply(never=True), Reply(200))
    timer = await client.schedule(receiver.url("dying"), target={"timeout": 0.5}, retry=QUICK)
    await receiver.wait("dying")
    for consumer in consumers:
        consumer.kill()
    consumers[0].start()
    delivered = await client.until(timer["id"], "delivered", timeout=60)
    consumers[1].start()
    assert len(delivered["attempts"]) == 2


async def test_dead_ones_can_be_seen_and_replayed(client: Client, receiver: Receiver) -> None:
    """Defect: the dead queue was never read."""
    receiver.answer("dead", Reply(500), Reply(500), Reply(200))
    label = uuid4().hex
    timer = await client.schedule(receiver.url("dead"), retry=QUICK, labels={"batch": label})
    await client.until(timer["id"], "dead")
    seen = await listed(client, f"state=dead&label=batch:{label}", 1)
    response = await client.http.post(f"/v1/timers/{timer['id']}/replay")
    delivered = await client.until(timer["id"], "delivered")

    assert [found["id"] for found in seen] == [timer["id"]]
    assert response.status_code == 202
    assert [attempt["status"] for attempt in delivered["attempts"]] == [500, 500, 200]


async def listed(client: Client, query: str, count: int) -> list[dict[str, object]]:
    """List until so many are there: a list may miss the writes of the last second."""
    async with asyncio.timeout(20):
        while True:
            found: list[dict[str, object]] = (await client.http.get(f"/v1/timers?{query}")).json()["timers"]
            if len(found) == count:
                return found
            await asyncio.sleep(0.05)


async def test_messages_come_in_the_order_of_their_times_and_not_one_a_second(client: Client, queues: Queues) -> None:
    """Defect: last in, first out, one message a second."""
    queue = queues.new()
    target = {"type": "amqp", "routing_key": queue}
    seconds = [3, 1, 2] * 8
    timers = [{"delay": second, "target": {**target, "body": second}} for second in seconds]
    await client.http.post("/v1/timers/batch", json={"timers": timers})
    bodies = [int((await queues.take(queue)).body) for _ in seconds]
    assert sorted(bodies) == sorted(seconds)
    assert bodies.index(1) < bodies.index(2) < bodies.index(3)


async def test_what_the_store_did_not_take_is_not_called_ok(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    """Defect: ``ok: true`` for messages that the store refused."""
    with new_dynamodb(tmp_path) as table, stack(rabbitmq, table, tmp_path, TIMERS_TABLE_PATIENCE="1") as built:
        api = built.api()
        api.start()
        async with open_client(api) as http:
            body = {"id": "refused", "delay": 3600, "target": {"type": "log"}}
            table.stop()
            refused = await http.post("/v1/timers", json=body)
            table.start()
            accepted = await http.post("/v1/timers", json=body)
    assert refused.status_code == 503
    assert accepted.status_code == 201


@pytest.mark.parametrize("raw", [b"{", b"", b"\xff", b"[1,", b"nonsense"])
async def test_bad_json_is_answered(client: Client, raw: bytes) -> None:
    """Defect: it hung the request."""
    response = await client.http.post("/v1/timers", content=raw, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)
    assert json.loads(response.content)["detail"]


async def test_one_bad_entry_does_not_block_the_others(client: Client, receiver: Receiver) -> None:
    """Defect: it blocked the queue. Entries of the table and the broker that make no sense: tests/end_to_end."""
    receiver.answer("bad", Reply(500))
    bad = await client.schedule(receiver.url("bad"), 0.1, retry={"min_backoff": 0.1, "max_backoff": 0.1})
    good = [await client.create(delay=0.2 + n / 100, target={"type": "log"}) for n in range(10)]
    for timer in good:
        await client.until(timer["id"], "delivered")
    assert (await client.until(bad["id"], "dead"))["attempts"]


async def test_each_message_arrives_once(client: Client, queues: Queues) -> None:
    """Defect: duplicates."""
    queue = queues.new()
    timers = [await client.create(delay=0.3, target={"type": "amqp", "routing_key": queue}) for _ in range(50)]
    arrived = [(await queues.take(queue)).properties.message_id for _ in timers]
    for timer in timers:
        await client.until(timer["id"], "delivered")
    assert sorted(map(str, arrived)) == sorted(timer["id"] for timer in timers)
    assert queues.depth(queue) == 0
