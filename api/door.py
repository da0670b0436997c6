"""Who comes in: every request to /v1 shows a key, before anything of it is read."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from fastapi.responses import Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.bounds import may_wait
from api.rates import Rates
from infra.keyring import Keyring
from timers import keys
from timers.errors import Overloaded, Unavailable
from timers.keys import Key

_KEYED: Final = "/v1"
_KEY: Final = "timers.key"
_READING: Final = frozenset({"GET", "HEAD"})
_FORWARDED: Final = frozenset({b"forwarded", b"via", b"x-forwarded-for", b"x-real-ip"})


class Door:
    """
    ASGI middleware; ``pending`` is how many requests of one tenant may be in progress at once.

    Those that may wait for timers of a pull queue count by themselves, up to ``waiting``.
    """

    def __init__(self, app: ASGIApp, *, pending: int, waiting: int) -> None:
        self._app = app
        self._most = {False: pending, True: waiting}
        self._taken: Counter[tuple[str, bool]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not needs_key(scope["path"]):
            await self._app(scope, receive, send)
            return
        needed = keys.Scope.READ if scope["method"] in _READING else keys.Scope.WRITE
        verdict = await judge(scope, needed)
        if isinstance(verdict, Response):
            await verdict(scope, receive, send)
            return
        waits = may_wait(scope["path"])
        place = verdict.tenant, waits
        if self._taken[place] >= self._most[waits]:
            answer = problems.problem(429, "Too many requests of this tenant are in progress.", {"retry-after": "1"})
            await answer(scope, receive, send)
        else:
            scope[_KEY] = verdict
            await self._count(place, scope, receive, send)

    async def _count(self, place: tuple[str, bool], scope: Scope, receive: Receive, send: Send) -> None:
        rates = rates_of(scope)
        self._taken[place] += 1
        try:
            if rates is None:
                await self._app(scope, receive, send)
            else:
                await self._pass_at_its_rate(rates, scope, receive, send)
        finally:
            self._taken[place] -= 1
            if not self._taken[place]:
                del self._taken[place]

    async def _pass_at_its_rate(self, rates: Rates, scope: Scope, receive: Receive, send: Send) -> None:
        tenant = key_of(scope).tenant

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.append("ratelimit-policy", rates.policy)
                headers.append("ratelimit", rates.left(tenant))
            await send(message)

        try:
            rates.take(tenant)
        except Overloaded as error:
            await problems.of_error(error)(scope, receive, telling)
        else:
            await self._app(scope, receive, telling)


def key_of(scope: Scope) -> Key:
    """Return the key of a request that came through the door; without one there is nobody to act for."""
    key: Key = scope[_KEY]
    return key


def rates_of(scope: Scope) -> Rates | None:
    """Return what bounds how fast tenants ask, None where nothing does."""
    rates: Rates | None = scope["app"].state.parts.rates
    return rates


async def judge(scope: Scope, needed: keys.Scope) -> Key | Response:
    """Return the key of a request, or the refusal where it has none that allows what is needed."""
    token = _token(scope)
    if token is None:
        return _unauthorized("Send an api key: Authorization: Bearer timers_…", "Bearer")
    keyring: Keyring = scope["app"].state.parts.keyring
    try:
        key = await keyring.find(token)
    except (Unavailable, Overloaded) as error:
        return problems.of_error(error)
    if key is None:
        return _unauthorized("There is no such api key, or it was revoked.", 'Bearer error="invalid_token"')
    if not key.may(needed):
        challenge = f'Bearer error="insufficient_scope", scope="{needed}"'
        return problems.problem(403, f"This api key has no scope {needed}.", {"www-authenticate": challenge})
    return key


def is_local(scope: Scope) -> bool:
    """Whether a request comes from this machine, and not through a proxy that runs on it."""
    client: Any = scope.get("client")
    if client is None or any(name in _FORWARDED for name, _ in scope["headers"]):
        return False
    address = ip_address(client[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback


def needs_key(path: str) -> bool:
    """Whether nobody comes to a path without a key."""
    return path == _KEYED or path.startswith(f"{_KEYED}/")


def _token(scope: Scope) -> str | None:
    """Return the one bearer token of a request."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(given) != 1:
        return None
    scheme, _, token = given[0].decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _unauthorized(detail: str, challenge: str) -> Response:
    return problems.problem(401, detail, {"www-authenticate": challenge})
