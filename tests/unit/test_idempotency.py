"""A request repeated under its key has the first outcome again, whatever is refused to new ones by now."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from infra.memory import MemoryTimerStore
from tests.builders import NOW_MS, FakeClock, RecordingQueue, make_spec
from timers.errors import AlreadyExists, Invalid, KeyReused, Overloaded, TimerError
from timers.service import IdempotencyKey, Timers
from timers.target import Target

KEY = IdempotencyKey("pay-7", "first")
OTHER_BODY = IdempotencyKey("pay-7", "second")
REFUSALS = [Invalid("/target/signing_key", "retired"), Overloaded("full")]


class Mood:
    """Lets targets and tenants in until it is told to refuse."""

    def __init__(self) -> None:
        self.refusal: TimerError | None = None

    def check(self, _: Target) -> None:
        if self.refusal is not None:
            raise self.refusal

    async def admit(self, _: str) -> None:
        self.check(make_spec().target)


@pytest.fixture
def mood() -> Mood:
    return Mood()


@pytest.fixture
def timers(mood: Mood) -> Timers:
    timers = Timers(MemoryTimerStore(), RecordingQueue(), FakeClock(), Random(1), 3_600_000)
    return replace(timers, check=mood.check, quota=mood)


@pytest.mark.parametrize("name", [None, "order-7"])
@pytest.mark.parametrize("refusal", REFUSALS, ids=["invalid", "overloaded"])
async def test_a_repetition_of_what_is_refused_by_now_has_the_first_outcome(
    timers: Timers, mood: Mood, refusal: TimerError, name: str | None
) -> None:
    first, created = await timers.schedule_once(make_spec(), KEY, name, now_ms=NOW_MS)
    mood.refusal = refusal
    again, repeated = await timers.schedule_once(make_spec(), KEY, name, now_ms=NOW_MS)
    assert (created, repeated) == (True, False)
    assert again == first


@pytest.mark.parametrize("refusal", REFUSALS, ids=["invalid", "overloaded"])
async def test_a_new_request_is_refused(timers: Timers, mood: Mood, refusal: TimerError) -> None:
    mood.refusal = refusal
    with pytest.raises(type(refusal)):
        await timers.schedule_once(make_spec(), KEY, now_ms=NOW_MS)


async def test_the_key_with_another_body_is_refused_as_such(timers: Timers, mood: Mood) -> None:
    await timers.schedule_once(make_spec(), KEY, now_ms=NOW_MS)
    for mood.refusal in (None, *REFUSALS):
        with pytest.raises(KeyReused):
            await timers.schedule_once(make_spec(), OTHER_BODY, now_ms=NOW_MS)


async def test_a_chosen_name_that_somebody_else_took_is_no_repetition(timers: Timers, mood: Mood) -> None:
    await timers.schedule(make_spec(), "order-7")
    with pytest.raises(AlreadyExists):
        await timers.schedule_once(make_spec(), KEY, "order-7", now_ms=NOW_MS)
    mood.refusal = REFUSALS[0]
    with pytest.raises(Invalid):
        await timers.schedule_once(make_spec(), KEY, "order-7", now_ms=NOW_MS)
