"""Random histories of the real code in a hostile world: every promise holds in each."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from random import SystemRandom
from typing import Final

import pytest

from tests.simulation.plan import plan_of
from tests.simulation.shrink import shrunk
from tests.simulation.world import World, format_events

_ROOT: Final = Path(__file__).parents[2]
_FIXED: Final = 1_000
_SECONDS: Final = 30.0
_SHRINK_S: Final = 20.0


def _check(seed: int) -> None:
    history = World(plan_of(seed)).run()
    if history.broken is not None:
        smaller = shrunk(history, _SHRINK_S)
        pytest.fail(
            f"seed {seed} breaks {history.broken.promise}: {history.broken.detail}\n"
            f"again: python -m tests.simulation --seed {seed}\n{smaller.plan}\n{format_events(smaller)}",
            pytrace=False,
        )


def test_every_promise_holds_in_a_fixed_set_of_histories() -> None:
    for seed in range(_FIXED):
        _check(seed)


def test_every_promise_holds_in_random_histories() -> None:
    seed = SystemRandom().getrandbits(40)
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        _check(seed)
        seed += 1


def test_a_calm_world_makes_exactly_the_attempts_that_the_targets_ask_for() -> None:
    calm = [history for seed in range(200) if (history := World(plan_of(seed)).run()).plan.calm]

    assert calm
    assert any(history.attempts > 1 for history in calm)


def test_a_seed_repeats_its_history() -> None:
    for seed in range(40):
        assert World(plan_of(seed)).run() == World(plan_of(seed)).run()


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_seed_repeats_its_history_in_another_process(hash_seed: str) -> None:
    seed = 14
    command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed)]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}

    output = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=True).stdout

    assert format_events(World(plan_of(seed)).run()) in output
