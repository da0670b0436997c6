"""What the sink saw, held against what was asked for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.http import Pool

_POLL_S: Final = 0.05
_LINGER_S: Final = 1.0
_LEAST_RATE: Final = 40
_PATIENCE_S: Final = 20.0


class Void(Exception):
    """A round that does not count; the message says why."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it arrived."""

    timer_id: str
    at_ms: float


class Calls:
    """The calls that the sink has had."""

    def __init__(self, sink: Pool) -> None:
        self._sink = sink

    def url(self, key: str) -> str:
        """Where the calls of a round go."""
        return f"http://127.0.0.1:{self._sink.port}/r/{key}"

    async def wait(self, key: str, count: int, last_due_ms: int) -> None:
        """Wait until a round has had so many calls, and as long as a slow system could need, but not for ever."""
        deadline = last_due_ms / 1000 + count / _LEAST_RATE + _PATIENCE_S
        while (seen := int((await self._sink.request("GET", f"/n/{key}")).body)) < count:
            if time.time() > deadline:
                raise Void(f"{count - seen} of {count} calls are missing")
            await asyncio.sleep(_POLL_S)

    async def take(self, key: str, wanted: Mapping[str, int], *, early_is_void: bool) -> list[Call]:
        """
        Return the calls of a round in the order of their arrival.

        ``wanted`` says when each was due. Raises Void unless each came exactly once.
        """
        last_due_ms = max(wanted.values(), default=now_ms())
        await self.wait(key, len(wanted), last_due_ms)
        await asyncio.sleep(_LINGER_S)
        calls = await self.fetch(key)
        check(calls, wanted, early_is_void=early_is_void)
        return calls

    async def fetch(self, key: str) -> list[Call]:
        """Return and forget what a round has had so far."""
        lines = (await self._sink.request("GET", f"/r/{key}")).body.decode().splitlines()
        return [Call(timer_id, int(at_us) / 1000) for at_us, timer_id in (line.split(" ", 1) for line in lines)]


def check(calls: Sequence[Call], wanted: Mapping[str, int], *, early_is_void: bool) -> None:
    """Raise Void unless each wanted call came exactly once, and none early."""
    counts = Counter(call.timer_id for call in calls)
    missing = len(wanted.keys() - counts.keys())
    strange = len(counts.keys() - wanted.keys())
    repeated = sum(count > 1 for count in counts.values())
    if missing or strange or repeated:
        raise Void(f"of {len(wanted)} calls {missing} are missing, {repeated} came twice, {strange} nobody asked for")
    early = sum(call.at_ms < wanted[call.timer_id] for call in calls)
    if early and early_is_void:
        raise Void(f"{early} of {len(wanted)} calls came early")


def lateness_ms(calls: Sequence[Call], wanted: Mapping[str, int]) -> list[float]:
    """Return by how much each call was late, in the order of arrival."""
    return [call.at_ms - wanted[call.timer_id] for call in calls]


def overtaken_ms(calls: Sequence[Call], wanted: Mapping[str, int]) -> float:
    """Return for how long the unluckiest call had to watch one that was due later being made before it."""
    worst, first_later = 0.0, float("inf")
    by_due: dict[int, list[float]] = {}
    for call in calls:
        by_due.setdefault(wanted[call.timer_id], []).append(call.at_ms)
    for due in sorted(by_due, reverse=True):
        worst = max(worst, max(by_due[due]) - first_later)
        first_later = min(first_later, *by_due[due])
    return worst


def now_ms() -> int:
    return time.time_ns() // 1_000_000
