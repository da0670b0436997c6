"""Workers of our own pull queues: clients of the HTTP API that lease and commit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from bench.calls import Void
from bench.service import Service, expect
from bench.systems import PULLERS, WAITS_S, Fetched, Job, Work, body

_AT_ONCE: Final = 100
_LOOK_S: Final = 2


class Leasing:
    """Our own service as one whose queues workers fetch from."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def put(self, queue: str, work: Work) -> float:
        return await self._service.schedule_all(_wish(job, queue) for job in work.jobs)

    async def fetch(self, queue: str, work: Work) -> Fetched:
        ids: list[str] = []
        began = ended = time.perf_counter()

        async def worker() -> None:
            nonlocal ended
            while len(ids) < len(work.jobs):
                if leases := await self._lease(queue, _AT_ONCE):
                    await self._commit(queue, leases)
                    ids.extend(_ids(leases))
                    ended = time.perf_counter()

        await asyncio.gather(*(worker() for _ in range(PULLERS)))
        return Fetched(ids, ended - began)

    async def hand_over(self, queue: str, work: Work) -> Sequence[float]:
        return [await self._handed_ms(queue, job) for job in work.jobs]

    async def _handed_ms(self, queue: str, job: Job) -> float:
        waiting = asyncio.create_task(self._lone(queue))
        await asyncio.sleep(WAITS_S)
        began = time.perf_counter()
        expect(await self._service.api.request("POST", "/v1/timers", _wish(job, queue)), 201)
        leases, had = await waiting
        if _ids(leases) != [job.id]:
            raise Void(f"a worker that waited for {job.id} was given {_ids(leases)}")
        await self._commit(queue, leases)
        return (had - began) * 1000

    async def _lone(self, queue: str) -> tuple[list[dict[str, Any]], float]:
        """Return what a worker that waits is given, and when."""
        return await self._lease(queue, 1), time.perf_counter()

    async def _lease(self, queue: str, most: int) -> list[dict[str, Any]]:
        wish = {"max": most, "wait": _LOOK_S, "lease": 60}
        answer = await self._service.api.request("POST", f"/v1/queues/{queue}/lease", wish)
        expect(answer, 200)
        leases: list[dict[str, Any]] = answer.json()["leases"]
        return leases

    async def _commit(self, queue: str, leases: Sequence[dict[str, Any]]) -> None:
        tokens = [lease["token"] for lease in leases]
        answer = await self._service.api.request("POST", f"/v1/queues/{queue}/commit", {"tokens": tokens})
        expect(answer, 200)
        statuses = {result["status"] for result in answer.json()["results"]}
        if statuses != {200}:
            raise Void(f"commits answered {statuses}")


def _ids(leases: Sequence[dict[str, Any]]) -> list[str]:
    return [lease["timer"]["id"] for lease in leases]


def _wish(job: Job, queue: str) -> dict[str, Any]:
    return {"id": job.id, "due_at": job.due_ms, "target": {"type": "queue", "queue": queue, "body": body(job.id)}}
