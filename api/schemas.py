"""Timers in the JSON of the public contract, and their way into and out of the core."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from api.targets import Strict, TargetIn, target_out
from api.times import DelayMs, Time
from timers import limits
from timers.errors import Invalid
from timers.retry import RetryPolicy
from timers.secret import NO_SECRETS, Secret
from timers.service import Stats
from timers.stamps import rfc3339
from timers.state import State
from timers.timer import Spec, Timer

_NULL: Final[JsonDict] = {"type": "null"}
Labels = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=limits.MAX_LABEL_LENGTH, pattern="^[^:]*$")],
        Annotated[str, Field(max_length=limits.MAX_LABEL_LENGTH)],
    ],
    Field(max_length=limits.MAX_LABELS),
]
Id = Annotated[str, Field(pattern=f"^{limits.ID_PATTERN.pattern}$")]


class RetryIn(Strict):
    """How often and how far apart; times in seconds."""

    max_attempts: int = Field(8, ge=1, le=limits.MAX_ATTEMPTS)
    min_backoff: float = Field(1.0, ge=0, le=limits.MAX_BACKOFF_S)
    max_backoff: float = Field(3600.0, ge=0, le=limits.MAX_BACKOFF_S)
    multiplier: float = Field(2.0, ge=1, le=limits.MAX_MULTIPLIER)
    jitter: float = Field(0.1, ge=0, le=1, description="The share by which a wait varies either way.")

    def policy(self) -> RetryPolicy:
        """Return the core's value. Raises Invalid."""
        if self.max_backoff < self.min_backoff:
            raise Invalid("/retry/max_backoff", "not below min_backoff")
        return RetryPolicy(self.max_attempts, self.min_backoff, self.max_backoff, self.multiplier, self.jitter)


class TimerIn(Strict):
    """What to call and when: exactly one of `due_at` and `delay`."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["due_at"], "properties": {"due_at": {"not": _NULL}, "delay": _NULL}},
                {"required": ["delay"], "properties": {"delay": {"not": _NULL}, "due_at": _NULL}},
            ],
            "examples": [
                {"delay": 30, "target": {"url": "https://example.com/hook", "body": {"order": 42}}},
                {"due_at": "2026-12-01T09:00:00Z", "target": {"url": "https://example.com/hook"}},
            ],
        }
    )

    due_at: Time | None = None
    delay: DelayMs | None = None
    target: TargetIn
    retry: RetryIn = Field(default_factory=RetryIn)
    labels: Labels = Field(default_factory=dict)

    def spec(self, now_ms: int, trace: str | None, kept: Mapping[str, Secret] = NO_SECRETS) -> Spec:
        """Return the core's value, a delay counted from now, secrets kept from before. Raises Invalid."""
        return Spec(
            due_at_ms=self._due_at_ms(now_ms),
            target=self.target.target(kept),
            retry=self.retry.policy(),
            labels=self.labels,
            trace=trace,
        )

    def _due_at_ms(self, now_ms: int) -> int:
        if (self.due_at is None) == (self.delay is None):
            raise Invalid("/due_at", "exactly one of due_at and delay is needed")
        if self.due_at is None:
            assert self.delay is not None
            if self.delay > limits.MAX_DELAY_MS:
                raise Invalid("/delay", "0 seconds to 10 years")
            return now_ms + self.delay
        if not 0 <= self.due_at <= now_ms + limits.MAX_DELAY_MS:
            raise Invalid("/due_at", "from 1970 to 10 years ahead")
        return self.due_at


class NewTimerIn(TimerIn):
    """A timer to schedule, under an id of the client's choice if it names one."""

    id: Id | None = None


