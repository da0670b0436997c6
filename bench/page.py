"""Writes docs/reference/performance.md and its charts from the results of a run."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.charts import Bar, bars, curves
from bench.goals import Goal, goals, million_goals
from bench.peers.catalogue import RECIPES
from bench.processes import ROOT
from bench.results import Report, Spread
from bench.service import NAME
from bench.table import number, spread, title

PAGE: Final = ROOT / "docs" / "reference" / "performance.md"
RESULTS: Final = ROOT / "bench" / "results"
PUBLISHED: Final = RESULTS / "published.json"
MILLION: Final = RESULTS / "published-million.json"
REMARKS: Final = ROOT / "bench" / "remarks.toml"
_OURS: Final = "timers, durable in the table"
_TITLES: Final = {NAME: _OURS, **{recipe.name: recipe.title for recipe in RECIPES}}


def publish(run: Path) -> None:
    """Make a run the published one, and write the page and its charts anew."""
    report = Report.load(run)
    kept = MILLION if any("pending" in workload for workload in report.workloads()) else PUBLISHED
    if run.resolve() != kept.resolve():
        report.save(kept)
    usual = Report.load(PUBLISHED) if PUBLISHED.exists() else Report({}, [])
    million = Report.load(MILLION) if MILLION.exists() else None
    charts = _charts(usual)
    for name, drawing in charts.items():
        (PAGE.parent / name).write_text(drawing, encoding="utf-8")
    PAGE.write_text("\n".join(_page(usual, million, charts)) + "\n", encoding="utf-8")


def _charts(report: Report) -> dict[str, str]:
    singly = "accepted a second, asked for one by one"
    in_bulk = "accepted a second, one client, in bulk where it can"
    panels = {in_bulk: _bars(report, _smallest_burst(report), "accepted_per_s")}
    panels |= {singly: _bars(report, "single", "accepted_per_s")}
    for burst in _bursts(report):
        count = int(burst.split()[1])
        panels[f"calls a second, {count:,} due at one instant"] = _bars(report, burst, "drained_per_s")
    panels["fetched from a pull queue and committed a second"] = _bars(report, "pull", "fetched_per_s")
    lines = {_TITLES[system]: report.lateness("steady 100", system) for system in _systems(report, "steady 100")}
    return {
        "performance-throughput.svg": bars({name: panel for name, panel in panels.items() if panel}),
        "performance-lateness.svg": curves("Lateness at 100 timers a second", {k: v for k, v in lines.items() if v}),
    }


def _bars(report: Report, workload: str, figure: str) -> list[Bar]:
    found = ((system, report.figure(workload, system, figure)) for system in _systems(report, workload))
    return [Bar(_TITLES[system], value, ours=system == NAME) for system, value in found if value]


def _systems(report: Report, workload: str) -> list[str]:
    """Return who did a workload, ourselves first, then in the catalogue's order."""
    did = report.systems(workload)
    return [name for name in _TITLES if name in did]


def _bursts(report: Report) -> list[str]:
    return sorted((w for w in report.workloads() if w.startswith("burst ")), key=lambda w: int(w.split()[1]))


def _smallest_burst(report: Report) -> str:
    return next(iter(_bursts(report)), "burst 2000")


def _page(report: Report, million: Report | None, charts: Iterable[str]) -> Iterator[str]:
    yield "# Performance"
    yield ""
    yield "<!-- Written by ./setup.sh bench --publish; reasons and trials come from bench/remarks.toml. -->"
    yield ""
    yield from _about(report)
    yield from _goal_section("Goals", list(goals(report)))
    yield from _peer_section(report)
    for chart, words in zip(charts, ("Throughput beside the peers", "How late calls are"), strict=True):
        yield f"![{words}]({chart})"
        yield ""
    yield from _pull_section(report)
    yield from _own_section(report)
    yield from _raw_section(report)
    if million is not None:
        yield from _million_section(million)
    yield from _void_section([report, *([million] if million else [])])
    yield _METHOD


