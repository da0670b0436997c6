"""What a client can ask for: schedule, replace, edit, cancel, fire, replay, read, list."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from random import Random
from typing import Final

from timers import limits
from timers.errors import (
    AlreadyExists,
    Conflict,
    Invalid,
    KeyReused,
    Overloaded,
    PreconditionFailed,
    TimerNotFound,
    Unavailable,
)
from timers.ports import (
    Arrivals,
    Clock,
    Counts,
    DelayQueue,
    Filter,
    Page,
    Position,
    Quota,
    Signers,
    TimerStore,
    Vault,
)
from timers.putting import AS_ASKED, Putting
from timers.sealing import request_of, seal
from timers.signing import FixedSigners
from timers.stamps import uuid7, uuid8
from timers.state import State
from timers.target import Target
from timers.tenant import DEFAULT, name_of, qualified
from timers.timer import Spec, Timer

GRACE_MS: Final = 2_000
"""How long after its planned time a live timer counts as overdue."""

RECENT_MS: Final = 5 * 60_000
"""How far back the lateness in the stats looks."""

_SAMPLE: Final = 1_000
_CONTENDED_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts, the age of the most overdue, and the lateness of the latest deliveries, lowest first."""

    counts: Counts
    oldest_overdue_ms: int | None
    lateness_ms: tuple[int, ...]

    def percentile(self, share: float) -> int | None:
        """Return the lateness that ``share`` (0 to 1) of the latest deliveries kept within."""
        if not self.lateness_ms:
            return None
        return self.lateness_ms[min(len(self.lateness_ms) - 1, int(share * len(self.lateness_ms)))]


@dataclass(frozen=True, slots=True)
class Precondition:
    """``versions``: If-Match (empty: any that exists), None where not given; ``absent``: If-None-Match: *."""

    versions: frozenset[int] | None = None
    absent: bool = False

    def check(self, timer: Timer | None) -> None:
        """Raise PreconditionFailed where ``timer`` (None: there is none) is not what the client expects."""
        if self.absent and timer is not None:
            raise PreconditionFailed(f"a timer with the id {timer.name!r} exists")
        if self.versions is None:
            return
        if timer is None:
            raise PreconditionFailed("there is no such timer")
        if self.versions and timer.version not in self.versions:
            raise PreconditionFailed(f"the timer's version is {timer.version}")


ANY: Final = Precondition()


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """
    A client's name for one request, so that repeating it does nothing more.

    The timer's id is made of the key: so the record of the key is the timer itself and lives as long.
    """

    key: str
    fingerprint: str

    @property
    def name(self) -> str:
        """A UUID made of the key."""
        return uuid8(sha256(f"timers:{self.key}".encode()).digest())

    @property
    def request(self) -> str:
        """What is kept in the timer: which key, which request."""
        return f"{self.name}:{self.fingerprint}"


def _anything(_: Target) -> None:
    """Allow every target."""


_UNSIGNED: Final = FixedSigners()


