"""The ports in memory: for tests, the contract suites and the simulation."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

from timers.errors import AlreadyExists, Conflict, TimerNotFound
from timers.keys import Key
from timers.ports import Clock, Counts, Filter, KnownQueues, Page, Position, QueueCounts, ShardLease
from timers.signing import Secrets
from timers.state import State
from timers.timer import Hint, QueueName, Timer
from timers.wheel import AIM_EARLY_MS, slot


class MemoryTimerStore:
    """Timers in a dict."""

    def __init__(self, *, shards: int = 4) -> None:
        self._shards = shards
        self.timers: dict[str, Timer] = {}

    async def create(self, timer: Timer) -> None:
        if timer.id in self.timers:
            raise AlreadyExists(timer.id)
        self.timers[timer.id] = timer

    async def get(self, timer_id: str) -> Timer:
        try:
            return self.timers[timer_id]
        except KeyError:
            raise TimerNotFound(timer_id) from None

    async def save(self, before: Timer, after: Timer) -> None:
        stored = self.timers.get(before.id)
        if stored is None or stored.version != before.version:
            raise Conflict(before.id)
        self.timers[after.id] = after

    async def claim(self, timer_id: str, version: int, *, now_ms: int, lease_until_ms: int) -> Timer | None:
        stored = self.timers.get(timer_id)
        if stored is None or stored.version != version or stored.state is not State.SCHEDULED:
            return None
        claimed = stored.claimed(lease_until_ms, now_ms)
        self.timers[timer_id] = claimed
        return claimed

    async def live(
        self, shard: int, *, from_ms: int, until_ms: int, limit: int, after: Position | None = None
    ) -> Sequence[Timer]:
        start = (after.at_ms, after.timer_id) if after else (-1, "")
        found = [
            timer
            for timer in self.timers.values()
            if not timer.final
            and timer.queue is None
            and slot(timer.id, self._shards) == shard
            and from_ms <= timer.next_attempt_at_ms < until_ms
            and timer.position > start
        ]
        return sorted(found, key=lambda timer: timer.position)[:limit]

    async def lapsed(self, shard: int, *, until_ms: int, limit: int) -> Sequence[Timer]:
        found = [
            timer
            for timer in self.timers.values()
            if timer.state is State.FIRING
            and timer.lease is not None
            and slot(timer.id, self._shards) == shard
            and timer.lease_until_ms < until_ms
        ]
        return sorted(found, key=lambda timer: timer.position)[:limit]

    async def waiting(self, queue: QueueName, *, limit: int) -> Sequence[Position]:
        found = sorted(timer.position for timer in self._of(queue, State.SCHEDULED))
        return [Position(*position) for position in found[:limit]]

    async def count_queue(self, queue: QueueName, *, now_ms: int) -> QueueCounts:
        times = [timer.next_attempt_at_ms for timer in self._of(queue, State.SCHEDULED)]
        ready = [at_ms for at_ms in times if at_ms <= now_ms]
        leased = len(self._of(queue, State.FIRING))
        return QueueCounts(len(times) - len(ready), len(ready), leased, min(ready, default=None))

    def _of(self, queue: QueueName, state: State) -> list[Timer]:
        return [timer for timer in self.timers.values() if timer.queue == queue and timer.state is state]

    async def select(self, wanted: Filter, *, after: Position | None, limit: int) -> Page:
        start = (after.at_ms, after.timer_id) if after else (-1, "")
        found = sorted(
            (timer for timer in self.timers.values() if wanted.admits(timer) and timer.position > start),
            key=lambda timer: timer.position,
        )
        more = len(found) > limit
        page = tuple(found[:limit])
        return Page(page, Position(*page[-1].position) if more else None)

    async def count(self, *, tenant: str, now_ms: int, grace_ms: int) -> Counts:
        timers = [timer for timer in self.timers.values() if timer.tenant == tenant]
        overdue = [
            timer.next_attempt_at_ms
            for timer in timers
            if timer.state is State.SCHEDULED and timer.queue is None and timer.next_attempt_at_ms < now_ms - grace_ms
        ]
        by_state = {state: sum(timer.state is state for timer in timers) for state in State}
        return Counts(by_state, len(overdue), min(overdue, default=None))

    async def pending(self, *, tenant: str) -> int:
        return sum(timer.tenant == tenant and not timer.final for timer in self.timers.values())

    async def delivered(self, *, tenant: str, since_ms: int, limit: int) -> Sequence[Timer]:
        found = [
            timer
            for timer in self.timers.values()
            if timer.tenant == tenant and timer.state is State.DELIVERED and timer.due_at_ms >= since_ms
        ]
        return sorted(found, key=lambda timer: timer.position, reverse=True)[:limit]

    async def check(self) -> None:
        """Memory is always there."""


class MemoryKeyStore:
    """Keys in a dict."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}

    async def add(self, key: Key) -> bool:
        return self._keys.setdefault(key.id, key) is key

    async def get(self, key_id: str) -> Key | None:
        return self._keys.get(key_id)

    async def all(self) -> Sequence[Key]:
        return sorted(self._keys.values(), key=lambda key: key.created_at_ms)

    async def revoke(self, key_id: str, at_ms: int) -> bool:
        if key_id not in self._keys:
            return False
        self._keys[key_id] = replace(self._keys[key_id], revoked_at_ms=at_ms)
        return True


