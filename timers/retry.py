"""Whether and when a call that failed is tried again: a decision is a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random
from typing import Final

_MAY_SAY_WHEN: Final = frozenset({429, 503})
_GONE: Final = 410
_SERVER_ERRORS: Final = 500


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how far apart; times in seconds, ``jitter`` the share by which a wait may vary either way."""

    max_attempts: int = 8
    min_backoff: float = 1.0
    max_backoff: float = 3600.0
    multiplier: float = 2.0
    jitter: float = 0.1

    def backoff_ms(self, attempts_made: int, random: Random) -> int:
        """Return how long to wait after ``attempts_made`` attempts (1 or more)."""
        wait = self.min_backoff
        for _ in range(attempts_made - 1):
            wait *= self.multiplier
            if wait >= self.max_backoff:
                break
        spread = 1 + self.jitter * (2 * random.random() - 1)
        return round(min(min(wait, self.max_backoff) * spread, self.max_backoff) * 1000)


@dataclass(frozen=True, slots=True)
class Answer:
    """
    How a call ended: with a status, or an error where none came, or neither where it was done.

    ``retry_after_ms`` and ``stop`` are as the target said.
    """

    status: int | None = None
    error: str | None = None
    retry_after_ms: int | None = None
    stop: bool = False

    @property
    def delivered(self) -> bool:
        """Whether the target took it: any 2xx, or what has no status to give."""
        return self.error is None if self.status is None else 200 <= self.status < 300

    @property
    def well(self) -> bool:
        """Whether the target is well, whatever it thought of the request."""
        return self.error is None if self.status is None else self.status < _SERVER_ERRORS

    @property
    def refused_for_good(self) -> bool:
        """Whether the target asked never to be called for this again."""
        return self.stop or self.status == _GONE


@dataclass(frozen=True, slots=True)
class Delivered:
    """The target took it."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Try again at this time (epoch ms)."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt."""


Decision = Delivered | RetryAt | GiveUp


def decide(policy: RetryPolicy, attempts_made: int, answer: Answer, *, now_ms: int, random: Random) -> Decision:
    """Decide what follows attempt number ``attempts_made`` that ended with ``answer`` at ``now_ms``."""
    if answer.delivered:
        return Delivered()
    if answer.refused_for_good or attempts_made >= policy.max_attempts:
        return GiveUp()
    return RetryAt(now_ms + _wait_ms(policy, attempts_made, answer, random))


def _wait_ms(policy: RetryPolicy, attempts_made: int, answer: Answer, random: Random) -> int:
    if answer.retry_after_ms is not None and answer.status in _MAY_SAY_WHEN:
        at_least_ms = max(answer.retry_after_ms, round(policy.min_backoff * 1000))
        return min(at_least_ms, round(policy.max_backoff * 1000))
    return policy.backoff_ms(attempts_made, random)


def parse_retry_after(value: str, now_ms: int) -> int | None:
    """
    Return the milliseconds that a Retry-After header asks for, None where it says nothing sensible.

    Source: RFC 9110, 10.2.3: whole seconds or an HTTP date.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return int(value[:12]) * 1000
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0, _epoch_ms(when) - now_ms)


def _epoch_ms(when: datetime) -> int:
    return round((when - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
