"""Which secrets sign whose calls: a tenant's own, or where it has none, the installation's."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from timers.errors import Invalid, TimerError
from timers.secret import Sealed
from timers.signature import MAX_SECRETS, PREFIX

_BYTES: Final = 32
_REMEMBERED: Final = 20
"""How many retired secrets are listed, without what they were."""


class NoSuchSecret(TimerError):
    """No secret in force has the id that was named."""

    def __init__(self, secret_id: str) -> None:
        super().__init__(f"no signing secret in force has the id {secret_id!r}")


class TooManySecrets(TimerError):
    """A tenant has as many secrets as may sign at once."""

    def __init__(self, tenant: str) -> None:
        super().__init__(f"{tenant} has {MAX_SECRETS} signing secrets: retire one before making another")


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A tenant's secret; of one that is retired nothing is left but that it was."""

    id: str
    created_at_ms: int
    sealed: Sealed | None = None
    retired_at_ms: int | None = None

    @property
    def in_force(self) -> bool:
        """Whether it signs."""
        return self.sealed is not None


Secrets = tuple[SigningSecret, ...]


def with_new(tenant: str, secrets: Secrets, new: SigningSecret) -> Secrets:
    """Return a tenant's secrets with a new one. Raises TooManySecrets."""
    if sum(secret.in_force for secret in secrets) >= MAX_SECRETS:
        raise TooManySecrets(tenant)
    return (*secrets, new)


def without(secrets: Secrets, secret_id: str, now_ms: int) -> Secrets:
    """Return a tenant's secrets with one of them retired. Raises NoSuchSecret."""
    if not any(secret.in_force and secret.id == secret_id for secret in secrets):
        raise NoSuchSecret(secret_id)
    left = [
        replace(secret, sealed=None, retired_at_ms=now_ms) if secret.id == secret_id else secret for secret in secrets
    ]
    retired = [secret for secret in left if not secret.in_force][-_REMEMBERED:]
    return tuple(secret for secret in left if secret.in_force or secret in retired)


def place(tenant: str, secret_id: str) -> str:
    """Return the place that a tenant's secret is sealed for; no timer's secret has one like it."""
    return f"#secret\n{tenant}\n{secret_id}"


def new_id(random: Random) -> str:
    """Return an id for a secret."""
    return f"{random.getrandbits(40):010x}"


def new_text(random: Random) -> str:
    """Return a new ``whsec_…`` secret."""
    return PREFIX + base64.b64encode(random.randbytes(_BYTES)).decode()


class FixedSigners:
    """The same secrets for everybody, and none by name."""

    def __init__(self, secrets: Sequence[bytes] = ()) -> None:
        self._secrets = tuple(secrets)

    async def secrets(self, tenant: str, secret_id: str | None) -> Sequence[bytes]:  # noqa: ARG002 - the port's
        if secret_id is not None:
            raise NoSuchSecret(secret_id)
        return self._secrets

    async def check(self, tenant: str, secret_id: str) -> None:  # noqa: ARG002 - likewise
        raise unknown(secret_id)


def unknown(secret_id: str) -> Invalid:
    """Return what to raise where a timer names a secret that there is not."""
    return Invalid("/target/signing_key", str(NoSuchSecret(secret_id)))
