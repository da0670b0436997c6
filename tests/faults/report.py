"""The table of verdicts, and the page that is made of it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.faults.faults import FAULTS, Fault
from tests.faults.ledger import LATE_MS, MUST_BE_ZERO, Verdict
from tests.faults.load import TIMEOUT_MS
from tests.faults.run import WHOLE
from tests.faults.world import HORIZON_S
from tests.stack import ROOT

HERE: Final = Path(__file__).parent

PAGE: Final = ROOT / "docs" / "reference" / "reliability.md"
_HEAD: Final = (
    "fault", "acknowledged", "delivered", "lost", "after-cancel", "after-edit", "overlapping", "early",
    "after-settled", "same-attempt", "repeated", "worst lateness, ms", "recovered, s",
)  # fmt: skip


def _merged(verdicts: Sequence[Verdict]) -> list[list[str]]:
    """Return one row a fault: sums, of lateness and recovery the worst."""
    names = list(dict.fromkeys(verdict.fault for verdict in verdicts))
    return [_row(name, [verdict for verdict in verdicts if verdict.fault == name]) for name in names]


def _row(name: str, verdicts: Sequence[Verdict]) -> list[str]:
    return [
        name,
        f"{sum(verdict.acknowledged for verdict in verdicts):,}",
        f"{sum(verdict.delivered for verdict in verdicts):,}",
        *(str(sum(verdict.counts[kind] for verdict in verdicts)) for kind in MUST_BE_ZERO),
        str(sum(verdict.repeated for verdict in verdicts)),
        f"{max(verdict.worst_ms for verdict in verdicts):,.0f}",
        f"{max(verdict.recovered_s for verdict in verdicts):.1f}",
    ]


def table(verdicts: Sequence[Verdict]) -> str:
    """Return a Markdown table, one row a fault."""
    rows = [list(_HEAD), ["---"] + ["--:"] * (len(_HEAD) - 1), *_merged(verdicts)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def line(verdict: Verdict) -> str:
    """Return a verdict in one line, as soon as it is known."""
    row = dict(zip(_HEAD, _row(verdict.fault, [verdict]), strict=True))
    return ", ".join(f"{name} {value}" if name != "fault" else value for name, value in row.items())


def write(verdicts: Sequence[Verdict], *, runs: int, at_once: int, seconds: float) -> None:
    """Write the page."""
    broken = sum(len(verdict.details) for verdict in verdicts)
    PAGE.write_text(
        (HERE / "reliability.md.in")
        .read_text(encoding="utf-8")
        .format(
            table=table(verdicts),
            faults="\n".join(_does(name, fault) for name, fault in FAULTS.items()),
            runs=_how_many(runs, at_once),
            repeat="" if runs == 1 else f" --repeat {runs}" + (f" --at-once {at_once}" if at_once > 1 else ""),
            sums=" of all runs together" if runs > 1 else "",
            minutes=round(seconds / 60),
            outcome="Every promise held." if not broken else f"**{broken} promises were broken.**",
            date=datetime.now(UTC).date(),
            cores=os.cpu_count(),
            system=_system(),
            rate=f"{WHOLE.rate:g}",
            late=LATE_MS,
            horizon=HORIZON_S,
            timeout=TIMEOUT_MS // 1000,
        ),
        encoding="utf-8",
    )


def _how_many(runs: int, at_once: int) -> str:
    if runs == 1:
        return "One run"
    return f"{runs} runs in a row" + (
        f", {at_once} side by side at any time, each in a world of its own," * (at_once > 1)
    )


def _does(name: str, fault: Fault) -> str:
    length = f" ({fault.seconds:g} s)" if fault.seconds else ""
    return f"- **{name}**: {fault.does.removesuffix('.')}{length}."


def _system() -> str:
    parts = [f"Python {platform.python_version()}", platform.machine()]
    servers = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
    parts += [f"RabbitMQ {server.name.partition('-')[2]}" for server in servers[-1:]]
    packages = sorted((ROOT / "infra/native/node_modules/@dynoxide").glob("*/package.json"))
    parts += [f"Dynoxide {json.loads(package.read_text())['version']}" for package in packages[:1]]
    return ", ".join(parts)
