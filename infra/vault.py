"""
Sealing secrets with AES-256-GCM.

A sealed text is ``provider.key.data``: who keeps the key, which key it is, and the nonce with the ciphertext. The
key of a provider never encrypts by itself: each place has one derived from it, so that however many texts there are,
random nonces do not meet under one key. Sources: NIST SP 800-38D, 8.3; NIST SP 800-108r1, 4.1.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from timers.errors import Unreadable
from timers.secret import Sealed

_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32
_KEY: Final = re.compile(r"([A-Za-z0-9_-]{1,32}):([A-Za-z0-9+/]+={0,2})")
_PURPOSE: Final = b"timers secret\0"


class KeyProvider(Protocol):
    """Keeps the keys that secrets are sealed with; ``name`` stands in what is sealed with them."""

    @property
    def name(self) -> str: ...

    async def current(self) -> tuple[str, bytes]:
        """Return the key to seal with, and what to call it by. Raises Unavailable."""
        ...

    async def find(self, key_id: str) -> bytes:
        """Return the key of that name. Raises Unreadable, Unavailable."""
        ...


class LocalKeys:
    """The keys of the settings: the first one seals, all open."""

    name: Final = "local"

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        self._first = next(iter(self._keys.items()), None)

    async def current(self) -> tuple[str, bytes]:
        assert self._first is not None
        return self._first

    async def find(self, key_id: str) -> bytes:
        try:
            return self._keys[key_id]
        except KeyError:
            raise Unreadable(f"the key {key_id!r} is not in TIMERS_ENCRYPTION_KEYS") from None


class AesVault:
    """Seals with the first provider's key, opens with whichever key a text was sealed with."""

    def __init__(self, providers: Sequence[KeyProvider]) -> None:
        self._sealing = providers[0]
        self._providers = {provider.name: provider for provider in providers}

    async def seal(self, texts: Mapping[str, str]) -> Mapping[str, Sealed]:
        key_id, key = await self._sealing.current()
        prefix = f"{self._sealing.name}.{key_id}."
        return {place: Sealed(prefix + _encrypt(key, place.encode(), text)) for place, text in texts.items()}

    async def open(self, sealed: Mapping[str, Sealed]) -> Mapping[str, str]:
        return {place: await self._open(place.encode(), secret.token) for place, secret in sealed.items()}

    async def _open(self, place: bytes, token: str) -> str:
        provider, _, rest = token.partition(".")
        key_id, _, data = rest.partition(".")
        if provider not in self._providers:
            raise Unreadable("it was sealed with a kind of key that is not set up here")
        key = await self._providers[provider].find(key_id)
        return _decrypt(key, place, data)


def parse_keys(text: str) -> dict[str, bytes]:
    """
    Read ``id:base64`` of 32 bytes, several with commas between.

    Raises ValueError; its message never has a key in it.
    """
    keys: dict[str, bytes] = {}
    for word in (part.strip() for part in text.split(",")):
        if not word:
            continue
        key_id, key = _parse(word)
        if key_id in keys:
            raise ValueError(f"two keys are called {key_id}")
        keys[key_id] = key
    return keys


def _parse(word: str) -> tuple[str, bytes]:
    match = _KEY.fullmatch(word)
    try:
        key = base64.b64decode(match[2], validate=True) if match else b""
    except binascii.Error:
        key = b""
    if match is None or len(key) != _KEY_BYTES:
        raise ValueError(f"a key is a name, a colon and the base64 of {_KEY_BYTES} bytes")
    return match[1], key


def _cipher(key: bytes, place: bytes) -> AESGCM:
    return AESGCM(hmac.digest(key, _PURPOSE + place, hashlib.sha256))


def _encrypt(key: bytes, place: bytes, text: str) -> str:
    nonce = os.urandom(_NONCE_BYTES)
    return base64.b64encode(nonce + _cipher(key, place).encrypt(nonce, text.encode(), place)).decode()


def _decrypt(key: bytes, place: bytes, data: str) -> str:
    try:
        raw = base64.b64decode(data, validate=True)
        return _cipher(key, place).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], place).decode()
    except (InvalidTag, ValueError):
        raise Unreadable("it is not what was stored here") from None
