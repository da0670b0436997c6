"""
What a pull queue over HTTP could do, and the defects that it had.

Also what a receipt handle's visibility time-out and a message for a time without any url come to here: the timer
waits in a queue, a worker has it for as long as its lease lasts, and whoever does not report back loses it to another.
"""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import httpx2
import pytest

from tests.end_to_end.client import Client
from tests.end_to_end.workers import Queue, ids
from tests.services import DynamoDB
from tests.stack import Member, Stack, open_client

NUMBERS = count()


@pytest.fixture
def queue(client: Client) -> Queue:
    return Queue(client.http, f"antri-{next(NUMBERS)}")


async def test_a_value_added_for_later_is_retrieved_by_who_blocks_and_committed(client: Client, queue: Queue) -> None:
    worker = asyncio.create_task(queue.lease(wait=30))
    added = await queue.put("value", delay=1)
    [task] = await worker
    assert (task["timer"]["id"], task["timer"]["target"]["body"]) == (added["id"], "value")
    assert await queue.commit(task) == [200]
    assert (await client.read(added["id"]))["state"] == "delivered"


async def test_what_is_rejected_is_retried_after_its_delay_then_dead_seen_and_replayed(
    client: Client,
    queue: Queue,
) -> None:
    added = await queue.put("hard", retry={"max_attempts": 2}, labels={"queue": queue.name})
    assert await queue.reject(*await queue.lease(wait=10), delay=0.2) == [200]
    [again] = await queue.lease(wait=10)
    assert again["attempt"] == 2
    assert await queue.reject(again) == [200]

    dead = (await client.http.get("/v1/timers", params={"state": "dead", "label": f"queue:{queue.name}"})).json()
    assert [timer["id"] for timer in dead["timers"]] == [added["id"]]
    assert (await client.http.post(f"/v1/timers/{added['id']}/replay")).status_code == 202
    assert ids(await queue.lease(wait=10)) == [added["id"]]


async def test_several_at_a_time_are_leased_extended_and_committed_in_one_request_each(queue: Queue) -> None:
    added = {(await queue.put(number))["id"] for number in range(30)}
    tasks = await queue.take(30)
    assert set(ids(tasks)) == added
    assert await queue.extend(*tasks, lease=60) == [200] * 30
    assert await queue.commit(*tasks) == [200] * 30


async def test_eight_tasks_that_time_out_together_are_all_retrieved_again(queue: Queue) -> None:
    added = {(await queue.put(number))["id"] for number in range(8)}
    lost = await queue.take(8, lease=1)
    again = await queue.take(8, timeout=60)
    assert set(ids(again)) == added
    assert {task["attempt"] for task in again} == {2}
    assert await queue.commit(*lost) == [404] * 8
    assert await queue.commit(*again) == [200] * 8


async def test_fifty_idle_pollers_lock_no_producer_out_and_cost_next_to_nothing(api: Member, queue: Queue) -> None:
    pollers = [asyncio.create_task(queue.lease(wait=30)) for _ in range(50)]
    await queue.stats()
    before = _cpu_s(api)
    await asyncio.sleep(3)
    assert _cpu_s(api) - before < 3 * 0.25, "of a core; it was 95 % once"
    added = {(await queue.put(number))["id"] for number in range(50)}
    assert {name for tasks in await asyncio.gather(*pollers) for name in ids(tasks)} == added


async def test_a_client_that_leaves_keeps_no_task(queue: Queue) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        await queue.http.post(f"/v1/queues/{queue.name}/lease", json={"wait": 30}, timeout=0.2)
    added = await queue.put("left alone")
    [task] = await queue.lease(wait=10)
    assert (task["timer"]["id"], task["attempt"]) == (added["id"], 1)


async def test_a_full_queue_says_so_and_stores_nothing(running: Stack) -> None:
    member = running.api(TIMERS_QUEUE_CAPACITY="2")
    member.start()
    async with open_client(member, timeout=60) as http:
        full = Queue(http, f"antri-{next(NUMBERS)}")
        added = [await full.put(number) for number in range(2)]
        wish = {"id": f"{full.name}-refused", "target": {"type": "queue", "queue": full.name}, "delay": 0}
        refused = await http.post("/v1/timers", json=wish)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert (await http.get(f"/v1/timers/{wish['id']}")).status_code == 404
        assert set(ids(await full.take(2))) == {timer["id"] for timer in added}
    member.stop()


async def test_a_kill_of_everything_at_any_point_loses_nothing(running: Stack, dynamodb: DynamoDB) -> None:
    member, consumer = running.api(), running.consumer()
    for process in (member, consumer):
        process.start()
    name = f"antri-{next(NUMBERS)}"
    added: set[str] = set()
    async with open_client(member, timeout=60) as http:
        producer = asyncio.create_task(_add_for_ever(Queue(http, name), added))
        held = await Queue(http, name).take(5, lease=1)
        consumer.kill()
        dynamodb.kill()
        member.kill()
        await asyncio.wait([producer])
        assert isinstance(producer.exception(), (httpx2.TransportError, AssertionError))
    dynamodb.start()
    for process in (member, consumer):
        process.start()

    async with open_client(member, timeout=60) as http:
        seen = await _commit_until(Queue(http, name), added)
    assert set(ids(held)) <= seen
    for process in (member, consumer):
        process.stop()


async def _add_for_ever(queue: Queue, added: set[str]) -> None:
    for number in count():
        added.add((await queue.put(number))["id"])


async def _commit_until(queue: Queue, wanted: set[str]) -> set[str]:
    """Work until all that is wanted was seen; return what was."""
    seen: set[str] = set()
    while not wanted <= seen:
        tasks = await queue.take(1, timeout=60) + await queue.lease(99)
        assert set(await queue.commit(*tasks)) == {200}
        seen |= set(ids(tasks))
    return seen


async def test_what_a_worker_has_in_hand_when_its_server_dies_another_one_processes(
    running: Stack, queue: Queue
) -> None:
    member = running.api()
    member.start()
    added = await queue.put("in flight")
    async with open_client(member, timeout=60) as http:
        await Queue(http, queue.name).take(1, lease=1)
        member.kill()
    [again] = await queue.take(1, timeout=40)
    assert (again["timer"]["id"], again["attempt"]) == (added["id"], 2)
    assert await queue.commit(again) == [200]


async def test_a_message_for_a_time_with_its_own_id_and_no_url_lands_in_the_queue_in_order_of_time(
    queue: Queue,
) -> None:
    for number, delay in enumerate((0.3, 0.1, 0.2)):
        await queue.put({"message": number}, delay, id=f"{queue.name}-{number}")
    await queue.until(ready=3)
    assert ids(await queue.take(3)) == [f"{queue.name}-{number}" for number in (1, 2, 0)]


async def test_the_counts_and_the_metrics_tell_what_goes_on(api: Member, queue: Queue) -> None:
    await queue.put("a", delay=3600)
    await queue.put("b")
    await queue.put("c")
    [task] = await queue.lease(wait=10)
    stats = await queue.until(scheduled=1, ready=1, leased=1)
    assert stats["oldest_ready_seconds"] is not None
    await queue.commit(task)
    page = (await queue.http.get("/metrics")).text
    for sample in ('timers_leases_total{event="leased"}', 'timers_leases_total{event="committed"}', "timers_waiting"):
        assert f"\n{sample} " in page


def _cpu_s(member: Member) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{member.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
