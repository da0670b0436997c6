"""What every system is put through: a burst and a steady stream."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from bench.calls import Call, Calls, Void, lateness_ms, now_ms, overtaken_ms
from bench.processes import CpuMeter
from bench.results import Outcome, curve, lateness_figures
from bench.systems import Job, System, Work

_WARM_UP: Final = 200
_HEAD_START_MS: Final = 2_500
_SLACK: Final = 1.6
_CAUTIOUS_RATE: Final = 250.0
_INSTANT_MS: Final = 10  #: a burst is due within so many, so that its order can be seen


@dataclass(slots=True)
class Bench:
    """One run: it gives every round a key of its own."""

    run: str
    calls: Calls
    accepts: dict[str, float]
    rounds: int = 0

    def work(self, dues_ms: Sequence[int], sends_ms: Sequence[int] | None = None) -> tuple[str, Work]:
        """Return the key and the work of a new round."""
        self.rounds += 1
        key = f"{self.run}-{self.rounds}"
        sends = sends_ms or [0] * len(dues_ms)
        jobs = [Job(f"{key}-{n}", due, send) for n, (due, send) in enumerate(zip(dues_ms, sends, strict=True))]
        return key, Work(self.calls.url(key), jobs)


async def warm_up(bench: Bench, system: System) -> None:
    """Have everything imported, connected and compiled; learn how fast the system accepts."""
    for _ in range(2):  # the first one's rate is that of starting
        key, work = bench.work([now_ms() + _HEAD_START_MS] * _WARM_UP)
        async with cleaned(system, work):
            bench.accepts[system.name] = _WARM_UP / await system.enqueue(work)
            await bench.calls.take(key, work.wanted, early_is_void=system.strict)


async def burst(bench: Bench, system: System, size: int) -> Outcome:
    """So many jobs, asked for by one client, due at one instant."""
    done = await _burst(bench, system, size) or await _burst(bench, system, size)
    if done is None:
        raise Void(f"{size} were not accepted before they were due, twice")
    return done


async def _burst(bench: Bench, system: System, size: int) -> Outcome | None:
    """Return what came of a burst, None where it was due before all of it was accepted: then it is known how long."""
    at_ms = now_ms() + _HEAD_START_MS + round(1000 * _SLACK * size / bench.accepts[system.name])
    key, work = bench.work([at_ms + n * 7 % _INSTANT_MS for n in range(size)])
    meter = CpuMeter(system.groups())
    async with cleaned(system, work):
        took = await system.enqueue(work)
        in_time = now_ms() < at_ms
        calls = await bench.calls.take(key, work.wanted, early_is_void=system.strict)
        used = meter.used_s()
        await system.check(work)
    bench.accepts[system.name] = size / took
    if not in_time:
        return None
    figures = {
        "accepted_per_s": size / took,
        "drained_per_s": size / (calls[-1].at_ms - at_ms) * 1000,
        "overtaken_ms": overtaken_ms(calls, work.wanted),
        **per_timer(used, size),
    }
    return outcome(f"burst {size}", system.name, figures, calls, work.wanted)


async def single(bench: Bench, system: System, size: int) -> Outcome:
    """So many jobs, asked for one by one with up to 64 under way; due soon after, spread out, and all are called."""
    rate = bench.accepts.get(f"{system.name}, singly", _CAUTIOUS_RATE)
    first_ms = now_ms() + _HEAD_START_MS + round(1000 * _SLACK * size / rate)
    key, work = bench.work([first_ms + n * 4 for n in range(size)])
    meter = CpuMeter(system.groups())
    async with cleaned(system, work):
        took = await system.enqueue_singly(work)
        calls = await bench.calls.take(key, work.wanted, early_is_void=system.strict)
        used = meter.used_s()
        await system.check(work)
    bench.accepts[f"{system.name}, singly"] = size / took
    figures = {"accepted_per_s": size / took, **per_timer(used, size)}
    return outcome("single", system.name, figures, calls, work.wanted)


async def steady(bench: Bench, system: System, rate: int, seconds: int) -> Outcome:
    """So many jobs a second, each asked for at its own time, due 1 to 9 s later."""
    begin_ms = now_ms() + 500
    sends = [begin_ms + n * 1000 // rate for n in range(rate * seconds)]
    drawn = random.Random(rate)
    key, work = bench.work([send + drawn.randint(1_000, 9_000) for send in sends], sends)
    meter = CpuMeter(system.groups())
    async with cleaned(system, work):
        await system.pace(work)
        calls = await bench.calls.take(key, work.wanted, early_is_void=system.strict)
        used = meter.used_s()
        await system.check(work)
    return outcome(f"steady {rate}", system.name, per_timer(used, len(sends)), calls, work.wanted)


@asynccontextmanager
async def cleaned(system: System, work: Work) -> AsyncIterator[None]:
    """Clean up after a round, whatever becomes of it."""
    done = False
    try:
        yield
        done = True
    finally:
        await system.clean(work, done=done)


def outcome(
    workload: str, system: str, figures: Mapping[str, float], calls: Sequence[Call], wanted: Mapping[str, int]
) -> Outcome:
    """Return an outcome, with its lateness."""
    late = lateness_ms(calls, wanted)
    early = sum(one < 0 for one in late)
    return Outcome(
        workload, system, 0, {**figures, "early": float(early), **lateness_figures(late)}, curve(sorted(late))
    )


def per_timer(used_s: Mapping[str, float], count: int) -> dict[str, float]:
    """Return CPU time per timer by group of processes, and for all that are the system's own."""
    figures = {f"cpu_{name}_ms": seconds * 1000 / count for name, seconds in used_s.items()}
    own = [f"cpu_{name}_ms" for name in used_s if name in OWN]
    return figures | {"cpu_own_ms": sum(figures[name] for name in own)}


OWN: Final = frozenset({"api", "consumers", "workers", "producer", "puller"})
"""The groups whose processes run the system's own code, not a broker's or a table's."""
