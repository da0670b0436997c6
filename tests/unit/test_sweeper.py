"""What the sweeper sweeps."""

from __future__ import annotations

from consumer.sweeper import Sweeper
from tests.builders import NOW_MS, FakeClock


class Recording:
    """An expiry that removes nothing."""

    def __init__(self) -> None:
        self.swept: list[tuple[int, int]] = []

    async def sweep(self, shard: int, *, now_ms: int) -> int:
        self.swept.append((shard, now_ms))
        return 0


class Mine:
    """Some shards."""

    def __init__(self) -> None:
        self.mine = {2: None, 7: None}


async def test_the_shards_that_are_kept_here_are_swept_and_no_others() -> None:
    expiry = Recording()
    await Sweeper(expiry, Mine(), FakeClock()).round()
    assert expiry.swept == [(2, NOW_MS), (7, NOW_MS)]
