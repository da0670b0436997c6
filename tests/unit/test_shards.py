"""How keepers share the shards."""

from collections import Counter
from random import Random

import pytest

from consumer.shards import BEAT_S, PATIENCE_S, Shards
from infra.memory import MemoryShardLeases
from tests.builders import FakeClock
from timers.errors import Unavailable

SHARDS = 16


class Keepers:
    """Keepers over the same leases, each with a clock that has nothing to do with the others'."""

    def __init__(self) -> None:
        self.leases = MemoryShardLeases()
        self.clocks: dict[str, FakeClock] = {}
        self.keepers: dict[str, Shards] = {}

    def join(self, *names: str) -> None:
        for name in names:
            seed = len(self.clocks)
            self.clocks[name] = FakeClock(10**12 * (seed + 1), monotonic=10.0**seed)
            self.keepers[name] = Shards(self.leases, self.clocks[name], Random(seed), owner=name, shards=SHARDS)

    def die(self, name: str) -> None:
        del self.keepers[name]

    async def beat(self, times: int = 1) -> None:
        for _ in range(times):
            for name, keeper in self.keepers.items():
                self.clocks[name].advance(BEAT_S)
                await keeper.beat()

    def held(self) -> Counter[int]:
        return Counter(shard for keeper in self.keepers.values() for shard in keeper.mine)

    def shares(self) -> list[int]:
        return sorted(len(keeper.mine) for keeper in self.keepers.values())


@pytest.fixture
def keepers() -> Keepers:
    return Keepers()


def once_each() -> dict[int, int]:
    return dict.fromkeys(range(SHARDS), 1)


async def test_a_lone_keeper_takes_every_shard_at_its_first_beat(keepers: Keepers) -> None:
    keepers.join("a")
    await keepers.beat()
    assert keepers.held() == once_each()


@pytest.mark.parametrize(("count", "shares"), [(2, [8, 8]), (3, [5, 5, 6]), (5, [3, 3, 3, 3, 4]), (16, [1] * 16)])
async def test_keepers_end_up_with_even_shares_and_no_shard_twice(
    keepers: Keepers, count: int, shares: list[int]
) -> None:
    keepers.join(*(f"keeper-{number}" for number in range(count)))
    await keepers.beat(40)
    assert keepers.shares() == shares
    assert keepers.held() == once_each()


async def test_more_keepers_than_shards_leave_some_idle(keepers: Keepers) -> None:
    keepers.join(*(f"keeper-{number}" for number in range(20)))
    await keepers.beat(40)
    assert keepers.shares() == [0] * 4 + [1] * 16
    assert keepers.held() == once_each()


async def test_a_newcomer_gets_its_share(keepers: Keepers) -> None:
    keepers.join("a")
    await keepers.beat(3)
    keepers.join("b")
    await keepers.beat(20)
    assert keepers.shares() == [8, 8]
    assert keepers.held() == once_each()


async def test_once_shared_evenly_nothing_moves(keepers: Keepers) -> None:
    keepers.join("a", "b", "c")
    await keepers.beat(40)
    before = {name: set(keeper.mine) for name, keeper in keepers.keepers.items()}
    await keepers.beat(20)
    assert {name: set(keeper.mine) for name, keeper in keepers.keepers.items()} == before


async def test_a_dead_keepers_shards_are_taken_after_patience_and_not_before(keepers: Keepers) -> None:
    keepers.join("a", "b")
    await keepers.beat(20)
    keepers.die("a")
    patience = round(PATIENCE_S / BEAT_S)
    await keepers.beat(patience - 1)
    assert keepers.shares() == [8]
    await keepers.beat(3)
    assert keepers.held() == once_each()


async def test_a_keeper_that_leaves_is_followed_at_once(keepers: Keepers) -> None:
    keepers.join("a", "b")
    await keepers.beat(20)
    await keepers.keepers["a"].leave()
    keepers.die("a")
    await keepers.beat()
    assert keepers.held() == once_each()


async def test_a_keeper_that_was_held_up_gives_way_to_who_took_over(keepers: Keepers) -> None:
    keepers.join("a", "b")
    await keepers.beat(20)
    slow = keepers.keepers.pop("a")
    await keepers.beat(10)
    keepers.keepers["a"] = slow
    await keepers.beat()
    assert len(slow.mine) <= 1, "all are given up, and one is taken back"
    await keepers.beat(20)
    assert keepers.shares() == [8, 8]
    assert keepers.held() == once_each()


async def test_whoever_takes_a_shard_knows_how_far_it_is_loaded(keepers: Keepers) -> None:
    keepers.join("a")
    await keepers.beat()
    keepers.keepers["a"].loaded(3, 12_345)
    await keepers.beat()
    keepers.die("a")
    keepers.join("b")
    await keepers.beat(10)
    assert keepers.keepers["b"].mine[3].loaded_until_ms == 12_345


async def test_how_far_somebody_elses_shard_is_loaded_is_not_ours_to_say(keepers: Keepers) -> None:
    keepers.join("a")
    keepers.keepers["a"].loaded(3, 12_345)
    await keepers.beat()
    assert keepers.keepers["a"].mine[3].loaded_until_ms == 0


async def test_a_beat_without_the_table_says_so_and_the_next_one_goes_on(
    keepers: Keepers, monkeypatch: pytest.MonkeyPatch
) -> None:
    keepers.join("a")
    await keepers.beat()

    async def away() -> list[object]:
        raise Unavailable("dynamodb")

    with monkeypatch.context() as patch:
        patch.setattr(keepers.leases, "read", away)
        with pytest.raises(Unavailable):
            await keepers.beat()
    await keepers.beat()
    assert keepers.held() == once_each()
