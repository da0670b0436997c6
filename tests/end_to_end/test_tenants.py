"""
Two tenants beside each other, who use the same names and try each other's.

``TENANT_REQUESTS=10000 python -m pytest tests/end_to_end/test_tenants.py`` draws as many requests for each.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.receiver import Reply, receiving
from tests.stack import Member, Stack, open_client

REQUESTS = int(os.environ.get("TENANT_REQUESTS", "500"))
WORKERS = 8
NAMES = 12
YEAR_S = 365 * 86_400
Json = dict[str, Any]


def lasting(timer: Json) -> Json:
    """Return what of a timer does not change by itself."""
    return {name: value for name, value in timer.items() if name != "remaining"}


class Tenant:
    """
    A tenant's clients, and all that they may ever see: what they scheduled themselves.

    Each worker has names of its own, the same as the other tenant's workers, so that it knows what to expect.
    """

    def __init__(self, name: str, http: httpx2.AsyncClient, seed: int) -> None:
        self.name = name
        self.http = http
        self.seed = seed
        self.timers: dict[str, Json] = {}
        self.ids: list[str] = []
        """Those that the service chose, which no other tenant has by chance."""
        self.leaked: list[str] = []
        """Such ids of the other's timers, as if they had been told."""
        self.cursors: list[str] = []
        self.asked: Counter[str] = Counter()

    async def work(self, worker: int, requests: int) -> None:
        random = Random(f"{self.seed}.{worker}")
        acts = [self.create, self.put, self.edit, self.cancel, self.read, self.once, self.batch, self.list, self.peek]
        for number in range(requests):
            act = random.choice(acts)
            self.asked[act.__name__] += 1
            await act(random, worker, number)

    def name_of(self, random: Random, worker: int) -> str:
        return f"w{worker}-{random.randrange(NAMES)}"

    def wish(self, random: Random, **fields: Any) -> Json:
        secret = f"{self.name}-{random.getrandbits(32):x}"
        target = {"url": f"https://{self.name}.example.com/{secret}", "body": secret}
        return {"delay": YEAR_S + random.randrange(1000), "labels": {"whose": self.name}, "target": target, **fields}

    async def create(self, random: Random, worker: int, _: int) -> None:
        chosen = self.name_of(random, worker) if random.random() < 0.6 else None
        wish = self.wish(random, **({"id": chosen} if chosen else {}))
        answer = await self.http.post("/v1/timers", json=wish)
        if chosen in self.timers:
            self.refused(answer, 409)
            return
        self.learn(answer, 201)
        if chosen is None:
            self.ids.append(answer.json()["id"])

    async def put(self, random: Random, worker: int, _: int) -> None:
        name = self.name_of(random, worker)
        answer = await self.http.put(f"/v1/timers/{name}", json=self.wish(random))
        known = self.timers.get(name)
        if known and known["state"] == "cancelled":
            self.refused(answer, 409)
        else:
            self.learn(answer, 200 if known else 201)

    async def edit(self, random: Random, worker: int, _: int) -> None:
        name = self.name_of(random, worker)
        patch = {"delay": YEAR_S + random.randrange(1000)}
        await self.change(name, self.http.patch(f"/v1/timers/{name}", json=patch), twice=409)

    async def cancel(self, random: Random, worker: int, _: int) -> None:
        name = self.name_of(random, worker)
        await self.change(name, self.http.delete(f"/v1/timers/{name}"), twice=200)

    async def change(self, name: str, request: Awaitable[httpx2.Response], *, twice: int) -> None:
        answer = await request
        known = self.timers.get(name)
        if known is None:
            self.refused(answer, 404)
        elif known["state"] == "cancelled" and twice != 200:
            self.refused(answer, twice)
        else:
            self.learn(answer, 200)

    async def read(self, random: Random, worker: int, _: int) -> None:
        name = self.name_of(random, worker)
        answer = await self.http.get(f"/v1/timers/{name}")
        if name in self.timers:
            assert lasting(answer.json()) == self.timers[name]
        else:
            self.refused(answer, 404)

    async def once(self, random: Random, worker: int, number: int) -> None:
        """Use an Idempotency-Key that the other tenant uses too, twice."""
        headers = {"idempotency-key": f"key-{worker}-{number}"}
        wish = self.wish(random)
        first, second = [await self.http.post("/v1/timers", json=wish, headers=headers) for _ in range(2)]
        self.learn(first, 201)
        assert lasting(second.json()) == lasting(first.json())

    async def batch(self, random: Random, worker: int, _: int) -> None:
        names = {self.name_of(random, worker) for _ in range(4)} - set(self.timers)
        answer = await self.http.post("/v1/timers/batch", json={"timers": [self.wish(random, id=n) for n in names]})
        for result in answer.json()["results"]:
            assert result["status"] == 201
            self.keep(result["timer"])
        stranger = random.choice(self.leaked) if self.leaked else "nobody"
        answer = await self.http.post("/v1/timers/batch-cancel", json={"ids": [*names, stranger]})
        *own, refused = answer.json()["results"]
        for result in own:
            self.keep(result["timer"])
        assert refused["status"] == 404

    async def list(self, random: Random, worker: int, _: int) -> None:
        query: Json = {"limit": random.choice([1, 7, 100]), "state": random.choice(["scheduled", "cancelled"])}
        if self.cursors and random.random() < 0.5:
            query["cursor"] = random.choice(self.cursors)
        answer = await self.http.get("/v1/timers", params=query)
        assert answer.status_code == 200, answer.text
        for timer in answer.json()["timers"]:
            self.check(timer)
        if answer.json()["next_cursor"]:
            self.cursors.append(answer.json()["next_cursor"])

    async def peek(self, random: Random, worker: int, _: int) -> None:
        """Try one of the other tenant's timers, in all ways there are; it is like one that nobody has."""
        stranger = random.choice(self.leaked) if self.leaked else str(uuid4())
        assert stranger not in self.timers
        nobody = str(uuid4())
        method, path, body = random.choice(
            [
                ("GET", "", None),
                ("PATCH", "", {"delay": 1}),
                ("DELETE", "", None),
                ("POST", "/fire", None),
                ("POST", "/replay", None),
            ]
        )
        answers = [await self.http.request(method, f"/v1/timers/{n}{path}", json=body) for n in (stranger, nobody)]
        for answer in answers:
            self.refused(answer, 404)
        assert answers[0].text.replace(stranger, "?") == answers[1].text.replace(nobody, "?")

    def learn(self, answer: httpx2.Response, status: int) -> None:
        assert answer.status_code == status, answer.text
        self.keep(answer.json())

    def keep(self, timer: Json) -> None:
        self.check(timer)
        before = self.timers.get(timer["id"])
        assert timer["version"] == 1 or (before is not None and timer["version"] - before["version"] in (0, 1))
        self.timers[timer["id"]] = lasting(timer)

    def check(self, timer: Json) -> None:
        """See to it that a timer is this tenant's."""
        assert timer["labels"] == {"whose": self.name}
        assert timer["target"]["url"].startswith(f"https://{self.name}.example.com/{self.name}-")
        assert timer["target"]["body"].startswith(f"{self.name}-")
        assert "/" not in timer["id"]

    def refused(self, answer: httpx2.Response, status: int) -> None:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"

    async def everything(self) -> dict[str, Json]:
        """Return every timer that a tenant can list."""
        found: dict[str, Json] = {}
        query: Json = {"limit": 500}
        while True:
            page = (await self.http.get("/v1/timers", params=query)).json()
            found |= {timer["id"]: lasting(timer) for timer in page["timers"]}
            if page["next_cursor"] is None:
                return found
            query["cursor"] = page["next_cursor"]

    async def stats(self) -> Json:
        stats: Json = (await self.http.get("/v1/stats")).json()
        return stats


