"""A run as a table on the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from bench.results import Outcome, Report, Spread

_SHOWN = (
    ("accepted_per_s", "accepted/s"),
    ("drained_per_s", "drained/s"),
    ("fetched_per_s", "fetched and committed/s"),
    ("handed_p50_ms", "handed over p50 ms"),
    ("handed_p99_ms", "handed over p99 ms"),
    ("per_s", "/s"),
    ("requests_per_s", "requests/s"),
    ("batch_per_s", "cancelled/s in batches"),
    ("single_per_s", "cancelled/s singly"),
    ("inserts_per_s", "inserts/s"),
    ("updates_per_s", "updates/s"),
    ("timers_per_s", "timers/s"),
    ("request_p50_ms", "request p50 ms"),
    ("request_p99_ms", "request p99 ms"),
    ("late_p50_ms", "late p50 ms"),
    ("late_p99_ms", "late p99 ms"),
    ("late_max_ms", "late max ms"),
    ("overtaken_ms", "overtaken ms"),
    ("early", "early"),
    ("cpu_own_ms", "own CPU ms"),
    ("cpu_api_ms", "api CPU ms"),
    ("cpu_consumers_ms", "consumers CPU ms"),
    ("cpu_rabbitmq_ms", "RabbitMQ CPU ms"),
    ("cpu_dynamodb_ms", "table CPU ms"),
    ("cpu_broker_ms", "broker CPU ms"),
    ("cpu_client_ms", "client CPU ms"),
)
_NAMES = dict(_SHOWN)


def line(outcome: Outcome) -> str:
    """Return one round in a line."""
    head = f"{outcome.round}  {outcome.workload:<34} {outcome.system:<22}"
    if outcome.void:
        return f"{head} VOID: {outcome.void}"
    return f"{head} " + ", ".join(f"{title(name)} {number(value)}" for name, value in _ordered(outcome))


def table(report: Report) -> Iterator[str]:
    """Yield the lines of a table of medians and ranges."""
    for workload in report.workloads():
        yield ""
        yield workload
        for system in report.systems(workload):
            cells = [f"{title(name)} {spread(found)}" for name, found in _figures(report, workload, system)]
            yield f"  {system:<22} " + (" · ".join(cells) or "void")
    for void in report.voids():
        yield f"VOID: {void.workload}, {void.system}, round {void.round}: {void.void}"


def title(name: str) -> str:
    """Return a figure's name for readers."""
    return _NAMES.get(name, name.replace("_percent", " %").replace("_mb", " MB").replace("_", " "))


def spread(found: Spread) -> str:
    """Return a median with its range."""
    if found.rounds == 1:
        return number(found.median)
    return f"{number(found.median)} ({number(found.least)} to {number(found.most)})"


def number(value: float) -> str:
    """Return a figure with as many digits as mean something."""
    if abs(value) >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _ordered(outcome: Outcome) -> list[tuple[str, float]]:
    known = [name for name, _ in _SHOWN if name in outcome.figures]
    return [(name, outcome.figures[name]) for name in [*known, *(n for n in outcome.figures if n not in known)]]


def _figures(report: Report, workload: str, system: str) -> Iterator[tuple[str, Spread]]:
    done = (o for o in report.outcomes if (o.workload, o.system) == (workload, system) and not o.void)
    names = dict.fromkeys(name for outcome in done for name, _ in _ordered(outcome))
    for name in names:
        found = report.figure(workload, system, name)
        if found is not None:
            yield name, found
