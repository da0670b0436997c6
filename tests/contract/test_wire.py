"""What goes to a DynamoDB endpoint: signed as AWS wants it, with the credentials of the moment."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from infra.dynamodb.wire import AWS, Wire
from timers.errors import Unavailable

ARGUMENTS = {"TableName": "timers", "Key": {"id": {"S": "ü"}}}


class Endpoint:
    """A table that answers ``reply``, and a machine's role that gives other credentials each time."""

    def __init__(self) -> None:
        self.reply = "{}"
        self.requests: list[tuple[web.BaseRequest, bytes]] = []
        self.given = 0

    async def serve(self, request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            self.given += 1
            return web.json_response(
                {
                    "AccessKeyId": f"key-{self.given}",
                    "SecretAccessKey": f"secret-{self.given}",
                    "Token": f"token-{self.given}",
                    # botocore asks again ten minutes before the end
                    "Expiration": (datetime.now(UTC) + timedelta(minutes=1)).isoformat(),
                }
            )
        self.requests.append((request, await request.content.read()))
        return web.Response(text=self.reply)

    def last(self) -> tuple[web.BaseRequest, bytes]:
        return self.requests[-1]


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
async def url(endpoint: Endpoint) -> AsyncIterator[str]:
    async with RawTestServer(endpoint.serve) as server:
        yield str(server.make_url("/"))


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take away what credentials this machine may have."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def wire(endpoint: str) -> Wire:
    return Wire(endpoint=endpoint, region="eu-west-1", timeout=5)


def signature(request: web.BaseRequest, body: bytes, credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the authorization that AWS would work out for a request that it got."""
    signed = request.headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    headers = {name: request.headers[name] for name in signed if not name.startswith("x-amz-date")}
    again = AWSRequest("POST", str(request.url), headers=headers, data=body)
    then = datetime.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: then.replace(tzinfo=None))
    headers.pop("x-amz-security-token", None)
    SigV4Auth(credentials, "dynamodb", "eu-west-1").add_auth(again)
    return str(again.headers["Authorization"])


async def test_a_request_is_the_operation_and_its_arguments(endpoint: Endpoint, url: str) -> None:
    endpoint.reply = '{"Item":{}}'
    async with wire(url) as asking:
        answer = await asking.ask("GetItem", ARGUMENTS)
    request, body = endpoint.last()
    assert (answer.status, answer.content) == (200, {"Item": {}})
    assert json.loads(body) == ARGUMENTS
    assert request.headers["X-Amz-Target"] == "DynamoDB_20120810.GetItem"
    assert request.headers["Content-Type"] == "application/x-amz-json-1.0"


@pytest.mark.parametrize("token", [None, "a-session"])
async def test_a_request_is_signed_with_the_credentials_of_the_environment(
    endpoint: Endpoint, url: str, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    if token:
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    async with wire(url) as asking:
        await asking.ask("GetItem", ARGUMENTS)
    request, body = endpoint.last()
    assert request.headers.get("X-Amz-Security-Token") == token
    expected = signature(request, body, Credentials("AKID", "a secret", token), monkeypatch)
    assert request.headers["Authorization"] == expected


async def test_a_stand_in_is_asked_without_credentials_of_ones_own(endpoint: Endpoint, url: str) -> None:
    async with wire(url) as asking:
        await asking.ask("ListTables", {})
    assert "Credential=local/" in endpoint.last()[0].headers["Authorization"]


async def test_credentials_are_renewed_before_they_end(
    endpoint: Endpoint, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}role")
    tokens = []
    async with wire(url) as asking:
        for _ in range(3):
            await asking.ask("ListTables", {})
            tokens.append(endpoint.last()[0].headers["X-Amz-Security-Token"])
    assert len(set(tokens)) == 3


async def test_aws_is_its_endpoint_of_the_region() -> None:
    async with wire(AWS) as asking:
        assert asking.url == "https://dynamodb.eu-west-1.amazonaws.com/"


async def test_without_credentials_aws_is_not_even_asked() -> None:
    async with wire(AWS) as asking:
        with pytest.raises(Unavailable, match="credentials"):
            await asking.ask("ListTables", {})


@pytest.mark.parametrize("reply", ["", "<html>", "[]", '{"Item":'])
async def test_what_is_no_json_object_is_no_answer(endpoint: Endpoint, url: str, reply: str) -> None:
    endpoint.reply = reply
    async with wire(url) as asking:
        with pytest.raises(Unavailable):
            await asking.ask("GetItem", ARGUMENTS)


async def test_a_request_larger_than_a_socket_takes_arrives_whole(endpoint: Endpoint, url: str) -> None:
    arguments = {"Statements": ["x" * 300_000] * 10}
    async with wire(url) as asking:
        await asking.ask("BatchExecuteStatement", arguments)
    assert json.loads(endpoint.last()[1]) == arguments
