"""``python -m tests.simulation``: explore histories for a while, or replay one seed."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from random import SystemRandom
from typing import Final

from tests.simulation.mutants import MUTANTS, broken_by
from tests.simulation.plan import Plan, plan_of
from tests.simulation.shrink import shrunk
from tests.simulation.world import History, World, format_events

_SHRINK_S: Final = 30.0


def main() -> int:
    arguments = _arguments()
    guard: AbstractContextManager[None] = broken_by(arguments.mutant) if arguments.mutant else nullcontext()
    with guard:
        if arguments.seed is not None:
            return _replay(arguments.seed, whole=arguments.whole)
        return _explore(arguments.start, arguments.seconds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this history and print it")
    parser.add_argument("--whole", action="store_true", help="with --seed: print a failure as it was, not cut down")
    parser.add_argument("--seconds", type=float, default=60, help="how long to explore")
    parser.add_argument("--start", type=int, default=SystemRandom().getrandbits(40), help="first seed to explore")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="with this guard removed")
    return parser.parse_args()


def _replay(seed: int, *, whole: bool) -> int:
    history = World(plan_of(seed)).run()
    if history.broken is None:
        _print_plan(history.plan)
        print(format_events(history))
        print(f"seed {seed}: every promise held")
        return 0
    return _report(seed, history if whole else shrunk(history, _SHRINK_S))


def _explore(start: int, seconds: float) -> int:
    began, seed = time.monotonic(), start
    virtual_s = attempts = crashes = acknowledged = 0.0
    while time.monotonic() < began + seconds:
        history = World(plan_of(seed)).run()
        if history.broken is not None:
            return _report(seed, shrunk(history, _SHRINK_S))
        virtual_s += history.end_s
        attempts += history.attempts
        crashes += history.crashes
        acknowledged += history.acknowledged
        seed += 1
    spent = time.monotonic() - began
    print(
        f"{seed - start} histories from seed {start} in {spent:.0f} s ({(seed - start) / spent * 60:.0f} a minute), "
        f"{virtual_s / 3600:.1f} virtual hours, {acknowledged:.0f} writes acknowledged, {attempts:.0f} attempts, "
        f"{crashes:.0f} crashes: every promise held"
    )
    return 0


def _report(seed: int, history: History) -> int:
    assert history.broken is not None
    _print_plan(history.plan)
    print(format_events(history))
    print(f"seed {seed} breaks {history.broken.promise}: {history.broken.detail}")
    print(f"again: python -m tests.simulation --seed {seed}")
    return 1


def _print_plan(plan: Plan) -> None:
    print(f"apis {plan.apis}, consumers {plan.consumers}, clocks {[round(offset, 2) for offset in plan.offsets]}")
    print(f"shards {plan.shards}, horizon {plan.horizon_ms} ms, shuffled {plan.shuffled}, poisonous {plan.poisonous}")
    print(f"rates {plan.rates}")
    for value in (*plan.ops, *plan.faults, *plan.interruptions, *plan.replies):
        print(f"  {value}")


if __name__ == "__main__":
    sys.exit(main())
