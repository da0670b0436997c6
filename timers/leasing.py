"""Taking what is ready in one pull queue."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from random import Random
from typing import Final

from timers.errors import BrokenTimer, Conflict, TimerNotFound, Unavailable
from timers.lease_token import KEY_BITS
from timers.ports import Clock, Position, TimerStore
from timers.state import State
from timers.timer import Lease, QueueName, Timer

logger = logging.getLogger(__name__)

_INDEX_LAG_S: Final = 2.0
_MOST_LOOKED_AT: Final = 4_000
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Look:
    """What is ready, oldest first, and when to look again: at once where something was, if only by the index."""

    ready: Sequence[Timer]
    again_ms: float


class Taker:
    """
    Takes what is ready in one pull queue, each with a conditional write: who is slower than another process takes less.

    The index may have for a moment what is taken already; those places are remembered and passed over.
    """

    def __init__(
        self, queue: QueueName, store: TimerStore, clock: Clock, random: Random, on_lease: Callable[[Timer], None]
    ) -> None:
        self._queue = queue
        self._store = store
        self._clock = clock
        self._random = random
        self._on_lease = on_lease
        self._gone: OrderedDict[Position, float] = OrderedDict()
        self._passed_over = 0

    async def look(self, wanted: int) -> Look:
        """Return up to ``wanted`` timers that are ready. Raises Unavailable."""
        self._forget()
        now_ms = self._clock.now_ms()
        limit = wanted + 1 + self._passed_over
        while True:
            places = await self._store.waiting(self._queue, limit=limit)
            there = [place for place in places if place not in self._gone]
            self._passed_over = len(places) - len(there)
            ready = [place for place in there if place.at_ms <= now_ms]
            seen_all = len(ready) < len(there) or len(places) < limit
            if len(ready) >= wanted or seen_all or limit >= _MOST_LOOKED_AT:
                break
            limit = min(2 * limit, _MOST_LOOKED_AT)
        timers = await asyncio.gather(*(self._read(place, now_ms) for place in ready[:wanted]))
        again_ms = -inf if ready else min((place.at_ms for place in there), default=inf)
        return Look([timer for timer in timers if timer is not None], again_ms)

    async def take(self, timer: Timer, lease_ms: int) -> Timer | None:
        """Return a timer leased, None where another was faster. Raises Unavailable: then it may be leased to nobody."""
        now_ms = self._clock.now_ms()
        leased = timer.leased(
            Lease(f"{self._random.getrandbits(KEY_BITS):0{KEY_BITS // 4}x}", now_ms), now_ms + lease_ms
        )
        self._pass_over(Position(timer.next_attempt_at_ms, timer.id))
        try:
            await self._store.save(timer, leased)
        except Conflict:
            return None
        self._on_lease(leased)
        return leased

    async def give_back(self, timer: Timer) -> None:
        """Return a timer that nobody has seen to its queue, no attempt counted; where that fails its lease lapses."""
        try:
            await self._store.save(timer, timer.released(self._clock.now_ms()))
        except (Conflict, Unavailable) as error:
            logger.warning("a lease that nobody has runs on", extra={"timer_id": timer.id, "reason": str(error)})
        else:
            self.arrived(Position(timer.next_attempt_at_ms, timer.id))

    def arrived(self, place: Position) -> None:
        """Be told that a timer is at a place, whatever was there."""
        self._gone.pop(place, None)

    async def _read(self, place: Position, now_ms: int) -> Timer | None:
        try:
            timer = await self._store.get(place.timer_id)
        except BrokenTimer as error:
            logger.error("broken timer passed over", extra={"timer_id": place.timer_id, "reason": str(error)})
        except TimerNotFound:
            pass
        else:
            waits = timer.queue == self._queue and timer.state is State.SCHEDULED
            if waits and timer.next_attempt_at_ms <= now_ms:
                return timer
        self._pass_over(place)
        return None

    def _pass_over(self, place: Position) -> None:
        self._gone[place] = self._clock.monotonic() + _INDEX_LAG_S
        self._gone.move_to_end(place)
        if len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)

    def _forget(self) -> None:
        now = self._clock.monotonic()
        while self._gone and next(iter(self._gone.values())) <= now:
            self._gone.popitem(last=False)
