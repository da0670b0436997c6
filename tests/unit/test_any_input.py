"""Whatever a parser is given, it returns a value or the error that it documents: nothing else comes out."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from api.patching import patched
from api.routes import _cursor, _position, _precondition, _query_time
from api.schemas import NewTimerIn
from api.strict_json import MAX_DEPTH, dumps, loads
from infra.guard import AddressList, HostList, PortList, Rules
from infra.settings import BadSettings, Settings
from tests.builders import NOW_MS, make_target, make_timer, timers
from timers import limits
from timers.errors import Invalid
from timers.ports import Position
from timers.retry import parse_retry_after
from timers.signature import parse_secrets
from timers.stamps import parse_duration, parse_rfc3339, rfc3339, traceparent
from timers.target import check_headers, check_target, check_url
from timers.timer import Timer
from timers.wheel import RADIX, Level, route, slot

anything = st.text(max_size=60)
ascii_only = st.text(st.characters(max_codepoint=127), max_size=60)
json_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | json_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(json_texts, inner, max_size=3),
    max_leaves=6,
)
_FIELDS = ["due_at", "delay", "target", "retry", "labels", "id", "url", "method", "headers", "body", "body_base64"]
_FIELDS += ["timeout", "max_attempts", "min_backoff", "max_backoff", "multiplier", "jitter", "x-a", "colour"]
wishes = st.dictionaries(
    st.sampled_from(_FIELDS),
    st.recursive(
        json_values | st.sampled_from(["https://example.com", "PT1S", "2026-12-01T09:00:00Z"]),
        lambda inner: st.dictionaries(st.sampled_from(_FIELDS), inner, max_size=4),
        max_leaves=8,
    ),
    max_size=5,
)


@given(anything | ascii_only)
@example("")
@example("=")
@example("W10")  # []
@example("W1tbW1tbW1tb" * 40)
@example("WzEsMV0")  # [1,1]
@example("WzEwMDAwMDAwMDAwMDAwMDAsImEiXQ")  # [10000000000000000,"a"]
def test_any_text_is_a_cursor_or_invalid(text: str) -> None:
    try:
        position = _position(text)
    except Invalid:
        return
    assert position is not None
    assert 0 <= position.at_ms < 10**15


@given(st.integers(0, 10**15 - 1), st.from_regex(limits.ID_PATTERN, fullmatch=True))
def test_a_cursor_leads_back_to_its_place(at_ms: int, timer_id: str) -> None:
    assert _position(_cursor(Position(at_ms, timer_id))) == Position(at_ms, timer_id)


@given(anything | st.from_regex(r"[A-Za-z]{3}, \d{1,3} [A-Za-z]{3} \d{1,6} \d\d:\d\d:\d\d [-+A-Z0-9]{1,6}"))
@example("9" * 100)
@example("²")
@example("Mon, 01 Jan 0000 00:00:00 GMT")
@example("Mon, 01 Jan 9999 23:59:59 -2359")
@example("Mon, 01 Jan 2026 00:00:00 +999999")
def test_any_retry_after_is_a_wait_or_nothing(text: str) -> None:
    wait_ms = parse_retry_after(text, NOW_MS)
    assert wait_ms is None or wait_ms >= 0


@given(st.integers())
def test_any_remaining_time_has_a_way_into_the_wheel(remaining_ms: int) -> None:
    way = route(remaining_ms)
    minutes, dot, seconds = way.key.partition(".")
    assert way.level in Level
    assert dot
    assert 0 <= int(minutes) < RADIX
    assert 0 <= int(seconds) < RADIX


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 99))
def test_any_id_has_a_slot(timer_id: str, slots: int) -> None:
    assert 0 <= slot(timer_id, slots) < slots


@given(anything | st.from_regex(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,10})?([Zz]|[+-]\d\d:\d\d)"))
@example("0001-01-01T00:00:00+23:59")
@example("9999-12-31T23:59:60Z")
@example("٢٠٢٦-12-01T09:00:00Z")
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    try:
        assert isinstance(parse_rfc3339(text), int)
    except ValueError:
        return


@given(st.integers(0, 253_402_300_799_999))
def test_a_time_written_and_read_is_the_same(at_ms: int) -> None:
    assert parse_rfc3339(rfc3339(at_ms)) == at_ms


@given(anything | st.from_regex(r"P(\d{1,7}[WD])*(T(\d{1,10}([.,]\d{1,10})?[HMS])*)?"))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except ValueError:
        return


@given(anything | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"))
def test_whatever_trace_is_given_the_trace_kept_is_one(text: str) -> None:
    kept = traceparent(text, Random(0))
    assert traceparent(kept, Random(1)) == kept


@given(anything | st.from_regex(r'((W/)?"[^"]{0,5}",? ?){1,4}'))
async def test_any_if_match_is_a_precondition_or_invalid(text: str) -> None:
    try:
        await _precondition(text)
    except Invalid:
        return


@given(anything)
def test_any_time_of_a_query_is_a_time_or_invalid(text: str) -> None:
    try:
        assert isinstance(_query_time("due_after", text), int)
    except Invalid:
        return


@given(st.binary(max_size=200) | json_values.map(dumps))
def test_any_bytes_are_json_of_bounded_depth_or_not(raw: bytes) -> None:
    try:
        value = loads(raw)
    except ValueError:
        return
    assert loads(dumps(value)) == value


@given(st.integers(1, 2_000), st.sampled_from([("[", "]"), ('{"a":', "}"), ('[{"b":', "}]")]))
def test_depth_is_bounded_by_what_is_written_and_nothing_else(levels: int, brackets: tuple[str, str]) -> None:
    opening, closing = brackets
    depth = levels * (opening.count("[") + opening.count("{"))
    raw = (opening * levels + "1" + closing * levels).encode()
    if depth <= MAX_DEPTH:
        loads(raw)
    else:
        with pytest.raises(ValueError, match=r"nested"):
            loads(raw)


@given(json_values | wishes)
def test_any_json_is_a_timer_to_schedule_or_invalid(value: Any) -> None:
    try:
        NewTimerIn.model_validate(value).spec(NOW_MS, None)
    except (ValidationError, Invalid):
        return


@given(timers, wishes)
def test_any_patch_makes_a_timer_or_is_invalid(timer: Timer, patch: dict[str, Any]) -> None:
    try:
        patched(timer, patch, NOW_MS)
    except (ValidationError, Invalid):
        return


@given(anything | st.from_regex(r"https?://[^/]{0,20}(:[0-9]{0,7})?(/.{0,20})?"))
def test_any_text_is_a_url_or_invalid(text: str) -> None:
    try:
        check_url(text)
    except Invalid:
        return
    key = make_timer(target=make_target(url=text)).target.key
    assert key.startswith("http")


@given(st.dictionaries(anything, anything, max_size=5))
def test_any_headers_can_be_sent_or_are_invalid(headers: dict[str, str]) -> None:
    try:
        checked = check_headers(headers)
    except Invalid:
        return
    for name, value in checked.items():
        f"{name}: {value}".encode("latin-1")
        assert not set("\r\n\0") & set(name + value)


@given(anything, anything, st.floats())
def test_any_target_can_be_called_or_is_invalid(url: str, method: str, timeout: float) -> None:
    with pytest.raises(Invalid):
        check_target(make_target(url=url, method=method, timeout=timeout))


@given(anything | st.from_regex(r"([0-9a-fA-F.:/%]{1,20},? ?){1,3}"))
def test_any_list_of_a_guard_is_one_or_a_value_error(text: str) -> None:
    for kind in (AddressList, HostList, PortList):
        try:
            kind.parse(text)
        except ValueError:
            continue


@given(anything, anything, st.integers())
def test_the_guard_judges_whatever_it_is_asked(scheme: str, host: str, port: int) -> None:
    rules = Rules()
    refusal = rules.refusal(scheme, host, port)
    assert refusal is None or refusal
    assert rules.admits(host) in (True, False)


@given(anything | st.from_regex(r"(whsec_[A-Za-z0-9+/=]{0,60},?){1,4}"))
def test_any_text_is_signing_secrets_or_a_value_error(text: str) -> None:
    try:
        parse_secrets(text)
    except ValueError:
        return


_NAMES = st.sampled_from([f"TIMERS_{name.upper()}" for name in Settings.model_fields]) | anything.map("TIMERS_".__add__)
_SETTINGS = anything | st.integers().map(str) | st.floats().map(str) | st.from_regex(r"(amqps?|https?)://.{0,20}")


@given(st.dictionaries(_NAMES, _SETTINGS, max_size=4))
def test_any_environment_is_settings_or_refused_in_one_line(environment: dict[str, str]) -> None:
    error = ""
    try:
        Settings.from_environment(environment)
    except BadSettings as refused:
        error = str(refused)
    assert len(error.splitlines()) <= 1
