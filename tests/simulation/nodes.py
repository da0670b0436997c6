"""The processes: an api and a consumer, put together from the real parts as their ``__main__`` files do."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

from consumer.gate import Gate
from consumer.handler import Handler
from consumer.keeper import Keeper
from consumer.shards import Shards
from consumer.worker import Worker
from infra.dynamodb.leases import DynamoShardLeases
from tests.simulation.broker import SimulatedQueue
from tests.simulation.edges import SimulatedClock, SimulatedTable, SimulatedTargets, WatchedStore
from tests.simulation.loop import Process
from timers.errors import TimerError
from timers.queues import Queues
from timers.service import Timers
from timers.tenant import DEFAULT
from timers.timer import Hint, QueueName, Timer

if TYPE_CHECKING:
    from tests.simulation.world import World

_STOP_S = 5.0
_LEAVE_S = 3.0
TARGETS = 2
QUEUE = QueueName(DEFAULT, "jobs")


class _Unobserved:
    def attempted(self, timer: Timer, lateness_ms: int, seconds: float) -> None: ...

    def dropped(self, reason: str) -> None: ...

    def loaded(self, count: int) -> None: ...

    def redriven(self, count: int) -> None: ...

    def lapsed(self) -> None: ...

    def leased(self, count: int) -> None: ...

    def settled(self, outcome: str) -> None: ...


class _WatchedQueue(SimulatedQueue):
    """Tells the promises of each confirmed publish."""

    world: World

    async def publish(self, hint: Hint, *, not_before_ms: int | None = None) -> None:
        await super().publish(hint, not_before_ms=not_before_ms)
        self.world.promises.published(hint, self._process)


class Node:
    """One process: its clock, its way to the table, its end of the wheel."""

    def __init__(self, world: World, name: str, offset_s: float) -> None:
        self.world = world
        self.process = Process(name)
        self.clock = SimulatedClock(world.loop, offset_s)
        self.random = Random(world.random.getrandbits(64))
        self.store = WatchedStore(world, self.process, world.plan.shards, world.random.getrandbits(64))
        self.queue = _WatchedQueue(
            world.broker,
            self.process,
            self.clock,
            world.loop,
            lambda moment: world.happened(self.process, moment),
        )
        self.queue.world = world

    def start(self) -> None: ...

    def at_rest(self) -> str | None:
        """Return what it still holds on to though nothing is left to do."""
        return None

    def unbounded(self) -> str | None:
        """Return which bound it exceeds."""
        return None


class Api(Node):
    """The use cases."""

    def __init__(self, world: World, name: str, offset_s: float) -> None:
        super().__init__(world, name, offset_s)
        self.queues = Queues(
            self.store,
            world.registry,
            self.queue,
            self.clock,
            self.random,
            horizon_ms=world.plan.horizon_ms,
            waiting=10,
            capacity=0,
            observer=_Unobserved(),
        )
        self.timers = Timers(
            self.store, self.queue, self.clock, self.random, world.plan.horizon_ms, arrivals=self.queues
        )


class Consumer(Node):
    """Worker, gate, handler, shards and keeper."""

    def __init__(self, world: World, name: str, offset_s: float) -> None:
        super().__init__(world, name, offset_s)
        plan = world.plan
        handler = Handler(
            self.store,
            self.queue,
            SimulatedTargets(world, self.process),
            self.clock,
            self.random,
            plan.horizon_ms,
            _Unobserved(),
        )
        self._per_target = max(1, plan.concurrency // 2)
        self.gate = Gate(self.clock, total=plan.concurrency, per_target=self._per_target)
        self.worker = Worker(handler, self.gate, self.clock)
        leases = DynamoShardLeases(SimulatedTable(world, self.process), shards=plan.shards)
        owner = f"{name}.{self.random.getrandbits(32):08x}"
        self._shards = Shards(leases, self.clock, self.random, owner=owner, shards=plan.shards)
        self._keeper = Keeper(
            self.store,
            self.queue,
            self._shards,
            self.clock,
            horizon_ms=plan.horizon_ms,
            backlog=lambda: self.gate.waiting,
            observer=_Unobserved(),
        )
        self._background: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loop = self.world.loop
        self._background = [loop.spawn(self.process, part.run()) for part in (self._shards, self._keeper)]
        self.world.broker.consume(self.process, self.worker.receive, self.world.plan.prefetch)

    async def stop(self) -> None:
        """Leave as on SIGTERM."""
        for task in self._background:
            task.cancel()
        self.world.broker.pause(self.process)
        await asyncio.sleep(0.002)
        try:
            await self.worker.stop(_STOP_S)
            async with asyncio.timeout(_LEAVE_S):
                await self._shards.leave()
        except (TimerError, TimeoutError):
            pass
        for _ in range(50):
            if self.queue.waiting and self.world.broker.up:
                await asyncio.sleep(0.1)

    def at_rest(self) -> str | None:
        held = {"calling": self.gate.calling, "held": self.worker.held, "tasks": len(self.worker._tasks)}
        return f"{self.process.name} still has {held}" if any(held.values()) else None

    def unbounded(self) -> str | None:
        if self.gate.calling > self.world.plan.concurrency:
            return f"{self.process.name} makes {self.gate.calling} calls"
        targets = self.gate._targets.values()
        if any(target.calling > self._per_target for target in targets):
            return f"{self.process.name} makes too many calls to one target"
        return None
