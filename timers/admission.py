"""Who gets into a pull queue: its tenant has not too many queues, and it is not full."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from timers import limits
from timers.errors import Invalid, Overloaded, Unavailable
from timers.ports import Clock, KnownQueues, QueueRegistry, TimerStore
from timers.timer import QueueName

_KNOWN_S: Final = 1.0
"""How old what is known of a tenant's queues may be."""

_COUNTED_S: Final = 1.0
_SHARE: Final = 20
_REMEMBERED: Final = 1_000
_FULL_S: Final = 5


class Registrar:
    """The registry of queues, read at most once a second for each tenant."""

    def __init__(self, registry: QueueRegistry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._known: OrderedDict[str, tuple[KnownQueues, float]] = OrderedDict()

    async def known(self, tenant: str) -> KnownQueues:
        """Return a tenant's queues; where the table is away as they were. Raises Unavailable."""
        known, until = self._known.get(tenant, (None, 0.0))
        if known is not None and self._clock.monotonic() < until:
            return known
        try:
            known = await self._registry.read(tenant)
        except Unavailable:
            if known is None:
                raise
        self._known[tenant] = known, self._clock.monotonic() + _KNOWN_S
        self._known.move_to_end(tenant)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return known

    async def paused(self, queue: QueueName) -> bool:
        """Whether a queue gives nothing out. Raises Unavailable."""
        return queue.name in (await self.known(queue.tenant)).paused

    async def register(self, queue: QueueName) -> None:
        """Make a queue known. Raises Invalid where its tenant has too many, Unavailable."""
        if queue.name in (await self.known(queue.tenant)).names:
            return
        if not await self._registry.add(queue, most=limits.MAX_QUEUES):
            raise Invalid("/target/queue", f"there are {limits.MAX_QUEUES:,} queues already; delete one that is empty")
        self.forget(queue.tenant)

    async def pause(self, queue: QueueName) -> None:
        """Have a queue give nothing out, in every process within a second or two. Raises Invalid, Unavailable."""
        await self.register(queue)
        await self._registry.pause(queue)
        self.forget(queue.tenant)

    async def resume(self, queue: QueueName) -> None:
        """Undo a pause. Raises Unavailable."""
        await self._registry.resume(queue)
        self.forget(queue.tenant)

    async def remove(self, queue: QueueName) -> None:
        """Forget a queue. Raises Unavailable."""
        await self._registry.remove(queue)
        self.forget(queue.tenant)

    def forget(self, tenant: str) -> None:
        """Read the registry next time."""
        self._known.pop(tenant, None)


@dataclass(slots=True)
class _Fill:
    live: int = 0
    let_in: int = 0
    fresh_until: float = 0.0
    counting: asyncio.Lock = field(default_factory=asyncio.Lock)


class Capacity:
    """
    The most live timers that a pull queue may have; 0 is without end.

    A queue is counted at most once a second, or a twentieth of the time; between two counts what this process lets
    in is added. So it may grow past its capacity by what other processes let in meanwhile.
    """

    def __init__(self, most: int, store: TimerStore, clock: Clock) -> None:
        self._most = most
        self._store = store
        self._clock = clock
        self._fills: OrderedDict[QueueName, _Fill] = OrderedDict()

    async def let_in(self, queue: QueueName) -> None:
        """Count one more timer in. Raises Overloaded where the queue is full, Unavailable."""
        if not self._most:
            return
        fill = self._fills.setdefault(queue, _Fill())
        self._fills.move_to_end(queue)
        if len(self._fills) > _REMEMBERED:
            self._fills.popitem(last=False)
        await self._refresh(queue, fill)
        if fill.live + fill.let_in >= self._most:
            raise Overloaded(f"the queue {queue.name!r} is full: {self._most:,} timers", retry_after=_FULL_S)
        fill.let_in += 1

    async def _refresh(self, queue: QueueName, fill: _Fill) -> None:
        async with fill.counting:
            began = self._clock.monotonic()
            if began < fill.fresh_until:
                return
            before = fill.let_in
            counts = await self._store.count_queue(queue, now_ms=self._clock.now_ms())
            fill.live, fill.let_in = counts.live, fill.let_in - before
            ended = self._clock.monotonic()
            fill.fresh_until = ended + max(_COUNTED_S, _SHARE * (ended - began))
