"""
Exchanges and queues of one lane.

    minutes ──"07.*"──> wheel.m07 ──7 min──> seconds ──"*.13"──> wheel.s13 ──13 s──> due ──"#"──> due
                                                └─────"*.00"───────────────────────────────────> due
    any of them, where nothing is bound ──> lost

Names carry the layout's version and the lane, so that two layouts can live side by side. ``lost`` takes what
would otherwise pin a dead-letter worker for ever; the same consumers read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from timers.wheel import RADIX, UNIT_MS, Level

_LAYOUT: Final = "v1"
_MANY_DELIVERIES: Final = 1_000_000_000

QUORUM: Final = "quorum"
CLASSIC: Final = "classic"


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange to declare."""

    name: str
    kind: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue to declare, and its bindings: pairs of exchange and routing key."""

    name: str
    arguments: dict[str, Any]
    bindings: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Lane:
    """One whole wheel with its due queue."""

    number: int
    queue_type: str = QUORUM

    @property
    def due(self) -> str:
        """The queue that consumers read."""
        return f"{self._prefix}.due"

    @property
    def lost(self) -> str:
        """The queue of what could not be routed."""
        return f"{self._prefix}.lost"

    def exchange(self, level: Level) -> str:
        """Return the name of a level's exchange."""
        return f"{self._prefix}.{level.value}"

    def exchanges(self) -> Iterator[Exchange]:
        """Yield every exchange, an alternate before whom it stands in for."""
        yield Exchange(self.lost, "fanout", {})
        for level in Level:
            yield Exchange(self.exchange(level), "topic", {"alternate-exchange": self.lost})

    def queues(self) -> Iterator[Queue]:
        """Yield every queue, the last stop first, so that nothing is dead-lettered into the void."""
        arguments: dict[str, Any] = {"x-queue-type": self.queue_type}
        if self.queue_type == QUORUM:
            arguments["x-delivery-limit"] = _MANY_DELIVERIES
        yield Queue(self.lost, arguments, ((self.lost, ""),))
        to_due = ((self.exchange(Level.DUE), "#"), (self.exchange(Level.SECONDS), "*.00"))
        yield Queue(self.due, arguments, to_due)
        for digit in range(1, RADIX):
            yield self._delay(f"s{digit:02}", digit * UNIT_MS, (Level.SECONDS, f"*.{digit:02}"), Level.DUE)
        for digit in range(1, RADIX):
            ttl_ms = digit * RADIX * UNIT_MS
            yield self._delay(f"m{digit:02}", ttl_ms, (Level.MINUTES, f"{digit:02}.*"), Level.SECONDS)

    def _delay(self, name: str, ttl_ms: int, binding: tuple[Level, str], following: Level) -> Queue:
        arguments: dict[str, Any] = {
            "x-queue-type": self.queue_type,
            "x-message-ttl": ttl_ms,
            "x-dead-letter-exchange": self.exchange(following),
        }
        if self.queue_type == QUORUM:
            # at-least-once dead-lettering needs both; with drop-head it silently becomes at-most-once
            arguments |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
        level, key = binding
        return Queue(f"{self._prefix}.wheel.{name}", arguments, ((self.exchange(level), key),))

    @property
    def _prefix(self) -> str:
        return f"timers.{_LAYOUT}.{self.number}"
