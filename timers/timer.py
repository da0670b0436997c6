"""A timer and its moves. Values only: each move returns the timer that follows, one version on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hmac import compare_digest
from typing import Any, Final, Self

from timers import limits
from timers.retry import Answer, RetryPolicy
from timers.secret import Sealed
from timers.state import FINAL, Event, State, advance
from timers.target import PULLED, QueueTarget, Target
from timers.tenant import name_of, tenant_of

AFTER_LEASE_MS: Final = limits.CLOCK_SKEW_MS + 100
"""How long after a lease's end somebody looks at it."""

MOST_BOUNCES: Final = 30


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call and how it ended; ``lateness_ms`` is its start against its planned time."""

    number: int
    started_at_ms: int
    finished_at_ms: int
    lateness_ms: int
    status: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Spec:
    """What a client asks for."""

    due_at_ms: int
    target: Target
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    labels: Mapping[str, str] = field(default_factory=dict)
    trace: str | None = None
    """The W3C traceparent of the request that asked."""


@dataclass(frozen=True, slots=True)
class QueueName:
    """A pull queue, by its tenant and what that calls it."""

    tenant: str
    name: str


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's hold on a timer of a pull queue: whoever knows ``key`` has it."""

    key: str = field(repr=False)
    started_at_ms: int


@dataclass(frozen=True, slots=True)
class Hint:
    """
    What travels through the wheel: "look at this timer now".

    It is never believed beyond that. It tells the version it was made for, so that a claim can be
    tried without a read, and enough of the target to hold back a call before any table write.
    """

    timer_id: str
    version: int
    at_ms: int
    timeout_ms: int
    target_key: str
    bounces: int = 0
    """How often it was sent round again because its target was busy."""

    @property
    def pulled(self) -> bool:
        """Whether its timer is of a pull queue: then it says "look whether this lease has ended"."""
        return self.target_key.startswith(PULLED)

    def sent_round(self) -> Hint:
        """Return this hint for one more round."""
        return replace(self, bounces=min(self.bounces + 1, MOST_BOUNCES))


