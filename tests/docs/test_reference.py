"""The reference says what the code says."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from api.app import create_app
from api.schemas import AttemptOut, NewTimerIn, Problem, RetryIn, StatsOut, TimerOut
from api.targets import TARGETS
from infra.metrics import Metrics
from tests.docs.markdown import code_blocks, read, rows, section
from timers import limits
from timers.state import TRANSITIONS, State

API = "docs/reference/api.md"
STATES = "docs/reference/states.md"
EVERYWHERE = {"400", "401", "403", "413", "415", "429", "503"}


def _openapi() -> dict[str, Any]:
    def never() -> Any:
        raise AssertionError("the document is made without running the service")

    return create_app(never, pending=1, waiting=1).openapi()


def _routes() -> list[tuple[str, str]]:
    return [(method.upper(), path) for path, methods in _openapi()["paths"].items() for method in methods]


def _description(method: str, path: str) -> str:
    documented = re.sub(r"\{\w+\}", "{name}" if path.startswith("/v1/queues/") else "{id}", path)
    return section(read(API), f"`{method} {documented}`")


@pytest.mark.parametrize(("method", "path"), _routes())
def test_every_route_is_described(method: str, path: str) -> None:
    assert _description(method, path).strip()


@pytest.mark.parametrize(("method", "path"), [route for route in _routes() if route[1].startswith("/v1/")])
def test_every_answer_of_a_route_is_described(method: str, path: str) -> None:
    operation = _openapi()["paths"][path][method.lower()]
    answers = {
        status
        for status, answer in operation["responses"].items()
        if "HTTPValidationError" not in json.dumps(answer)  # the framework's own guess
    }

    assert {row[0] for row in rows(_description(method, path)) if row[0].isdigit()} == answers - EVERYWHERE


def test_the_answers_of_every_route_are_described_once() -> None:
    assert {row[0] for row in rows(section(read(API), "Errors"))} >= EVERYWHERE


@pytest.mark.parametrize("model", [NewTimerIn, *TARGETS.values(), RetryIn, TimerOut, AttemptOut, StatsOut, Problem])
def test_every_field_is_named(model: type[Any]) -> None:
    text = read(API)

    assert [name for name in model.model_fields if not re.search(rf"\b{name}\b", text)] == []


def test_the_example_of_a_timer_has_exactly_its_fields() -> None:
    timer = json.loads(code_blocks(section(read(API), "A timer"), "json")[0])

    assert list(timer) == list(TimerOut.model_fields)
    assert list(timer["attempts"][0]) == list(AttemptOut.model_fields)
    assert timer["retry"] == RetryIn().model_dump()


def test_the_example_of_the_stats_has_exactly_their_fields() -> None:
    stats = json.loads(code_blocks(section(read(API), "`GET /v1/stats`"), "json")[0])

    assert list(stats) == list(StatsOut.model_fields)
    assert list(stats["counts"]) == [state.value for state in State]


def test_every_parameter_of_a_list_is_described() -> None:
    parameters = {parameter["name"] for parameter in _openapi()["paths"]["/v1/timers"]["get"]["parameters"]}
    described = " ".join(row[0] for row in rows(_description("GET", "/v1/timers")))

    assert set(re.findall(r"`(\w+)`", described)) == parameters


def test_every_metric_is_described() -> None:
    told = re.findall(r"^# TYPE (\w+) (?:counter|histogram)$", Metrics().page().decode(), re.MULTILINE)
    described = {row[0].strip("`") for row in rows(_description("GET", "/metrics"))}

    assert {name for name in told if not name.endswith("_created")} <= described


def test_every_move_is_explained() -> None:
    moves = rows("| From |" + read(STATES).partition("| From |")[2])

    assert {(before.strip("`"), event, after.strip("`")) for before, event, after, _ in moves} == {
        (before.value, event.name.lower().replace("_", " "), after.value)
        for before, table in TRANSITIONS.items()
        for event, after in table.items()
    }


def test_every_state_is_explained() -> None:
    assert [row[0] for row in rows(read(STATES).partition("| From |")[0])] == [f"`{state}`" for state in State]


def test_numbers_are_those_of_the_limits() -> None:
    text = read(API)

    for number in (
        f"{limits.MIN_TIMEOUT_S:g} to {limits.MAX_TIMEOUT_S:g}",
        f"1 to {limits.MAX_ATTEMPTS}",
        f"0 to {limits.MAX_BACKOFF_S:,}",
        f"Up to {limits.MAX_LABELS} strings by name, each up to {limits.MAX_LABEL_LENGTH} characters",
        f"Up to {limits.MAX_BODY_BYTES // 1024} KiB",
        f"1 to {limits.MAX_LIST}",
        f"up to {limits.MAX_URL_LENGTH:,} characters",
        f"The last {limits.KEPT_ATTEMPTS}",
        limits.ID_PATTERN.pattern,
    ):
        assert number in text
