"""Timers that workers fetch: leased, committed, rejected, extended, lapsed; by several processes, through crashes."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from itertools import count

import httpx2
import pytest

from tests.end_to_end.client import Client, Json, due_ms
from tests.end_to_end.workers import Queue, ids
from tests.stack import Member, Stack, open_client
from timers.limits import MAX_LEASES

NUMBERS = count()
ENDED = -signal.SIGTERM  # uvicorn stops in order, and then as whoever sent the signal expects
OTHER_TOKEN = "AAAAAAAAAAAAAAAAAAAAAHRpbWVyLTE"


@pytest.fixture(scope="module")
def second_api(running: Stack) -> Member:
    member = running.api()
    member.start()
    return member


@pytest.fixture
def queue(client: Client) -> Queue:
    return Queue(client.http, f"jobs-{next(NUMBERS)}")


@pytest.fixture
async def elsewhere(second_api: Member, queue: Queue) -> AsyncIterator[Queue]:
    """The same queue through another process."""
    async with open_client(second_api, timeout=60) as http:
        yield Queue(http, queue.name)


async def test_a_due_timer_is_leased_with_its_body_and_committed(client: Client, queue: Queue) -> None:
    put = await queue.put({"order": 42}, id=f"{queue.name}-order", labels={"order": "42"})

    [lease] = await queue.lease(wait=10)
    assert lease["attempt"] == 1
    assert lease["timer"]["id"] == put["id"]
    assert lease["timer"]["state"] == "firing"
    assert lease["timer"]["target"] == {"type": "queue", "queue": queue.name, "body": {"order": 42}}
    assert await queue.commit(lease) == [200]

    done = await client.read(put["id"])
    assert done["state"] == "delivered"
    [attempt] = done["attempts"]
    assert (attempt["number"], attempt["status"], attempt["error"]) == (1, None, None)
    assert attempt["lateness_ms"] >= 0


async def test_a_timer_is_not_given_out_before_its_time(queue: Queue) -> None:
    put = await queue.put(delay=1)
    assert await queue.lease() == []
    [lease] = await queue.lease(wait=10)
    assert lease["timer"]["id"] == put["id"]
    assert time.time() * 1000 >= due_ms(put)


async def test_the_oldest_due_comes_first(queue: Queue) -> None:
    now_ms = round(time.time() * 1000)
    for seconds in (2, 9, 5):
        body = {
            "target": {"type": "queue", "queue": queue.name},
            "due_at": now_ms - 1000 * seconds,
            "id": f"{queue.name}-{seconds}",
        }
        assert (await queue.http.post("/v1/timers", json=body)).status_code == 201
    assert ids(await queue.take(3)) == [f"{queue.name}-{seconds}" for seconds in (9, 5, 2)]


async def test_a_poll_that_waits_is_answered_as_soon_as_something_comes(queue: Queue, elsewhere: Queue) -> None:
    waiting = asyncio.create_task(queue.lease(wait=30))
    await asyncio.sleep(0)
    put = await elsewhere.put("from the other process")
    assert ids(await waiting) == [put["id"]]


async def test_a_poll_ends_with_nothing_when_its_time_is_over(queue: Queue) -> None:
    assert await queue.lease(wait=0.5) == []


async def test_many_workers_of_many_processes_share_a_burst_without_a_double(queue: Queue, elsewhere: Queue) -> None:
    wanted = {(await queue.put(number))["id"] for number in range(60)}
    taken: list[str] = []

    async def work(side: Queue) -> None:
        while len(taken) < len(wanted):
            leases = await side.lease(7, wait=1)
            taken.extend(ids(leases))
            if leases:
                assert set(await side.commit(*leases)) == {200}

    await asyncio.gather(*(work(side) for side in (queue, elsewhere) for _ in range(4)))
    assert sorted(taken) == sorted(wanted)


async def test_a_rejected_one_comes_again_after_its_delay_and_dies_after_the_last_attempt(
    client: Client, queue: Queue
) -> None:
    put = await queue.put("hard", retry={"max_attempts": 2})
    [first] = await queue.lease(wait=10)
    assert await queue.reject(first, delay=0.3) == [200]
    assert await queue.commit(first) == [404], "it is not this worker's any more"

    [second] = await queue.lease(wait=10)
    assert (second["attempt"], second["timer"]["id"]) == (2, put["id"])
    assert second["token"] != first["token"]
    assert await queue.reject(second) == [200]

    dead = await client.until(put["id"], "dead")
    assert [attempt["error"] for attempt in dead["attempts"]] == ["rejected by its worker"] * 2


async def test_a_dead_one_can_be_seen_and_replayed(client: Client, queue: Queue) -> None:
    put = await queue.put("hard", retry={"max_attempts": 1}, labels={"queue": queue.name})
    assert await queue.reject(*await queue.lease(wait=10)) == [200]
    listed = await client.http.get("/v1/timers", params={"state": "dead", "label": f"queue:{queue.name}"})
    assert [timer["id"] for timer in listed.json()["timers"]] == [put["id"]]

    assert (await client.http.post(f"/v1/timers/{put['id']}/replay")).status_code == 202
    [lease] = await queue.lease(wait=10)
    assert (lease["timer"]["id"], lease["attempt"]) == (put["id"], 1)


async def test_what_a_queue_has_is_listed_by_its_name(client: Client, queue: Queue) -> None:
    elsewhere = await Queue(client.http, f"{queue.name}-other").put(delay=600)
    waits = await queue.put(delay=600)
    taken = await queue.put()
    [lease] = await queue.lease(wait=10)

    async def listed(state: str) -> list[str]:
        params = {"queue": queue.name, "state": state}
        response = await client.http.get("/v1/timers", params=params)
        return [timer["id"] for timer in response.json()["timers"]]

    await queue.until(scheduled=1, leased=1)
    assert await listed("scheduled") == [waits["id"]]
    assert await listed("firing") == [taken["id"]]
    assert await queue.commit(lease) == [200]
    await queue.until(leased=0)
    assert await listed("delivered") == [taken["id"]]
    assert elsewhere["id"] not in await listed("scheduled")

    wrong = await client.http.get("/v1/timers", params={"queue": "No Queue"})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/query/queue")


async def test_without_a_delay_a_rejected_one_waits_by_its_policy(client: Client, queue: Queue) -> None:
    put = await queue.put("later", retry={"min_backoff": 600, "jitter": 0})
    assert await queue.reject(*await queue.lease(wait=10)) == [200]
    timer = await client.read(put["id"])
    assert timer["state"] == "scheduled"
    assert (await queue.stats())["scheduled"] == 1


async def test_a_lease_that_ends_counts_and_the_timer_comes_again(client: Client, queue: Queue) -> None:
    put = await queue.put("forgotten")
    [lost] = await queue.lease(wait=10, lease=1)
    [again] = await queue.take(1, timeout=40)
    assert (again["timer"]["id"], again["attempt"]) == (put["id"], 2)
    assert "lease ended" in again["timer"]["attempts"][0]["error"]
    assert await queue.commit(lost) == [404]
    assert (await client.read(put["id"]))["state"] == "firing"
    assert await queue.commit(again) == [200]


async def test_many_leases_that_end_together_all_come_again(queue: Queue) -> None:
    wanted = {(await queue.put(number))["id"] for number in range(8)}
    assert set(ids(await queue.take(8, lease=1))) == wanted
    assert set(ids(await queue.take(8, timeout=60))) == wanted


async def test_a_timer_whose_leases_keep_ending_dies(client: Client, queue: Queue) -> None:
    put = await queue.put("poison", retry={"max_attempts": 1})
    await queue.take(1, lease=1)
    dead = await client.until(put["id"], "dead", timeout=40)
    assert len(dead["attempts"]) == 1


async def test_an_extended_lease_holds_and_its_token_stays_good(client: Client, queue: Queue) -> None:
    put = await queue.put("slow")
    [lease] = await queue.lease(wait=10, lease=1)
    assert await queue.extend(lease, lease=60) == [200]
    version = (await client.read(put["id"]))["version"]
    await asyncio.sleep(7)  # past the first end and the clocks' tolerance
    assert (await client.read(put["id"]))["version"] == version
    assert await queue.commit(lease) == [200]


async def test_after_its_lease_a_worker_can_do_nothing(client: Client, queue: Queue) -> None:
    await queue.put("slow")
    [lease] = await queue.lease(wait=10, lease=1)
    await asyncio.sleep(1.2)
    assert await queue.extend(lease, lease=60) == [404]
    assert await queue.commit(lease) == [404]
    assert await queue.reject(lease, delay=0) == [404]


async def test_to_commit_again_is_no_error(queue: Queue) -> None:
    await queue.put("once")
    [lease] = await queue.lease(wait=10)
    assert await queue.commit(lease, lease) == [200, 200]
    assert await queue.commit(lease) == [200]
    assert await queue.reject(lease) == [404]
    assert await queue.extend(lease) == [404]


async def test_each_token_is_judged_by_itself(queue: Queue) -> None:
    await queue.put("a")
    await queue.put("b")
    first, second = await queue.take(2)
    unknown: Json = {"token": OTHER_TOKEN}
    broken: Json = {"token": "no token at all"}
    assert await queue.commit(first, unknown, broken, second) == [200, 404, 404, 200]


async def test_a_token_is_good_in_its_own_queue_only(client: Client, queue: Queue) -> None:
    await queue.put("mine")
    [lease] = await queue.lease(wait=10)
    assert await Queue(client.http, "another").commit(lease) == [404]
    assert await queue.commit(lease) == [200]


async def test_any_process_takes_a_commit(queue: Queue, elsewhere: Queue) -> None:
    await queue.put("here")
    [lease] = await queue.lease(wait=10)
    assert await elsewhere.extend(lease, lease=60) == [200]
    assert await elsewhere.commit(lease) == [200]


async def test_a_waiting_one_is_edited_cancelled_and_fired_like_any_other(client: Client, queue: Queue) -> None:
    edited = await queue.put("old", delay=3600)
    fired = await queue.put("fired", delay=3600)
    cancelled = await queue.put("cancelled", delay=0)
    await client.cancel(cancelled["id"])
    await client.edit(edited["id"], delay=0, target={"body": "new"})
    assert (await client.http.post(f"/v1/timers/{fired['id']}/fire")).status_code == 202

    leases = await queue.take(2)
    assert {lease["timer"]["id"]: lease["timer"]["target"]["body"] for lease in leases} == {
        edited["id"]: "new",
        fired["id"]: "fired",
    }
    assert await queue.lease() == []


async def test_a_leased_one_can_be_neither_cancelled_nor_changed(client: Client, queue: Queue) -> None:
    put = await queue.put("busy")
    await queue.lease(wait=10)
    for response in (
        await client.http.delete(f"/v1/timers/{put['id']}"),
        await client.http.patch(f"/v1/timers/{put['id']}", json={"delay": 1}),
        await client.http.post(f"/v1/timers/{put['id']}/fire"),
    ):
        assert (response.status_code, response.json()["state"]) == (409, "firing")


async def test_a_call_becomes_a_queued_one_and_back(client: Client, queue: Queue) -> None:
    put = await queue.put("x", delay=3600)
    await client.edit(put["id"], target={"type": "http", "url": "http://127.0.0.1:8080/", "queue": None, "body": None})
    assert (await queue.stats())["scheduled"] == 0
    await client.edit(put["id"], delay=0, target={"type": "queue", "queue": queue.name, **_WITHOUT_URL})
    assert ids(await queue.lease(wait=10)) == [put["id"]]


_WITHOUT_URL = {"url": None, "method": None, "headers": None, "timeout": None}


async def test_a_client_that_leaves_while_it_waits_takes_nothing_along(queue: Queue) -> None:
    for _ in range(5):
        with pytest.raises(httpx2.ReadTimeout):
            await queue.http.post(f"/v1/queues/{queue.name}/lease", json={"max": 100, "wait": 30}, timeout=0.3)
    put = await queue.put("for who stays")
    [lease] = await queue.lease(wait=10)
    assert (lease["timer"]["id"], lease["attempt"]) == (put["id"], 1)


async def test_fifty_idle_workers_lock_no_producer_out(queue: Queue) -> None:
    workers = [asyncio.create_task(queue.lease(wait=30)) for _ in range(50)]
    wanted = {(await queue.put(number))["id"] for number in range(50)}
    leases = [lease for got in await asyncio.gather(*workers) for lease in got]
    assert set(ids(leases)) == wanted


async def test_a_busy_queue_delays_its_own_workers_only(client: Client, queue: Queue) -> None:
    quiet = Queue(client.http, f"{queue.name}-quiet")
    body = {"target": {"type": "queue", "queue": queue.name}, "delay": 0}
    response = await client.http.post("/v1/timers/batch", json={"timers": [body] * 1000})
    assert response.status_code == 200
    waiting = asyncio.create_task(quiet.lease(wait=30))
    busy = [asyncio.create_task(queue.take(100)) for _ in range(5)]
    put = await quiet.put("small")
    assert ids(await waiting) == [put["id"]]
    await asyncio.gather(*busy)


async def test_the_counts_follow_what_happens(queue: Queue) -> None:
    assert await queue.stats() == {
        "name": queue.name,
        "scheduled": 0,
        "ready": 0,
        "leased": 0,
        "oldest_ready_seconds": None,
        "paused": False,
    }
    await queue.put(delay=3600)
    await queue.put("a")
    await queue.put("b")
    stats = await queue.until(scheduled=1, ready=2, leased=0)
    assert stats["oldest_ready_seconds"] >= 0
    first, second = await queue.take(2)
    await queue.until(scheduled=1, ready=0, leased=2, oldest_ready_seconds=None)
    await queue.commit(first)
    await queue.reject(second, delay=3600)
    await queue.until(scheduled=2, ready=0, leased=0)


async def test_queues_are_listed_paused_resumed_purged_and_forgotten(client: Client, queue: Queue) -> None:
    put = await queue.put("waits")
    await queue.do("pause")
    await queue.until(paused=True)
    assert await queue.lease(wait=0.5) == []
    listed = (await client.http.get("/v1/queues")).json()["queues"]
    assert {"name": queue.name, "paused": True} in listed

    refused = await client.http.delete(f"/v1/queues/{queue.name}")
    assert refused.status_code == 409

    waiting = asyncio.create_task(queue.lease(wait=30))
    await queue.do("resume")
    [lease] = await waiting
    assert lease["timer"]["id"] == put["id"]

    others = [await queue.put(number, delay=number) for number in range(3)]
    await queue.until(leased=1)
    assert (await queue.do("purge", 200)).json() == {"cancelled": 3, "more": False}
    assert [(await client.read(timer["id"]))["state"] for timer in others] == ["cancelled"] * 3
    assert await queue.commit(lease) == [200], "what is leased stays"

    assert (await client.http.delete(f"/v1/queues/{queue.name}")).status_code == 204
    listed = (await client.http.get("/v1/queues")).json()["queues"]
    assert queue.name not in [known["name"] for known in listed]


async def test_a_pause_is_heeded_by_every_process(queue: Queue, elsewhere: Queue) -> None:
    assert await elsewhere.lease() == []
    await queue.do("pause")
    await elsewhere.until(paused=True)
    await queue.put("waits")
    assert await elsewhere.lease(wait=0.5) == []


async def test_a_full_queue_takes_no_more_and_says_when_to_come_back(running: Stack, queue: Queue) -> None:
    member = running.api(TIMERS_QUEUE_CAPACITY="3")
    member.start()
    async with open_client(member, timeout=60) as http:
        full = Queue(http, queue.name)
        for number in range(3):
            await full.put(number, delay=3600 * number)
        wish = {"target": {"type": "queue", "queue": queue.name}, "delay": 0}
        refused = await http.post("/v1/timers", json=wish)
        assert (refused.status_code, refused.json()["retry_after"]) == (429, 5)
        assert int(refused.headers["retry-after"]) > 0
        elsewhere = await http.post("/v1/timers", json={**wish, "target": {"type": "log"}})
        assert elsewhere.status_code == 201, "nobody else is refused"
        [lease] = await full.lease(wait=10)
        assert await full.commit(lease) == [200]
        deadline = time.monotonic() + 30
        while (await http.post("/v1/timers", json=wish)).status_code != 201:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    assert member.stop() == ENDED


async def test_more_waiting_workers_than_the_bound_are_refused_and_producers_are_not(
    running: Stack, queue: Queue
) -> None:
    member = running.api(TIMERS_API_WAITING="2", TIMERS_API_PENDING="2")
    member.start()
    async with open_client(member, timeout=60) as http:
        bounded = Queue(http, queue.name)
        workers = [asyncio.create_task(bounded.lease(wait=30)) for _ in range(2)]
        while "\ntimers_waiting 2.0\n" not in (await http.get("/metrics")).text:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
        one_more = await http.post(f"/v1/queues/{queue.name}/lease", json={"wait": 0})
        assert one_more.status_code == 429
        assert int(one_more.headers["retry-after"]) > 0
        wanted = {(await bounded.put(number))["id"] for number in range(2)}
        assert {lease["timer"]["id"] for worker in workers for lease in await worker} == wanted
    assert member.stop() == ENDED


async def test_what_a_killed_api_had_given_out_is_committed_or_given_out_by_another(
    running: Stack, client: Client, queue: Queue
) -> None:
    member = running.api()
    member.start()
    wanted = {(await queue.put(number))["id"] for number in range(20)}
    async with open_client(member, timeout=60) as http:
        doomed = Queue(http, queue.name)
        held = await doomed.take(10, lease=60)
        polls = [
            asyncio.create_task(http.post(f"/v1/queues/{queue.name}/lease", json={"max": 5, "lease": 1}))
            for _ in range(2)
        ]
        member.kill()
        await asyncio.gather(*polls, return_exceptions=True)
    assert set(await queue.commit(*held)) == {200}
    rest = await queue.take(10, timeout=60)
    assert set(ids(held)) | set(ids(rest)) == wanted
    assert set(await queue.commit(*rest)) == {200}


async def test_an_api_that_stops_answers_who_waits_and_loses_nothing(running: Stack, queue: Queue) -> None:
    member = running.api()
    member.start()
    async with open_client(member, timeout=60) as http:
        leaving = Queue(http, queue.name)
        waiting = asyncio.create_task(leaving.lease(wait=30))
        while "\ntimers_waiting 1.0\n" not in (await http.get("/metrics")).text:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
        member.signal(signal.SIGTERM)
        assert await waiting == []
    assert member.stop() == ENDED
    put = await queue.put("later")
    assert ids(await queue.lease(wait=10)) == [put["id"]]


@pytest.mark.parametrize(
    ("wish", "pointer"),
    [
        ({"max": 0}, "/max"),
        ({"max": MAX_LEASES + 1}, "/max"),
        ({"wait": 31}, "/wait"),
        ({"wait": -1}, "/wait"),
        ({"lease": 0.5}, "/lease"),
        ({"lease": 43_201}, "/lease"),
        ({"lease": "30"}, "/lease"),
        ({"many": 1}, "/many"),
    ],
)
async def test_a_wish_out_of_bounds_is_refused_by_name(queue: Queue, wish: Json, pointer: str) -> None:
    response = await queue.http.post(f"/v1/queues/{queue.name}/lease", json=wish)
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]


@pytest.mark.parametrize("name", ["Jobs", "a b", "x" * 65, "jobs!", "ä"])
async def test_what_is_no_queues_name_is_refused(client: Client, name: str) -> None:
    wish = {"target": {"type": "queue", "queue": name}, "delay": 0}
    assert (await client.http.post("/v1/timers", json=wish)).status_code == 422
    assert (await client.http.post(f"/v1/queues/{name}/lease", json={})).status_code == 422


@pytest.mark.parametrize("fields", [{"tokens": []}, {"tokens": ["x"] * (MAX_LEASES + 1)}, {"tokens": ["x" * 300]}, {}])
async def test_tokens_out_of_bounds_are_refused(queue: Queue, fields: Json) -> None:
    for what in ("commit", "reject", "extend"):
        assert (await queue.http.post(f"/v1/queues/{queue.name}/{what}", json=fields)).status_code == 422
