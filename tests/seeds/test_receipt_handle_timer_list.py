"""
Seed 1, a receipt-handle timer list (Go): timers under the receipt handles of a queue's messages.

Receiving a message starts a timer, deleting it stops the timer; when it expires, the message goes back to its queue
while redeliveries are left, else to the dead letters.
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.builders import NOW_MS, make_spec
from tests.end_to_end.client import Client, Json, due_ms
from tests.end_to_end.workers import Queue
from tests.queues import Queues, Taken
from tests.receiver import Receiver
from tests.stack import Member, Stack, open_client, start_together
from timers.errors import Conflict, TimerNotFound
from timers.ports import TimerStore
from timers.timer import Timer

LOG = {"type": "log"}


class Worker:
    """Takes messages from a queue with a visibility timeout, as the ancestor's users did."""

    def __init__(self, client: Client, queues: Queues, queue: str, dead: str, *, visible_again_s: float) -> None:
        self._client = client
        self._queues = queues
        self._queue = queue
        self._dead = dead
        self._timeout_s = visible_again_s

    async def receive(self) -> tuple[Taken, str]:
        """Take a message; from now on a timer runs under its receipt handle."""
        taken = await self._queues.take(self._queue)
        handle = str(uuid4())
        target = {
            "type": "amqp",
            "routing_key": self._queue,
            "body": taken.body.decode(),
            "redeliveries_left": taken.headers.get("timer-redeliveries-left", 2),
            "dead_letter": {"routing_key": self._dead},
        }
        response = await self._client.http.put(
            f"/v1/timers/{handle}", json={"delay": self._timeout_s, "target": target}
        )
        assert response.status_code == 201
        return taken, handle

    async def delete(self, handle: str) -> None:
        await self._client.cancel(handle)


async def start(client: Client, key: str, delay: float, target: Json) -> Json:
    """Start or restart a timer under a key."""
    response = await client.http.put(f"/v1/timers/{key}", json={"delay": delay, "target": target})
    assert response.status_code in (200, 201), response.text
    timer: Json = response.json()
    return timer


async def test_the_token_of_a_lease_is_a_receipt_handle(client: Client) -> None:
    queue = Queue(client.http, f"orders-{uuid4()}")
    message = await queue.put({"order": 42}, retry={"max_attempts": 2})
    [first] = await queue.lease(wait=10)
    assert await queue.lease() == [], "it is invisible to others"
    assert await queue.extend(first, lease=60) == [200]
    assert await queue.reject(first, delay=0) == [200]

    [second] = await queue.lease(wait=10)
    assert (first["attempt"], second["attempt"]) == (1, 2)
    assert await queue.commit(first) == [404], "a handle belongs to one receipt"
    assert await queue.reject(second, delay=0) == [200]
    await client.until(message["id"], "dead")
    assert await queue.lease() == []


async def test_a_timer_is_started_and_stopped_under_the_key_that_its_caller_chose(
    client: Client, receiver: Receiver
) -> None:
    stopped, kept = f"handle:{uuid4()}", f"handle:{uuid4()}"
    for key in (stopped, kept):
        await start(client, key, 2, {"url": receiver.url("expired")})
    await client.cancel(stopped)
    await client.until(kept, "delivered")

    assert [call.timer_id for call in receiver["expired"]] == [kept]


async def test_a_restarted_timer_moves_to_its_new_time_and_is_never_two(client: Client, receiver: Receiver) -> None:
    """Defect: a moved timer fired at its old time."""
    key = str(uuid4())
    before = await start(client, key, 2, {"url": receiver.url("moved")})
    after = await start(client, key, 3, {"url": receiver.url("moved")})
    await client.until(key, "delivered")

    [call] = receiver["moved"]
    assert call.at_ms >= due_ms(after) > due_ms(before)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("PATCH", "", {"delay": 1}),
        ("POST", "/fire", None),
        ("POST", "/replay", None),
    ],
)
async def test_an_unknown_key_is_a_clear_error(client: Client, method: str, path: str, body: Any) -> None:
    response = await client.http.request(method, f"/v1/timers/nobody-has-this{path}", json=body)
    assert response.status_code == 404
    assert "nobody-has-this" in response.json()["detail"]


@pytest.mark.parametrize("when", [{"delay": 0}, {"due_at": "2020-01-01T00:00:00Z"}, {"due_at": 1}])
async def test_a_timeout_of_zero_or_in_the_past_fires_at_once_and_never_sticks(client: Client, when: Json) -> None:
    timer = await client.create(target=LOG, **when)
    delivered = await client.until(timer["id"], "delivered")
    assert len(delivered["attempts"]) == 1


async def test_a_second_that_has_passed_already_still_fires(client: Client) -> None:
    """Defect: a timer for a second that the scan had left behind never fired."""
    first = await client.create(delay=0, target=LOG)
    await client.until(first["id"], "delivered")
    timers = [await client.create(due_at=due_ms(first) - ms, target=LOG) for ms in (1, 500, 1_000, 1_001, 60_000)]
    for timer in timers:
        await client.until(timer["id"], "delivered")


async def test_an_expired_message_goes_back_while_redeliveries_are_left_and_then_to_the_dead_letters(
    client: Client, queues: Queues
) -> None:
    queue, dead = queues.new(), queues.new()
    worker = Worker(client, queues, queue, dead, visible_again_s=0.3)
    await client.create(delay=0, target={"type": "amqp", "routing_key": queue, "body": "poison"})

    left = [(await worker.receive())[0].headers.get("timer-redeliveries-left") for _ in range(3)]
    buried = await queues.take(dead)

    assert left == [None, 1, 0]
    assert (buried.body, buried.headers["timer-redeliveries-left"]) == (b"poison", 0)
    assert queues.depth(queue) == 0