class TimerPatch(BaseModel):
    """A JSON merge patch: what is given changes, null goes back to the default, the rest stays."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"delay": 60}, {"target": {"headers": {"x-team": None}}}]}
    )

    due_at: Any = None
    delay: Any = None
    target: Any = None
    retry: Any = None
    labels: Any = None


class AttemptOut(BaseModel):
    """One call and how it ended."""

    number: int
    started_at: str
    finished_at: str
    lateness_ms: int
    status: int | None
    error: str | None


class TimerOut(BaseModel):
    """A timer as it is."""

    id: str
    state: State
    version: int
    due_at: str
    next_attempt_at: str | None
    remaining: float | None
    target: TargetIn
    retry: RetryIn
    labels: dict[str, str]
    attempts: list[AttemptOut]
    created_at: str
    updated_at: str


class TimerList(BaseModel):
    """A part of a list; `next_cursor` leads to the next part."""

    timers: list[TimerOut]
    next_cursor: str | None


class LatenessOut(BaseModel):
    """Milliseconds between planned and real start of first attempts, over the latest deliveries."""

    p50: int | None
    p95: int | None
    p99: int | None
    max: int | None
    sample: int


class StatsOut(BaseModel):
    """How a tenant's timers do."""

    counts: dict[str, int]
    overdue: int
    oldest_overdue_seconds: float | None
    lateness_ms: LatenessOut


class FieldError(BaseModel):
    """What is wrong with one field."""

    pointer: str
    detail: str


class Problem(BaseModel):
    """An error as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    state: State | None = Field(None, description="With 409: the state that the timer is in.")
    retry_after: int | None = Field(None, description="With 429 and 503: come back after this many seconds.")
    errors: list[FieldError] | None = Field(None, description="With 422: the fields that are wrong.")


class OutcomeOut(BaseModel):
    """What became of one item of a batch."""

    status: int
    timer: TimerOut | None = None
    problem: Problem | None = None


class BatchOut(BaseModel):
    """What became of each item, in order."""

    results: list[OutcomeOut]


def fingerprint(wish: NewTimerIn) -> str:
    """Return what two requests have in common that wish for the same."""
    text = json.dumps(wish.model_dump(), sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:32]


def timer_out(timer: Timer, now_ms: int | None = None) -> dict[str, Any]:
    """Return a timer as clients see it at ``now_ms``, or saw it when it was written."""
    remaining_ms = timer.remaining_ms(timer.updated_at_ms if now_ms is None else now_ms)
    return {
        "id": timer.name,
        "state": timer.state.value,
        "version": timer.version,
        "due_at": rfc3339(timer.due_at_ms),
        "next_attempt_at": None if timer.final else rfc3339(timer.next_attempt_at_ms),
        "remaining": None if remaining_ms is None else remaining_ms / 1000,
        "target": target_out(timer.target),
        **wishes(timer),
        "attempts": [
            {
                "number": attempt.number,
                "started_at": rfc3339(attempt.started_at_ms),
                "finished_at": rfc3339(attempt.finished_at_ms),
                "lateness_ms": attempt.lateness_ms,
                "status": attempt.status,
                "error": attempt.error,
            }
            for attempt in timer.attempts
        ],
        "created_at": rfc3339(timer.created_at_ms),
        "updated_at": rfc3339(timer.updated_at_ms),
    }


def stats_out(stats: Stats) -> dict[str, Any]:
    """Return the stats as clients see them."""
    overdue_ms = stats.oldest_overdue_ms
    return {
        "counts": {state.value: count for state, count in stats.counts.by_state.items()},
        "overdue": stats.counts.overdue,
        "oldest_overdue_seconds": None if overdue_ms is None else overdue_ms / 1000,
        "lateness_ms": {
            "p50": stats.percentile(0.5),
            "p95": stats.percentile(0.95),
            "p99": stats.percentile(0.99),
            "max": stats.percentile(1),
            "sample": len(stats.lateness_ms),
        },
    }


def wishes(timer: Timer) -> dict[str, Any]:
    """Return what a timer's client asked for, but its target."""
    retry = timer.retry
    return {
        "retry": {
            "max_attempts": retry.max_attempts,
            "min_backoff": retry.min_backoff,
            "max_backoff": retry.max_backoff,
            "multiplier": retry.multiplier,
            "jitter": retry.jitter,
        },
        "labels": dict(timer.labels),
    }
