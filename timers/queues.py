"""
What a worker can ask of a pull queue: lease, commit, reject, extend; and what its owner can.

A timer of a pull queue waits in the table like any other; when its time has come it is ready, and stays so until
a worker leases it. A lease is one conditional write, and the table knows who has it: so any process can serve
any worker, and none of them keeps anything that could be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol, TypeVar

from timers.admission import Capacity, Registrar
from timers.errors import (
    Conflict,
    IllegalTransition,
    LeaseEnded,
    NotEmpty,
    TimerError,
    TimerNotFound,
    Unavailable,
    Unreadable,
)
from timers.lease_token import LeaseToken
from timers.leasing import Taker
from timers.polling import Leases, Polls, Wish
from timers.ports import Clock, DelayQueue, KnownQueues, Position, QueueCounts, QueueRegistry, TimerStore, Vault
from timers.sealing import unseal
from timers.settle import committed, rejected
from timers.state import State
from timers.tenant import name_of, qualified
from timers.timer import QueueName, Timer

_CONTENDED_S: Final = 10.0
_PURGED_AT_ONCE: Final = 1_000

Done = TypeVar("Done")
Outcome = TimerError | None
"""What became of one token: None where its wish was done."""


class QueueObserver(Protocol):
    """Is told what became of leases, for metrics."""

    def leased(self, count: int) -> None: ...

    def settled(self, outcome: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Purged:
    """How many timers were cancelled, and whether there may be more."""

    cancelled: int
    more: bool


class Queues:
    """The use cases. A method that returns has written to the store what it says."""

    def __init__(  # noqa: PLR0913 - what it depends on, and nothing else
        self,
        store: TimerStore,
        registry: QueueRegistry,
        wheel: DelayQueue,
        clock: Clock,
        random: Random,
        *,
        horizon_ms: int,
        waiting: int,
        capacity: int,
        observer: QueueObserver,
        vault: Vault | None = None,
    ) -> None:
        self._store = store
        self._wheel = wheel
        self.clock = clock
        self._random = random
        self._horizon_ms = horizon_ms
        self._observer = observer
        self._vault = vault
        self._registrar = Registrar(registry, clock)
        self._capacity = Capacity(capacity, store, clock)
        self._polls = Polls(self._taker, clock, self._registrar.paused, waiting=waiting)

    @property
    def waiting(self) -> int:
        """How many requests wait for timers in this process."""
        return self._polls.waiting

    # Workers

    async def lease(self, queue: QueueName, wish: Wish) -> Leases:
        """
        Return timers that are ready, each leased to the caller; none once its time is over.

        Whoever is cancelled gets none, and none is lost. Raises Overloaded, Unavailable.
        """
        leases = await self._polls.lease(queue, wish)
        self._observer.leased(len(leases))
        return leases

    async def opened(self, leases: Leases) -> Leases:
        """
        Return leases as their worker gets them, secret bodies readable.

        One that cannot be read is not among them: its attempt ends with that, as a call's would.
        """
        opened = await asyncio.gather(*(self._opened(timer) for timer in leases))
        return [timer for timer in opened if timer is not None]

    async def give_back(self, queue: QueueName, leases: Leases) -> None:
        """Return leases that their worker never saw: no attempt is counted."""
        await self._polls.give_back(queue, leases)
        for timer in leases:
            self.arrived(timer)

    async def commit(self, queue: QueueName, tokens: Sequence[str]) -> list[Outcome]:
        """Have timers delivered; to commit again what was committed is no error."""
        return await self._each(queue, tokens, "committed", committed)

    async def reject(self, queue: QueueName, tokens: Sequence[str], delay_ms: int | None) -> list[Outcome]:
        """Give timers up, to be had again after a delay or by their policy, or dead where no attempt is left."""

        def move(timer: Timer, now_ms: int) -> Timer:
            return rejected(timer, delay_ms, now_ms=now_ms, random=self._random)

        return await self._each(queue, tokens, "rejected", move)

    async def extend(self, queue: QueueName, tokens: Sequence[str], lease_ms: int) -> list[Outcome]:
        """Have leases end in ``lease_ms`` from now; their tokens stay as they are."""
        return await self._each(
            queue, tokens, "extended", lambda timer, now_ms: timer.extended(now_ms + lease_ms, now_ms)
        )

    # Owners

    async def known(self, tenant: str) -> KnownQueues:
        """Return a tenant's queues. Raises Unavailable."""
        return await self._registrar.known(tenant)

    async def count(self, queue: QueueName) -> QueueCounts:
        """Return how many timers a queue has. Raises Unavailable."""
        return await self._store.count_queue(queue, now_ms=self.clock.now_ms())

    async def pause(self, queue: QueueName) -> None:
        """Have a queue give nothing out, everywhere within two seconds. Raises Invalid, Unavailable."""
        await self._registrar.pause(queue)

    async def resume(self, queue: QueueName) -> None:
        """Undo a pause. Raises Unavailable."""
        await self._registrar.resume(queue)
        self._polls.ring(queue, self.clock.now_ms())

    async def remove(self, queue: QueueName) -> None:
        """Forget a queue that is empty. Raises NotEmpty, Unavailable."""
        if (await self.count(queue)).live:
            raise NotEmpty(queue.name)
        await self._registrar.remove(queue)

    async def purge(self, queue: QueueName) -> Purged:
        """Cancel what waits in a queue, a thousand at a time; what is leased stays. Raises Unavailable."""
        places = await self._store.waiting(queue, limit=_PURGED_AT_ONCE)
        cancelled = await asyncio.gather(*(self._cancel(queue, place.timer_id) for place in places))
        return Purged(sum(cancelled), more=len(places) == _PURGED_AT_ONCE)

    # Those who schedule

    async def admit(self, queue: QueueName) -> None:
        """Let a timer into a queue. Raises Overloaded where it is full, Invalid where there are too many."""
        await self._registrar.register(queue)
        await self._capacity.let_in(queue)

    def arrived(self, timer: Timer) -> None:
        """Be told of a timer that waits in a queue from now on."""
        assert timer.queue is not None
        self._polls.arrived(timer.queue, Position(timer.next_attempt_at_ms, timer.id))

    def dismiss(self) -> None:
        """Answer everybody who waits, and let nobody wait any more."""
        self._polls.dismiss()

    async def stop(self) -> None:
        """Finish what is in progress."""
        await self._polls.stop()

    async def _opened(self, leased: Timer) -> Timer | None:
        try:
            return await unseal(leased, self._vault)
        except (Unreadable, Unavailable) as error:
            now_ms = self.clock.now_ms()
            after = rejected(leased, None, now_ms=now_ms, random=self._random, error=f"secret: {error}")
        with suppress(Conflict, Unavailable):  # its lease ends by itself
            await self._store.save(leased, after)
            self._observer.settled("rejected")
            if not after.final:
                self.arrived(after)
        return None

    def _taker(self, queue: QueueName) -> Taker:
        return Taker(queue, self._store, self.clock, self._random, self._watch)

    def _watch(self, timer: Timer) -> None:
        """Have a consumer look when a lease ends; a keeper does so too, a little later."""
        if timer.lease_until_ms - self.clock.now_ms() <= self._horizon_ms:
            self._wheel.put(timer.lease_end_hint)

    async def _each(
        self, queue: QueueName, tokens: Sequence[str], what: str, move: Callable[[Timer, int], Timer]
    ) -> list[Outcome]:
        async def one(token: str) -> Outcome:
            try:
                await self._settle(queue, token, move)
            except TimerError as error:
                return error
            self._observer.settled(what)
            return None

        return await asyncio.gather(*(one(token) for token in tokens))

    async def _settle(self, queue: QueueName, text: str, move: Callable[[Timer, int], Timer]) -> None:
        """Raises LeaseEnded, Unavailable."""
        token = LeaseToken.parse(text)
        if token is None:
            raise LeaseEnded

        async def settle() -> None:
            before = await self._leased(queue, token)
            now_ms = self.clock.now_ms()
            if before.state is State.DELIVERED and move is committed:
                return
            if before.state is not State.FIRING or now_ms > before.lease_until_ms:
                raise LeaseEnded
            after = move(before, now_ms)
            await self._store.save(before, after)
            if after.state is State.FIRING:
                self._watch(after)
            elif not after.final:
                self.arrived(after)

        await self._insist(settle)

    async def _leased(self, queue: QueueName, token: LeaseToken) -> Timer:
        try:
            timer = await self._store.get(qualified(queue.tenant, token.name))
        except TimerNotFound:
            raise LeaseEnded from None
        if timer.queue != queue or not timer.leased_as(token.key):
            raise LeaseEnded
        return timer

    async def _cancel(self, queue: QueueName, timer_id: str) -> bool:
        async def cancel() -> bool:
            before = await self._store.get(timer_id)
            if before.queue != queue or before.state is not State.SCHEDULED:
                return False
            await self._store.save(before, before.cancelled(self.clock.now_ms()))
            return True

        try:
            return await self._insist(cancel)
        except (TimerNotFound, IllegalTransition):
            return False

    async def _insist(self, step: Callable[[], Awaitable[Done]]) -> Done:
        """Repeat a step that lost against another writer. Raises Unavailable where that goes on for too long."""
        until = self.clock.monotonic() + _CONTENDED_S
        while self.clock.monotonic() < until:
            try:
                return await step()
            except Conflict:
                continue
        raise Unavailable("the timer", "too many writers at once", retry_after=1)


def token_of(timer: Timer) -> str:
    """Return what the worker of a leased timer is given."""
    assert timer.lease is not None
    return str(LeaseToken(name_of(timer.id), timer.lease.key))
