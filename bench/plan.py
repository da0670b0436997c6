"""What a run does, in which order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bench import ours, raw
from bench.calls import Void
from bench.http import Broken
from bench.leasing import Leasing
from bench.peers.catalogue import Peer
from bench.pulling import pull
from bench.results import Outcome
from bench.service import NAME, Service
from bench.systems import System, Workers
from bench.workloads import Bench, burst, single, steady, warm_up

KINDS: Final = ("idle", "raw", "single", "burst", "steady", "cancel", "mixed", "pull", "scale")
_IDLE_S: Final = 5.0
_THOROUGH: Final = (NAME, "bullmq", "bullmq-synced")  #: do the great burst and single jobs as well
_MEASURED: Final = 600.0  #: seconds kept free of due timers while something is measured with many pending
_HOUR: Final = 3_600.0
_MONTH: Final = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    rounds: int
    single: int
    bursts: Sequence[int]
    steady: Sequence[tuple[int, int]]
    cancel: int
    mixed: int
    pull: int
    raw: int
    scale: Sequence[int]
    scale_burst: int


FULL: Final = Sizes(
    rounds=3,
    single=3_000,
    bursts=(2_000, 20_000),
    steady=((100, 15), (300, 15)),
    cancel=4_000,
    mixed=2_400,
    pull=10_000,
    raw=5_000,
    scale=(1, 2, 4),
    scale_burst=4_000,
)
QUICK: Final = Sizes(
    rounds=1,
    single=500,
    bursts=(500,),
    steady=((100, 3),),
    cancel=400,
    mixed=400,
    pull=500,
    raw=2_000,
    scale=(),
    scale_burst=0,
)


@dataclass(slots=True)
class Plan:
    """A run: the systems take turns, round by round, so that whatever drifts hits all alike."""

    sizes: Sizes
    only: Collection[str]
    service: Service
    peers: Sequence[Peer]
    bench: Bench
    tell: Callable[[Outcome], None]
    outcomes: list[Outcome]
    round: int = 0

    async def run(self) -> None:
        """Do all rounds, then what changes the number of consumers."""
        for _ in range(self.sizes.rounds):
            self.round += 1
            await self._parts()
            await self._system(self.service, self._ours())
            for peer in self.peers:
                await self._system(peer, self._pulled(peer, peer) if peer.pulled else [])
        if "scale" in self.only and self.sizes.scale:
            await self._scales()

    async def pending(self, size: int) -> None:
        """Measure with nothing pending, and with a great many, far away and near."""
        self.round = 1
        many = ours.Pending(self.bench, self.service, size)
        await warm_up(self.bench, self.service)
        self._keep(*await many.baseline())
        self._keep(*await many.outcomes("over 30 days", _HOUR * 2, _MONTH))
        creating = 1.5 * size / self.bench.accepts[NAME]
        first = min(creating + _MEASURED, 0.75 * _HOUR)
        self._keep(*await many.outcomes("within the hour", first, _HOUR - 60))

    async def _parts(self) -> None:
        size, installation = self.sizes.raw, self.service.installation
        if "idle" in self.only:
            await self._try("idle", NAME, lambda: ours.idle(self.service, _IDLE_S))
        if "raw" in self.only:
            await self._try("raw broker", "pika", lambda: raw.broker(installation, size))
            await self._try("raw table", "boto3", lambda: asyncio.to_thread(raw.table, installation, size))
            await self._try("raw http", "aiohttp", lambda: raw.http(self._raw_url, os.getpid(), size))
            await self.bench.calls.fetch("raw")

    @property
    def _raw_url(self) -> str:
        return self.bench.calls.url("raw")

    async def _system(self, system: System, more: Sequence[tuple[str, Callable[[], Awaitable[Outcome]]]]) -> None:
        steps = [step for step in [*self._common(system), *more] if step[0].split()[0] in self.only]
        if not steps:
            return
        try:
            async with system.ready():
                await warm_up(self.bench, system)
                for workload, act in steps:
                    await self._try(workload, system.name, act)
        except (Void, Broken, OSError, TimeoutError) as error:
            self._keep(Outcome("warm-up", system.name, self.round, void=repr(error)))

    def _common(self, system: System) -> list[tuple[str, Callable[[], Awaitable[Outcome]]]]:
        all_of_it = system.name in _THOROUGH
        bursts = self.sizes.bursts if all_of_it else self.sizes.bursts[:1]
        streams = self.sizes.steady if system.name == NAME else self.sizes.steady[:1]
        singly = [("single", lambda: single(self.bench, system, self.sizes.single))] if all_of_it else []
        return [
            *singly,
            *((f"burst {size}", lambda size=size: burst(self.bench, system, size)) for size in bursts),
            *(
                (f"steady {rate}", lambda rate=rate, seconds=seconds: steady(self.bench, system, rate, seconds))
                for rate, seconds in streams
            ),
        ]

    def _ours(self) -> list[tuple[str, Callable[[], Awaitable[Outcome]]]]:
        bench, service, sizes = self.bench, self.service, self.sizes
        return [
            ("cancel", lambda: ours.cancel(bench, service, sizes.cancel)),
            ("mixed", lambda: ours.mixed(bench, service, sizes.mixed)),
            *self._pulled(service, Leasing(service)),
        ]

    def _pulled(self, system: System, workers: Workers) -> list[tuple[str, Callable[[], Awaitable[Outcome]]]]:
        return [("pull", lambda: pull(self.bench, system, workers, self.sizes.pull))]

    async def _scales(self) -> None:
        before, size = self.service.installation.consumers, self.sizes.scale_burst
        try:
            for number in range(1, self.sizes.rounds + 1):
                self.round = number
                for count in self.sizes.scale:
                    await self._try(
                        f"{count} consumers",
                        NAME,
                        lambda count=count: ours.scale(self.bench, self.service, count, size),  # type: ignore[misc]
                    )
        finally:
            self.service.installation.scale(before)

    async def _try(self, workload: str, system: str, act: Callable[[], Awaitable[Outcome]]) -> None:
        """Do one workload once; what goes wrong makes it void."""
        try:
            self._keep(await act())
        except (Void, Broken, OSError, TimeoutError) as error:
            self._keep(Outcome(workload, system, self.round, void=str(error) or repr(error)))

    def _keep(self, *outcomes: Outcome) -> None:
        for done in outcomes:
            numbered = replace(done, round=self.round)
            self.outcomes.append(numbered)
            self.tell(numbered)
