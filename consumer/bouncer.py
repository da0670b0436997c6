"""
Sending hints round the wheel once more whose target is busy or shut.

No attempt is counted and the table not touched. A hint that comes while another of the same timer is
still under way is dropped: what the keeper drives again while a target is down must not multiply.
"""

from __future__ import annotations

from collections import OrderedDict
from random import Random
from typing import Final

from timers.ports import Clock, DelayQueue
from timers.timer import Hint
from timers.wheel import AIM_EARLY_MS, UNIT_MS

_FIRST_PAUSE_S: Final = 1.0
_REMEMBERED: Final = 100_000
_EARLY_MS: Final = AIM_EARLY_MS + UNIT_MS + 500
"""How much before its time a hint may come back, with something to spare."""


class Bouncer:
    """Remembers which hints it sent round, and until when they are under way."""

    def __init__(self, queue: DelayQueue, clock: Clock, random: Random) -> None:
        self._queue = queue
        self._clock = clock
        self._random = random
        self._under_way_until_ms: OrderedDict[tuple[str, int], int] = OrderedDict()

    async def bounce(self, hint: Hint, longest_s: float) -> None:
        """Send a hint round, for twice as long each time up to ``longest_s``. Raises Unavailable."""
        key = (hint.timer_id, hint.version)
        now_ms = self._clock.now_ms()
        if now_ms < self._under_way_until_ms.get(key, 0) - _EARLY_MS:
            return
        pause_s = min(_FIRST_PAUSE_S * 2**hint.bounces, longest_s) * self._random.uniform(0.5, 1)
        back_at_ms = now_ms + round(pause_s * 1000)
        await self._queue.publish(hint.sent_round(), not_before_ms=back_at_ms)
        self._remember(key, back_at_ms)

    def _remember(self, key: tuple[str, int], until_ms: int) -> None:
        self._under_way_until_ms[key] = until_ms
        self._under_way_until_ms.move_to_end(key)
        if len(self._under_way_until_ms) > _REMEMBERED:
            self._under_way_until_ms.popitem(last=False)
