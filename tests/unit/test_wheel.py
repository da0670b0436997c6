"""The wheel's arithmetic."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from timers.wheel import AIM_EARLY_MS, SPAN_MS, Level, Route, route, slot


def hops_ms(way: Route) -> list[int]:
    """Return how long a message stays in each delay queue on its way, read from the key by hand."""
    minutes, seconds = (int(digit) for digit in way.key.split("."))
    hops = {Level.MINUTES: [minutes * 60_000, seconds * 1_000], Level.SECONDS: [seconds * 1_000], Level.DUE: []}
    return [hop for hop in hops[way.level] if hop]


@pytest.mark.parametrize(
    ("remaining_ms", "expected"),
    [
        (-(2**40), Route(Level.DUE, "00.00")),
        (-1, Route(Level.DUE, "00.00")),
        (0, Route(Level.DUE, "00.00")),
        (1_999, Route(Level.DUE, "00.00")),
        (2_000, Route(Level.SECONDS, "00.01")),
        (60_999, Route(Level.SECONDS, "00.59")),
        (61_000, Route(Level.MINUTES, "01.00")),
        (62_000, Route(Level.MINUTES, "01.01")),
        (434_000, Route(Level.MINUTES, "07.13")),
        (3_600_000, Route(Level.MINUTES, "59.59")),
        (3_601_000, Route(Level.MINUTES, "59.59")),
        (2**53, Route(Level.MINUTES, "59.59")),
    ],
)
def test_a_message_enters_at_its_highest_digit_that_is_not_zero(remaining_ms: int, expected: Route) -> None:
    assert route(remaining_ms) == expected


@given(st.integers(AIM_EARLY_MS, SPAN_MS))
@example(AIM_EARLY_MS)
@example(SPAN_MS)
def test_a_message_arrives_one_to_two_seconds_early(remaining_ms: int) -> None:
    early_ms = remaining_ms - sum(hops_ms(route(remaining_ms)))
    assert 1_000 <= early_ms < 2_000


@given(st.integers(0, 2**40))
def test_a_message_is_never_late_and_takes_at_most_two_hops(remaining_ms: int) -> None:
    way = route(remaining_ms)
    assert sum(hops_ms(way)) <= remaining_ms
    assert len(hops_ms(way)) <= 2
    assert re.fullmatch(r"[0-5]\d\.[0-5]\d", way.key)


@given(st.integers(0, 2**40))
def test_a_message_never_enters_above_or_below_its_highest_digit(remaining_ms: int) -> None:
    way = route(remaining_ms)
    minutes, seconds = way.key.split(".")
    assert (way.level is Level.MINUTES) == (minutes != "00")
    assert (way.level is Level.DUE) == (way.key == "00.00")
    assert (way.level is Level.SECONDS) == (minutes == "00" and seconds != "00")


def test_one_pass_spans_an_hour() -> None:
    assert SPAN_MS == 3_600_000


@pytest.mark.parametrize(
    ("timer_id", "of_16", "of_4"), [("timer-1", 2, 2), ("01998c00-0000-7000-8000-000000000000", 7, 3), ("a", 3, 3)]
)
def test_a_slot_is_the_same_for_ever(timer_id: str, of_16: int, of_4: int) -> None:
    assert (slot(timer_id, 16), slot(timer_id, 4), slot(timer_id, 1)) == (of_16, of_4, 0)


def test_ids_spread_evenly_over_slots() -> None:
    held = [0] * 16
    for number in range(16_000):
        held[slot(f"01998c00-0000-7000-8000-{number:012x}", 16)] += 1
    assert min(held) > 800
    assert max(held) < 1_200
