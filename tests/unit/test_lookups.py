"""Who looks up the same thing at once shares one look-up."""

from __future__ import annotations

import asyncio

import pytest

from infra.lookups import Lookups


class Slow:
    """Answers once it is let; how often it was asked is counted."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.error: Exception | None = None

    async def look_up(self, name: str) -> str:
        self.asked += 1
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return name.upper()


async def test_all_who_want_the_same_get_one_answer() -> None:
    slow = Slow()
    lookups = Lookups(slow.look_up)
    waiting = [asyncio.create_task(lookups.answer("a")) for _ in range(3)]
    await asyncio.sleep(0)
    assert ("a" in lookups, "b" in lookups, len(lookups)) == (True, False, 1)
    slow.may_answer.set()
    assert await asyncio.gather(*waiting) == ["A"] * 3
    assert (slow.asked, len(lookups)) == (1, 0)


async def test_who_leaves_stops_it_for_nobody() -> None:
    slow = Slow()
    lookups = Lookups(slow.look_up)
    leaving, staying = (asyncio.create_task(lookups.answer("a")) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    slow.may_answer.set()
    assert await staying == "A"
    assert slow.asked == 1


async def test_a_failure_is_told_to_all_who_wait_and_the_next_one_looks_again() -> None:
    slow = Slow()
    slow.error = away = LookupError("away")
    lookups = Lookups(slow.look_up)
    slow.may_answer.set()
    told = await asyncio.gather(*(lookups.answer("a") for _ in range(2)), return_exceptions=True)
    assert told == [away, away]
    slow.error = None
    assert await lookups.answer("a") == "A"


async def test_a_failure_in_the_background_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    slow = Slow()
    slow.error = LookupError("away")
    lookups = Lookups(slow.look_up)
    slow.may_answer.set()
    await asyncio.wait([lookups.start("a")])
    del slow
    assert caplog.records == []
