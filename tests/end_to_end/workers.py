"""What a test's worker says to a pull queue, in a line each."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx2

from tests.end_to_end.client import Json, answered


class Queue:
    """One pull queue; a call that must succeed fails the test where it does not."""

    def __init__(self, http: httpx2.AsyncClient, name: str) -> None:
        self.http = http
        self.name = name

    async def put(self, body: Any = None, delay: float = 0, **fields: Any) -> Json:
        target = {"type": "queue", "queue": self.name, "body": body}
        return answered(await self.http.post("/v1/timers", json={"target": target, "delay": delay, **fields}), 201)

    async def lease(self, most: int = 1, *, wait: float = 0, lease: float = 30) -> list[Json]:
        wish = {"max": most, "wait": wait, "lease": lease}
        leases: list[Json] = answered(await self.http.post(self._path("lease"), json=wish, timeout=60), 200)["leases"]
        return leases

    async def take(self, count: int, *, timeout: float = 30, lease: float = 30) -> list[Json]:
        """Lease until there are so many."""
        taken: list[Json] = []
        deadline = time.monotonic() + timeout
        while len(taken) < count:
            assert time.monotonic() < deadline, f"only {len(taken)} of {count}"
            taken += await self.lease(min(100, count - len(taken)), wait=5, lease=lease)
        return taken

    async def commit(self, *leases: Json) -> list[int]:
        return await self._settle("commit", leases)

    async def reject(self, *leases: Json, **fields: Any) -> list[int]:
        return await self._settle("reject", leases, **fields)

    async def extend(self, *leases: Json, **fields: Any) -> list[int]:
        return await self._settle("extend", leases, **fields)

    async def stats(self) -> Json:
        return answered(await self.http.get(f"/v1/queues/{self.name}"), 200)

    async def until(self, **wanted: Any) -> Json:
        """Read the queue until it has what is wanted."""
        deadline = time.monotonic() + 30
        while True:
            stats = await self.stats()
            if stats.items() >= wanted.items():
                return stats
            assert time.monotonic() < deadline, f"still not {wanted}: {stats}"
            await asyncio.sleep(0.02)

    async def do(self, what: str, status: int = 204) -> httpx2.Response:
        response = await self.http.post(self._path(what))
        assert response.status_code == status, response.text
        return response

    async def _settle(self, what: str, leases: tuple[Json, ...], **fields: Any) -> list[int]:
        tokens = [lease["token"] for lease in leases]
        results = answered(await self.http.post(self._path(what), json={"tokens": tokens, **fields}), 200)["results"]
        assert [result["token"] for result in results] == tokens
        return [result["status"] for result in results]

    def _path(self, what: str) -> str:
        return f"/v1/queues/{self.name}/{what}"


def ids(leases: list[Json]) -> list[str]:
    return [lease["timer"]["id"] for lease in leases]