async def test_a_message_that_is_deleted_in_time_does_not_come_back(client: Client, queues: Queues) -> None:
    queue, dead = queues.new(), queues.new()
    worker = Worker(client, queues, queue, dead, visible_again_s=2)
    await client.create(delay=0, target={"type": "amqp", "routing_key": queue, "body": "work"})
    _, handle = await worker.receive()
    await worker.delete(handle)
    later = await client.create(delay=2.5, target=LOG)
    await client.until(later["id"], "delivered")

    assert (queues.depth(queue), queues.depth(dead)) == (0, 0)


async def test_of_a_stop_and_an_expiry_at_once_exactly_one_wins(client: Client, receiver: Receiver) -> None:
    timers = [await client.schedule(receiver.url("raced"), 0.5 + n / 100) for n in range(40)]

    async def stop(timer: Json) -> bool:
        await asyncio.sleep(timer["remaining"])
        return (await client.http.delete(f"/v1/timers/{timer['id']}")).status_code == 200

    stopped = await asyncio.gather(*(stop(timer) for timer in timers))
    ended = [
        await client.until(t["id"], "cancelled" if won else "delivered") for t, won in zip(timers, stopped, strict=True)
    ]

    fired = {call.timer_id for call in receiver["raced"]}
    assert fired == {timer["id"] for timer in ended if timer["state"] == "delivered"}


async def test_two_processes_fire_each_timer_once(client: Client, receiver: Receiver) -> None:
    """Defect: two processes both fired."""
    timers = await asyncio.gather(*(client.schedule(receiver.url("once"), 0.5) for _ in range(100)))
    for timer in timers:
        await client.until(timer["id"], "delivered")
    assert sorted(call.timer_id for call in receiver["once"]) == sorted(timer["id"] for timer in timers)


async def test_a_downtime_of_more_than_five_seconds_loses_nothing(
    client: Client, consumers: list[Member], receiver: Receiver
) -> None:
    """Defect: what came due while the process was down for more than five seconds was lost."""
    timers = [await client.schedule(receiver.url("down"), 1 + n / 10) for n in range(10)]
    for consumer in consumers:
        consumer.kill()
    await asyncio.sleep(7)  # the time has to pass
    assert receiver["down"] == []
    start_together(*consumers)
    for timer in timers:
        await client.until(timer["id"], "delivered")
    assert len(receiver["down"]) == len(timers)


async def test_what_was_started_and_stopped_survives_kill_9(
    client: Client, api: Member, consumers: list[Member], receiver: Receiver
) -> None:
    kept, stopped = [await client.schedule(receiver.url(name), 3) for name in ("kept", "stopped")]
    await client.cancel(stopped["id"])
    for member in (api, *consumers):
        member.kill()
    start_together(api, *consumers)
    async with open_client(api) as http:
        await Client(http).until(kept["id"], "delivered")
        assert (await Client(http).read(stopped["id"]))["state"] == "cancelled"
    assert (len(receiver["kept"]), receiver["stopped"]) == (1, [])


async def test_of_thousands_created_and_a_part_stopped_nothing_is_left_over(
    running: Stack, api: Member, consumers: list[Member]
) -> None:
    """With a million of them it is a benchmark: ./setup.sh bench --million."""
    key = await asyncio.to_thread(running.key, "create", "--tenant", "thousands", "--scopes", "read,write")
    wishes = [{"delay": {"minutes": 10}, "target": LOG} for _ in range(1_000)]
    async with open_client(api, key) as http:
        ids = []
        for _ in range(2):
            batch = await http.post("/v1/timers/batch", json={"timers": wishes})
            ids += [result["timer"]["id"] for result in batch.json()["results"]]
        stopped = await http.post("/v1/timers/batch-cancel", json={"ids": ids[1_050:]})
        more = await http.post("/v1/timers/batch-cancel", json={"ids": ids[50:1_050]})
        for timer_id in ids[:50]:
            assert (await http.post(f"/v1/timers/{timer_id}/fire")).status_code == 202
        for timer_id in ids[:50]:
            await Client(http).until(timer_id, "delivered")
        counts = await counted(http, delivered=50)

    assert {result["status"] for answer in (stopped, more) for result in answer.json()["results"]} == {200}
    assert counts == {"scheduled": 0, "firing": 0, "delivered": 50, "dead": 0, "cancelled": 1_950, "expired": 0}


async def counted(http: httpx2.AsyncClient, delivered: int) -> dict[str, int]:
    """Read the stats until so many are delivered: an answer may be used again for a while."""
    async with asyncio.timeout(30):
        while True:
            counts: dict[str, int] = (await http.get("/v1/stats")).json()["counts"]
            if counts["delivered"] == delivered:
                return counts
            await asyncio.sleep(0.2)


async def test_stores_are_interchangeable(store: TimerStore) -> None:
    """Over memory and over DynamoDB; all of what they have in common is in tests/contract/test_timer_store.py."""
    first = Timer.create("handle-1", make_spec(), NOW_MS)
    await store.create(first)
    moved = first.edited(make_spec(due_at_ms=NOW_MS + 5_000), NOW_MS)
    await store.save(first, moved)
    with pytest.raises(Conflict):
        await store.save(first, first.cancelled(NOW_MS))
    with pytest.raises(TimerNotFound):
        await store.get("handle-2")
    assert await store.get("handle-1") == moved
