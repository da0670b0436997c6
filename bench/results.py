"""What a run finds out, and how it is kept."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

CURVE_POINTS: Final = 200


@dataclass(frozen=True, slots=True)
class Outcome:
    """One workload, done once by one system; ``void`` says why it does not count."""

    workload: str
    system: str
    round: int
    figures: Mapping[str, float] = field(default_factory=dict)
    lateness_ms: Sequence[float] = ()
    void: str | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over all rounds that count."""

    median: float
    least: float
    most: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run."""

    taken: Mapping[str, Any]
    outcomes: Sequence[Outcome]

    def figure(self, workload: str, system: str, name: str) -> Spread | None:
        """Return a figure's spread, None where no round has it."""
        values = [
            outcome.figures[name]
            for outcome in self.outcomes
            if (outcome.workload, outcome.system) == (workload, system) and not outcome.void and name in outcome.figures
        ]
        if not values:
            return None
        return Spread(statistics.median(values), min(values), max(values), len(values))

    def lateness(self, workload: str, system: str) -> list[float]:
        """Return the points of a lateness curve, all rounds together, sorted."""
        matching = (o for o in self.outcomes if (o.workload, o.system) == (workload, system) and not o.void)
        return sorted(value for outcome in matching for value in outcome.lateness_ms)

    def systems(self, workload: str) -> list[str]:
        """Return who did a workload, in the order in which they first did."""
        return list(dict.fromkeys(o.system for o in self.outcomes if o.workload == workload))

    def workloads(self) -> list[str]:
        """Return what was done, in the order in which it first was."""
        return list(dict.fromkeys(outcome.workload for outcome in self.outcomes))

    def voids(self) -> list[Outcome]:
        """Return the rounds that do not count."""
        return [outcome for outcome in self.outcomes if outcome.void]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {"taken": self.taken, "outcomes": [asdict(outcome) for outcome in self.outcomes]}
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        document = json.loads(path.read_text(encoding="utf-8"))
        return cls(document["taken"], [Outcome(**fields) for fields in document["outcomes"]])


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value that a share of sorted values does not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def curve(ordered: Sequence[float]) -> list[float]:
    """Return a few points that draw the same distribution."""
    if len(ordered) <= CURVE_POINTS:
        return [round(value, 3) for value in ordered]
    return [round(percentile(ordered, n / (CURVE_POINTS - 1)), 3) for n in range(CURVE_POINTS)]


def lateness_figures(lateness_ms: Iterable[float]) -> dict[str, float]:
    """Return what is reported of lateness."""
    ordered = sorted(lateness_ms)
    return {
        "late_p50_ms": percentile(ordered, 0.5),
        "late_p99_ms": percentile(ordered, 0.99),
        "late_max_ms": ordered[-1],
    }
