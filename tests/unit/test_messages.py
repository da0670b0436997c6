"""Hints as messages: what is not exactly one is garbage."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infra.rabbitmq.messages import Garbage, OtherVersion, decode, encode
from tests.builders import make_hint, make_target
from timers.target import check_target
from timers.tenant import QUALIFIED
from timers.timer import Hint

hints = st.builds(
    Hint,
    timer_id=st.from_regex(QUALIFIED, fullmatch=True),
    version=st.integers(1, 2**53),
    at_ms=st.integers(0, 2**53),
    timeout_ms=st.integers(0, 300_000),
    target_key=st.text(max_size=300),
    bounces=st.integers(0, 30),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(hints)
def test_a_hint_written_and_read_is_the_same(hint: Hint) -> None:
    assert decode(encode(hint)) == hint


def test_the_longest_target_that_can_be_asked_for_still_fits() -> None:
    host = ".".join(["𐐨" * 30] * 4)
    target = check_target(make_target(url=f"http://{host}:{'80'.zfill(1900)}"))
    hint = make_hint(target_key=target.key)
    assert decode(encode(hint)) == hint


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xff\xfe")
@example(b"[" * 10_000)
@example(b"9" * 10_000)
@example(b'"' + b"x" * 100_000 + b'"')
def test_any_bytes_are_a_hint_or_garbage(body: bytes) -> None:
    try:
        decode(body)
    except Garbage:
        return


@given(json_values)
def test_any_json_is_a_hint_or_garbage(value: Any) -> None:
    with pytest.raises(Garbage):
        decode(json.dumps(value).encode())


@given(st.sampled_from(["v", "id", "version", "at", "timeout", "target", "bounces"]), json_values)
def test_any_value_in_any_field_is_a_hint_or_garbage(field: str, value: Any) -> None:
    fields = json.loads(encode(make_hint(bounces=1)))
    try:
        decode(json.dumps({**fields, field: value}).encode())
    except Garbage:
        return


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("v", 2),
        ("v", "1"),
        ("id", ""),
        ("id", "a/b/c"),
        ("id", "A/b"),
        ("id", "/b"),
        ("id", "a/"),
        ("id", "a" * 129),
        ("id", "#keeper.0"),
        ("id", 7),
        ("version", 0),
        ("version", 1.5),
        ("version", True),
        ("version", 2**60),
        ("at", -1),
        ("at", "soon"),
        ("at", 2**60),
        ("timeout", -1),
        ("timeout", 300_001),
        ("target", None),
        ("target", "x" * 4097),
        ("bounces", -1),
        ("bounces", 31),
        ("bounces", 2**53),
    ],
)
def test_a_field_out_of_bounds_makes_garbage(field: str, value: object) -> None:
    fields = json.loads(encode(make_hint()))
    with pytest.raises(Garbage):
        decode(json.dumps({**fields, field: value}).encode())


def test_another_version_is_told_apart() -> None:
    fields = json.loads(encode(make_hint()))
    with pytest.raises(OtherVersion):
        decode(json.dumps({**fields, "v": 2}).encode())


@pytest.mark.parametrize("field", ["v", "id", "version", "at", "timeout", "target"])
def test_a_missing_field_makes_garbage(field: str) -> None:
    fields = json.loads(encode(make_hint()))
    del fields[field]
    with pytest.raises(Garbage):
        decode(json.dumps(fields).encode())
