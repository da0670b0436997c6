"""Timers as items of the table."""

import json
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.schemas import timer_out
from api.strict_json import dumps
from infra.dynamodb.client import Item
from infra.dynamodb.codec import changes, decode, encode
from infra.rabbitmq import messages
from tests.builders import NOW_MS, make_attempt, make_target, make_timer, timers
from timers.amqp import AmqpTarget, Destination
from timers.body import Body, BodyKind
from timers.call import call_for
from timers.errors import BrokenTimer, Invalid
from timers.retry import Answer
from timers.settle import lapsed, settled
from timers.state import State
from timers.target import Target
from timers.timer import Timer

WEEK_MS = 7 * 86_400_000
THE_YEAR_9999 = 253_402_300_799


def item_of(timer: Timer) -> Item:
    return encode(timer, shards=16, retention_ms=WEEK_MS)


def text_timer(size: int, **changes: Any) -> Timer:
    return make_timer(target=make_target(body=Body(BodyKind.TEXT, "a" * size)), **changes)


@given(timers)
def test_a_timer_written_and_read_is_the_same(timer: Timer) -> None:
    assert decode(item_of(timer)) == timer


@given(timers, timers)
def test_the_changes_lead_from_one_item_to_the_other(before: Timer, other: Timer) -> None:
    after = replace(other, id=before.id)
    changed = changes(before, after, shards=16, retention_ms=WEEK_MS)
    assert decode({**item_of(before), **changed}) == after


def test_a_move_changes_little() -> None:
    before = make_timer(labels={"order": "42"})
    changed = changes(before, before.cancelled(NOW_MS + 1), shards=16, retention_ms=WEEK_MS)
    assert set(changed) == {"state", "version", "shard", "updated_at_ms", "expires_at"}


def test_only_a_tenants_own_item_pays_for_the_index_by_tenant() -> None:
    assert "tenant_shard" not in item_of(make_timer())
    item = item_of(make_timer("acme/timer-1"))
    assert item["tenant_shard"] == {"S": f"acme/{item['shard']['S']}"}


@pytest.mark.parametrize("state", [State.SCHEDULED, State.FIRING])
def test_a_live_timer_is_found_by_its_next_attempt_and_never_expires(state: State) -> None:
    item = item_of(make_timer(state=state, next_attempt_at_ms=NOW_MS + 7))
    assert (item["shard"], item["at_ms"]) == ({"S": "live.02"}, {"N": str(NOW_MS + 7)})
    assert "expires_at" not in item


def test_a_replayed_timer_does_not_expire() -> None:
    dead = make_timer(state=State.DEAD)
    changed = changes(dead, dead.replayed(NOW_MS), shards=16, retention_ms=WEEK_MS)
    assert changed["expires_at"] == {"N": str(THE_YEAR_9999)}


