"""One fault from its calm to its verdict."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.faults.faults import Fault
from tests.faults.ledger import Ledger, Verdict
from tests.faults.load import Load
from tests.faults.moment import now_ms
from tests.faults.world import World

_END_S: Final = 90.0
_STRAY_S: Final = 1.0
_DEAD_S: Final = 2.0
"""How long a killed process is missed, for others must take over."""


@dataclass(frozen=True, slots=True)
class Length:
    """How hard and how long: ``rate`` timers a second, ``span``, ``before`` and ``after`` the fault in seconds."""

    rate: float
    span: float
    before: float
    after: float
    whole: bool


WHOLE: Final = Length(rate=12, span=8, before=3, after=1, whole=True)
BRIEF: Final = Length(rate=10, span=6, before=2, after=0, whole=False)


async def judge(world: World, name: str, fault: Fault, length: Length, seed: int) -> Verdict:
    """Put the world under load, do the fault to it, wait until all is final, and compare."""
    world.target.ledger = Ledger()
    load = Load(world.clients, world.target, Random(seed), rate=length.rate, span=length.span)
    async with asyncio.TaskGroup() as group:
        stop = asyncio.Event()
        group.create_task(load.run(stop))
        await asyncio.sleep(length.before)
        await fault.inject(world, load, fault.seconds if length.whole else fault.briefly)
        ended_ms = now_ms()
        await world.revive(_DEAD_S)
        await asyncio.sleep((fault.aftermath if length.whole else fault.aftermath / 4) + length.after)
        stop.set()
    await load.finish(_END_S)
    await asyncio.sleep(_STRAY_S)  # so that a call too many is seen as well
    return world.target.ledger.verdict(name, ended_ms)
