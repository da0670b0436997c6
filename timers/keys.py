"""Api keys: who may do what with whose timers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

from timers import tenant

_SECRET_BYTES: Final = 32
_TOKEN: Final = re.compile(r"timers_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
MAX_REMARK: Final = 100


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Token:
    """What a client shows: which key, and the secret that proves it."""

    key_id: str
    secret: str

    @classmethod
    def new(cls, random: Random) -> Token:
        """Return one that nobody has; ``random`` must not be predictable."""
        secret = base64.urlsafe_b64encode(random.randbytes(_SECRET_BYTES)).decode().rstrip("=")
        return cls(f"{random.getrandbits(64):016x}", secret)

    @classmethod
    def parse(cls, text: str) -> Token | None:
        """Return the token that a text is, None where it is none."""
        match = _TOKEN.fullmatch(text)
        return cls(match[1], match[2]) if match else None

    def __str__(self) -> str:
        return f"timers_{self.key_id}_{self.secret}"

    def __repr__(self) -> str:
        return f"Token({self.key_id})"


@dataclass(frozen=True, slots=True)
class Key:
    """
    A key as it is stored: what knows its secret again, never the secret.

    The secret is 256 random bits, which nobody finds by trying, so a fast hash is enough; the salt is for
    secrets that somebody chose.
    """

    id: str
    tenant: str
    scopes: frozenset[Scope]
    salt: bytes
    digest: bytes
    created_at_ms: int
    remark: str = ""
    revoked_at_ms: int | None = None
    """From when on it opens nothing; may be ahead, in a rotation."""

    @classmethod
    def of(
        cls, token: Token, owner: str, scopes: Iterable[Scope], *, salt: bytes, now_ms: int, remark: str = ""
    ) -> Key:
        """Return the key that a token opens."""
        return cls(token.key_id, owner, frozenset(scopes), salt, _digest(salt, token.secret), now_ms, remark)

    def opens(self, secret: str, now_ms: int) -> bool:
        """Whether a secret is this key's, and the key still good."""
        right = hmac.compare_digest(_digest(self.salt, secret), self.digest)
        return right and (self.revoked_at_ms is None or now_ms < self.revoked_at_ms)

    def may(self, scope: Scope) -> bool:
        """Whether this key allows something; an admin key allows everything."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


def parse_scopes(text: str) -> frozenset[Scope]:
    """Read scopes with commas between. Raises ValueError."""
    words = [word.strip() for word in text.split(",")]
    unknown = [word for word in words if word not in set(Scope)]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no scope; there are {', '.join(Scope)}")
    return frozenset(Scope(word) for word in words)


def parse_tenant(text: str) -> str:
    """Return a tenant's name. Raises ValueError."""
    if not tenant.PATTERN.fullmatch(text):
        raise ValueError(f"{text!r} is no tenant; a tenant matches {tenant.PATTERN.pattern}")
    return text


def _digest(salt: bytes, secret: str) -> bytes:
    return hashlib.sha256(salt + secret.encode()).digest()
