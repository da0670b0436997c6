"""What follows an attempt: one claimed timer and one answer -> the timer that is stored next."""

from __future__ import annotations

from random import Random
from typing import Final

from timers.retry import Answer, Delivered, RetryAt, decide
from timers.timer import Attempt, Timer

_LOST_ALLOWED: Final = 3
"""How many attempts beyond its policy a timer gets whose consumer died: it may never have been called."""


def settled(timer: Timer, answer: Answer, *, started_at_ms: int, now_ms: int, random: Random) -> Timer:
    """Return what a claimed timer becomes after a call that ended now."""
    attempt = timer.attempt(answer, started_at_ms, now_ms)
    decision = decide(timer.retry, attempt.number, answer, now_ms=now_ms, random=random)
    match decision:
        case Delivered():
            return timer.succeeded(attempt, now_ms)
        case RetryAt(at_ms):
            return timer.retried(attempt, at_ms, now_ms)
        case _:
            return timer.given_up(attempt, now_ms)


def lapsed(timer: Timer, now_ms: int) -> Timer:
    """
    Return what a timer becomes whose claimer died: scheduled for now, or dead where that keeps happening.

    The worker of a lease has had it in its hands, so a lease that ends counts like any other attempt.
    """
    attempt = timer.lost_attempt()
    allowed = _LOST_ALLOWED if timer.lease is None else 0
    if attempt.number >= timer.retry.max_attempts + allowed:
        return timer.given_up(attempt, now_ms)
    return timer.lapsed(attempt, now_ms, now_ms)


def committed(timer: Timer, now_ms: int) -> Timer:
    """Return what a leased timer becomes whose worker is done."""
    return timer.succeeded(_work(timer, None, now_ms), now_ms)


def rejected(
    timer: Timer, delay_ms: int | None, *, now_ms: int, random: Random, error: str = "rejected by its worker"
) -> Timer:
    """Return what a leased timer becomes that is given up, to be had again after ``delay_ms`` or by policy."""
    attempt = _work(timer, error, now_ms)
    if attempt.number >= timer.retry.max_attempts:
        return timer.given_up(attempt, now_ms)
    wait_ms = timer.retry.backoff_ms(attempt.number, random) if delay_ms is None else delay_ms
    return timer.retried(attempt, now_ms + wait_ms, now_ms)


def _work(timer: Timer, error: str | None, now_ms: int) -> Attempt:
    assert timer.lease is not None
    started_at_ms = timer.lease.started_at_ms
    return timer.attempt(Answer(error=error), started_at_ms, max(now_ms, started_at_ms))
