"""JSON as RFC 8259 has it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.strict_json import MAX_DEPTH, NotJson, dumps, loads

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=10,
)  # fmt: skip


@given(json_values)
def test_a_value_written_and_read_is_the_same(value: Any) -> None:
    assert loads(dumps(value)) == value
    assert loads(json.dumps(value).encode()) == value


@given(st.binary(max_size=100))
def test_any_bytes_are_json_or_not(raw: bytes) -> None:
    try:
        loads(raw)
    except NotJson:
        return


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b"[1,]",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b'{"a": NaN}',
        b"1e999",
        b'"\\ud800"',
        b'{"\\udfff": 1}',
        b'"\xff"',
        b"\xc3",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"9" * 5_000,
        b"01",
        b"+1",
        b'"a\nb"',
        b"nul",
        b"{} {}",
        '{"a": 1}'.encode("utf-16"),
        "\ufeff{}".encode(),
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_what_is_not_json_is_refused_with_a_reason(raw: bytes) -> None:
    with pytest.raises(NotJson, match=r"."):
        loads(raw)


def nested(depth: int, innermost: Any = None) -> Any:
    """Return arrays and objects by turns, ``depth`` of them, the innermost empty or with a value in it."""
    value: Any = [] if innermost is None else [innermost]
    for level in range(depth - 1):
        value = [1, value] if level % 2 else {"a": value, "b": "["}
    return value


@pytest.mark.parametrize("innermost", [None, "["])
@pytest.mark.parametrize("bystanders", [0, 5_000])
def test_nesting_ends_at_its_bound(innermost: object, bystanders: int) -> None:
    others: list[Any] = [{}] * bystanders
    most = [*others, nested(MAX_DEPTH - 1, innermost)]
    assert loads(dumps(most)) == most
    with pytest.raises(NotJson, match=r"nested"):
        loads(dumps([most]))


def test_brackets_in_a_text_are_no_nesting() -> None:
    assert loads(dumps(["[{" * 10_000])) == ["[{" * 10_000]


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert loads(b'"\\ud83c\\udf89"') == "🎉"


def test_what_is_written_is_compact_and_utf_8() -> None:
    assert dumps({"a": ["é", 1.5]}) == b'{"a":["\xc3\xa9",1.5]}'
