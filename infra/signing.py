"""The signing secrets of tenants: made, retired, and remembered for a few seconds where calls are signed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from infra.lookups import Lookups
from timers.errors import Conflict, Unavailable, Unreadable
from timers.ports import Clock, SecretStore, Vault
from timers.signature import parse_secrets
from timers.signing import (
    NoSuchSecret,
    Secrets,
    SigningSecret,
    new_id,
    new_text,
    place,
    unknown,
    with_new,
    without,
)

FRESH_S: Final = 3.0
LIFE_S: Final = 8.0
"""A secret that is made or retired is heeded by every consumer after that."""

_KEPT_S: Final = 600.0
"""For how long the secrets last known go on signing while the table is away."""

_TENANTS: Final = 1_000
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class _Known:
    """The secrets in force of a tenant; ``read_at`` says as of when, ``tried_at`` when that was last looked at."""

    by_id: Mapping[str, bytes] = field(repr=False)
    all: tuple[bytes, ...] = field(repr=False)
    read_at: float
    tried_at: float


class Signing:
    """
    Knows what calls are signed with.

    What was read is used as it is for FRESH_S, goes on being used while it is read again in the background, and is
    waited for after LIFE_S. While the table is away what was last known signs on: that a secret which was just
    retired signs a little longer does no harm, since receivers drop it when they please.
    """

    def __init__(self, store: SecretStore, vault: Vault | None, clock: Clock, default: Sequence[bytes]) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._default = tuple(default)
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._lookups = Lookups(self._read)

    async def secrets(self, tenant: str, secret_id: str | None) -> Sequence[bytes]:
        known = self._known.get(tenant)
        age = LIFE_S if known is None else self._clock.monotonic() - known.tried_at
        if known is None or age >= LIFE_S:
            known = await self._lookups.answer(tenant)
        elif age >= FRESH_S:
            self._lookups.start(tenant)
        if secret_id is None:
            return known.all or self._default
        if secret_id not in known.by_id:
            raise NoSuchSecret(secret_id)
        return (known.by_id[secret_id],)

    async def check(self, tenant: str, secret_id: str) -> None:
        known = self._known.get(tenant)
        if known is None or secret_id not in known.by_id or self._clock.monotonic() - known.tried_at >= LIFE_S:
            known = await self._lookups.answer(tenant)
        if secret_id not in known.by_id:
            raise unknown(secret_id)

    async def _read(self, tenant: str) -> _Known:
        """Return what the table says now, or said last where it is away. Raises Unreadable, Unavailable."""
        now = self._clock.monotonic()
        try:
            by_id = await self._in_force(tenant)
            known = _Known(by_id, tuple(by_id.values()), now, now)
        except (Unavailable, Unreadable):
            last = self._known.get(tenant)
            if last is None or now - last.read_at >= _KEPT_S:
                raise
            known = _Known(last.by_id, last.all, last.read_at, now)
        self._known[tenant] = known
        self._known.move_to_end(tenant)
        if len(self._known) > _TENANTS:
            self._known.popitem(last=False)
        return known

    async def _in_force(self, tenant: str) -> dict[str, bytes]:
        secrets, _ = await self._store.of(tenant)
        sealed = {secret.id: secret.sealed for secret in secrets if secret.sealed is not None}
        if not sealed:
            return {}
        if self._vault is None:
            raise Unreadable("TIMERS_ENCRYPTION_KEYS is not set here")
        texts = await self._vault.open({place(tenant, secret_id): text for secret_id, text in sealed.items()})
        return {secret_id: parse_secrets(texts[place(tenant, secret_id)])[0] for secret_id in sealed}


async def create(store: SecretStore, vault: Vault, tenant: str, random: Random, now_ms: int) -> str:
    """Make a secret for a tenant and return it. Raises TooManySecrets, Unavailable."""
    secret_id, text = new_id(random), new_text(random)
    sealed = (await vault.seal({place(tenant, secret_id): text}))[place(tenant, secret_id)]
    new = SigningSecret(secret_id, now_ms, sealed)
    for _ in range(_TRIES):
        secrets, version = await store.of(tenant)
        if await _saved(store, tenant, with_new(tenant, secrets, new), version):
            return text
    raise Unavailable("the tenant's secrets", "too many writers at once")


async def retire(store: SecretStore, secret_id: str, now_ms: int) -> None:
    """Let a secret sign no more. Raises NoSuchSecret, Unavailable."""
    for tenant in await store.tenants():
        for _ in range(_TRIES):
            secrets, version = await store.of(tenant)
            if not any(secret.in_force and secret.id == secret_id for secret in secrets):
                break
            if await _saved(store, tenant, without(secrets, secret_id, now_ms), version):
                return
    raise NoSuchSecret(secret_id)


async def _saved(store: SecretStore, tenant: str, secrets: Secrets, before: int) -> bool:
    try:
        await store.save(tenant, secrets, before)
    except Conflict:
        return False
    return True
