"""Calling targets over HTTP, with aiohttp: the cheapest client per call that was measured."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from typing import Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from infra.dialling import Guard, GuardedResolver, Refused
from infra.guard import Rules
from timers.ports import Call
from timers.retry import Answer, parse_retry_after

READ: Final = 1024
_BUFFER: Final = 8 * 1024  # past twice as much, the connection is not read until this is
_DNS_CACHE_S: Final = 10
_DNS_CACHE_SIZE: Final = 1000
_ERROR_LENGTH: Final = 256


class HttpCallbacks:
    """
    Makes calls: to allowed addresses only, certificates always verified.

    No redirects, no cookies, no proxy from the environment. Of a response body 1 KiB is read and the rest
    dropped with its connection.
    """

    def __init__(
        self,
        *,
        connections: int,
        rules: Rules,
        tls: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._guard = Guard(rules)
        connector = aiohttp.TCPConnector(
            limit=connections,
            limit_per_host=0,
            keepalive_timeout=15,
            ssl=tls or tls_context(),
            resolver=GuardedResolver(resolver or aiohttp.ThreadedResolver(), self._guard),
            ttl_dns_cache=_DNS_CACHE_S,
            dns_cache_max_size=_DNS_CACHE_SIZE,
            socket_factory=self._guard.make_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_BUFFER,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def invoke(self, call: Call) -> Answer:
        try:
            async with asyncio.timeout(call.timeout):
                return await self._invoke(call)
        except TimeoutError:
            return Answer(error=f"timeout: no answer within {call.timeout:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(error=_describe(error))

    async def _invoke(self, call: Call) -> Answer:
        url = URL(call.url)
        if refusal := self._guard.refusal(url.scheme, url.raw_host or "", url.port or 0):
            return Answer(error=f"address: {refusal}"[:_ERROR_LENGTH])
        async with self._session.request(
            call.method, url, headers=call.headers, data=call.content, allow_redirects=False
        ) as response:
            headers = response.headers
            retry_after = headers.get("retry-after")
            answer = Answer(
                status=response.status,
                retry_after_ms=parse_retry_after(retry_after, time.time_ns() // 1_000_000) if retry_after else None,
                stop=headers.get("timer-retry", "").strip().lower() == "never",
            )
            if not 200 <= response.status < 300:
                answer = _with_reason(answer)
            await _drain(response)
            return answer


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read a short body, so that the connection can be used again; drop the connection of a longer one."""
    body = response.content
    read = 0
    while read <= READ and not body.at_eof():
        read += len(await body.read(READ + 1 - read))
    if read > READ:
        response.close()


def _with_reason(answer: Answer) -> Answer:
    if answer.status is not None and 300 <= answer.status < 400:
        return Answer(answer.status, "redirect: not followed", answer.retry_after_ms, answer.stop)
    return answer


def tls_context(authorities: str | None = None) -> ssl.SSLContext:
    """
    Return what verifies certificates: by the system's authorities and those in the file ``authorities``.

    Raises OSError where the file cannot be read or has no certificate.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if authorities:
        context.load_verify_locations(authorities)
    return context


def _describe(error: Exception) -> str:
    """Say what went wrong, without what may have been sent or answered: that is not for logs."""
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, Refused):
        kind, reason = "address", str(error.os_error)
    elif isinstance(error, (ssl.SSLError, aiohttp.ClientSSLError)):
        kind, reason = "tls", str(error)
    elif isinstance(error, aiohttp.ClientConnectorDNSError):
        kind, reason = "dns", str(error)
    elif isinstance(error, aiohttp.InvalidURL):
        kind, reason = "address", "not a url that can be called"
    else:
        kind, reason = "connection", _without_content(error)
    return f"{kind}: {reason:.200}"[:_ERROR_LENGTH]


def _without_content(error: Exception) -> str:
    """Return a reason that has neither a part of an answer in it nor the url, as the HTTP client's own have."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return str(error)
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    if isinstance(error, (OSError, aiohttp.ClientConnectionError)):
        return "closed by the target"
    name = type(error.__cause__ or error).__name__
    if isinstance(error, aiohttp.ClientError):
        return f"the answer cannot be read: {name}"
    return f"the request cannot be sent: {name}"
