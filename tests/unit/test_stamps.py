"""Times and ids as text."""

from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timers.stamps import parse_duration, parse_rfc3339, rfc3339, traceparent, uuid7

IN_TEN_THOUSAND_YEARS = 253_402_300_799_999
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@given(st.integers(0, IN_TEN_THOUSAND_YEARS))
def test_a_time_written_and_read_is_the_same(at_ms: int) -> None:
    assert parse_rfc3339(rfc3339(at_ms)) == at_ms


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2027-01-15T08:00:00.000Z", 1_800_000_000_000),
        ("2027-01-15t08:00:00z", 1_800_000_000_000),
        ("2027-01-15 08:00:00+00:00", 1_800_000_000_000),
        ("2027-01-15T08:00:00-00:00", 1_800_000_000_000),
        ("2027-01-15T09:30:00+01:30", 1_800_000_000_000),
        ("2027-01-14T23:59:00-08:01", 1_800_000_000_000),
        ("2027-01-15T08:00:00.5Z", 1_800_000_000_500),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("1969-12-31T23:59:59.999Z", -1),
    ],
)
def test_every_form_of_rfc_3339_is_read(text: str, at_ms: int) -> None:
    assert parse_rfc3339(text) == at_ms


@pytest.mark.parametrize(
    ("fraction", "milliseconds"),
    [("001", 1), ("0001", 1), ("000000001", 1), ("0010001", 2), ("9990", 999), ("9999", 1_000)],
)
def test_a_finer_fraction_is_rounded_up_so_that_nothing_is_early(fraction: str, milliseconds: int) -> None:
    assert parse_rfc3339(f"1970-01-01T00:00:00.{fraction}Z") == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2027-01-15",
        "2027-01-15T08:00:00",
        "2027-01-15T08:00Z",
        "2027-01-15T08:00:60Z",
        "2016-12-31T23:59:60Z",
        "2027-01-15T24:00:00Z",
        "2027-02-29T00:00:00Z",
        "2027-13-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2027-01-15T08:00:00.Z",
        "2027-01-15T08:00:00.1234567890Z",
        "2027-01-15T08:00:00+24:00",
        "2027-01-15T08:00:00+01:60",
        "2027-01-15T08:00:00+0100",
        "2027-01-15T08:00:00Z ",
        "+2027-01-15T08:00:00Z",
        "٢٠٢٧-01-15T08:00:00Z",
    ],
)
def test_anything_else_is_not_a_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_rfc3339(text)


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    try:
        parse_rfc3339(text)
    except ValueError:
        return


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("PT0S", 0),
        ("PT1S", 1_000),
        ("PT0.05S", 50),
        ("PT0,05S", 50),
        ("PT0.0001S", 1),
        ("PT0.0010001S", 2),
        ("PT1M", 60_000),
        ("PT1H30M", 5_400_000),
        ("P1D", 86_400_000),
        ("P1W", 604_800_000),
        ("P1W1DT1H1M1.001S", 694_861_001),
    ],
)
def test_every_form_of_duration_with_a_fixed_length_is_read(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "P",
        "PT",
        "P1",
        "1S",
        "P1Y",
        "P1M",
        "P1DT",
        "PT1.5H",
        "P-1D",
        "-P1D",
        "pt1s",
        "PT1S1M",
        "PT1.S",
        "P1S",
        "PT1S ",
    ],
)
def test_anything_else_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration"):
        parse_duration(text)


@given(st.integers(0, 2**48 - 1), st.randoms(use_true_random=False))
def test_an_id_is_a_uuid_of_version_7_that_tells_its_time(now_ms: int, random: Random) -> None:
    value = UUID(uuid7(now_ms, random))
    assert value.version == 7
    assert value.variant == "specified in RFC 4122"
    assert value.int >> 80 == now_ms


@given(st.integers(0, 2**48 - 2), st.randoms(use_true_random=False))
def test_ids_sort_by_time(now_ms: int, random: Random) -> None:
    assert uuid7(now_ms, random) < uuid7(now_ms + 1, random)


def test_ids_of_one_millisecond_differ() -> None:
    random = Random(1)
    assert len({uuid7(1, random) for _ in range(10_000)}) == 10_000


def test_a_valid_traceparent_is_kept() -> None:
    assert traceparent(TRACE, Random(1)) == TRACE


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "garbage",
        "ff" + TRACE[2:],
        TRACE.upper(),
        TRACE + "-extra",
        "00-" + 32 * "0" + TRACE[35:],
        TRACE[:36] + 16 * "0" + "-01",
    ],
)
def test_without_a_valid_traceparent_a_new_trace_begins(given: str | None) -> None:
    fresh = traceparent(given, Random(1))
    assert fresh != given
    assert traceparent(fresh, Random(2)) == fresh
