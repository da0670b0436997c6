"""
What a stored timer may hold.

Whoever meets a timer relies on its types and bounds: where they do not hold, each attempt would fail as the one before,
in the middle. So nothing comes out of the table that cannot be called, tried again, and shown. A bound of the contract
that is lowered one day stays as it is here.
"""

from __future__ import annotations

import re
from typing import Final

from timers import limits
from timers.amqp import AmqpTarget, check_amqp
from timers.errors import Invalid
from timers.lease_token import KEY_BITS
from timers.retry import RetryPolicy
from timers.target import METHODS, HttpTarget, LogTarget, QueueTarget, Target
from timers.tenant import QUALIFIED
from timers.timer import Attempt, Lease, Timer

_LATEST_MS: Final = 253_402_300_799_999  # the end of the year 9999: what is later cannot be written as a time
_BIGGEST: Final = 2**53 - 1  # what every reader of JSON can tell from its neighbours, hints' readers among them

_KEY: Final = re.compile(f"[0-9a-f]{{{KEY_BITS // 4}}}")


def is_sound(timer: Timer) -> bool:
    """Whether a timer is one of ours. Raises ValueError, TypeError, AttributeError where it is not."""
    return (
        QUALIFIED.fullmatch(timer.id) is not None
        and 1 <= timer.version < _BIGGEST
        and 0 <= timer.attempts_made < _BIGGEST
        and _are_times(timer)
        and (timer.trace is None or (type(timer.trace) is str and timer.trace.count("-") == 3))
        and all(type(label) is str for label in timer.labels.values())
        and all(_is_attempt(attempt) for attempt in timer.attempts)
        and _may_retry(timer.retry)
        and _can_be_called(timer.target)
        and (timer.lease is None or _is_lease(timer.lease))
    )


def _are_times(timer: Timer) -> bool:
    times = (
        timer.due_at_ms,
        timer.next_attempt_at_ms,
        timer.created_at_ms,
        timer.updated_at_ms,
        timer.lease_until_ms,
    )
    return min(times) >= 0 and max(times) <= _LATEST_MS


def _is_attempt(attempt: Attempt) -> bool:
    return (
        _is_number(attempt.number)
        and 0 <= attempt.started_at_ms <= _LATEST_MS
        and 0 <= attempt.finished_at_ms <= _LATEST_MS
        and _is_number(attempt.lateness_ms)
        and (attempt.status is None or _is_number(attempt.status))
        and (attempt.error is None or type(attempt.error) is str)
    )


def _is_number(value: object) -> bool:
    return type(value) is int and abs(value) <= _BIGGEST


def _is_lease(lease: Lease) -> bool:
    return _KEY.fullmatch(lease.key) is not None and 0 <= lease.started_at_ms <= _LATEST_MS


def _may_retry(retry: RetryPolicy) -> bool:
    return (
        type(retry.max_attempts) is int
        and 1 <= retry.max_attempts <= limits.MAX_ATTEMPTS
        and 0 <= retry.min_backoff <= limits.MAX_BACKOFF_S
        and 0 <= retry.max_backoff <= limits.MAX_BACKOFF_S
        and 1 <= retry.multiplier <= limits.MAX_MULTIPLIER
        and 0 <= retry.jitter <= 1
    )


def _can_be_called(target: Target) -> bool:
    if target.body is not None:
        target.body.content()  # raises ValueError
    match target:
        case HttpTarget():
            return _is_endpoint(target)
        case AmqpTarget():
            return _is_message(target)
        case LogTarget():
            return True
        case QueueTarget():
            return limits.QUEUE_PATTERN.fullmatch(target.queue) is not None


def _is_endpoint(target: HttpTarget) -> bool:
    return (
        target.key != ""  # raises ValueError
        and target.method in METHODS
        and all(type(value) is str for value in target.headers.values())
        and limits.MIN_TIMEOUT_S <= target.timeout <= limits.MAX_TIMEOUT_S
        and (target.signing_key is None or type(target.signing_key) is str)
    )


def _is_message(target: AmqpTarget) -> bool:
    """Whether it is within the bounds of AMQP, which are not ours to lower."""
    try:
        check_amqp(target)
    except Invalid:
        return False
    return True