class MemoryQueueRegistry:
    """Queues in a dict."""

    def __init__(self) -> None:
        self._known: dict[str, KnownQueues] = {}

    async def read(self, tenant: str) -> KnownQueues:
        return self._known.get(tenant, KnownQueues())

    async def add(self, queue: QueueName, *, most: int) -> bool:
        known = await self.read(queue.tenant)
        if queue.name not in known.names and len(known.names) >= most:
            return False
        self._known[queue.tenant] = replace(known, names=known.names | {queue.name})
        return True

    async def pause(self, queue: QueueName) -> None:
        known = await self.read(queue.tenant)
        self._known[queue.tenant] = replace(known, paused=known.paused | {queue.name})

    async def resume(self, queue: QueueName) -> None:
        known = await self.read(queue.tenant)
        self._known[queue.tenant] = replace(known, paused=known.paused - {queue.name})

    async def remove(self, queue: QueueName) -> None:
        known = await self.read(queue.tenant)
        self._known[queue.tenant] = KnownQueues(known.names - {queue.name}, known.paused - {queue.name})


class MemoryShardLeases:
    """Leases in a dict."""

    def __init__(self) -> None:
        self._leases: dict[int, ShardLease] = {}

    async def read(self) -> Sequence[ShardLease]:
        return list(self._leases.values())

    async def write(self, before: ShardLease | None, after: ShardLease) -> bool:
        stored = self._leases.get(after.shard)
        if (stored is None) != (before is None):
            return False
        if stored and before and (stored.owner, stored.beat) != (before.owner, before.beat):
            return False
        self._leases[after.shard] = after
        return True

    async def clear(self) -> None:
        self._leases.clear()


class MemorySecretStore:
    """Signing secrets in a dict."""

    def __init__(self) -> None:
        self._secrets: dict[str, tuple[Secrets, int]] = {}

    async def of(self, tenant: str) -> tuple[Secrets, int]:
        return self._secrets.get(tenant, ((), 0))

    async def tenants(self) -> Sequence[str]:
        return sorted(self._secrets)

    async def save(self, tenant: str, secrets: Secrets, before: int) -> None:
        if self._secrets.get(tenant, ((), 0))[1] != before:
            raise Conflict(tenant)
        self._secrets[tenant] = secrets, before + 1


class MemoryDelivery:
    """One delivered hint."""

    def __init__(self, hint: Hint, wheel: MemoryWheel, consumer: MemoryConsumer, *, redelivered: bool) -> None:
        self.hint = hint
        self.redelivered = redelivered
        self.consumer = consumer
        self._wheel = wheel

    def ack(self) -> None:
        self._wheel.unacked.pop(self, None)

    def give_back(self) -> None:
        self._wheel.take_back(self)


MemoryConsumer = Callable[[MemoryDelivery], None]


class MemoryWheel:
    """A delay queue whose consumers take turns."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._order = itertools.count()
        self._heap: list[tuple[int, int, Hint, bool]] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._consumers: list[MemoryConsumer] = []
        self.unacked: dict[MemoryDelivery, None] = {}

    def subscribe(self, on_delivery: MemoryConsumer) -> None:
        """Add a consumer."""
        self._consumers.append(on_delivery)
        self._changed.set()

    def unsubscribe(self, on_delivery: MemoryConsumer) -> None:
        """Remove a consumer; what it has can still be acknowledged."""
        self._consumers.remove(on_delivery)

    def lose(self, on_delivery: MemoryConsumer) -> None:
        """Take a consumer for dead: what it has not acknowledged goes to somebody else."""
        if on_delivery in self._consumers:
            self.unsubscribe(on_delivery)
        for delivery in [delivery for delivery in self.unacked if delivery.consumer == on_delivery]:
            self.take_back(delivery)

    def start(self) -> None:
        """Begin to turn."""
        self._task = asyncio.create_task(self._turn())

    async def stop(self) -> None:
        """Stop turning."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def put(self, hint: Hint, *, not_before_ms: int | None = None) -> None:
        at_ms = hint.at_ms if not_before_ms is None else not_before_ms
        self._push(at_ms - AIM_EARLY_MS, hint, redelivered=False)

    async def publish(self, hint: Hint, *, not_before_ms: int | None = None) -> None:
        self.put(hint, not_before_ms=not_before_ms)

    async def depth(self) -> int:
        """Return how many hints wait for a consumer."""
        now_ms = self._clock.now_ms()
        return sum(at_ms <= now_ms for at_ms, *_ in self._heap)

    def take_back(self, delivery: MemoryDelivery) -> None:
        """Deliver again what was not acknowledged."""
        if delivery in self.unacked:
            del self.unacked[delivery]
            self._push(self._clock.now_ms(), delivery.hint, redelivered=True)

    def _push(self, at_ms: int, hint: Hint, *, redelivered: bool) -> None:
        heapq.heappush(self._heap, (at_ms, next(self._order), hint, redelivered))
        self._changed.set()

    def _deliver(self, hint: Hint, *, redelivered: bool) -> None:
        consumer = self._consumers.pop(0)
        self._consumers.append(consumer)
        delivery = MemoryDelivery(hint, self, consumer, redelivered=redelivered)
        self.unacked[delivery] = None
        consumer(delivery)

    async def _turn(self) -> None:
        while True:
            self._changed.clear()
            now_ms = self._clock.now_ms()
            while self._consumers and self._heap and self._heap[0][0] <= now_ms:
                _, _, hint, redelivered = heapq.heappop(self._heap)
                self._deliver(hint, redelivered=redelivered)
            waiting = self._consumers and self._heap
            try:
                async with asyncio.timeout((self._heap[0][0] - now_ms) / 1000 if waiting else None):
                    await self._changed.wait()
            except TimeoutError:
                continue
