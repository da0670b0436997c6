"""
DynamoDB's JSON protocol over aiohttp.

botocore finds the endpoint and the credentials, and signs. What it does besides (a model of every operation, hooks,
threads) costs four times as much CPU as all that is here: docs/explanation/performance.md.
"""

from __future__ import annotations

import asyncio
import functools
import io
import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp
import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import BotoCoreError
from botocore.httpsession import get_cert_path

from timers.errors import Unavailable

AWS: Final = "aws"
_SERVICE: Final = "dynamodb"
_CONNECTIONS: Final = 32
_CONNECT_S: Final = 1.0
_KEPT_S: Final = 15.0
_PROTOCOL: Final = {
    "Content-Type": "application/x-amz-json-1.0",
    "Accept-Encoding": "identity",
    "User-Agent": "timers",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the table answered: ``content`` is its JSON."""

    status: int
    content: Mapping[str, Any]


class Wire:
    """
    Connections to one endpoint; ``timeout`` is in seconds, for one request.

    Nothing is asked twice: a write that was silently repeated could be told "condition failed" of its own success.
    """

    def __init__(self, *, endpoint: str, region: str, timeout: float) -> None:
        self._endpoint = endpoint
        self._region = region
        self._timeout = aiohttp.ClientTimeout(
            total=timeout + _CONNECT_S, sock_connect=min(timeout, _CONNECT_S), sock_read=timeout
        )

    async def __aenter__(self) -> Self:
        try:  # it reads files, and may ask the machine for its role
            self.url, self._found = await asyncio.to_thread(_access, self._endpoint, self._region)
        except BotoCoreError as error:
            raise Unavailable(_SERVICE, str(error)) from error
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_KEPT_S, ssl=_tls(self.url)),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            auto_decompress=False,
            skip_auto_headers=("Accept",),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, operation: str, arguments: Mapping[str, Any]) -> Answer:
        """Make one request. Raises Unavailable where there is no answer, or none in JSON."""
        body = json.dumps(arguments, separators=(",", ":")).encode()
        try:
            headers = await self._signed(operation, body)
            async with self._session.post(
                self.url, data=io.BytesIO(body), headers=headers, allow_redirects=False
            ) as response:
                return Answer(response.status, _parsed(await response.read()))
        except (aiohttp.ClientError, BotoCoreError, OSError) as error:
            raise Unavailable(_SERVICE, type(error).__name__) from error

    async def _signed(self, operation: str, body: bytes) -> dict[str, str]:
        headers = {**_PROTOCOL, "X-Amz-Target": f"DynamoDB_20120810.{operation}"}
        request = AWSRequest("POST", self.url, headers=headers, data=body)
        SigV4Auth(await self._credentials(), _SERVICE, self._region).add_auth(request)
        return dict(request.headers.items())

    async def _credentials(self) -> ReadOnlyCredentials:
        held = self._found
        if held is None:
            raise Unavailable(_SERVICE, "there are no AWS credentials")
        if isinstance(held, RefreshableCredentials) and held.refresh_needed():
            return await asyncio.to_thread(held.get_frozen_credentials)
        return held.get_frozen_credentials()


def _access(endpoint: str, region: str) -> tuple[str, Credentials | None]:
    """Return where to ask, and as whom."""
    session = boto3.session.Session(region_name=region)
    credentials = session.get_credentials()
    if endpoint == AWS:
        return session.client(_SERVICE).meta.endpoint_url + "/", credentials
    stand_in = Credentials("local", "local")  # it takes any key
    return endpoint.rstrip("/") + "/", credentials or stand_in


def _tls(url: str) -> ssl.SSLContext | bool:
    """Return what boto3 would verify certificates with."""
    if not url.startswith("https:"):
        return True
    return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or get_cert_path(verify=True))


def _parsed(content: bytes) -> Mapping[str, Any]:
    try:
        answer = json.loads(content)
    except ValueError as error:
        raise Unavailable(_SERVICE, "the answer is no JSON") from error
    if not isinstance(answer, dict):
        raise Unavailable(_SERVICE, "the answer is no JSON object")
    return answer


@functools.cache
def wire_name(operation: str) -> str:
    """Return the protocol's name of an operation: BatchGetItem of batch_get_item."""
    return "".join(word.capitalize() for word in operation.split("_"))
