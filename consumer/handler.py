"""One hint, from due to done: claim, wait for the millisecond, invoke, settle."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

from consumer.gate import Called
from timers import limits
from timers.call import ON_TIME_MS, action_for
from timers.errors import BrokenTimer, Conflict, TimerNotFound, Unavailable, Unreadable
from timers.ports import Callbacks, Clock, DelayQueue, Signers, TimerStore, Vault
from timers.retry import Answer
from timers.sealing import unseal
from timers.settle import lapsed, settled
from timers.signing import FixedSigners, NoSuchSecret
from timers.state import State
from timers.timer import AFTER_LEASE_MS, Hint, Timer, lease_until_ms

logger = logging.getLogger(__name__)

_TABLE_AWAY_MS: Final = 2_000
_SETTLE_PAUSE_S: Final = 0.5


class Observer(Protocol):
    """Is told what happened, for metrics."""

    def attempted(self, timer: Timer, lateness_ms: int, seconds: float) -> None:
        """``timer`` is what an attempt made of it."""
        ...

    def dropped(self, reason: str) -> None:
        """Say that a hint was dropped, and why."""
        ...

    def lapsed(self) -> None:
        """Say that a lease of a pull queue ended without a word of its worker."""
        ...


Leave = Callable[[Called | None], None]


@dataclass(frozen=True, slots=True)
class _Attempted:
    """A claimed timer, what it becomes, and the call if one was made."""

    before: Timer
    after: Timer
    called: Called | None


@dataclass(frozen=True, slots=True)
class Handler:
    """Handles hints. When a method returns, the hint's message can be acknowledged."""

    store: TimerStore
    queue: DelayQueue
    callbacks: Callbacks
    clock: Clock
    random: Random
    horizon_ms: int
    observer: Observer
    signers: Signers = field(default_factory=FixedSigners)
    on_time_ms: int = ON_TIME_MS
    vault: Vault | None = None

    async def handle(self, hint: Hint, *, redelivered: bool, leave: Leave) -> None:
        """
        Attempt a timer if the hint still holds.

        ``leave`` is called once, as soon as the target is not occupied any more: with how the call went,
        with None where none was made.
        """
        attempted = None
        try:
            attempted = await self._attempt(hint, redelivered=redelivered)
        finally:
            leave(attempted.called if attempted else None)
        if attempted:
            await self._settle(attempted.before, attempted.after)

    def drop(self, hint: Hint, reason: str) -> None:
        """Let go of a hint: if its timer is due for anything, its keeper knows."""
        self.observer.dropped(reason)
        logger.debug("hint dropped", extra={"timer_id": hint.timer_id, "version": hint.version, "reason": reason})

    async def forward(self, hint: Hint) -> None:
        """Send a hint on that came long before its time."""
        await self.queue.publish(hint)

    async def _attempt(self, hint: Hint, *, redelivered: bool) -> _Attempted | None:
        try:
            timer = None if hint.pulled else await self._claim(hint)
        except Unavailable:
            await self._later(hint, self.clock.now_ms() + _TABLE_AWAY_MS)
            return None
        except BrokenTimer:
            return None  # the store has said so, once
        if timer is None:
            await self._missed(hint, redelivered=redelivered)
            return None
        return await self._call(timer)

    async def _claim(self, hint: Hint) -> Timer | None:
        now_ms = self.clock.now_ms()
        until_ms = lease_until_ms(max(now_ms, hint.at_ms), hint.timeout_ms)
        return await self.store.claim(hint.timer_id, hint.version, now_ms=now_ms, lease_until_ms=until_ms)

    async def _later(self, hint: Hint, at_ms: int) -> None:
        await self.queue.publish(hint.sent_round(), not_before_ms=max(at_ms, hint.at_ms))

    async def _missed(self, hint: Hint, *, redelivered: bool) -> None:
        """
        Decide what a hint means that could not be claimed.

        At first sight it is stale: the timer was cancelled, edited, or handled. But one that has been
        round before may be all that is left of a consumer that died with the timer in its hands.
        """
        if not redelivered and not hint.bounces:
            self._pass_by(hint)
            return
        try:
            timer = await self.store.get(hint.timer_id)
        except (TimerNotFound, BrokenTimer):
            self._pass_by(hint)
            return
        except Unavailable:
            await self._later(hint, self.clock.now_ms() + _TABLE_AWAY_MS)
            return
        if timer.state is State.FIRING and timer.version == hint.version + 1:
            await self._wait_for_lease(hint, timer)
        else:
            self._pass_by(hint)

    def _pass_by(self, hint: Hint) -> None:
        """Let go of what is stale; of a lease that is worth no word: most are committed before they end."""
        if not hint.pulled:
            self.drop(hint, "stale")

    async def _wait_for_lease(self, hint: Hint, timer: Timer) -> None:
        now_ms = self.clock.now_ms()
        if not timer.lease_over(now_ms):
            again = timer.lease_end_hint if hint.pulled else hint
            await self._later(again, timer.lease_until_ms + AFTER_LEASE_MS)
            return
        try:
            await take_over(timer, self.store, self.queue, now_ms, on_lapse=self.observer.lapsed)
        except Unavailable:
            await self._later(hint, now_ms + _TABLE_AWAY_MS)

    async def _call(self, timer: Timer) -> _Attempted:
        ready = await self._prepared(timer)
        await self._wait_until(timer.next_attempt_at_ms)
        started_at_ms = self.clock.now_ms()
        if not _lease_covers_call(timer, started_at_ms):
            return _Attempted(timer, timer.released(started_at_ms), None)
        if isinstance(ready, Answer):
            return _Attempted(timer, self._outcome(timer, ready, started_at_ms, 0), None)
        readable, secrets = ready
        action = action_for(
            readable,
            started_at_ms=started_at_ms,
            random=self.random,
            secrets=secrets,
            on_time_ms=self.on_time_ms,
        )
        began = self.clock.monotonic()
        answer = await self.callbacks.invoke(action)
        seconds = self.clock.monotonic() - began
        after = self._outcome(timer, answer, started_at_ms, seconds)
        return _Attempted(timer, after, Called(seconds, answer.well))

    async def _prepared(self, timer: Timer) -> tuple[Timer, Sequence[bytes]] | Answer:
        """Return a timer with its secrets readable and what signs its call, or how its attempt ends without them."""
        target, wanted = timer.target, "secret"
        try:
            readable = await unseal(timer, self.vault)
            wanted = "signature"
            secrets = await self.signers.secrets(timer.tenant, target.signing_key) if target.signed else ()
        except (Unreadable, NoSuchSecret, Unavailable) as error:
            return Answer(error=f"{wanted}: {error}")
        return readable, secrets

    async def _wait_until(self, at_ms: int) -> None:
        """Return at ``at_ms`` or later, never earlier: a loop's timers may go off a little early."""
        while (remaining_ms := at_ms - self.clock.now_ms()) > 0:
            await self.clock.sleep(remaining_ms / 1000)

    def _outcome(self, timer: Timer, answer: Answer, started_at_ms: int, seconds: float) -> Timer:
        now_ms = max(self.clock.now_ms(), started_at_ms)
        after = settled(timer, answer, started_at_ms=started_at_ms, now_ms=now_ms, random=self.random)
        self.observer.attempted(after, started_at_ms - timer.next_attempt_at_ms, seconds)
        if after.state is not State.DELIVERED:
            _log_failure(after)
        return after

    async def _settle(self, before: Timer, after: Timer) -> None:
        """
        Write an outcome, as long as the lease holds, and put the next attempt on the wheel.

        Past the lease somebody else decides: the outcome is lost and the timer is called again.
        """
        while True:
            try:
                await self.store.save(before, after)
                break
            except Conflict:
                if not await self._is_stored(after):
                    logger.warning("outcome came too late to be stored", extra={"timer_id": before.id})
                    return
                break
            except Unavailable:
                if self.clock.now_ms() > before.lease_until_ms + limits.CLOCK_SKEW_MS:
                    logger.error("outcome could not be stored", extra={"timer_id": before.id})
                    return
                await self.clock.sleep(_SETTLE_PAUSE_S)
        await self._publish_next(after)

    async def _is_stored(self, after: Timer) -> bool:
        """Whether an earlier try, whose answer was lost, is what stands in the way."""
        try:
            return await self.store.get(after.id) == after
        except (TimerNotFound, BrokenTimer, Unavailable):
            return False

    async def _publish_next(self, timer: Timer) -> None:
        if timer.final or timer.next_attempt_at_ms - self.clock.now_ms() > self.horizon_ms:
            return
        try:
            await self.queue.publish(timer.hint)
        except Unavailable:
            logger.warning("next attempt left to the keeper", extra={"timer_id": timer.id})


async def take_over(
    timer: Timer, store: TimerStore, queue: DelayQueue, now_ms: int, *, on_lapse: Callable[[], None]
) -> None:
    """
    Schedule a timer again whose claimer died. Raises Unavailable; a Conflict means that somebody else did.

    ``on_lapse`` is called where the claimer was a worker of a pull queue.
    """
    after = lapsed(timer, now_ms)
    try:
        await store.save(timer, after)
    except Conflict:
        return
    logger.warning("lease ran out", extra={"timer_id": timer.id, "state": after.state.value})
    if timer.lease is not None:
        on_lapse()
    if not after.final and after.queue is None:
        queue.put(after.hint)


def _lease_covers_call(timer: Timer, now_ms: int) -> bool:
    """Whether the call would end well before the lease, though this process may have been held up since the claim."""
    return now_ms + timer.target.timeout_ms + limits.SETTLE_MARGIN_MS // 2 <= timer.lease_until_ms


def _log_failure(timer: Timer) -> None:
    attempt = timer.attempts[-1]
    logger.info(
        "attempt failed",
        extra={
            "timer_id": timer.id,
            "attempt": attempt.number,
            "status": attempt.status,
            "error": attempt.error,
            "state": timer.state.value,
        },
    )
