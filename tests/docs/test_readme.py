"""The README says what the code says."""

from __future__ import annotations

import re

import pytest

from api.batches import MAX_ITEMS
from api.bounds import MAX_BATCH_BYTES, MAX_REQUEST_BYTES
from api.strict_json import MAX_DEPTH
from infra import callbacks
from tests.docs.markdown import ROOT, code_blocks, read, rows, section
from tests.docs.settings_table import lines
from timers import limits
from timers.state import FINAL, TRANSITIONS

README = "README.md"
KIB = 1024
DAY_S = 24 * 3600

LIMITS: dict[str, str] = {
    "delay": f"1 ms to {limits.MAX_DELAY_MS // (DAY_S * 1000)} days (10 years); 0, or a past time, fires at once",
    "id": f"`{limits.ID_PATTERN.pattern}`",
    "url": f"{limits.MAX_URL_LENGTH:,} characters, http or https",
    "body of the call": f"{limits.MAX_BODY_BYTES // KIB} KiB",
    "headers of the call": f"{limits.MAX_HEADERS}, each up to {limits.MAX_HEADER_BYTES // KIB} KiB",
    "exchange, routing key, property of a message": f"{limits.MAX_AMQP_NAME_BYTES} bytes; "
    f"all headers together {limits.MAX_AMQP_HEADERS_BYTES // KIB} KiB",
    "redeliveries of a message": f"{limits.MAX_REDELIVERIES:,}",
    "answer to the call": f"{callbacks.READ // KIB} KiB of its body is read, 128 headers up to 8 KiB each",
    "labels": f"{limits.MAX_LABELS}, keys and values up to {limits.MAX_LABEL_LENGTH} characters",
    "timer as a whole": f"{limits.MAX_ITEM_BYTES // 1000} KB in the table",
    "time-out of a call": f"{limits.MIN_TIMEOUT_S:g} to {limits.MAX_TIMEOUT_S:g} s",
    "attempts": f"{limits.MAX_ATTEMPTS}; the last {limits.KEPT_ATTEMPTS} are kept in the timer",
    "back-off": f"{limits.MAX_BACKOFF_S // DAY_S} days",
    "pull queues": f"{limits.MAX_QUEUES:,}, named `{limits.QUEUE_PATTERN.pattern}`",
    "leases and tokens in one request": f"{limits.MAX_LEASES}",
    "wait for a lease": f"{limits.MAX_WAIT_S:g} s",
    "lease": f"{limits.MIN_LEASE_S:g} to {limits.MAX_LEASE_S:,.0f} s",
    "timers in one part of a list": f"{limits.MAX_LIST}",
    "timers in one batch": f"{MAX_ITEMS:,}",
    "request to the api": f"{MAX_REQUEST_BYTES // KIB**2} MiB, a batch {MAX_BATCH_BYTES // KIB**2} MiB; "
    f"100 headers, 32 KiB of them; JSON nested {MAX_DEPTH} deep",
    "clocks of the machines": f"no more than {limits.CLOCK_SKEW_MS // 1000} s apart",
}


def test_the_diagram_of_the_states_is_the_table_of_moves() -> None:
    diagram = code_blocks(section(read(README), "States"), "mermaid")[0]
    drawn = re.findall(r"^ *(\w+) --> (\w+) : (.+)$", diagram, re.MULTILINE)

    assert {(before, event, after) for before, after, events in drawn for event in events.split(", ")} == {
        (before.value, event.name.lower().replace("_", " "), after.value)
        for before, moves in TRANSITIONS.items()
        for event, after in moves.items()
    }


def test_the_diagram_of_the_states_shows_where_a_timer_begins_and_ends() -> None:
    diagram = code_blocks(section(read(README), "States"), "mermaid")[0]

    assert re.findall(r"\[\*\] --> (\w+)", diagram) == ["scheduled"]
    assert set(re.findall(r"(\w+) --> \[\*\]", diagram)) == {state.value for state in FINAL}


def test_the_table_of_settings_is_the_settings() -> None:
    text = section(read(README), "Settings")

    assert [line for line in text.splitlines() if line.startswith("| `")] == lines()


def test_the_table_of_limits_is_the_limits() -> None:
    assert dict(rows(section(read(README), "Limits"))) == LIMITS


def test_what_setup_does_is_what_its_help_says() -> None:
    script = read("setup.sh")
    usage = re.findall(r"^#   (\./setup\.sh.*)$", script, re.MULTILINE)

    assert code_blocks(section(read(README), "What setup.sh does"), "text")[0].splitlines() == usage


def _shown_by() -> list[tuple[str, str]]:
    cells = " ".join(row[2] for row in rows(section(read(README), "Promises")))
    return re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", cells)


@pytest.mark.parametrize(("test", "path"), _shown_by())
def test_a_promise_names_tests_that_exist(test: str, path: str) -> None:
    assert re.search(rf"def {test}\(", (ROOT / path).read_text(encoding="utf-8"))