def _about(report: Report) -> Iterator[str]:
    taken: Mapping[str, Any] = report.taken
    rounds = max((outcome.round for outcome in report.outcomes), default=0)
    settings = ", ".join(f"`{name}={value}`" for name, value in taken.get("settings", {}).items())
    yield (
        f"Taken {taken.get('at', '?')[:10]} at commit `{taken.get('commit', '?')}` with `./setup.sh bench "
        f"{taken.get('command', '')}` on {taken.get('cores', '?')} cores ({taken.get('cpu', '?')}), "
        f"{taken.get('memory_gb', '?')} GB, {taken.get('system', '?')}, Python {taken.get('python', '?')}, "
        f"RabbitMQ {taken.get('rabbitmq', '?')}; load average before: {taken.get('load_before', 0):.1f}. "
        f"The service ran with {settings}, all else by default. Everything ran on that one machine: the clients, the "
        "receiver, the brokers and the tables take their share of it. Figures are medians "
        f"over {rounds} round{'s' * (rounds != 1)}, with their range where there are several; "
        "only ratios within one run carry over to another machine."
    )
    yield ""


def _goal_section(heading: str, found: Sequence[Goal]) -> Iterator[str]:
    yield f"## {heading}"
    yield ""
    yield "| | goal | measured | ratio | |"
    yield "|---|---|---|---|---|"
    for goal in found:
        verdict = {True: "met", False: "**missed**", None: ""}[goal.met]
        yield f"| {goal.title} | {goal.wanted} | {goal.measured} | {goal.ratio} | {verdict} |"
    yield ""
    yield from _missed(found)


def _missed(found: Sequence[Goal]) -> Iterator[str]:
    remarks = tomllib.loads(REMARKS.read_text(encoding="utf-8"))
    for goal in found:
        if goal.met is False:
            remark = remarks.get(goal.key, {})
            yield f"**{goal.title}** is missed. Measured reason: {remark.get('reason', '(to be measured)')}"
            yield f"Tried: {remark.get('tried', '(nothing yet)')}"
            yield ""


