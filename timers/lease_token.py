"""What a worker is given with a lease: the timer's name and the lease's key, in one text that it need not read."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Final, Self

from timers import limits

KEY_BITS: Final = 128
_KEY_BYTES: Final = KEY_BITS // 8
_LONGEST: Final = 256


@dataclass(frozen=True, slots=True)
class LeaseToken:
    """``name`` as its tenant knows the timer; ``key`` in hexadecimal, a secret of whoever holds the lease."""

    name: str
    key: str = field(repr=False)

    def __str__(self) -> str:
        raw = bytes.fromhex(self.key) + self.name.encode()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the token of a text, None where it is none that this service gave."""
        if len(text) > _LONGEST:
            return None
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            name = raw[_KEY_BYTES:].decode("ascii")
        except (binascii.Error, ValueError):
            return None
        token = cls(name, raw[:_KEY_BYTES].hex())
        return token if limits.ID_PATTERN.fullmatch(name) and str(token) == text else None