@dataclass(frozen=True, slots=True)
class Timer:
    """One timer as stored. ``version`` counts its writes, so that of two writers exactly one wins."""

    id: str
    state: State
    version: int
    due_at_ms: int
    next_attempt_at_ms: int
    """The planned time of the next attempt, or of the latest where the timer is final."""
    target: Target
    retry: RetryPolicy
    labels: Mapping[str, str]
    created_at_ms: int
    updated_at_ms: int
    attempts: tuple[Attempt, ...] = ()
    attempts_made: int = 0
    """Attempts that count against the policy; a replay or a new due time starts afresh."""
    lease_until_ms: int = 0
    trace: str | None = None
    request: str | Sealed | None = None
    """The fingerprint of the request that created it under an idempotency key; sealed where it has secrets."""
    lease: Lease | None = None
    """Who has it, or has had it delivered; of a pull queue only."""

    @classmethod
    def create(cls, timer_id: str, spec: Spec, now_ms: int, request: str | Sealed | None = None) -> Self:
        """Return the first version of a timer."""
        return cls(
            id=timer_id,
            state=State.SCHEDULED,
            version=1,
            due_at_ms=spec.due_at_ms,
            next_attempt_at_ms=spec.due_at_ms,
            target=spec.target,
            retry=spec.retry,
            labels=spec.labels,
            created_at_ms=now_ms,
            updated_at_ms=now_ms,
            trace=spec.trace,
            request=request,
        )

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return tenant_of(self.id)

    @property
    def name(self) -> str:
        """Its id as its tenant knows it."""
        return name_of(self.id)

    @property
    def final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.state in FINAL

    @property
    def listed_at_ms(self) -> int:
        """The time it is listed by: of the next attempt or of its lease's end while it is live, then its due time."""
        if self.final:
            return self.due_at_ms
        return self.next_attempt_at_ms if self.lease is None else self.lease_until_ms

    @property
    def queue(self) -> QueueName | None:
        """The pull queue it waits in, None where its target is called."""
        return QueueName(self.tenant, self.target.queue) if isinstance(self.target, QueueTarget) else None

    def remaining_ms(self, now_ms: int) -> int | None:
        """Return how long it is until the next attempt; None where there is none to come."""
        return None if self.final else max(0, self.next_attempt_at_ms - now_ms)

    @property
    def position(self) -> tuple[int, str]:
        """Its place in a list."""
        return self.listed_at_ms, self.id

    @property
    def hint(self) -> Hint:
        """The message for the wheel."""
        return Hint(self.id, self.version, self.next_attempt_at_ms, self.target.timeout_ms, self.target.key)

    @property
    def lease_end_hint(self) -> Hint:
        """The message for the wheel that has somebody look whether this lease has ended."""
        at_ms = self.lease_until_ms + AFTER_LEASE_MS
        return Hint(self.id, self.version - 1, at_ms, self.target.timeout_ms, self.target.key, bounces=1)

    def replaced(self, spec: Spec, now_ms: int) -> Timer:
        """Return this timer asked for anew, its history dropped."""
        state = advance(self.state, Event.REPLACE)
        fresh = Timer.create(self.id, spec, now_ms, self.request)
        return replace(fresh, state=state, version=self.version + 1, created_at_ms=self.created_at_ms)

    def edited(self, spec: Spec, now_ms: int) -> Timer:
        """Return this timer with the fields of ``spec``; a new due time counts attempts afresh."""
        changes: dict[str, Any] = {"target": spec.target, "retry": spec.retry, "labels": spec.labels}
        if spec.due_at_ms != self.due_at_ms:
            changes |= {"due_at_ms": spec.due_at_ms, "next_attempt_at_ms": spec.due_at_ms, "attempts_made": 0}
        return self._moved(Event.EDIT, now_ms, **changes)

    def fired(self, now_ms: int) -> Timer:
        """Return this timer due now."""
        return self._moved(Event.FIRE, now_ms, due_at_ms=min(self.due_at_ms, now_ms), next_attempt_at_ms=now_ms)

    def cancelled(self, now_ms: int) -> Timer:
        """Return this timer cancelled."""
        return self._moved(Event.CANCEL, now_ms)

    def replayed(self, now_ms: int) -> Timer:
        """Return this dead timer scheduled for now, attempts counted afresh, its history kept."""
        return self._moved(Event.REPLAY, now_ms, next_attempt_at_ms=now_ms, attempts_made=0)

    def claimed(self, lease_until_ms: int, now_ms: int) -> Timer:
        """Return this timer firing, nobody else's until the lease ends."""
        return self._moved(Event.CLAIM, now_ms, lease_until_ms=lease_until_ms)

    def leased(self, lease: Lease, until_ms: int) -> Timer:
        """Return this timer of a pull queue firing, in the hands of whoever has the lease."""
        return self._moved(Event.CLAIM, lease.started_at_ms, lease=lease, lease_until_ms=until_ms)

    def extended(self, lease_until_ms: int, now_ms: int) -> Timer:
        """Return this leased timer with another end of its lease."""
        return self._moved(Event.EXTEND, now_ms, lease_until_ms=lease_until_ms)

    def succeeded(self, attempt: Attempt, now_ms: int) -> Timer:
        """Return this timer delivered by ``attempt``."""
        return self._attempted(Event.SUCCEED, attempt, now_ms)

    def given_up(self, attempt: Attempt, now_ms: int) -> Timer:
        """Return this timer dead after ``attempt``."""
        return self._attempted(Event.GIVE_UP, attempt, now_ms)

    def retried(self, attempt: Attempt, at_ms: int, now_ms: int) -> Timer:
        """Return this timer scheduled again for ``at_ms`` after ``attempt``."""
        return self._attempted(Event.RETRY, attempt, now_ms, next_attempt_at_ms=at_ms)

    def released(self, now_ms: int) -> Timer:
        """Return this claimed timer scheduled as before: no call was made."""
        return self._moved(Event.RELEASE, now_ms, lease=None, lease_until_ms=0)

    def lapsed(self, attempt: Attempt, at_ms: int, now_ms: int) -> Timer:
        """Return this timer scheduled for ``at_ms``: its claimer died in ``attempt``, whose outcome is unknown."""
        return self._attempted(Event.LEASE_END, attempt, now_ms, next_attempt_at_ms=at_ms)

    def lost_attempt(self) -> Attempt:
        """Return the attempt of a claimer that never reported back."""
        if self.lease is not None:
            started, error = self.lease.started_at_ms, "the lease ended; what became of the work is unknown"
        else:
            started = max(self.updated_at_ms, self.next_attempt_at_ms)  # it is claimed a little before its time
            error = "the consumer died during this attempt; its outcome is unknown"
        return Attempt(
            number=self.attempts_made + 1,
            started_at_ms=started,
            finished_at_ms=self.lease_until_ms,
            lateness_ms=started - self.next_attempt_at_ms,
            status=None,
            error=error,
        )

    def attempt(self, answer: Answer, started_at_ms: int, finished_at_ms: int) -> Attempt:
        """Return the attempt that was made on this claimed timer."""
        return Attempt(
            number=self.attempts_made + 1,
            started_at_ms=started_at_ms,
            finished_at_ms=finished_at_ms,
            lateness_ms=started_at_ms - self.next_attempt_at_ms,
            status=answer.status,
            error=answer.error,
        )

    def lease_over(self, now_ms: int) -> bool:
        """Whether its claimer must be dead, by a clock that may be off by CLOCK_SKEW_MS."""
        return self.state is State.FIRING and now_ms > self.lease_until_ms + limits.CLOCK_SKEW_MS

    def leased_as(self, key: str) -> bool:
        """Whether the latest lease has this key."""
        return self.lease is not None and compare_digest(self.lease.key, key)

    def _attempted(self, event: Event, attempt: Attempt, now_ms: int, **changes: Any) -> Timer:
        kept = (*self.attempts, attempt)[-limits.KEPT_ATTEMPTS :]
        changes |= {"attempts": kept, "attempts_made": attempt.number, "lease_until_ms": 0}
        if event is not Event.SUCCEED:  # whoever committed may ask again
            changes["lease"] = None
        return self._moved(event, now_ms, **changes)

    def _moved(self, event: Event, now_ms: int, **changes: Any) -> Timer:
        state = advance(self.state, event)
        return replace(self, state=state, version=self.version + 1, updated_at_ms=now_ms, **changes)


def lease_until_ms(now_ms: int, timeout_ms: int) -> int:
    """Return until when a claim made now protects a call of at most ``timeout_ms``."""
    return now_ms + timeout_ms + limits.SETTLE_MARGIN_MS
