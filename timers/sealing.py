"""
The secrets of a timer: sealed before it is stored, opened for its call or its worker.

Each is bound to its timer, to the receiver that it was given for, and to its name: who can write to the table can
neither put it into another timer nor have it sent to somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from timers.errors import Invalid, Unreadable
from timers.ports import Vault
from timers.secret import BODY, Sealed, Secret
from timers.target import LogTarget
from timers.timer import Timer

_REQUEST: Final = "request"
"""The place of a request's fingerprint: made of the secrets too, it would confirm whoever guesses them."""


async def seal(timer: Timer, vault: Vault | None) -> Timer:
    """Return a timer as it can be stored. Raises Invalid where there is nothing to seal with, Unavailable."""
    target = timer.target
    plain = {name: text for name, text in target.secrets.items() if isinstance(text, str)}
    if not plain or isinstance(target, LogTarget):
        return timer
    if vault is None:
        raise Invalid(_pointer(next(iter(plain))), "secret headers and bodies need TIMERS_ENCRYPTION_KEYS")
    texts = {_place(timer, name): text for name, text in plain.items()}
    if isinstance(timer.request, str):
        texts[_place(timer)] = timer.request
    sealed = await vault.seal(texts)
    secrets = {**target.secrets, **{name: sealed[_place(timer, name)] for name in plain}}
    request = sealed.get(_place(timer), timer.request)
    return replace(timer, target=replace(target, secrets=secrets), request=request)


async def unseal(timer: Timer, vault: Vault | None) -> Timer:
    """Return a timer as it is called, or as its worker gets it. Raises Unreadable, Unavailable."""
    target = timer.target
    if isinstance(target, LogTarget) or not target.secrets:
        return timer
    places = {name: _place(timer, name) for name in target.secrets}
    texts = await _open({places[name]: secret for name, secret in target.secrets.items()}, vault)
    return replace(timer, target=target.opened({name: texts[place] for name, place in places.items()}))


async def request_of(timer: Timer, vault: Vault | None) -> str | None:
    """Return what made a timer under an idempotency key. Raises Unreadable, Unavailable."""
    if not isinstance(timer.request, Sealed):
        return timer.request
    return (await _open({_place(timer): timer.request}, vault))[_place(timer)]


async def _open(sealed: Mapping[str, Secret], vault: Vault | None) -> Mapping[str, str]:
    if vault is None:
        raise Unreadable("TIMERS_ENCRYPTION_KEYS is not set here")
    return await vault.open({place: secret for place, secret in sealed.items() if isinstance(secret, Sealed)})


def _place(timer: Timer, name: str | None = None) -> str:
    """Return the place of a secret, or of the timer's request."""
    return f"{timer.id}\n{_REQUEST}" if name is None else f"{timer.id}\n{timer.target.key}\n{name}"


def _pointer(name: str) -> str:
    return "/target/body" if name == BODY else f"/target/headers/{name}"