@dataclass(frozen=True, slots=True)
class Timers:
    """
    The use cases of one tenant. A method that returns has written to the store what it says.

    Clients name timers; what they name is looked for among the timers of ``tenant`` and nowhere else.
    ``check`` raises Invalid where a target is not allowed here; ``quota`` bounds what comes to life.
    ``horizon_ms`` is how far ahead hints are put on the queue; what is further away the keeper loads.
    """

    store: TimerStore
    queue: DelayQueue
    clock: Clock
    random: Random
    horizon_ms: int
    vault: Vault | None = None
    tenant: str = DEFAULT
    check: Callable[[Target], None] = _anything
    signers: Signers = _UNSIGNED
    quota: Quota | None = None
    arrivals: Arrivals | None = None

    def of(self, tenant: str) -> Timers:
        """Return the use cases of another tenant."""
        return self if tenant == self.tenant else replace(self, tenant=tenant)

    async def schedule(
        self, spec: Spec, name: str | None = None, *, request: str | None = None, now_ms: int | None = None
    ) -> Timer:
        """
        Create a timer. Raises AlreadyExists where the chosen name is taken.

        ``now_ms`` is the time that the spec was made from, where it matters that both agree.
        """
        self.check(spec.target)
        now_ms = self.clock.now_ms() if now_ms is None else now_ms
        timer = Timer.create(self._id(name or uuid7(now_ms, self.random)), spec, now_ms, request)
        await self._admit()
        timer = await self._ready(timer, None)
        await self._let_in(None, timer)
        await self.store.create(timer)
        self._announce(timer)
        return timer

    async def schedule_once(
        self, spec: Spec, key: IdempotencyKey, name: str | None = None, *, now_ms: int
    ) -> tuple[Timer, bool]:
        """
        Create a timer, or return the one that the same request created before; also whether it was created.

        Raises KeyReused where the key came with another request, AlreadyExists where the chosen name is taken.
        """
        try:
            return await self.schedule(spec, name or key.name, request=key.request, now_ms=now_ms), True
        except (AlreadyExists, Invalid, Overloaded):  # what was let in then may be refused by now
            with suppress(TimerNotFound):
                timer = await self.get(name or key.name)
                if await request_of(timer, self.vault) == key.request:
                    return timer, False
                if name is None:
                    raise KeyReused from None
            raise

    async def replace(
        self,
        name: str,
        spec: Spec,
        precondition: Precondition = ANY,
        putting: Putting = AS_ASKED,
        *,
        now_ms: int | None = None,
    ) -> tuple[Timer, bool]:
        """
        Create a timer, or ask for a scheduled one anew; also returns whether it was created.

        ``now_ms`` as for ``schedule``. Raises IllegalTransition where it is firing or final, PreconditionFailed.
        """
        now_ms = self.clock.now_ms() if now_ms is None else now_ms
        until = self._give_up_at()
        while self.clock.monotonic() < until:
            try:
                return await self._replace_once(name, spec, precondition, putting, now_ms)
            except (AlreadyExists, Conflict, TimerNotFound):
                continue
        raise _contended()

    async def _replace_once(
        self, name: str, spec: Spec, precondition: Precondition, putting: Putting, now_ms: int
    ) -> tuple[Timer, bool]:
        try:
            before = await self.get(name)
        except TimerNotFound:
            precondition.check(None)
            return await self.schedule(putting.due(spec, None, now_ms), name, now_ms=now_ms), True
        precondition.check(before)
        self.check(spec.target)
        return await self._save(before, before.replaced(putting.due(spec, before, now_ms), now_ms)), False

    async def edit(self, name: str, change: Callable[[Timer], Spec], precondition: Precondition = ANY) -> Timer:
        """
        Change a scheduled timer to what ``change`` makes of it.

        Raises TimerNotFound, IllegalTransition where it is firing or final, PreconditionFailed,
        and whatever ``change`` raises.
        """

        def move(timer: Timer) -> Timer:
            spec = change(timer)
            if spec.target != timer.target:
                self.check(spec.target)
            return timer.edited(spec, self.clock.now_ms())

        return await self._move(name, move, precondition)

    async def cancel(self, name: str, precondition: Precondition = ANY) -> Timer:
        """
        Cancel a scheduled timer: from the return on no attempt starts.

        A cancelled one is returned as it is, whatever version was expected: a client that repeats
        a cancel whose answer was lost has its wish (RFC 9110, 13.1.1).

        Raises TimerNotFound, IllegalTransition where it is too late, PreconditionFailed.
        """

        def move(timer: Timer) -> Timer:
            if timer.state is State.CANCELLED:
                return timer
            precondition.check(timer)
            return timer.cancelled(self.clock.now_ms())

        return await self._move(name, move, ANY)

    async def fire(self, name: str, precondition: Precondition = ANY) -> Timer:
        """Make a scheduled timer due now. Raises TimerNotFound, IllegalTransition, PreconditionFailed."""
        return await self._move(name, lambda timer: timer.fired(self.clock.now_ms()), precondition)

    async def replay(self, name: str, precondition: Precondition = ANY) -> Timer:
        """Schedule a dead timer for now. Raises TimerNotFound, IllegalTransition, PreconditionFailed, Overloaded."""
        await self._admit()
        return await self._move(name, lambda timer: timer.replayed(self.clock.now_ms()), precondition)

    async def get(self, name: str) -> Timer:
        """Return a timer. Raises TimerNotFound."""
        return await self.store.get(self._id(name))

    async def select(self, wanted: Filter, *, after: Position | None, limit: int) -> Page:
        """Return the tenant's timers that ``wanted`` admits, soonest due first; places are given by name."""
        start = None if after is None else Position(after.at_ms, self._id(after.timer_id))
        page = await self.store.select(replace(wanted, tenant=self.tenant), after=start, limit=limit)
        return replace(page, next=None if page.next is None else Position(page.next.at_ms, name_of(page.next.timer_id)))

    async def stats(self) -> Stats:
        """Return how many timers the tenant has in each state, how many overdue, and how late the last ones were."""
        now_ms = self.clock.now_ms()
        counts = await self.store.count(tenant=self.tenant, now_ms=now_ms, grace_ms=GRACE_MS)
        latest = await self.store.delivered(tenant=self.tenant, since_ms=now_ms - RECENT_MS, limit=_SAMPLE)
        called = [timer for timer in latest if timer.queue is None]  # a worker comes when it likes
        lateness = sorted(attempt.lateness_ms for timer in called for attempt in timer.attempts if attempt.number == 1)
        overdue_ms = None if counts.oldest_due_ms is None else now_ms - counts.oldest_due_ms
        return Stats(counts, overdue_ms, tuple(lateness))

    async def _move(self, name: str, move: Callable[[Timer], Timer], precondition: Precondition) -> Timer:
        until = self._give_up_at()
        while self.clock.monotonic() < until:
            before = await self.get(name)
            precondition.check(before)
            after = move(before)
            if after is before:
                return before
            try:
                return await self._save(before, after)
            except Conflict:
                continue
        raise _contended()

    async def _admit(self) -> None:
        if self.quota is not None:
            await self.quota.admit(self.tenant)

    def _id(self, name: str) -> str:
        """
        Return the id that a client's name for a timer stands for: the one way from names to timers.

        Raises TimerNotFound where it is no name, so that none leads to what is another tenant's, or ours.
        """
        if not limits.ID_PATTERN.fullmatch(name):
            raise TimerNotFound(name)
        return qualified(self.tenant, name)

    def _give_up_at(self) -> float:
        """Return when losing against other writers has gone on for too long."""
        return self.clock.monotonic() + _CONTENDED_S

    async def _save(self, before: Timer, after: Timer) -> Timer:
        after = await self._ready(after, before)
        await self._let_in(before, after)
        await self.store.save(before, after)
        self._announce(after)
        return after

    async def _ready(self, timer: Timer, before: Timer | None) -> Timer:
        """Return a timer as it can be stored. Raises Invalid, Unavailable."""
        named = timer.target.signing_key
        if named is not None and (before is None or named != before.target.signing_key):
            await self.signers.check(self.tenant, named)
        return await seal(timer, self.vault)

    async def _let_in(self, before: Timer | None, after: Timer) -> None:
        """Ask for a place in a pull queue, where ``after`` needs one that ``before`` has not."""
        if after.queue is None or after.final or self.arrivals is None:
            return
        if before is None or before.final or before.queue != after.queue:
            await self.arrivals.admit(after.queue)

    def _announce(self, timer: Timer) -> None:
        if timer.final:
            return
        if timer.queue is not None:
            if self.arrivals is not None:
                self.arrivals.arrived(timer)
        elif timer.next_attempt_at_ms - self.clock.now_ms() <= self.horizon_ms:
            self.queue.put(timer.hint)


def _contended() -> Unavailable:
    return Unavailable("the timer", "too many writers at once", retry_after=1)
