"""What only our own service is put through: single requests, cancels, a mix, several consumers, a million pending."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from bench.calls import Void, check, now_ms
from bench.processes import ROOT, CpuMeter, folder_mb, resident_mb
from bench.results import Outcome, percentile
from bench.service import BATCH, NAME, Service, chunks, expect
from bench.systems import Job, Work
from bench.workloads import Bench, burst, cleaned, outcome, per_timer, single, steady

_FAR_MS: Final = 3 * 3_600_000  #: beyond the horizon: the broker has no part in it
_MIXED_AHEAD_MS: Final = 6_000
_EDIT_MS: Final = 1_000
_SETTLE_S: Final = 6.0


async def cancel(bench: Bench, service: Service, size: int) -> Outcome:
    """Cancel timers that are far away: half of them in batches, half with a request each."""
    _, work = bench.work([now_ms() + _FAR_MS] * size)
    ids = [job.id for job in work.jobs]
    async with cleaned(service, work):
        await service.enqueue(work)
        batched, singly = ids[: size // 2], ids[size // 2 :]
        began = time.perf_counter()
        statuses = [status for some in chunks(batched, BATCH) for status in await service.cancel(some)]
        batch_s = time.perf_counter() - began
        single_s, each_ms = await _all_at_once(service, [_deletion(service, timer_id) for timer_id in singly])
        if set(statuses) != {200}:
            raise Void(f"cancels answered {set(statuses)}")
    figures = {"batch_per_s": len(batched) / batch_s, "single_per_s": len(singly) / single_s}
    return Outcome("cancel", NAME, 0, figures | _request_figures("request", each_ms))


async def mixed(bench: Bench, service: Service, size: int) -> Outcome:
    """Schedule on all connections; of eight, two are edited to a later time and one is cancelled at once."""
    key, work = bench.work([0] * size)
    wanted: dict[str, int] = {}
    requests = [_mixed(service, work.url, n, job.id, wanted) for n, job in enumerate(work.jobs)]
    async with cleaned(service, work):
        took, _ = await _all_at_once(service, requests)
        calls = await bench.calls.take(key, wanted, early_is_void=True)
        check(calls, wanted, early_is_void=True)
    count = size + sum(n % 8 in (1, 5, 7) for n in range(size))
    return outcome("mixed", NAME, {"requests_per_s": count / took}, calls, wanted)


def _mixed(service: Service, url: str, n: int, timer_id: str, wanted: dict[str, int]) -> Callable[[], Awaitable[None]]:
    async def requests() -> None:
        due_ms = now_ms() + _MIXED_AHEAD_MS + n % 1000
        await service.schedule(Job(timer_id, due_ms), url)
        if n % 8 == 7:
            expect(await service.api.request("DELETE", f"/v1/timers/{timer_id}"), 200)
            return
        if n % 8 in (1, 5):
            due_ms += _EDIT_MS
            expect(await service.api.request("PATCH", f"/v1/timers/{timer_id}", {"due_at": due_ms}), 200)
        wanted[timer_id] = due_ms

    return requests


def _deletion(service: Service, timer_id: str) -> Callable[[], Awaitable[None]]:
    async def request() -> None:
        expect(await service.api.request("DELETE", f"/v1/timers/{timer_id}"), 200)

    return request


async def _all_at_once(service: Service, tasks: Sequence[Callable[[], Awaitable[None]]]) -> tuple[float, list[float]]:
    """Do all, one on each connection at a time; returns the seconds in all, and each one's milliseconds."""
    waiting, each_ms = iter(tasks), list[float]()

    async def client() -> None:
        for task in waiting:
            began = time.perf_counter()
            await task()
            each_ms.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(service.api.size)))
    return time.perf_counter() - began, each_ms


async def scale(bench: Bench, service: Service, consumers: int, size: int) -> Outcome:
    """Have so many consumers drain a burst."""
    await asyncio.to_thread(service.installation.scale, consumers)
    await asyncio.sleep(_SETTLE_S)
    done = await burst(bench, service, size)
    return Outcome(f"{consumers} consumers", NAME, 0, done.figures, done.lateness_ms)


async def idle(service: Service, seconds: float) -> Outcome:
    """Measure what the service uses when it has nothing to do."""
    meter = CpuMeter(service.groups())
    await asyncio.sleep(seconds)
    used = {f"cpu_{name}_percent": 100 * cpu / seconds for name, cpu in meter.used_s().items()}
    return Outcome("idle", NAME, 0, used | memory(service))


def memory(service: Service) -> dict[str, float]:
    """Return what each process holds in memory, and the table and the broker on disk."""
    groups = service.groups()
    figures = {f"{name}_mb": resident_mb(pids) for name, pids in groups.items()}
    for name in ("api", "consumers"):
        figures[f"{name}_most_mb"] = max((resident_mb([pid]) for pid in groups[name]), default=0.0)
    for name in ("rabbitmq", "dynamodb"):
        figures[f"{name}_disk_mb"] = folder_mb(ROOT / ".data" / name)
    return figures


class Pending:
    """A great many timers that wait while something else is measured."""

    def __init__(self, bench: Bench, service: Service, size: int) -> None:
        self._bench = bench
        self._service = service
        self._size = size

    async def outcomes(self, name: str, first_s: float, last_s: float) -> list[Outcome]:
        """Create them, due evenly between two times from now; measure; remove them."""
        work = self._work(name, first_s, last_s)
        try:
            return [await self._created(name, work), *[await measure() for measure in self._measures(name)]]
        finally:
            await self._service.erase([job.id for job in work.jobs])

    async def baseline(self) -> list[Outcome]:
        """Measure the same with nothing pending."""
        return [await measure() for measure in self._measures("none")]

    def _measures(self, name: str) -> Iterator[Callable[[], Awaitable[Outcome]]]:
        for measure in (
            lambda: single(self._bench, self._service, 2_000),
            lambda: burst(self._bench, self._service, 2_000),
            lambda: steady(self._bench, self._service, 100, 15),
            lambda: steady(self._bench, self._service, 300, 15),
        ):
            yield lambda measure=measure: _renamed(measure, name)  # type: ignore[misc]

    def _work(self, name: str, first_s: float, last_s: float) -> Work:
        begin_ms, drawn = now_ms(), random.Random(self._size)
        key = f"{self._bench.run}-{name.replace(' ', '-')}"
        dues = (begin_ms + round(1000 * drawn.uniform(first_s, last_s)) for _ in range(self._size))
        return Work(self._bench.calls.url(key), [Job(f"{key}-{n}", due) for n, due in enumerate(dues)])

    async def _created(self, name: str, work: Work) -> Outcome:
        meter = CpuMeter(self._service.groups())
        took = await self._service.enqueue(work)
        await asyncio.sleep(_SETTLE_S)
        figures = {"accepted_per_s": self._size / took, "size": float(self._size), **memory(self._service)}
        return Outcome(f"pending {name}", NAME, 0, figures | per_timer(meter.used_s(), self._size))


async def _renamed(measure: Callable[[], Awaitable[Outcome]], pending: str) -> Outcome:
    done = await measure()
    return Outcome(f"{done.workload}, pending {pending}", NAME, 0, done.figures, done.lateness_ms)


def _request_figures(name: str, each_ms: Sequence[float]) -> dict[str, float]:
    ordered = sorted(each_ms)
    return {f"{name}_p50_ms": percentile(ordered, 0.5), f"{name}_p99_ms": percentile(ordered, 0.99)}