def _peer_section(report: Report) -> Iterator[str]:
    burst = _smallest_burst(report)
    columns = (
        ("accepted/s in bulk", burst, "accepted_per_s"),
        ("accepted/s singly", "single", "accepted_per_s"),
        *((f"burst {int(one.split()[1]):,} drained/s", one, "drained_per_s") for one in _bursts(report)),
        ("burst p99 ms", burst, "late_p99_ms"),
        ("steady p50 ms", "steady 100", "late_p50_ms"),
        ("steady p99 ms", "steady 100", "late_p99_ms"),
        ("early calls in a burst", burst, "early"),
        ("own CPU ms", burst, "cpu_own_ms"),
    )
    yield "## Beside the peers"
    yield ""
    yield "| | " + " | ".join(name for name, _, _ in columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    for system in _systems(report, burst):
        cells = [_cell(report.figure(workload, system, figure)) for _, workload, figure in columns]
        yield f"| {_TITLES[system]} | " + " | ".join(cells) + " |"
    yield ""
    yield "What a job that was accepted is worth:"
    yield ""
    yield "- timers: in the table, on disk, before it is accepted; it can be read, edited and cancelled; never early."
    for recipe in RECIPES:
        if recipe.name in _systems(report, burst):
            yield f"- {recipe.title}: {recipe.promise}."
    yield ""


def _pull_section(report: Report) -> Iterator[str]:
    others = [system for system in _systems(report, "pull") if system != NAME]
    if not others:
        return
    figures = ("accepted_per_s", "fetched_per_s", "handed_p50_ms", "handed_p99_ms", "cpu_own_ms")
    yield "## Pull queues beside the peers"
    yield ""
    yield "| | " + " | ".join(title(figure) for figure in figures) + " |"
    yield "|---" * (len(figures) + 1) + "|"
    for system in _systems(report, "pull"):
        cells = [_cell(report.figure("pull", system, figure)) for figure in figures]
        yield f"| {_TITLES[system]} | " + " | ".join(cells) + " |"
    for other in others:
        cells = [_ratio(report, figure, other) for figure in figures]
        yield f"| ratio, ours to {_TITLES[other]} | " + " | ".join(cells) + " |"
    yield ""


def _ratio(report: Report, figure: str, other: str) -> str:
    ours, theirs = (report.figure("pull", system, figure) for system in (NAME, other))
    return number(ours.median / theirs.median) if ours and theirs and theirs.median else ""


def _own_section(report: Report) -> Iterator[str]:
    wanted = ["single", *_bursts(report), "steady 100", "steady 300", "cancel", "mixed", "pull", "idle"]
    wanted += [workload for workload in report.workloads() if workload.endswith("consumers")]
    yield "## The service alone"
    yield ""
    yield from _listing(report, wanted, NAME)


def _listing(report: Report, workloads: Sequence[str], system: str) -> Iterator[str]:
    yield "| workload | |"
    yield "|---|---|"
    for workload in workloads:
        names = dict.fromkeys(
            name for o in report.outcomes if (o.workload, o.system) == (workload, system) for name in o.figures
        )
        figures = [f"{title(name)} {_cell(report.figure(workload, system, name))}" for name in names]
        if figures:
            yield f"| {workload} | {' · '.join(figures)} |"
    yield ""


def _raw_section(report: Report) -> Iterator[str]:
    burst = _bursts(report)[-1] if _bursts(report) else ""
    drained, accepted = (report.figure(burst, NAME, name) for name in ("drained_per_s", "accepted_per_s"))
    parts = (
        ("pika: publish, two dead-letter hops, consume", "raw broker", "pika, two hops", "per_s", drained),
        ("table: inserts in transactions of 100", "raw table", "boto3, transactions of 100", "inserts_per_s", accepted),
        ("table: three writes, a timer's life", "raw table", "boto3, transactions of 100", "timers_per_s", drained),
        ("aiohttp: calls to the same receiver", "raw http", "aiohttp, 100 at once", "per_s", drained),
    )
    yield "## The limits of the parts"
    yield ""
    yield "Each part by itself, with the machine to itself; the service runs all of them at once on the same cores."
    yield ""
    yield "| | a second | the service's share of it |"
    yield "|---|---|---|"
    for words, workload, system, figure, ours in parts:
        limit = report.figure(workload, system, figure)
        share = f"{ours.median / limit.median:.0%}" if ours and limit else ""
        yield f"| {words} | {_cell(limit)} | {share} |"
    yield ""


def _million_section(report: Report) -> Iterator[str]:
    size = next((o.figures["size"] for o in report.outcomes if "size" in o.figures), 0.0)
    yield from _goal_section(f"With {size:,.0f} pending", list(million_goals(report)))
    yield from _listing(report, report.workloads(), NAME)


def _void_section(reports: Sequence[Report]) -> Iterator[str]:
    voids = [void for report in reports for void in report.voids()]
    if not voids:
        return
    yield "## Rounds that do not count"
    yield ""
    for void in voids:
        yield f"- {void.workload}, {_TITLES.get(void.system, void.system)}, round {void.round}: {void.void}"
    yield ""


def _cell(found: Spread | None) -> str:
    return "" if found is None else spread(found)


_METHOD: Final = """## How it is measured

    ./setup.sh bench                 the service alone: about twenty minutes
    ./setup.sh bench --peers         the others too, in turn with it: half an hour
    ./setup.sh bench --quick         everything small, once: about a minute
    ./setup.sh bench --million       with a million pending, far away and near: a quarter of an hour
    ./setup.sh bench --publish       write this page from the latest run

- **Bursts**: asked for by one client, all due within the same 10 ms. *Drained/s* counts from that instant to the last
  call. *Overtaken* is how long the unluckiest call saw others made that were due later.
- **Steady**: requests at a constant rate, each due 1 to 9 s later. **Single**: one timer a request, 64 under way.
  **Mixed**: of eight timers two are edited and one is cancelled. **Cancel**: half in batches, half one by one.
- **Pull**: accepted by one client in bulk, all due at one instant; from then on eight workers fetch and commit until
  nothing is left, each job exactly once. Ours ask for a hundred at a time over HTTP and commit them in one request;
  BullMQ's, of one process, have `getNextJob` and let each `moveToCompleted` bring the next job along: it gives out
  one at a time. *Handed over* is the time from asking for a job that is due at once until a worker has it that had
  waited 20 ms for one. CPU is that of fetching; of BullMQ its workers are a part, of ours they are the client's.
- **Lateness** is the time from `due_at` to the moment at which the receiver had read the call, by one machine's clock.
- **The receiver** is a small process of its own that answers 200 and remembers each call's id and its arrival to the
  microsecond, at about 20 µs of CPU a call; its CPU time is nobody's.
- **CPU** is read from `/proc/PID/stat` before the first request and a second after the last call: what the api and the
  consumers used for a timer's whole life, with what they use when idle in that time. Peers: worker and producer.
- **Every round checks itself**: each timer called exactly once, nothing else called, none of ours early, and a sample
  of ours recorded as delivered at one attempt. Else the round is void, is listed, and the command fails.
- **Peers** run as their documentation recommends, brokers of their own, the same bodies of about 200 bytes, the same
  receiver. Each is started for its turn and stopped after it; rounds interleave, so that drift hits all alike. Two
  warm-ups go before each turn. Celery's gevent pool, which its guide suggests for such work, was tried as well: in a
  burst of 500 it is about as fast, makes a quarter of the calls early, and takes ten a second from quorum queues."""
