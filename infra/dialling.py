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

from infra.guard import Rules

_CACHED: Final = 4096


class Refused(OSError):
    """A connection that is not to be made; the message does not tell what a name resolved to."""


class Guard:
    """The rules where the HTTP client asks for them, answers kept in bounded memory."""

    def __init__(self, rules: Rules) -> None:
        self.refusal: Callable[[str, str, int], str | None] = lru_cache(_CACHED)(rules.refusal)
        self.admits: Callable[[str], bool] = lru_cache(_CACHED)(rules.admits)

    def make_socket(self, info: AddrInfoType) -> socket.socket:
        """Return a socket for an address that is about to be dialled. Raises Refused."""
        family, kind, protocol, _, address = info
        if not self.admits(str(address[0])):
            raise Refused(f"{address[0]} is not allowed")
        return socket.socket(family, kind, protocol)


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
