"""What the simulation found, each as a test of its own."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from consumer.shards import Shards
from infra.clock import SystemClock
from infra.memory import MemoryShardLeases
from timers.ports import ShardLease


class _WatchedLeases(MemoryShardLeases):
    """Looks at what is held at each write."""

    shards: Shards

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Sequence[int]] = []

    async def write(self, before: ShardLease | None, after: ShardLease) -> bool:
        self.held.append(sorted(self.shards.mine))
        return await super().write(before, after)


async def test_shards_stay_held_while_their_leases_are_renewed() -> None:
    leases = _WatchedLeases()
    leases.shards = shards = Shards(leases, SystemClock(), Random(1), owner="one", shards=2)
    await shards.beat()
    leases.held.clear()

    await shards.beat()

    assert leases.held == [[0, 1], [0, 1]]


async def test_what_was_loaded_while_a_lease_was_renewed_is_remembered() -> None:
    class _Loading(_WatchedLeases):
        async def write(self, before: ShardLease | None, after: ShardLease) -> bool:
            self.shards.loaded(after.shard, 5_000)
            return await super().write(before, after)

    leases = _Loading()
    leases.shards = shards = Shards(leases, SystemClock(), Random(1), owner="one", shards=1)
    await shards.beat()

    await shards.beat()

    assert shards.mine[0].loaded_until_ms == 5_000