@asynccontextmanager
async def tenants(running: Stack, api: Member) -> AsyncIterator[tuple[Tenant, Tenant]]:
    """Give two tenants that nobody else uses."""
    async with AsyncExitStack() as closing:
        made = []
        for seed in range(2):
            name = f"tenant-{uuid4().hex[:8]}"
            key = await asyncio.to_thread(running.key, "create", "--tenant", name, "--scopes", "read,write")
            made.append(Tenant(name, await closing.enter_async_context(open_client(api, key, timeout=60)), seed))
        yield made[0], made[1]


async def quietly(tenant: Tenant, expected: int) -> Json:
    """Return a tenant's stats once the index has caught up, for as long as that may take."""
    deadline = time.monotonic() + 30
    while True:
        stats = await tenant.stats()
        if sum(stats["counts"].values()) == expected:
            return stats
        assert time.monotonic() < deadline, stats
        await asyncio.sleep(0.2)


@pytest.mark.timeout(60 + REQUESTS // 5)
async def test_two_tenants_see_and_change_nothing_of_each_other(running: Stack, api: Member) -> None:
    async with tenants(running, api) as (one, other):
        one.leaked, other.leaked = other.ids, one.ids
        one.cursors = other.cursors = []  # each may find the other's
        await asyncio.gather(
            *(tenant.work(worker, REQUESTS // WORKERS) for tenant in (one, other) for worker in range(WORKERS))
        )
        for tenant in (one, other):
            print(f"{tenant.name}: {dict(tenant.asked)}, {len(tenant.timers)} timers")
            stats = await quietly(tenant, len(tenant.timers))
            assert await tenant.everything() == tenant.timers
            assert stats["counts"] == dict.fromkeys(stats["counts"], 0) | Counter(
                timer["state"] for timer in tenant.timers.values()
            )


@asynccontextmanager
async def half_sent(api: Member, tenant: Tenant, path: str, requests: int) -> AsyncIterator[list[asyncio.Task[bytes]]]:
    """Keep so many requests open whose bodies never end, and give what becomes the first line of each answer."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n"
    authorization = f"authorization: {tenant.http.headers['authorization']}\r\n\r\n{{"
    opened = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", api.port) for _ in range(requests)))
    for _, writer in opened:
        writer.write((head + authorization).encode())
    first_lines = [asyncio.create_task(reader.readline()) for reader, _ in opened]
    yield first_lines
    for _, writer in opened:
        writer.close()
    await asyncio.gather(*first_lines)


async def test_a_tenant_whose_requests_never_end_leaves_room_for_the_other(running: Stack) -> None:
    api = running.api(TIMERS_API_PENDING="20")
    await asyncio.to_thread(api.start)
    random = Random(1)
    async with tenants(running, api) as (one, other):
        async with half_sent(api, one, "/v1/timers", 30) as answers:
            turned_away = asyncio.as_completed(answers)
            for _ in range(10):
                assert b" 429 " in await next(turned_away)
            for _ in range(20):
                other.learn(await other.http.post("/v1/timers", json=other.wish(random)), 201)
        async with half_sent(api, one, "/v1/timers/batch", 10):
            answer = await other.http.post("/v1/timers/batch", json={"timers": [other.wish(random) for _ in range(9)]})
            assert [result["status"] for result in answer.json()["results"]] == 9 * [201]


async def test_a_tenant_of_many_silent_receivers_leaves_places_to_the_other(running: Stack, api: Member) -> None:
    consumer = running.consumer(TIMERS_CONCURRENCY="20")
    await asyncio.to_thread(consumer.start)
    try:
        async with tenants(running, api) as (one, other), receiving(everywhere=True) as receiver:
            for path in ("open", "silent"):
                receiver.answer(path, Reply(never=True))
            await call(other, [receiver.url("open")])
            await receiver.wait("open")
            await call(one, [f"http://127.0.0.{host}:{receiver.port}/silent" for host in range(1, 101)])
            await receiver.wait("silent", 16)
            await call(other, [receiver.url("quick")] * 20)
            await receiver.wait("quick", 20)
            assert (receiver.open_calls["open"], receiver.open_calls["silent"]) == (1, 16)
    finally:
        consumer.close()


async def call(tenant: Tenant, urls: list[str]) -> None:
    """Have urls called, now."""
    wishes = [{"delay": 0, "target": {"url": url, "timeout": 60}} for url in urls]
    answer = await tenant.http.post("/v1/timers/batch", json={"timers": wishes})
    assert {result["status"] for result in answer.json()["results"]} == {201}


async def test_a_tenant_whose_workers_wait_leaves_room_for_the_others_workers(running: Stack) -> None:
    api = running.api(TIMERS_API_WAITING="3")
    await asyncio.to_thread(api.start)
    wish = {"target": {"type": "queue", "queue": "jobs"}, "delay": 0}
    async with tenants(running, api) as (one, other), open_client(api) as admin:
        polls = [asyncio.create_task(one.http.post("/v1/queues/jobs/lease", json={"wait": 30})) for _ in range(3)]
        while "\ntimers_waiting 3.0\n" not in (await admin.get("/metrics")).text:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
        for queue in ("jobs", "mail"):
            refused = await one.http.post(f"/v1/queues/{queue}/lease", json={"wait": 0})
            one.refused(refused, 429)
            assert int(refused.headers["retry-after"]) >= 1

        waits = asyncio.create_task(other.http.post("/v1/queues/jobs/lease", json={"wait": 30}))
        put = await other.http.post("/v1/timers", json=wish)
        assert [lease["timer"]["id"] for lease in (await waits).json()["leases"]] == [put.json()["id"]]

        for _ in polls:
            assert (await one.http.post("/v1/timers", json=wish)).status_code == 201
        assert [len((await poll).json()["leases"]) for poll in polls] == [1, 1, 1]
        assert (await one.http.post("/v1/queues/jobs/lease", json={"wait": 0})).json() == {"leases": []}


async def test_a_tenant_above_its_rate_is_slowed_and_the_other_is_not(running: Stack) -> None:
    api = running.api(TIMERS_TENANT_RATE="20")
    await asyncio.to_thread(api.start)
    random = Random(1)
    async with tenants(running, api) as (one, other):
        flood = [one.http.post("/v1/timers", json=one.wish(random)) for _ in range(200)]
        trickle = [other.http.post("/v1/timers", json=other.wish(random)) for _ in range(10)]
        answers = await asyncio.gather(*flood, *trickle)
        let_in, refused = ([a for a in answers[:200] if a.status_code == status] for status in (201, 429))
        assert len(let_in) >= 20
        assert refused
        assert len(let_in) + len(refused) == 200
        for answer in refused:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["retry_after"] == int(answer.headers["retry-after"])
            assert answer.headers["ratelimit-policy"] == '"requests";q=20;w=1'
            assert answer.headers["ratelimit"].startswith('"requests";r=0;t=')
        assert [answer.status_code for answer in answers[200:]] == 10 * [201]

        batch = await other.http.post("/v1/timers/batch", json={"timers": [other.wish(random) for _ in range(500)]})
        assert {result["status"] for result in batch.json()["results"]} == {201}
        assert (await other.http.get("/v1/stats")).status_code == 429
        assert (await one.http.get("/healthz")).status_code == 200


async def test_a_tenant_has_no_more_live_timers_than_its_quota(running: Stack) -> None:
    api = running.api(TIMERS_TENANT_PENDING="5")
    await asyncio.to_thread(api.start)
    random = Random(1)
    async with tenants(running, api) as (one, other):
        for number in range(5):
            one.learn(await one.http.post("/v1/timers", json=one.wish(random, id=f"timer-{number}")), 201)
        refused = await one.http.post("/v1/timers", json=one.wish(random))
        one.refused(refused, 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["ratelimit-policy"] == '"pending";q=5'
        assert refused.headers["ratelimit"].startswith('"pending";r=0;t=')
        batch = await one.http.post("/v1/timers/batch", json={"timers": [one.wish(random)] * 2})
        assert [result["status"] for result in batch.json()["results"]] == [429, 429]
        one.learn(await one.http.put("/v1/timers/timer-1", json=one.wish(random)), 200)
        other.learn(await other.http.post("/v1/timers", json=other.wish(random)), 201)

        await one.http.delete("/v1/timers/timer-0")
        deadline = time.monotonic() + 30
        while (await one.http.post("/v1/timers", json=one.wish(random))).status_code == 429:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
