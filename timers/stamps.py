"""Times and ids as text: RFC 3339, ISO 8601 durations, UUIDv7, traceparent."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final
from uuid import UUID

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
_DURATION: Final = re.compile(
    r"P(?=.)(?:(?P<weeks>\d{1,6})W)?(?:(?P<days>\d{1,6})D)?"
    r"(?:T(?=.)(?:(?P<hours>\d{1,9})H)?(?:(?P<minutes>\d{1,9})M)?(?:(?P<seconds>\d{1,12}(?:[.,]\d{1,9})?)S)?)?",
    re.ASCII,
)
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def rfc3339(at_ms: int) -> str:
    """Return epoch milliseconds as RFC 3339 in UTC, to the millisecond."""
    text = (_EPOCH + at_ms * _MILLISECOND).isoformat(timespec="milliseconds")
    return text[:-6] + "Z"


def parse_rfc3339(text: str) -> int:
    """Return RFC 3339 text with a zone as epoch milliseconds, a finer fraction rounded up. Raises ValueError."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("an RFC 3339 time with a zone, like 2026-12-01T09:00:00.000Z")
    whole = datetime(*(int(part) for part in match.groups()[:6]), tzinfo=UTC)  # type: ignore[misc,arg-type]
    offset_minutes = 0
    if match[9]:
        hours, minutes = int(match[10]), int(match[11])
        if hours > 23 or minutes > 59:
            raise ValueError("the zone's offset is out of range")
        offset_minutes = (hours * 60 + minutes) * (-1 if match[9] == "-" else 1)
    nanoseconds = int((match[7] or "").ljust(9, "0"))
    whole_ms = (whole - _EPOCH) // _MILLISECOND
    return whole_ms - offset_minutes * 60_000 - (-nanoseconds // 1_000_000)


def parse_duration(text: str) -> int:
    """
    Return an ISO 8601 duration in milliseconds, a finer fraction rounded up. Raises ValueError.

    Years and months are refused: they have no fixed length.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("an ISO 8601 duration of weeks, days, hours, minutes and seconds, like PT1H30M or P7D")
    weeks, days, hours, minutes = (int(match[name] or 0) for name in ("weeks", "days", "hours", "minutes"))
    seconds, _, fraction = (match["seconds"] or "0").replace(",", ".").partition(".")
    whole = (((weeks * 7 + days) * 24 + hours) * 60 + minutes) * 60 + int(seconds)
    return whole * 1000 - (-int(fraction.ljust(9, "0")) // 1_000_000)


def uuid7(now_ms: int, random: Random) -> str:
    """Return a UUID that sorts by time. Source: RFC 9562, 5.7."""
    value = (now_ms & (1 << 48) - 1) << 80 | random.getrandbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=value))


def uuid8(digest: bytes) -> str:
    """Return a UUID of the first 16 bytes of a digest. Source: RFC 9562, 5.8."""
    value = int.from_bytes(digest[:16], "big")
    value = value & ~(0xF << 76) | 0x8 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=value))


def traceparent(given: str | None, random: Random) -> str:
    """Return the given W3C traceparent, or that of a new trace where none (or none that is valid) was given."""
    if given is not None and _TRACEPARENT.fullmatch(given):
        return given
    return f"00-{random.getrandbits(128) or 1:032x}-{random.getrandbits(64) or 1:016x}-00"
