"""When a timer is due that is put again and again."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from infra.memory import MemoryTimerStore
from tests.builders import NOW_MS, FakeClock, RecordingQueue, make_attempt, make_spec, make_timer, turns
from timers.errors import IllegalTransition
from timers.putting import Keep, Putting
from timers.service import ANY, Timers
from timers.state import State
from timers.timer import Timer

MINUTE_MS = 60_000


def due_in_ms(putting: Putting, new_ms: int, before: Timer | None) -> int:
    """Return in how many milliseconds a timer is due that is put for ``new_ms`` from now."""
    return putting.due(make_spec(due_at_ms=NOW_MS + new_ms), before, NOW_MS).due_at_ms - NOW_MS


def planned_in(ms: int, *, created_ms_ago: int = 0) -> Timer:
    return make_timer(due_at_ms=NOW_MS + ms, created_at_ms=NOW_MS - created_ms_ago)


@pytest.mark.parametrize(
    ("keep", "old_ms", "new_ms", "due_ms"),
    [
        (None, 5, 9, 9),
        (None, 9, 5, 5),
        (Keep.EARLIEST, 5, 9, 5),
        (Keep.EARLIEST, 9, 5, 5),
        (Keep.LATEST, 5, 9, 9),
        (Keep.LATEST, 9, 5, 9),
        (Keep.EARLIEST, -5, 9, -5),
        (Keep.LATEST, -5, 9, 9),
    ],
)
def test_the_earliest_or_the_latest_time_is_kept(keep: Keep | None, old_ms: int, new_ms: int, due_ms: int) -> None:
    assert due_in_ms(Putting(keep), new_ms, planned_in(old_ms)) == due_ms


@pytest.mark.parametrize("keep", [None, *Keep])
def test_the_first_time_is_as_asked(keep: Keep | None) -> None:
    assert due_in_ms(Putting(keep), 9, None) == 9


@pytest.mark.parametrize("keep", [None, Keep.LATEST])
@pytest.mark.parametrize(
    ("created_ms_ago", "due_ms"), [(0, MINUTE_MS), (MINUTE_MS - 1, 1), (MINUTE_MS, 0), (MINUTE_MS + 1, -1)]
)
def test_nothing_is_put_off_past_the_ceiling(keep: Keep | None, created_ms_ago: int, due_ms: int) -> None:
    before = planned_in(5, created_ms_ago=created_ms_ago)
    assert due_in_ms(Putting(keep, MINUTE_MS), 2 * MINUTE_MS, before) == due_ms


def test_the_ceiling_holds_from_the_first_time_on() -> None:
    assert due_in_ms(Putting(max_total_delay_ms=MINUTE_MS), 2 * MINUTE_MS, None) == MINUTE_MS
    assert due_in_ms(Putting(max_total_delay_ms=MINUTE_MS), 5, None) == 5


def test_between_two_attempts_the_next_one_is_what_can_be_kept() -> None:
    waiting = make_timer(due_at_ms=NOW_MS - 9, next_attempt_at_ms=NOW_MS + 5, attempts=(make_attempt(),))
    assert due_in_ms(Putting(Keep.EARLIEST), 7, waiting) == 5


class Contended(MemoryTimerStore):
    """A store whose readers are all there before the first writes."""

    async def get(self, timer_id: str) -> Timer:
        timer = await super().get(timer_id)
        await turns(1)
        return timer


def timers_over(store: MemoryTimerStore) -> Timers:
    return Timers(store, RecordingQueue(), FakeClock(), Random(1), 3_600_000)


@pytest.mark.parametrize(("keep", "due_ms"), [(Keep.EARLIEST, 1), (Keep.LATEST, 20)])
async def test_of_many_at_once_the_earliest_or_the_latest_stays(keep: Keep, due_ms: int) -> None:
    store = Contended()
    timers = timers_over(store)
    wishes = [make_spec(due_at_ms=NOW_MS + ms) for ms in (7, 20, 1, 13, 4, 18)]
    await asyncio.gather(*(timers.replace("t", spec, ANY, Putting(keep)) for spec in wishes))

    assert store.timers["t"].due_at_ms == NOW_MS + due_ms
    assert store.timers["t"].version == len(wishes)


async def test_a_timer_that_is_done_is_not_put_again() -> None:
    store = MemoryTimerStore()
    await store.create(make_timer("t", state=State.DELIVERED))
    with pytest.raises(IllegalTransition):
        await timers_over(store).replace("t", make_spec(), ANY, Putting(Keep.LATEST, 1))
