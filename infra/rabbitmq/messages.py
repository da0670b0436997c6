"""A hint as a message. What is not exactly one is dropped, never believed."""

from __future__ import annotations

import json
from typing import Any, Final

from timers import limits
from timers.errors import TimerError
from timers.tenant import QUALIFIED
from timers.timer import Hint

_WIRE_VERSION: Final = 1
_LONGEST: Final = 32_768  #: well above the longest target key, each character escaped
_BIGGEST: Final = 2**53


class Garbage(TimerError):
    """A message that is not a hint."""


def encode(hint: Hint) -> bytes:
    """Return the body of a hint's message."""
    fields: dict[str, Any] = {
        "v": _WIRE_VERSION,
        "id": hint.timer_id,
        "version": hint.version,
        "at": hint.at_ms,
        "timeout": hint.timeout_ms,
        "target": hint.target_key,
    }
    if hint.bounces:
        fields["bounces"] = hint.bounces
    return json.dumps(fields, separators=(",", ":")).encode()


def decode(body: bytes) -> Hint:
    """Return the hint of a message's body. Raises Garbage."""
    if len(body) > _LONGEST:
        raise Garbage(f"{len(body)} bytes")
    try:
        fields = json.loads(body)
        if fields["v"] != _WIRE_VERSION:
            raise Garbage(f"wire version {fields['v']!r}")
        return Hint(
            timer_id=_id(fields["id"]),
            version=_whole(fields["version"], 1),
            at_ms=_whole(fields["at"], 0),
            timeout_ms=_whole(fields["timeout"], 0, round(limits.MAX_TIMEOUT_S * 1000)),
            target_key=_text(fields["target"]),
            bounces=_whole(fields.get("bounces", 0), 0),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Garbage(repr(error)) from None


def _id(value: object) -> str:
    if not QUALIFIED.fullmatch(_text(value)):
        raise ValueError("not a timer's id")
    return _text(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("text expected")
    return value


def _whole(value: object, least: int, most: int = _BIGGEST) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError("a whole number within bounds expected")
    return value
