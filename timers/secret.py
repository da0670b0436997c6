"""What is secret of a target, in the clear for a moment or sealed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

ALWAYS_SECRET: Final = frozenset({"authorization", "cookie"})
"""Headers that are secret whether or not their client says so."""

BODY: Final = ":body"
"""The body's name among the secrets; no header's name has a colon in it."""

REDACTED: Final = "***"
"""What stands for a secret in every answer."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A text that only a vault can read."""

    token: str


Secret = str | Sealed


NO_SECRETS: Final[Mapping[str, Secret]] = {}


class Unsigned:
    """What the targets have in common that are not called over HTTP: no signature."""

    __slots__ = ()

    signed: ClassVar = False
    signing_key: ClassVar = None