@pytest.mark.parametrize("state", [State.DELIVERED, State.DEAD, State.CANCELLED, State.EXPIRED])
def test_a_final_timer_is_found_by_its_due_time_and_expires_after_its_retention(state: State) -> None:
    item = item_of(make_timer(state=state, next_attempt_at_ms=NOW_MS + 7, updated_at_ms=NOW_MS))
    assert (item["shard"], item["at_ms"]) == ({"S": f"{state}.02"}, {"N": str(NOW_MS)})
    assert item["expires_at"] == {"N": str((NOW_MS + WEEK_MS) // 1000)}


def test_attributes_that_are_not_ours_are_passed_over() -> None:
    timer = make_timer()
    assert decode({**item_of(timer), "writer": {"S": "x"}, "later": {"BOOL": True}}) == timer


@pytest.mark.parametrize("name", [name for name in item_of(make_timer()) if name != "shard"])
def test_an_item_without_an_attribute_is_broken(name: str) -> None:
    item = item_of(make_timer())
    del item[name]
    with pytest.raises(BrokenTimer):
        decode(item)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("state", {"S": "sleeping"}),
        ("state", {"N": "1"}),
        ("version", {"N": "one"}),
        ("version", {"S": "1"}),
        ("spec", {"S": "{"}),
        ("spec", {"S": "[]"}),
        ("spec", {"S": "{}"}),
        ("spec", {"S": json.dumps({"target": [], "retry": [], "labels": {}})}),
        ("attempts", {"S": "null"}),
        ("attempts", {"S": "[[1]]"}),
        ("attempts", {"S": "[1]"}),
        ("attempts", {"S": '[["1", 0, 0, 0, 200, null]]'}),
        ("attempts", {"S": "[[1, -1, 0, 0, 200, null]]"}),
        ("attempts", {"S": "[[1, 0, 1e300, 0, 200, null]]"}),
        ("attempts", {"S": '[[1, 0, 0, "late", 200, null]]'}),
        ("attempts", {"S": '[[1, 0, 0, 0, "200", null]]'}),
        ("attempts", {"S": "[[1, 0, 0, 0, null, 5]]"}),
        ("attempts", {"S": '[[1, 0, 0, 0, null, "\\ud800"]]'}),
        ("attempts", {"S": f"[[{'9' * 4_000}, 0, 0, 0, 200, null]]"}),
        ("attempts", {"S": f"[[1, 0, 0, -{'9' * 4_000}, 200, null]]"}),
        ("attempts", {"S": "[[1, 0, 0, 1e999, 200, null]]"}),
        ("attempts", {"S": "[[1, 0, 0, 0, NaN, null]]"}),
        ("version", {"N": "0"}),
        ("version", {"N": "9" * 38}),
        ("version", {"N": "1.5"}),
        ("at_ms", {"N": "1.5"}),
        ("due_at_ms", {"N": "-1"}),
        ("next_attempt_at_ms", {"N": str(10**30)}),
        ("updated_at_ms", {"N": str(1000 * THE_YEAR_9999 + 1000)}),
        ("lease_until_ms", {"N": "1e20"}),
        ("attempts_made", {"N": "-1"}),
        ("attempts_made", {"N": "9" * 38}),
    ],
)
def test_an_item_with_a_bad_attribute_is_broken_and_named(name: str, value: Item) -> None:
    with pytest.raises(BrokenTimer, match=r"timer-1"):
        decode({**item_of(make_timer()), name: value})


def test_an_id_that_no_client_can_choose_is_broken() -> None:
    with pytest.raises(BrokenTimer):
        decode({**item_of(make_timer()), "id": {"S": "#keeper.0"}})


def test_an_item_that_stands_elsewhere_in_the_index_than_its_time_is_broken() -> None:
    with pytest.raises(BrokenTimer):
        decode({**item_of(make_timer()), "next_attempt_at_ms": {"N": str(NOW_MS + 1)}})


MESSAGE = AmqpTarget(
    Destination("a", "b"), {"a": "b"}, {"type": "b"}, redeliveries_left=1, dead_letter=Destination("a", "b")
)


def spec_with(path: str, value: object, target: Target | None = None) -> Item:
    """Return an item with another value somewhere in its spec."""
    item = item_of(make_timer(labels={"a": "b"}, target=target or make_target(headers={"a": "b"})))
    spec = json.loads(item["spec"]["S"])
    *parents, name = path.split(".")
    place = spec
    for parent in parents:
        place = place[int(parent) if isinstance(place, list) else parent]
    place[int(name) if isinstance(place, list) else name] = value
    return {**item, "spec": {"S": json.dumps(spec)}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("target.url", 5),
        ("target.url", "http://["),
        ("target.url", "\ud800"),
        ("target.method", "TRACE"),
        ("target.method", ["GET"]),
        ("target.headers", []),
        ("target.headers", "a: b"),
        ("target.headers.a", 5),
        ("target.timeout", "10"),
        ("target.timeout", 0),
        ("target.timeout", float("nan")),
        ("target.timeout", float("inf")),
        ("target.body", ["json"]),
        ("target.body", ["xml", "<a/>"]),
        ("target.body", ["text", 5]),
        ("target.body", ["base64", "a"]),
        ("target.body", {"json": "1"}),
        ("retry", "12345"),
        ("retry.0", "8"),
        ("retry.0", 0),
        ("retry.0", 10**9),
        ("retry.1", -1),
        ("retry.1", float("nan")),
        ("retry.2", float("inf")),
        ("retry.3", 0),
        ("retry.3", None),
        ("retry.4", 2),
        ("labels", []),
        ("labels.a", 5),
        ("labels.a", "\udfff"),
        ("created_at_ms", float("inf")),
        ("created_at_ms", -1),
        ("trace", 5),
        ("trace", ["-", "-", "-"]),
        ("trace", "00-0af7651916cd43dd8448eb211c80319c"),
    ],
)
def test_a_spec_that_could_not_be_called_or_shown_is_broken(path: str, value: object) -> None:
    with pytest.raises(BrokenTimer):
        decode(spec_with(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("target.type", "fax"),
        ("target.type", None),
        ("target.type", "http"),
        ("target.to", ["a"]),
        ("target.to", [1, 2]),
        ("target.to", "abc"),
        ("target.to.1", "a" * 256),
        ("target.headers", []),
        ("target.headers.a", 1.5),
        ("target.headers.a", 2**63),
        ("target.headers.CC", "a"),
        ("target.properties", ["type"]),
        ("target.properties.type", 1),
        ("target.properties.delivery_mode", 1),
        ("target.redeliveries_left", "1"),
        ("target.redeliveries_left", True),
        ("target.redeliveries_left", 1.5),
        ("target.dead_letter", None),
        ("target.dead_letter", ["", ""]),
        ("target.body", ["base64", "a"]),
    ],
)
def test_a_message_that_could_not_be_published_is_broken(path: str, value: object) -> None:
    with pytest.raises(BrokenTimer):
        decode(spec_with(path, value, MESSAGE))


