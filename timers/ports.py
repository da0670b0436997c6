"""What the core needs of the world, by role. Adapters live in ``infra``; tests and simulations bring their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from timers.amqp import Destination, HeaderValue
from timers.keys import Key
from timers.retry import Answer
from timers.secret import Sealed
from timers.signing import Secrets
from timers.state import State
from timers.tenant import DEFAULT
from timers.timer import Hint, QueueName, Timer


class Clock(Protocol):
    """The time, and waiting for it."""

    def now_ms(self) -> int:
        """Return the wall clock's time in epoch milliseconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


@dataclass(frozen=True, slots=True)
class Filter:
    """What to list of whose; times bound ``Timer.listed_at_ms``, ``due_after_ms`` included, ``due_before_ms`` not."""

    states: frozenset[State] = frozenset(State)
    due_after_ms: int | None = None
    due_before_ms: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    tenant: str = DEFAULT
    queue: str | None = None

    def admits(self, timer: Timer) -> bool:
        """Whether a timer is listed."""
        return (
            timer.tenant == self.tenant
            and timer.state in self.states
            and (self.due_after_ms is None or timer.listed_at_ms >= self.due_after_ms)
            and (self.due_before_ms is None or timer.listed_at_ms < self.due_before_ms)
            and all(timer.labels.get(key) == value for key, value in self.labels.items())
            and (self.queue is None or timer.queue == QueueName(self.tenant, self.queue))
        )


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the order of a list: ``Timer.listed_at_ms``, then the id."""

    at_ms: int
    timer_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, soonest first. Where ``next`` is given there may be more, even after an empty part."""

    timers: tuple[Timer, ...]
    next: Position | None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many timers are in each state, how many are overdue, and the planned time of the most overdue."""

    by_state: Mapping[State, int]
    overdue: int
    oldest_due_ms: int | None


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How many timers of a pull queue wait for their time, are ready, are leased; the planned time of the oldest."""

    scheduled: int
    ready: int
    leased: int
    oldest_ready_ms: int | None

    @property
    def live(self) -> int:
        """All of them."""
        return self.scheduled + self.ready + self.leased


class TimerStore(Protocol):
    """
    The truth. Every method raises Unavailable where the store does not answer in time.

    A write that raised Unavailable may still have happened.
    """

    async def create(self, timer: Timer) -> None:
        """Store a new timer. Raises AlreadyExists where its id is taken."""
        ...

    async def get(self, timer_id: str) -> Timer:
        """Return a timer as of the latest write. Raises TimerNotFound."""
        ...

    async def save(self, before: Timer, after: Timer) -> None:
        """
        Replace ``before`` by ``after``.

        Raises Conflict unless the stored version is ``before.version``, so that of two writers
        that move the same timer exactly one succeeds.
        """
        ...

    async def claim(self, timer_id: str, version: int, *, now_ms: int, lease_until_ms: int) -> Timer | None:
        """
        Move a scheduled timer of exactly this version to firing and return it.

        Returns None where the timer is gone, of another version, or not scheduled.
        """
        ...

    async def live(
        self, shard: int, *, from_ms: int, until_ms: int, limit: int, after: Position | None = None
    ) -> Sequence[Timer]:
        """
        Return up to ``limit`` live timers of a shard planned within ``[from_ms, until_ms)``, soonest first.

        Timers of pull queues are not among them: nobody has to be told of those.
        ``after`` is the place of the last one of the page before. Fewer than ``limit``: there are no more.
        May miss the writes of the last second.
        """
        ...

    async def lapsed(self, shard: int, *, until_ms: int, limit: int) -> Sequence[Timer]:
        """
        Return up to ``limit`` timers of a shard's pull queues whose lease ends before ``until_ms``, soonest first.

        May miss the writes of the last second.
        """
        ...

    async def waiting(self, queue: QueueName, *, limit: int) -> Sequence[Position]:
        """
        Return the places of the ``limit`` soonest scheduled timers of a pull queue, due or not, in order of time.

        May miss the writes of the last second, and have what they took away.
        """
        ...

    async def count_queue(self, queue: QueueName, *, now_ms: int) -> QueueCounts:
        """Return how many timers a pull queue has. May miss the writes of the last second."""
        ...

    async def select(self, wanted: Filter, *, after: Position | None, limit: int) -> Page:
        """Return the timers that ``wanted`` admits, soonest due first. May miss the writes of the last second."""
        ...

    async def count(self, *, tenant: str, now_ms: int, grace_ms: int) -> Counts:
        """Return how many timers a tenant has; the overdue are live ones planned before ``now_ms - grace_ms``."""
        ...

    async def pending(self, *, tenant: str) -> int:
        """Return how many live timers a tenant has."""
        ...

    async def delivered(self, *, tenant: str, since_ms: int, limit: int) -> Sequence[Timer]:
        """Return about ``limit`` of a tenant's latest delivered timers, due since ``since_ms``, in no order."""
        ...

    async def check(self) -> None:
        """Return if the store answers and is provisioned."""
        ...


class Quota(Protocol):
    """How many live timers a tenant may have."""

    async def admit(self, tenant: str) -> None:
        """Return if one more may come to life. Raises Overloaded, Unavailable."""
        ...


