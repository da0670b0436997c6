"""
Which shards this process keeps.

Every keeper counts up the beat of the leases it holds and watches the beats of the others. A beat that
stands still for PATIENCE_S by the watcher's own clock means a dead holder. Each takes shards, one write
each, until they are evenly shared. A moment in which two believe to hold a shard is harmless: they
would publish the same hints.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from timers.errors import TimerError
from timers.ports import Clock, ShardLease, ShardLeases

logger = logging.getLogger(__name__)

BEAT_S: Final = 2.0
PATIENCE_S: Final = 6.0


@dataclass(frozen=True, slots=True)
class _Sighting:
    beat: tuple[str, int]
    since: float


class Shards:
    """The shards that ``owner`` keeps."""

    def __init__(self, leases: ShardLeases, clock: Clock, random: Random, *, owner: str, shards: int) -> None:
        self._leases = leases
        self._clock = clock
        self._random = random
        self._owner = owner
        self._shards = shards
        self._sightings: dict[int, _Sighting] = {}
        self._mine: dict[int, ShardLease] = {}

    @property
    def mine(self) -> Mapping[int, ShardLease]:
        """The leases held, by shard."""
        return self._mine

    def loaded(self, shard: int, until_ms: int) -> None:
        """Remember how far a shard is loaded; stored with the next beat."""
        if shard in self._mine:
            self._mine[shard] = replace(self._mine[shard], loaded_until_ms=until_ms)

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            try:
                await self.beat()
            except TimerError as error:
                logger.warning("shard leases wait", extra={"reason": str(error)})
            except Exception:
                logger.exception("beating the shard leases failed")
            await self._clock.sleep(BEAT_S)

    async def beat(self) -> None:
        """Renew what is held, drop what was lost, take what is due to this process. Raises Unavailable."""
        stored = {lease.shard: lease for lease in await self._leases.read()}
        self._look(stored)
        await self._renew(stored)
        await self._take(stored)

    async def leave(self) -> None:
        """Give up every shard at once, so that nobody has to wait. Raises Unavailable."""
        leases = list(self._mine.values())
        self._mine.clear()
        await asyncio.gather(*(self._leases.write(lease, _next(lease, owner="")) for lease in leases))

    def _look(self, stored: Mapping[int, ShardLease]) -> None:
        now = self._clock.monotonic()
        for shard, lease in stored.items():
            seen = self._sightings.get(shard)
            if seen is None or seen.beat != (lease.owner, lease.beat):
                self._sightings[shard] = _Sighting((lease.owner, lease.beat), now)

    async def _renew(self, stored: Mapping[int, ShardLease]) -> None:
        """Renew what is held. It stays held meanwhile: the keeper's rounds go on while the beats are written."""
        for shard in list(self._mine):
            if shard not in stored or stored[shard].owner != self._owner:
                del self._mine[shard]
        await asyncio.gather(*(self._renew_one(stored[shard]) for shard in list(self._mine)))

    async def _renew_one(self, stored: ShardLease) -> None:
        if not await self._write(stored, replace(self._mine[stored.shard], beat=stored.beat + 1)):
            self._mine.pop(stored.shard, None)

    async def _take(self, stored: Mapping[int, ShardLease]) -> None:
        owners = Counter(lease.owner for lease in stored.values() if self._alive(lease))
        owners.pop(self._owner, None)
        share = -(-self._shards // (len(owners) + 1))
        free = [shard for shard in range(self._shards) if self._free(shard, stored.get(shard))]
        self._random.shuffle(free)
        for shard in free[: max(0, share - len(self._mine))]:
            await self._write_taken(shard, stored.get(shard))
        if len(self._mine) < self._shards // (len(owners) + 1):
            await self._steal(stored, owners, share)

    async def _steal(self, stored: Mapping[int, ShardLease], owners: Counter[str], share: int) -> None:
        """Take one shard from whoever holds the most and too many."""
        richest, held = max(owners.items(), key=lambda item: item[1], default=("", 0))
        if held > share:
            candidates = [lease.shard for lease in stored.values() if lease.owner == richest]
            shard = self._random.choice(candidates)
            await self._write_taken(shard, stored[shard])

    async def _write_taken(self, shard: int, before: ShardLease | None) -> None:
        loaded_until_ms = before.loaded_until_ms if before else 0
        beat = before.beat + 1 if before else 1
        if await self._write(before, ShardLease(shard, self._owner, beat, loaded_until_ms)):
            logger.info("shard taken", extra={"shard": shard, "from": before.owner if before else None})

    async def _write(self, before: ShardLease | None, after: ShardLease) -> bool:
        won = await self._leases.write(before, after)
        if won:
            held = self._mine.get(after.shard, after)
            loaded_until_ms = max(held.loaded_until_ms, after.loaded_until_ms)  # it may have grown meanwhile
            self._mine[after.shard] = replace(after, loaded_until_ms=loaded_until_ms)
            self._sightings[after.shard] = _Sighting((after.owner, after.beat), self._clock.monotonic())
        return won

    def _free(self, shard: int, lease: ShardLease | None) -> bool:
        return shard not in self._mine and (lease is None or not self._alive(lease))

    def _alive(self, lease: ShardLease) -> bool:
        seen = self._sightings[lease.shard]
        return lease.owner != "" and self._clock.monotonic() - seen.since < PATIENCE_S


def _next(lease: ShardLease, owner: str) -> ShardLease:
    return replace(lease, owner=owner, beat=lease.beat + 1)
