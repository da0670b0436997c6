"""What follows an attempt: one claimed timer and one answer -> the timer that is stored next."""

from __future__ import annotations

from random import Random
from typing import Final

from timers.retry import Answer, Delivered, RetryAt, decide
from timers.timer import Timer

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
    """Return what a timer becomes whose claimer died: scheduled for now, or dead where that keeps happening."""
    attempt = timer.lost_attempt()
    if attempt.number >= timer.retry.max_attempts + _LOST_ALLOWED:
        return timer.given_up(attempt, now_ms)
    return timer.lapsed(attempt, now_ms, now_ms)
