"""
The rules of the guard where the HTTP client makes its connections.

The rule on addresses is enforced where a socket is made, on the very address that it then connects to.
However a url is written, and whatever DNS says when it is asked again, nothing else is dialled.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType
from yarl import URL

from infra.guard import Rules

_CACHED: Final = 4096


class Refused(OSError):
    """A connection that is not to be made; the message does not tell what a name resolved to."""


class Guard:
    """The rules where the HTTP client asks for them, answers kept in bounded memory."""

    def __init__(self, rules: Rules) -> None:
        self.refusal: Callable[[str, str, int], str | None] = lru_cache(_CACHED)(rules.refusal)
        self.admits: Callable[[str], bool] = lru_cache(_CACHED)(rules.admits)
        self._forbids: Callable[[str, str, int], str | None] = lru_cache(_CACHED)(self._judge)

    def forbids(self, text: str) -> str | None:
        """Return why no call to a url can ever be made; None where one can, or where that is for DNS to tell."""
        try:
            url = URL(text)
        except ValueError as error:
            return f"not a url: {error}"
        return self._forbids(url.scheme, url.raw_host or "", url.port or 0)

    def _judge(self, scheme: str, host: str, port: int) -> str | None:
        if refusal := self.refusal(scheme, host, port):
            return refusal
        written = _written_out(host)
        return None if not written or any(map(self.admits, written)) else f"{host} is not allowed"

    def make_socket(self, info: AddrInfoType) -> socket.socket:
        """Return a socket for an address that is about to be dialled. Raises Refused."""
        family, kind, protocol, _, address = info
        if not self.admits(str(address[0])):
            raise Refused(f"{address[0]} is not allowed")
        return socket.socket(family, kind, protocol)


def _written_out(host: str) -> list[str]:
    """Return the address that a host is, in any spelling that the resolver would read as one; none for a name."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, ValueError):
        return []
    return [str(address[0]) for *_, address in found]


class GuardedResolver(AbstractResolver):
    """Leaves out the addresses that would be refused, so that a name is called at those that remain."""

    def __init__(self, resolver: AbstractResolver, guard: Guard) -> None:
        self._resolver = resolver
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        admitted = [result for result in found if self._guard.admits(result["host"])]
        if found and not admitted:
            raise Refused(f"{host} has no address that is allowed")
        return admitted

    async def close(self) -> None:
        await self._resolver.close()
