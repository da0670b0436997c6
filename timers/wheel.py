"""
The arithmetic of the delay wheel: remaining time -> where a message enters.

Two levels, radix 60, unit one second. A message enters at its highest non-zero digit and is
dead-lettered from there to the next digit, so any delay up to an hour takes at most two hops:

    remaining 7 min 13 s  ->  minutes "07.13" --7 min--> seconds "07.13" --13 s--> due
    remaining       13 s  ->                             seconds "00.13" --13 s--> due
    remaining      0.4 s  ->                                                        due

The routing key names both digits and is kept through both hops.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

RADIX: Final = 60
UNIT_MS: Final = 1_000
AIM_EARLY_MS: Final = 1_000
"""The wheel delivers this much early; the consumer holds the message for the rest."""

MAX_TICKS: Final = RADIX * RADIX - 1
SPAN_MS: Final = MAX_TICKS * UNIT_MS + AIM_EARLY_MS
"""The longest remaining time that one pass through the wheel covers: an hour."""


class Level(StrEnum):
    """An exchange of the wheel, from the longest digit to the end."""

    MINUTES = "minutes"
    SECONDS = "seconds"
    DUE = "due"


@dataclass(frozen=True, slots=True)
class Route:
    """The entry exchange and the routing key ``MM.SS``."""

    level: Level
    key: str


def route(remaining_ms: int) -> Route:
    """
    Return where a message enters that is due in ``remaining_ms``.

    It reaches the due queue between one and two seconds early, never late by the wheel's own doing. A longer
    remaining time than SPAN_MS takes the longest way round; whoever receives it sends it on for the rest.
    """
    ticks = min(max(0, (remaining_ms - AIM_EARLY_MS) // UNIT_MS), MAX_TICKS)
    minutes, seconds = divmod(ticks, RADIX)
    return Route(_entry(minutes, seconds), f"{minutes:02}.{seconds:02}")


def _entry(minutes: int, seconds: int) -> Level:
    if minutes:
        return Level.MINUTES
    return Level.SECONDS if seconds else Level.DUE


def slot(timer_id: str, slots: int) -> int:
    """Return the shard or lane of a timer: stable over processes, versions and machines."""
    return zlib.crc32(timer_id.encode()) % slots
