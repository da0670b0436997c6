"""The sweeper: removes expired timers of the shards that this process keeps, where the table does not."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final, Protocol

from timers.errors import TimerError
from timers.ports import Clock

logger = logging.getLogger(__name__)

_ROUND_S: Final = 60.0


class Expiry(Protocol):
    """What removes timers."""

    async def sweep(self, shard: int, *, now_ms: int) -> int:
        """Remove the expired timers of a shard and return how many. Raises Unavailable."""
        ...


class Kept(Protocol):
    """Whose shards are swept."""

    @property
    def mine(self) -> Mapping[int, object]: ...


class Sweeper:
    """Goes round the shards once a minute, one after the other, so that it is never in anybody's way."""

    def __init__(self, expiry: Expiry, shards: Kept, clock: Clock) -> None:
        self._expiry = expiry
        self._shards = shards
        self._clock = clock

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self._clock.sleep(_ROUND_S)
            try:
                await self.round()
            except TimerError as error:
                logger.warning("sweeper waits", extra={"reason": str(error)})
            except Exception:
                logger.exception("sweeper's round failed")

    async def round(self) -> None:
        """Sweep every shard once. Raises Unavailable."""
        removed = 0
        for shard in list(self._shards.mine):
            removed += await self._expiry.sweep(shard, now_ms=self._clock.now_ms())
        if removed:
            logger.info("expired timers removed", extra={"count": removed})
