"""What every set of shard leases keeps to."""

import asyncio
from dataclasses import replace

import pytest

from timers.ports import ShardLease, ShardLeases

FIRST = ShardLease(2, "a", 1, 12_345)


async def test_at_first_there_are_none(leases: ShardLeases) -> None:
    assert list(await leases.read()) == []


async def test_a_lease_is_read_as_it_was_written(leases: ShardLeases) -> None:
    assert await leases.write(None, FIRST)
    second = ShardLease(0, "grüße", 7, 2**50)
    assert await leases.write(None, second)
    assert sorted(await leases.read(), key=lambda lease: lease.shard) == [second, FIRST]


async def test_a_lease_that_exists_is_not_taken_for_a_new_one(leases: ShardLeases) -> None:
    await leases.write(None, FIRST)
    assert not await leases.write(None, replace(FIRST, owner="b"))
    assert list(await leases.read()) == [FIRST]


@pytest.mark.parametrize("stale", [replace(FIRST, owner="b"), replace(FIRST, beat=2), replace(FIRST, beat=0)])
async def test_only_who_knows_owner_and_beat_may_write(leases: ShardLeases, stale: ShardLease) -> None:
    await leases.write(None, FIRST)
    assert not await leases.write(stale, ShardLease(2, "c", 9, 0))
    assert list(await leases.read()) == [FIRST]


async def test_a_lease_that_does_not_exist_cannot_be_replaced(leases: ShardLeases) -> None:
    assert not await leases.write(FIRST, replace(FIRST, beat=2))
    assert list(await leases.read()) == []


async def test_a_holder_goes_on_and_another_takes_over(leases: ShardLeases) -> None:
    await leases.write(None, FIRST)
    beaten = replace(FIRST, beat=2, loaded_until_ms=99)
    assert await leases.write(FIRST, beaten)
    taken = ShardLease(2, "b", 3, 99)
    assert await leases.write(beaten, taken)
    assert not await leases.write(beaten, replace(beaten, beat=3))
    assert list(await leases.read()) == [taken]


async def test_of_many_who_take_a_shard_exactly_one_does(leases: ShardLeases) -> None:
    first = await asyncio.gather(*(leases.write(None, replace(FIRST, owner=owner)) for owner in "abcdefgh"))
    assert first.count(True) == 1
    (held,) = await leases.read()
    later = await asyncio.gather(*(leases.write(held, replace(held, owner=owner, beat=2)) for owner in "abcdefgh"))
    assert later.count(True) == 1
    assert [lease.owner for lease in await leases.read()] == ["abcdefgh"[later.index(True)]]


async def test_cleared_leases_are_gone_also_for_their_holders(leases: ShardLeases) -> None:
    await leases.write(None, FIRST)
    await leases.clear()
    assert list(await leases.read()) == []
    assert not await leases.write(FIRST, replace(FIRST, beat=2))
    assert await leases.write(None, replace(FIRST, owner="b"))
    await leases.clear()
    await leases.clear()
