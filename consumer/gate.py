"""
Who may call now: a bound over all calls, one per target, fairness between targets and tenants, and a breaker.

A target may have as many calls in progress as there are free places, up to its own bound. One slow target
thus leaves the others half of the places, two leave a third, and so on: some are always free (dynamic
thresholds, Choudhury and Hahne 1998). Who must wait stands in its target's line; the line is as long as
what that target gets through within a second, and who finds it full is turned away.

A tenant of many targets is held back likewise, where others call or wait: it may have four times as many calls
in progress as there are free places, which leaves the others a fifth. Alone, it may have every place.

A target that fails many times in a row is shut: everybody is turned away but for one probe at a time,
after a pause that doubles with each that fails. Turned away means: sent round the wheel once more, with
no attempt counted and the table not touched.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from timers.ports import Clock
from timers.tenant import DEFAULT

FAILURES_TO_SHUT: Final = 20
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
BUSY_PAUSE_S: Final = 2.0
"""How long one is turned away at most from a target that is well but busy: longer, and later ones overtake it."""

_TENANTS_WEIGHT: Final = 4
_LINE_S: Final = 1.0
_WEIGHT: Final = 0.2
_SHORTEST_CALL_S: Final = 0.001
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who wants to call: exactly one of both is called, ``start`` perhaps later, ``turn_away`` with a longest pause."""

    start: Callable[[], None]
    turn_away: Callable[[float], None]
    tenant: str = DEFAULT


@dataclass(frozen=True, slots=True)
class Called:
    """How a call went: its length, and whether the target is well (whatever it thought of the request)."""

    seconds: float
    well: bool


@dataclass(slots=True)
class _Target:
    calling: int = 0
    call_s: float = _SHORTEST_CALL_S
    line: deque[Visitor] = field(default_factory=deque)
    failures: int = 0
    pause_s: float = FIRST_PAUSE_S
    shut_until: float = 0.0

    @property
    def shut(self) -> bool:
        return self.failures >= FAILURES_TO_SHUT

    @property
    def idle(self) -> bool:
        return not self.calling and not self.line


@dataclass(slots=True)
class _Tenant:
    calling: int = 0
    waiting: int = 0


class Gate:
    """Lets calls start, at most ``total`` at once and ``per_target`` to one target."""

    def __init__(self, clock: Clock, *, total: int, per_target: int) -> None:
        self._clock = clock
        self._total = total
        self._per_target = per_target
        self._targets: OrderedDict[str, _Target] = OrderedDict()
        self._waiting: OrderedDict[str, _Target] = OrderedDict()
        self._tenants: dict[str, _Tenant] = {}
        self.calling = 0

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return sum(len(target.line) for target in self._waiting.values())

    def enter(self, key: str, visitor: Visitor) -> None:
        """Start a visitor's call now or later, or turn it away."""
        target = self._target(key)
        if target.shut:
            may_probe = not target.calling and self._clock.monotonic() >= target.shut_until
            if may_probe and self.calling < self._total:
                self._begin(target, visitor)
            else:
                visitor.turn_away(LONGEST_PAUSE_S)
        elif not target.line and self._admits(target, visitor.tenant):
            self._begin(target, visitor)
        elif len(target.line) < self._longest_line(target):
            target.line.append(visitor)
            self._waiting[key] = target
            self._count(visitor.tenant, waiting=1)
        else:
            visitor.turn_away(BUSY_PAUSE_S)

    def leave(self, key: str, called: Called | None, *, tenant: str = DEFAULT) -> None:
        """End what a visitor's start began; None where no call was made."""
        target = self._targets[key]
        target.calling -= 1
        self.calling -= 1
        self._count(tenant, calling=-1)
        if called is not None:
            self._learn(key, target, called)
        if target.idle and not target.failures:
            del self._targets[key]
        self._let_in()

    def clear(self) -> None:
        """Forget everybody in line."""
        for target in self._waiting.values():
            self._empty(target)
        self._waiting.clear()

    def _target(self, key: str) -> _Target:
        target = self._targets.get(key)
        if target is None:
            target = self._targets[key] = _Target()
            if len(self._targets) > _REMEMBERED:
                self._forget_one()
        return target

    def _forget_one(self) -> None:
        """Drop the longest known target that nobody calls."""
        for key, target in self._targets.items():
            if target.idle:
                del self._targets[key]
                return

    def _learn(self, key: str, target: _Target, called: Called) -> None:
        target.call_s += _WEIGHT * (max(called.seconds, _SHORTEST_CALL_S) - target.call_s)
        if called.well:
            target.failures = 0
            target.pause_s = FIRST_PAUSE_S
            return
        was_shut = target.shut
        target.failures += 1
        if target.shut and not was_shut:
            self._shut(target)
            self._turn_line_away(key, target)
        elif was_shut and self._clock.monotonic() >= target.shut_until:  # a probe, not a call from before
            self._shut(target)

    def _shut(self, target: _Target) -> None:
        target.shut_until = self._clock.monotonic() + target.pause_s
        target.pause_s = min(2 * target.pause_s, LONGEST_PAUSE_S)

    def _turn_line_away(self, key: str, target: _Target) -> None:
        self._waiting.pop(key, None)
        for visitor in self._empty(target):
            visitor.turn_away(LONGEST_PAUSE_S)

    def _empty(self, target: _Target) -> deque[Visitor]:
        """Let nobody stand in a target's line, and return who did."""
        visitors, target.line = target.line, deque()
        for visitor in visitors:
            self._count(visitor.tenant, waiting=-1)
        return visitors

    def _admits(self, target: _Target, tenant: str) -> bool:
        free = self._total - self.calling
        if target.calling >= min(self._per_target, free):
            return False
        known = self._tenants.get(tenant)
        return known is None or len(self._tenants) == 1 or known.calling < _TENANTS_WEIGHT * free

    def _count(self, name: str, *, calling: int = 0, waiting: int = 0) -> None:
        """Keep count of a tenant that calls or waits."""
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = _Tenant()
        tenant.calling += calling
        tenant.waiting += waiting
        if not tenant.calling and not tenant.waiting:
            del self._tenants[name]

    def _longest_line(self, target: _Target) -> int:
        return max(1, round(self._per_target * _LINE_S / target.call_s))

    def _begin(self, target: _Target, visitor: Visitor) -> None:
        target.calling += 1
        self.calling += 1
        self._count(visitor.tenant, calling=1)
        visitor.start()

    def _let_in(self) -> None:
        """Start one waiting call of each target in turn while there is room."""
        for key in list(self._waiting):
            target = self._waiting[key]
            if not self._admits(target, target.line[0].tenant):
                continue
            visitor = target.line.popleft()
            if target.line:
                self._waiting.move_to_end(key)
            else:
                del self._waiting[key]
            self._begin(target, visitor)
            self._count(visitor.tenant, waiting=-1)
