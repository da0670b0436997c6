"""
Who may call now: a bound over all calls, one per target, and fairness between targets.

A target may have as many calls in progress as there are free places, up to its own bound. One slow target
thus leaves the others half of the places, two leave a third, and so on: some are always free (dynamic
thresholds, Choudhury and Hahne 1998). Who must wait stands in its target's line; the line is as long as
what that target gets through within a second, and who finds it full is sent round the wheel once more.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_LINE_SECONDS: Final = 1.0
_WEIGHT: Final = 0.2
_SHORTEST_CALL_S: Final = 0.001

Start = Callable[[], None]


@dataclass(slots=True)
class _Target:
    calling: int = 0
    call_s: float = _SHORTEST_CALL_S
    line: deque[Start] = field(default_factory=deque)


class Gate:
    """Lets calls start, at most ``total`` at once and ``per_target`` to one target."""

    def __init__(self, *, total: int, per_target: int) -> None:
        self._total = total
        self._per_target = per_target
        self._targets: dict[str, _Target] = {}
        self._waiting: OrderedDict[str, _Target] = OrderedDict()
        self.calling = 0

    def enter(self, key: str, start: Start) -> bool:
        """Start now, or stand in line and start later; returns False where the line is full."""
        target = self._targets.setdefault(key, _Target())
        if not target.line and self._admits(target):
            self._begin(target, start)
            return True
        if len(target.line) >= self._longest_line(target):
            return False
        target.line.append(start)
        self._waiting[key] = target
        return True

    def leave(self, key: str, call_s: float | None) -> None:
        """End what ``enter`` started; ``call_s`` is how long the call took, None where none was made."""
        target = self._targets[key]
        target.calling -= 1
        self.calling -= 1
        if call_s is not None:
            target.call_s += _WEIGHT * (max(call_s, _SHORTEST_CALL_S) - target.call_s)
        if not target.calling and not target.line:
            del self._targets[key]
        self._let_in()

    def clear(self) -> None:
        """Send everybody in line away."""
        for target in self._waiting.values():
            target.line.clear()
        self._waiting.clear()

    def _admits(self, target: _Target) -> bool:
        free = self._total - self.calling
        return target.calling < min(self._per_target, free)

    def _longest_line(self, target: _Target) -> int:
        return max(1, round(self._per_target * _LINE_SECONDS / target.call_s))

    def _begin(self, target: _Target, start: Start) -> None:
        target.calling += 1
        self.calling += 1
        start()

    def _let_in(self) -> None:
        """Start one waiting call of each target in turn while there is room."""
        for key in list(self._waiting):
            target = self._waiting[key]
            if not self._admits(target):
                continue
            start = target.line.popleft()
            if target.line:
                self._waiting.move_to_end(key)
            else:
                del self._waiting[key]
            self._begin(target, start)