class KeyStore(Protocol):
    """The api keys. Every method raises Unavailable where the store does not answer in time."""

    async def add(self, key: Key) -> bool:
        """Store a new key; returns False where its id is taken."""
        ...

    async def get(self, key_id: str) -> Key | None:
        """Return a key as of the latest write, None where there is none."""
        ...

    async def all(self) -> Sequence[Key]:
        """Return every key, oldest first. May miss the writes of the last second."""
        ...

    async def revoke(self, key_id: str, at_ms: int) -> bool:
        """Let a key open nothing from ``at_ms`` on; returns False where there is none."""
        ...


class DelayQueue(Protocol):
    """The clock: hands each hint to some consumer near its time, at least once while the broker lives."""

    def put(self, hint: Hint, *, not_before_ms: int | None = None) -> None:
        """
        Take a hint for delivery at ``not_before_ms`` (its own time where None), without waiting.

        Kept through a broker outage as long as there is room; past that the oldest are dropped
        and the keeper re-drives their timers.
        """
        ...

    async def publish(self, hint: Hint, *, not_before_ms: int | None = None) -> None:
        """Put a hint and wait until the broker has confirmed it. Raises Unavailable after a bounded time."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request to a target; ``timeout`` in seconds covers all of it."""

    url: str = field(repr=False)
    method: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | None = field(repr=False)
    timeout: float


@dataclass(frozen=True, slots=True)
class Message:
    """
    One message to an exchange of the broker.

    ``properties`` are AMQP's basic properties by name, headers apart; ``timeout`` in seconds covers the confirm.
    """

    to: Destination
    headers: Mapping[str, HeaderValue]
    properties: Mapping[str, str | int]
    content: bytes
    timeout: float


@dataclass(frozen=True, slots=True)
class Echo:
    """One line for the log: the text of a timer's body, and which attempt of which timer it is."""

    timer_id: str
    text: str
    attempt: int
    lateness_ms: int


Action = Call | Message | Echo
"""What is done when a timer is due, by the type of its target."""


class Callbacks(Protocol):
    """The targets."""

    async def invoke(self, action: Action) -> Answer:
        """Do what a target wants and say how it ended; a failure is an answer, never an exception."""
        ...


class Vault(Protocol):
    """
    Makes texts unreadable for whoever has the store only.

    Each is bound to its place, a text that no other one has: at another place it does not open.
    """

    async def seal(self, texts: Mapping[str, str]) -> Mapping[str, Sealed]:
        """Return texts sealed, by place. Raises Unavailable."""
        ...

    async def open(self, sealed: Mapping[str, Sealed]) -> Mapping[str, str]:
        """Return the texts, by place. Raises Unreadable, Unavailable."""
        ...


class Signers(Protocol):
    """Knows what calls are signed with."""

    async def secrets(self, tenant: str, secret_id: str | None) -> Sequence[bytes]:
        """
        Return all secrets that sign a tenant's calls, or the one of that id.

        Raises NoSuchSecret, Unreadable, Unavailable.
        """
        ...

    async def check(self, tenant: str, secret_id: str) -> None:
        """Raise Invalid where no secret in force of a tenant has that id, Unavailable."""
        ...


class SecretStore(Protocol):
    """The signing secrets of tenants, each tenant's together under one version."""

    async def of(self, tenant: str) -> tuple[Secrets, int]:
        """Return a tenant's secrets, oldest first, and their version, 0 where it never had any. Raises Unavailable."""
        ...

    async def tenants(self) -> Sequence[str]:
        """Return who has, or had, secrets. May miss the writes of the last second. Raises Unavailable."""
        ...

    async def save(self, tenant: str, secrets: Secrets, before: int) -> None:
        """Replace a tenant's secrets of the version ``before``. Raises Conflict where it is not that, Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class ShardLease:
    """
    Who keeps a shard.

    A holder counts ``beat`` up; whoever sees it stand still for long enough by its own clock may take
    the shard over, so no two clocks are ever compared.
    """

    shard: int
    owner: str
    beat: int
    loaded_until_ms: int


class ShardLeases(Protocol):
    """The leases over the shards."""

    async def read(self) -> Sequence[ShardLease]:
        """Return every lease there is, in no order; a shard never kept has none."""
        ...

    async def write(self, before: ShardLease | None, after: ShardLease) -> bool:
        """Replace ``before`` (None: no lease) by ``after``; returns False where another was faster."""
        ...

    async def clear(self) -> None:
        """Forget every lease, and with it how far each shard is loaded: the wheel has lost its hints."""
        ...


@dataclass(frozen=True, slots=True)
class KnownQueues:
    """The pull queues of a tenant, and which of them give nothing out."""

    names: frozenset[str] = frozenset()
    paused: frozenset[str] = frozenset()


class Arrivals(Protocol):
    """The door to the pull queues."""

    async def admit(self, queue: QueueName) -> None:
        """Let a timer into a queue. Raises Overloaded where it is full, Invalid where there are too many."""
        ...

    def arrived(self, timer: Timer) -> None:
        """Be told of a timer that waits in a queue from now on."""
        ...


class QueueRegistry(Protocol):
    """Which pull queues there are. Every method raises Unavailable; each write is atomic."""

    async def read(self, tenant: str) -> KnownQueues:
        """Return a tenant's queues as of the latest write."""
        ...

    async def add(self, queue: QueueName, *, most: int) -> bool:
        """Add a queue, unless its tenant has ``most`` others; returns whether it is there now."""
        ...

    async def pause(self, queue: QueueName) -> None:
        """Have a queue give nothing out."""
        ...

    async def resume(self, queue: QueueName) -> None:
        """Undo a pause."""
        ...

    async def remove(self, queue: QueueName) -> None:
        """Forget a queue."""
        ...
