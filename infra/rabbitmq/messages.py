"""A hint as a message. What is not exactly one is dropped, never believed."""

from __future__ import annotations

import json
from typing import Any, Final

from timers import limits
from timers.errors import TimerError
from timers.tenant import QUALIFIED
from timers.timer import MOST_BOUNCES, Hint

_WIRE_VERSION: Final = 1
_LONGEST: Final = 32_768  #: well above the longest target key, each character escaped
_LONGEST_KEY: Final = 2 * limits.MAX_URL_LENGTH  #: a host may grow in lower case
_BIGGEST: Final = 2**53


class Garbage(TimerError):
    """A message that is not a hint."""


class OtherVersion(Garbage):
    """A message of another version of this service."""


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
            raise OtherVersion(f"wire version {fields['v']!r:.20}")
        return Hint(
            timer_id=_id(fields["id"]),
            version=_whole(fields["version"], 1),
            at_ms=_whole(fields["at"], 0),
            timeout_ms=_whole(fields["timeout"], 0, round(limits.MAX_TIMEOUT_S * 1000)),
            target_key=_text(fields["target"], _LONGEST_KEY),
            bounces=_whole(fields.get("bounces", 0), 0, MOST_BOUNCES),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Garbage(repr(error)) from None


def _id(value: object) -> str:
    if not QUALIFIED.fullmatch(_text(value)):
        raise ValueError("not a timer's id")
    return _text(value)


def _text(value: object, longest: int = _LONGEST) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise TypeError("text within bounds expected")
    return value


def _whole(value: object, least: int, most: int = _BIGGEST) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError("a whole number within bounds expected")
    return value
