"""Times and delays as clients write them, in epoch milliseconds and milliseconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, WithJsonSchema

from timers import limits
from timers.stamps import parse_duration, parse_rfc3339

_LEAST_DELAY_MS: Final = 1
_MOST_S: Final = limits.MAX_DELAY_MS / 1000
_UNITS: Final = {"hours": 3600, "minutes": 60, "seconds": 1}
_FORMS: Final = "seconds as a number, an ISO 8601 duration, or an object of hours, minutes and seconds"


def parse_time(value: object) -> int:
    """Return an RFC 3339 text or epoch milliseconds as epoch milliseconds. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError("an RFC 3339 time with a zone, or epoch milliseconds as an integer")
    return parse_rfc3339(value) if isinstance(value, str) else value


def _delay_ms(value: object) -> int:
    if isinstance(value, str):
        return parse_duration(value)
    seconds = _sum(value) if isinstance(value, Mapping) else _number(value)
    if seconds > _MOST_S:
        raise ValueError("0 seconds to 10 years")
    if 0 < seconds * 1000 < _LEAST_DELAY_MS:
        raise ValueError("the shortest delay is 0.001 seconds; 0 fires at once")
    return math.ceil(round(seconds * 1000, 6))


def _sum(parts: Mapping[str, Any]) -> float:
    """Return hours, minutes and seconds in seconds. Raises ValueError."""
    if not parts or parts.keys() - _UNITS.keys():
        raise ValueError("hours, minutes and seconds, at least one of them and nothing else")
    return sum(_number(value) * _UNITS[unit] for unit, value in parts.items())


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(_FORMS)
    if not 0 <= value <= _MOST_S:
        raise ValueError("0 seconds to 10 years")
    return value


Time = Annotated[
    int,
    BeforeValidator(parse_time),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "format": "date-time"}, {"type": "integer", "minimum": 0}],
            "description": "RFC 3339 with a zone, or epoch milliseconds. At most 10 years ahead.",
        }
    ),
]
DelayMs = Annotated[
    int,
    BeforeValidator(_delay_ms),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": limits.MAX_DELAY_MS / 1000},
                {"type": "string", "format": "duration"},
                {
                    "type": "object",
                    "properties": {unit: {"type": "number", "minimum": 0} for unit in _UNITS},
                    "minProperties": 1,
                    "additionalProperties": False,
                },
            ],
            "description": "Seconds, fractions allowed, an ISO 8601 duration, or hours, minutes and seconds. "
            "At most 10 years.",
        }
    ),
]
