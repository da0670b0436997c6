"""The goals, and what a run says of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from bench.results import Report, Spread
from bench.service import NAME
from bench.table import number, spread

_MOST_MB: Final = 250.0
_DRIFT: Final = 0.10


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal: ``key`` names it in remarks.toml; ``bound`` is None where the run cannot tell."""

    key: str
    title: str
    wanted: str
    found: Spread | None
    bound: float | None
    least: bool
    ratio_to: str

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the bound; None where that is unknown."""
        if self.found is None or self.bound is None:
            return None
        reaches: Callable[[float, float], bool] = operator.ge if self.least else operator.le
        return reaches(self.found.median, self.bound)

    @property
    def measured(self) -> str:
        """The median with its range."""
        return "not measured" if self.found is None else spread(self.found)

    @property
    def ratio(self) -> str:
        """How the median stands to the bound."""
        if self.found is None or not self.bound:
            return ""
        return f"{number(self.found.median / self.bound)} of {self.ratio_to}"


def goals(report: Report) -> Iterator[Goal]:
    """Yield the goals that a run of the usual workloads tells about."""
    bursts = sorted((w for w in report.workloads() if w.startswith("burst ")), key=lambda w: int(w.split()[1]))
    widest = bursts[-1] if bursts else "burst 20000"
    smallest = bursts[0] if bursts else "burst 2000"
    of, bound = report.figure, _median(report)

    yield Goal(
        "batch",
        "accepted/s by `POST /v1/timers/batch`, one client",
        "≥ BullMQ's, `addBulk`",
        of(widest, NAME, "accepted_per_s"),
        bound(widest, "bullmq", "accepted_per_s"),
        least=True,
        ratio_to="BullMQ's",
    )
    celery = bound(smallest, "celery", "accepted_per_s")
    yield Goal(
        "single",
        "accepted/s by `POST /v1/timers`, 64 connections",
        "≥ 3 times Celery's",
        of("single", NAME, "accepted_per_s"),
        3 * celery if celery else None,
        least=True,
        ratio_to="three times Celery's",
    )
    for name in bursts:
        yield Goal(
            name.replace(" ", "-"),
            f"burst of {int(name.split()[1]):,} drained/s",
            "≥ BullMQ's",
            of(name, NAME, "drained_per_s"),
            bound(name, "bullmq", "drained_per_s"),
            least=True,
            ratio_to="BullMQ's",
        )
    for key, workload, name, most in (
        ("steady-100-p50", "steady 100", "late_p50_ms", 3.0),
        ("steady-100-p99", "steady 100", "late_p99_ms", 25.0),
        ("steady-300-p99", "steady 300", "late_p99_ms", 100.0),
    ):
        yield _at_most(key, f"{workload}/s, lateness {name[5:8]}, ms", of(workload, NAME, name), most)
    yield _at_most("early", "calls made early, all workloads", _early(report), 0.0)
    yield _at_most(
        "cpu", f"CPU per timer, our own processes, whole life, ms ({widest})", of(widest, NAME, "cpu_own_ms"), 1.0
    )


def million_goals(report: Report) -> Iterator[Goal]:
    """Yield the goals that a run with many pending tells about."""
    of, bound = report.figure, _median(report)
    for pending in ("over 30 days", "within the hour"):
        for key, workload, figure, least in (
            ("accepted", "single", "accepted_per_s", True),
            ("batch", "burst 2000", "accepted_per_s", True),
            ("late", "steady 100", "late_p99_ms", False),
        ):
            before = bound(f"{workload}, pending none", NAME, figure)
            yield Goal(
                f"million-{key}-{pending.replace(' ', '-')}",
                f"{workload}: {figure.replace('_', ' ')}, pending {pending}",
                "within 10 % of what it is with none",
                of(f"{workload}, pending {pending}", NAME, figure),
                before * (1 - _DRIFT if least else 1 + _DRIFT) if before else None,
                least=least,
                ratio_to="the bound",
            )
        for part in ("api", "consumers"):
            found = of(f"pending {pending}", NAME, f"{part}_most_mb")
            yield _at_most(
                f"million-{part}-memory", f"largest process ({part}), MB, pending {pending}", found, _MOST_MB
            )
        found = of(f"pending {pending}", NAME, "rabbitmq_mb")
        yield _at_most("million-broker", f"broker, MB, pending {pending}", found, None)


def _at_most(key: str, title: str, found: Spread | None, most: float | None) -> Goal:
    wanted = "flat" if most is None else f"≤ {number(most)}"
    return Goal(key, title, wanted, found, most, least=False, ratio_to="the bound")


def _median(report: Report) -> Callable[[str, str, str], float | None]:
    def median(workload: str, system: str, name: str) -> float | None:
        found = report.figure(workload, system, name)
        return found.median if found else None

    return median


def _early(report: Report) -> Spread | None:
    counts = [o.figures["early"] for o in report.outcomes if o.system == NAME and "early" in o.figures]
    return Spread(sum(counts), sum(counts), sum(counts), 1) if counts else None
