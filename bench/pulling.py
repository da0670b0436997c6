"""Pull queues, which only our own service has: how fast workers fetch a burst, and how soon one gets a lone timer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from bench.calls import Void, now_ms
from bench.processes import CpuMeter
from bench.results import Outcome, percentile
from bench.service import BATCH, NAME, Service, chunks, expect
from bench.systems import Job, body
from bench.workloads import Bench, cleaned, per_timer

_WORKERS: Final = 8
_AT_ONCE: Final = 100
_LONE: Final = 100
_HEAD_START_MS: Final = 2_500
_SLACK: Final = 1.6
_CAUTIOUS_RATE: Final = 1_000.0


async def pull(bench: Bench, service: Service, size: int) -> Outcome:
    """Lease and commit so many timers that are ready, a hundred at a time; then lone ones by workers that wait."""
    rate = bench.accepts.get(NAME, _CAUTIOUS_RATE)
    at_ms = now_ms() + _HEAD_START_MS + round(1000 * _SLACK * size / rate)
    key, work = bench.work([at_ms] * size)
    async with cleaned(service, work):
        began = time.perf_counter()
        for jobs in chunks(work.jobs, BATCH):
            answer = await service.api.request(
                "POST", "/v1/timers/batch", {"timers": [_wish(job, key) for job in jobs]}
            )
            expect(answer, 200)
        accepted_s = time.perf_counter() - began
        await asyncio.sleep(max(0, at_ms - now_ms()) / 1000)
        meter = CpuMeter(service.groups())
        began = time.perf_counter()
        await _drain(service, key, {job.id for job in work.jobs})
        took = time.perf_counter() - began
        used = meter.used_s()
    handed_ms = sorted(await _lone(bench, service))
    figures = {
        "accepted_per_s": size / accepted_s,
        "leased_and_committed_per_s": size / took,
        "handed_p50_ms": percentile(handed_ms, 0.5),
        "handed_p99_ms": percentile(handed_ms, 0.99),
        **per_timer(used, size),
    }
    return Outcome("pull", NAME, 0, figures)


async def _drain(service: Service, queue: str, wanted: set[str]) -> None:
    """Have a few workers lease and commit until nothing is left. Raises Void unless each came exactly once."""
    seen: list[str] = []

    async def work() -> None:
        while len(seen) < len(wanted):
            leases = await _lease(service, queue, _AT_ONCE)
            seen.extend(lease["timer"]["id"] for lease in leases)
            await _commit(service, queue, leases)

    await asyncio.gather(*(work() for _ in range(_WORKERS)))
    if sorted(seen) != sorted(wanted):
        raise Void(f"{len(seen)} leases of {len(set(seen))} timers, {len(wanted)} were wanted")


async def _lone(bench: Bench, service: Service) -> list[float]:
    """Return how long after it was asked for each of some timers was in the hands of a worker that waited."""
    key, work = bench.work([0] * _LONE)
    took = []
    async with cleaned(service, work):
        for job in work.jobs:
            waiting = asyncio.create_task(_lease(service, key, 1))
            await asyncio.sleep(0.02)
            began = time.perf_counter()
            expect(await service.api.request("POST", "/v1/timers", _wish(job, key)), 201)
            leases = await waiting
            took.append((time.perf_counter() - began) * 1000)
            await _commit(service, key, leases)
    return took


async def _lease(service: Service, queue: str, most: int) -> list[dict[str, Any]]:
    answer = await service.api.request("POST", f"/v1/queues/{queue}/lease", {"max": most, "wait": 2, "lease": 60})
    expect(answer, 200)
    leases: list[dict[str, Any]] = answer.json()["leases"]
    return leases


async def _commit(service: Service, queue: str, leases: Sequence[dict[str, Any]]) -> None:
    if not leases:
        return
    tokens = [lease["token"] for lease in leases]
    answer = await service.api.request("POST", f"/v1/queues/{queue}/commit", {"tokens": tokens})
    expect(answer, 200)
    statuses = {result["status"] for result in answer.json()["results"]}
    if statuses != {200}:
        raise Void(f"commits answered {statuses}")


def _wish(job: Job, queue: str) -> dict[str, Any]:
    return {"id": job.id, "due_at": job.due_ms, "target": {"type": "queue", "queue": queue, "body": body(job.id)}}
