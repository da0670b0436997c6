"""Cuts a history that broke a promise down to what it takes to break it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, Final

from tests.simulation.plan import CALM, Plan
from tests.simulation.world import History, World

_OTHER_DRAWS: Final = 4
"""How many other seeds are tried with each smaller plan, since what is left out shifts every later draw."""


def shrunk(history: History, seconds: float) -> History:
    """Return a history of a smaller plan that breaks the same promise, searched for up to ``seconds``."""
    deadline = time.monotonic() + seconds
    smallest = history
    found = True
    while found:
        found = False
        for plan in _smaller(smallest.plan):
            if time.monotonic() > deadline:
                return smallest
            again = _same_failure(plan, history)
            if again is not None:
                smallest, found = again, True
                break
    return smallest


def _same_failure(plan: Plan, history: History) -> History | None:
    assert history.broken is not None
    for draw in range(_OTHER_DRAWS):
        again = World(replace(plan, seed=plan.seed + draw)).run()
        if again.broken is not None and again.broken.promise == history.broken.promise:
            return again
    return None


def _smaller(plan: Plan) -> Iterator[Plan]:
    for name in ("faults", "interruptions", "ops", "replies"):
        for rest in _without_one(getattr(plan, name)):
            yield _with(plan, name, rest if name != "replies" else (*rest, ()))
    for rate in fields(plan.rates):
        if getattr(plan.rates, rate.name):
            yield replace(plan, rates=replace(plan.rates, **{rate.name: getattr(CALM, rate.name)}))
    yield from _simpler(plan)


def _without_one(values: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    for number in range(len(values)):
        if values[number] != ():
            yield values[:number] + values[number + 1 :]


def _simpler(plan: Plan) -> Iterator[Plan]:
    if plan.consumers > 1:
        yield replace(plan, offsets=plan.offsets[:-1])
    if any(plan.offsets):
        yield replace(plan, offsets=(0.0,) * len(plan.offsets))
    for name, value in (("shuffled", False), ("shards", 1), ("poisonous", None), ("horizon_ms", 3_600_000)):
        if getattr(plan, name) != value:
            yield _with(plan, name, value)


def _with(plan: Plan, name: str, value: Any) -> Plan:
    return replace(plan, **{name: value})
