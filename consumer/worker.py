"""Receives hints, holds each until its millisecond, has it handled, acknowledges it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Coroutine
from functools import partial
from typing import Final, Protocol

from consumer.bouncer import Bouncer
from consumer.gate import Gate, Visitor
from consumer.handler import Handler
from timers.errors import Unavailable
from timers.ports import Clock
from timers.tenant import tenant_of
from timers.timer import Hint
from timers.wheel import AIM_EARLY_MS, SPAN_MS, UNIT_MS

logger = logging.getLogger(__name__)

_CLAIM_AHEAD_MS: Final = 10
"""How long before its time a timer is claimed, so that the call can start on time."""

_TOGETHER_MS: Final = 5
"""How much sooner still, where another is claimed anyway: two claims in one table call cost half."""

_LONGEST_HOLD_MS: Final = AIM_EARLY_MS + 2 * UNIT_MS
_FARTHEST_MS: Final = 2 * SPAN_MS
"""Nobody puts a hint on the wheel that long before its time: one that claims to be would go round for ever."""

_PAUSE_S: Final = 1.0


class Delivery(Protocol):
    """A hint that some queue delivered and wants acknowledged."""

    @property
    def hint(self) -> Hint: ...

    @property
    def redelivered(self) -> bool: ...

    def ack(self) -> None: ...

    def give_back(self) -> None: ...


class Worker:
    """
    Handles deliveries, each in its own time.

    How many it holds is bounded by the queue's prefetch, how many it calls by the gate.
    """

    def __init__(self, handler: Handler, gate: Gate, clock: Clock) -> None:
        self._handler = handler
        self._bouncer = Bouncer(handler.queue, clock, handler.random)
        self._gate = gate
        self._clock = clock
        self._held: list[tuple[int, int, Delivery]] = []
        self._order = itertools.count()
        self._alarm: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def held(self) -> int:
        """How many hints wait for their time."""
        return len(self._held)

    def receive(self, delivery: Delivery) -> None:
        """Take charge of a delivery."""
        if self._stopping:
            return
        ahead_ms = delivery.hint.at_ms - self._clock.now_ms()
        if ahead_ms > _FARTHEST_MS:
            self._handler.drop(delivery.hint, "far")
            delivery.ack()
        elif ahead_ms > _LONGEST_HOLD_MS:
            self._spawn(self._acknowledge(delivery, self._handler.forward(delivery.hint)))
        elif ahead_ms <= _CLAIM_AHEAD_MS:
            self._enter(delivery)
        else:
            at_ms = delivery.hint.at_ms - _CLAIM_AHEAD_MS
            heapq.heappush(self._held, (at_ms, next(self._order), delivery))
            self._set_alarm()

    async def stop(self, timeout: float) -> None:
        """Let go of what waits, and finish what is in progress for up to ``timeout`` seconds."""
        self._stopping = True
        self._held.clear()
        self._gate.clear()
        if self._alarm is not None:
            self._alarm.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout)
            for task in late:
                task.cancel()
            logger.info("worker stopped", extra={"cut_off": len(late)})

    def _set_alarm(self) -> None:
        """Wake up for the soonest held hint."""
        if not self._held:
            return
        loop = asyncio.get_running_loop()
        seconds = max(0, self._held[0][0] - self._clock.now_ms()) / 1000
        when = loop.time() + seconds
        if self._alarm is not None and not self._alarm.cancelled():
            if self._alarm.when() <= when + 0.0005:
                return
            self._alarm.cancel()
        self._alarm = loop.call_at(when, self._wake)

    def _wake(self) -> None:
        self._alarm = None
        until_ms = self._clock.now_ms() + _TOGETHER_MS
        while self._held and self._held[0][0] <= until_ms:
            self._enter(heapq.heappop(self._held)[2])
        self._set_alarm()

    def _enter(self, delivery: Delivery) -> None:
        hint = delivery.hint
        tenant = tenant_of(hint.timer_id)
        leave = partial(self._gate.leave, hint.target_key, tenant=tenant)
        handle = partial(self._handler.handle, hint, redelivered=delivery.redelivered, leave=leave)
        bounce = partial(self._bouncer.bounce, hint)
        visitor = Visitor(
            start=lambda: self._spawn(self._acknowledge(delivery, handle())),
            turn_away=lambda pause_s: self._spawn(self._acknowledge(delivery, bounce(pause_s))),
            tenant=tenant,
        )
        self._gate.enter(hint.target_key, visitor)

    async def _acknowledge(self, delivery: Delivery, work: Coroutine[object, object, None]) -> None:
        """
        Acknowledge a delivery once its work is done, or give it back.

        What fails for another reason than that something is away would fail again: it is given back once only.
        """
        try:
            await work
        except Exception as error:
            logger.exception("hint failed", extra={"timer_id": delivery.hint.timer_id})
            await asyncio.sleep(_PAUSE_S)  # so that nothing spins
            if isinstance(error, Unavailable) or not delivery.redelivered:
                delivery.give_back()
                return
            self._handler.drop(delivery.hint, "failed")
        delivery.ack()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
