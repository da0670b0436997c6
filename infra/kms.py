"""
Keys from AWS KMS, by envelope encryption.

KMS makes data keys and encrypts them with a key that never leaves it. A data key seals many secrets for a few minutes;
its encrypted form is its name in what is sealed, so that KMS is asked for it again where it has been forgotten.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.lookups import Lookups
from timers.errors import TimerError, Unavailable, Unreadable
from timers.ports import Clock

AGE_S: Final = 300.0
"""For how long a data key is used and remembered: for as long a key that was disabled in KMS goes on opening."""

USES: Final = 10_000
_REMEMBERED: Final = 1_000
_THREADS: Final = 4
_TIMEOUT_S: Final = 3.0
_CONTEXT: Final = {"purpose": "timers secret"}
_FOR_GOOD: Final = frozenset(
    {
        "AccessDeniedException",
        "DisabledException",
        "IncorrectKeyException",
        "InvalidCiphertextException",
        "KMSInvalidStateException",
        "NotFoundException",
        "ValidationException",
    }
)


@dataclass(slots=True)
class _DataKey:
    name: str
    key: bytes = field(repr=False)
    until: float
    uses: int = 0


class KmsKeys:
    """Data keys under one key of KMS; ``kms_key`` is its ARN, its id or an alias."""

    name: Final = "kms"

    def __init__(self, kms_key: str, *, region: str, clock: Clock) -> None:
        self._kms_key = kms_key
        self._clock = clock
        self._client = _client(_region_of(kms_key) or region)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="kms")
        self._current: _DataKey | None = None
        self._known: OrderedDict[str, _DataKey] = OrderedDict()
        self._lookups = Lookups(self._asked)

    async def current(self) -> tuple[str, bytes]:
        found = self._current
        if found is None or found.uses >= USES or self._clock.monotonic() >= found.until:
            found = await self._lookups.answer(None)
        found.uses += 1
        return found.name, found.key

    async def find(self, key_id: str) -> bytes:
        found = self._known.get(key_id)
        if found is None or self._clock.monotonic() >= found.until:
            found = await self._lookups.answer(key_id)
        return found.key

    async def _asked(self, key_id: str | None) -> _DataKey:
        """Have KMS make a new key, or decrypt the one of that name."""
        return await (self._new() if key_id is None else self._decrypted(key_id))

    async def _new(self) -> _DataKey:
        try:
            answer = await self._call("generate_data_key", KeyId=self._kms_key, KeySpec="AES_256")
        except Unreadable as error:
            raise Unavailable("kms", str(error)) from None
        name = base64.b64encode(answer["CiphertextBlob"]).decode()
        self._current = self._remember(name, answer["Plaintext"])
        return self._current

    async def _decrypted(self, key_id: str) -> _DataKey:
        try:
            blob = base64.b64decode(key_id, validate=True)
        except binascii.Error:
            raise Unreadable("it is not what was stored here") from None
        answer = await self._call("decrypt", CiphertextBlob=blob)
        return self._remember(key_id, answer["Plaintext"])

    def _remember(self, name: str, key: bytes) -> _DataKey:
        found = self._known[name] = _DataKey(name, key, self._clock.monotonic() + AGE_S)
        self._known.move_to_end(name)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    async def _call(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        call = functools.partial(getattr(self._client, operation), EncryptionContext=_CONTEXT, **arguments)
        try:
            answer: Mapping[str, Any] = await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except ClientError as error:
            raise _translate(error.response.get("Error", {}).get("Code", "")) from None
        except BotoCoreError as error:
            raise Unavailable("kms", type(error).__name__) from None
        return answer


def _translate(code: str) -> TimerError:
    if code in _FOR_GOOD:
        return Unreadable(f"its key in KMS does not open it: {code}")
    return Unavailable("kms", code)


def _region_of(kms_key: str) -> str:
    """Return the region that an ARN names, nothing where it is none."""
    parts = kms_key.split(":")
    return parts[3] if len(parts) > 3 and parts[0] == "arn" else ""


def _client(region: str) -> Any:
    config = Config(
        retries={"total_max_attempts": 2, "mode": "standard"},
        max_pool_connections=_THREADS,
        connect_timeout=1.0,
        read_timeout=_TIMEOUT_S,
        user_agent_extra="timers",
    )
    return boto3.session.Session(region_name=region).client("kms", config=config)
