"""Pull queues: how fast workers fetch and commit a burst, and how soon one that waits has a lone job."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from bench.calls import Void, now_ms
from bench.processes import CpuMeter
from bench.results import Outcome, percentile
from bench.systems import System, Work, Workers
from bench.workloads import Bench, cleaned, per_timer

_LONE: Final = 200
_HEAD_START_MS: Final = 2_500
_SLACK: Final = 1.6
_CAUTIOUS_RATE: Final = 250.0
_LEAST_RATE: Final = 40
_PATIENCE_S: Final = 30.0


async def pull(bench: Bench, system: System, workers: Workers, size: int) -> Outcome:
    """Fetch and commit so many jobs that are due at one instant; then hand lone ones to a worker that waits."""
    figures = await _burst(bench, system, workers, size) or await _burst(bench, system, workers, size)
    if figures is None:
        raise Void(f"{size} were not accepted before they were due, twice")
    handed_ms = sorted(await _lone(bench, system, workers))
    handed = {"handed_p50_ms": percentile(handed_ms, 0.5), "handed_p99_ms": percentile(handed_ms, 0.99)}
    return Outcome("pull", system.name, 0, figures | handed)


async def _burst(bench: Bench, system: System, workers: Workers, size: int) -> dict[str, float] | None:
    """Return what came of a burst, None where it was due before all of it was accepted: then it is known how long."""
    known = f"{system.name}, pulled"
    at_ms = now_ms() + _HEAD_START_MS + round(1000 * _SLACK * size / bench.accepts.get(known, _CAUTIOUS_RATE))
    queue, work = bench.work([at_ms] * size)
    async with cleaned(system, work):
        accepted_s = await workers.put(queue, work)
        in_time = now_ms() < at_ms
        await asyncio.sleep(max(0, at_ms - now_ms()) / 1000)
        meter = CpuMeter(system.groups())
        async with asyncio.timeout(size / _LEAST_RATE + _PATIENCE_S):
            fetched = await workers.fetch(queue, work)
        used = meter.used_s()
        _check(fetched.ids, work)
        await system.check(work)
    bench.accepts[known] = size / accepted_s
    if not in_time:
        return None
    return {
        "accepted_per_s": size / accepted_s,
        "fetched_per_s": size / fetched.took_s,
        **per_timer(used, size),
    }


async def _lone(bench: Bench, system: System, workers: Workers) -> Sequence[float]:
    queue, work = bench.work([0] * _LONE)
    async with cleaned(system, work), asyncio.timeout(_LONE / _LEAST_RATE + _PATIENCE_S):
        return await workers.hand_over(queue, work)


def _check(ids: Sequence[str], work: Work) -> None:
    """Raise Void unless each job came exactly once."""
    if sorted(ids) != sorted(work.wanted):
        raise Void(f"{len(set(ids))} jobs were fetched {len(ids)} times, {len(work.jobs)} were wanted once each")
