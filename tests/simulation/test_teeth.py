"""Each guard removed on purpose is noticed. ``python -m tests.simulation.test_teeth`` prints the table for the docs."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS, broken_by
from tests.simulation.plan import plan_of
from tests.simulation.promises import Broken
from tests.simulation.world import World

_MOST_HISTORIES = 2_000


def _caught(name: str) -> tuple[int, Broken] | None:
    """Return within how many histories a removed guard breaks a promise, and which."""
    with broken_by(name):
        for seed in range(_MOST_HISTORIES):
            broken = World(plan_of(seed)).run().broken
            if broken is not None:
                return seed + 1, broken
    return None


@pytest.mark.parametrize("name", MUTANTS)
def test_a_removed_guard_is_noticed(name: str) -> None:
    assert _caught(name) is not None


def _print_table() -> None:
    print("| guard removed | noticed as | within histories |\n|---|---|---:|")
    for name in MUTANTS:
        found = _caught(name)
        print(f"| {name} | {found[1].promise} | {found[0]} |" if found else f"| {name} | **not noticed** | |")


if __name__ == "__main__":
    _print_table()
