"""Stats are counted, not kept: so they are right, but not free, and shared for a while."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from timers.ports import Clock
from timers.service import Stats, Timers

_SHORTEST_LIFE_S: Final = 1.0
_SHARE: Final = 20
_TENANTS: Final = 1_000


@dataclass(slots=True)
class _Counted:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    stats: Stats | None = None
    fresh_until: float = 0.0


class CachedStats:
    """
    Every tenant's stats, of each counted at most once at a time.

    A count is used again for a second, or for twenty times as long as it took: counting never
    takes more than a twentieth of the time, however much there is to count.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counted: OrderedDict[str, _Counted] = OrderedDict()

    async def get(self, timers: Timers) -> Stats:
        """Return the stats of a tenant's timers. Raises Unavailable."""
        counted = self._of(timers.tenant)
        async with counted.lock:
            began = self._clock.monotonic()
            if counted.stats is None or began >= counted.fresh_until:
                counted.stats = await timers.stats()
                took = self._clock.monotonic() - began
                counted.fresh_until = began + max(_SHORTEST_LIFE_S, _SHARE * took)
            return counted.stats

    def _of(self, tenant: str) -> _Counted:
        counted = self._counted.setdefault(tenant, _Counted())
        self._counted.move_to_end(tenant)
        if len(self._counted) > _TENANTS:
            self._counted.popitem(last=False)
        return counted
