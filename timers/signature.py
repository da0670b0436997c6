"""
Signatures of calls, by Standard Webhooks, symmetric (v1).

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
MAX_SECRETS: Final = 2
_MIN_BYTES: Final = 24
_MAX_BYTES: Final = 64


def parse_secrets(text: str) -> tuple[bytes, ...]:
    """
    Read one ``whsec_…`` secret, two with a comma between for a rotation, or none.

    Raises ValueError; its message never has a secret in it.
    """
    words = [word for word in (part.strip() for part in text.split(",")) if word]
    if len(words) > MAX_SECRETS:
        raise ValueError(f"at most {MAX_SECRETS} secrets")
    return tuple(_parse(word) for word in words)


def sign(secrets: Sequence[bytes], message_id: str, timestamp: int, content: bytes) -> str:
    """Return the value of ``webhook-signature``: one signature for each secret."""
    message = f"{message_id}.{timestamp}.".encode() + content
    return " ".join(_signature(secret, message) for secret in secrets)


def _signature(secret: bytes, message: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(secret, message, hashlib.sha256)).decode()


def _parse(word: str) -> bytes:
    try:
        secret = base64.b64decode(word.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not (word.startswith(PREFIX) and _MIN_BYTES <= len(secret) <= _MAX_BYTES):
        raise ValueError(f"a secret is {PREFIX} and the base64 of {_MIN_BYTES} to {_MAX_BYTES} bytes")
    return secret
