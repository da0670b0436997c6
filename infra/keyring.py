"""The keys that requests bring, remembered for a few seconds."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from infra.lookups import Lookups
from timers.errors import Overloaded
from timers.keys import Key, Token
from timers.ports import Clock, KeyStore

FRESH_S: Final = 2.0
LIFE_S: Final = 4.5
"""With limits.CLOCK_SKEW_MS, by which a revocation may be dated wrongly, below the ten seconds that are promised."""

_REMEMBERED: Final = 10_000
_LOOKUPS: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Memory:
    key: Key | None
    since: float


class Keyring:
    """
    Knows keys by their tokens.

    What was read is believed for FRESH_S. A key that is used goes on being believed while it is read again in
    the background, but for no longer than LIFE_S: so a request seldom waits for the table, and a revoked key opens
    nothing after that time even while the table is away. Ids that nobody has are remembered apart, so that
    trying many of them drives out no key that there is.
    """

    def __init__(self, keys: KeyStore, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._known: OrderedDict[str, _Memory] = OrderedDict()
        self._unknown: OrderedDict[str, _Memory] = OrderedDict()
        self._lookups = Lookups(self._read)

    async def find(self, text: str) -> Key | None:
        """Return the key that a token opens, None where it opens none. Raises Unavailable, Overloaded."""
        token = Token.parse(text)
        if token is None:
            return None
        key = await self._key(token.key_id)
        return key if key is not None and key.opens(token.secret, self._clock.now_ms()) else None

    async def _key(self, key_id: str) -> Key | None:
        memory = self._known.get(key_id) or self._unknown.get(key_id)
        age = LIFE_S if memory is None else self._clock.monotonic() - memory.since
        if memory is not None and age < FRESH_S:
            return memory.key
        known = memory is not None and memory.key is not None
        if not known and key_id not in self._lookups and len(self._lookups) >= _LOOKUPS:
            raise Overloaded("too many unknown keys are being looked up")
        if memory is not None and known and age < LIFE_S:
            self._lookups.start(key_id)
            return memory.key
        return await self._lookups.answer(key_id)

    async def _read(self, key_id: str) -> Key | None:
        since = self._clock.monotonic()
        key = await self._keys.get(key_id)
        remembering, other = (self._unknown, self._known) if key is None else (self._known, self._unknown)
        other.pop(key_id, None)
        remembering[key_id] = _Memory(key, since)
        remembering.move_to_end(key_id)
        if len(remembering) > _REMEMBERED:
            remembering.popitem(last=False)
        return key
