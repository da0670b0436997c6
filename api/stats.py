"""Stats are counted, not kept: so they are right, but not free, and shared for a while."""

from __future__ import annotations

import asyncio
from typing import Final

from timers.service import Stats, Timers

_SHORTEST_LIFE_S: Final = 1.0
_SHARE: Final = 20


class CachedStats:
    """
    The service's stats, counted at most once at a time.

    A count is used again for a second, or for twenty times as long as it took: counting never
    takes more than a twentieth of the time, however much there is to count.
    """

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._lock = asyncio.Lock()
        self._stats: Stats | None = None
        self._fresh_until = 0.0

    async def get(self) -> Stats:
        """Return the stats. Raises Unavailable."""
        async with self._lock:
            clock = self._timers.clock
            began = clock.monotonic()
            if self._stats is None or began >= self._fresh_until:
                self._stats = await self._timers.stats()
                took = clock.monotonic() - began
                self._fresh_until = began + max(_SHORTEST_LIFE_S, _SHARE * took)
            return self._stats