def test_a_spec_nested_without_end_is_broken() -> None:
    with pytest.raises(BrokenTimer):
        decode({**item_of(make_timer()), "spec": {"S": "[" * 100_000}})


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "1e999",
        "-1e999",
        "NaN",
        '{"a": [Infinity]}',
        '"\\ud800"',
        '{"\\uDFFF": 1}',
        "9" * 5_000,
        *(("[" * depth) + ("]" * depth) for depth in (101, 900, 950, 975, 990, 100_000)),
    ],
)
def test_a_stored_body_that_is_not_json_after_all_is_shown_as_text(text: str) -> None:
    timer = decode(item_of(make_timer(target=make_target(body=Body(BodyKind.JSON, text)))))
    shown = json.loads(dumps(timer_out(timer)))
    assert shown["target"]["body"] == text


_PATHS = ["target", "retry", "labels", "created_at_ms", "trace", "request", "retry.0", "retry.3"]
_PATHS += [f"target.{name}" for name in ("url", "method", "headers", "timeout", "body", "headers.a")]
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["json", "text"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
_BODIES = st.tuples(st.sampled_from(["json", "text", "base64"]), _VALUES.map(json.dumps))


@given(st.tuples(st.sampled_from(_PATHS), _VALUES) | st.tuples(st.just("target.body"), _BODIES))
def test_what_is_decoded_can_be_called_retried_hinted_and_shown(changed: tuple[str, object]) -> None:
    path, value = changed
    try:
        timer = decode(spec_with(path, value))
    except BrokenTimer:
        return
    random = Random(0)
    call_for(timer, started_at_ms=NOW_MS, random=random)
    for status in (200, 410, 500, 503):
        settled(timer.claimed(NOW_MS, NOW_MS), Answer(status), started_at_ms=NOW_MS, now_ms=NOW_MS, random=random)
    lapsed(timer.claimed(NOW_MS, NOW_MS), NOW_MS)
    messages.decode(messages.encode(timer.hint))
    dumps(timer_out(timer))


@given(st.dictionaries(st.sampled_from(list(item_of(make_timer()))), st.dictionaries(st.sampled_from("SN"), st.text())))
def test_any_item_is_a_timer_or_broken(garbled: Item) -> None:
    try:
        decode({**item_of(make_timer()), **garbled})
    except BrokenTimer:
        return


def test_the_largest_body_fits_with_a_full_history() -> None:
    attempts = tuple(make_attempt(number, error="é" * 256) for number in range(20))
    size = sum(
        len(name) + len(*value.values()) for name, value in item_of(text_timer(256 * 1024, attempts=attempts)).items()
    )
    assert size < 400 * 1024


@pytest.mark.parametrize("text", ["a" * 376_000, "\U0001f389" * 94_000, '"' * 188_000])
def test_a_timer_that_is_too_large_for_an_item_is_invalid(text: str) -> None:
    timer = make_timer(target=make_target(body=Body(BodyKind.TEXT, text)))
    with pytest.raises(Invalid, match=r"400 KB"):
        item_of(timer)


def test_an_edit_that_makes_a_timer_too_large_is_invalid() -> None:
    with pytest.raises(Invalid, match=r"400 KB"):
        changes(make_timer(), text_timer(376_000, version=2), shards=16, retention_ms=WEEK_MS)
