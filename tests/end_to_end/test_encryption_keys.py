"""Where the keys come from that secrets are encrypted with, and how they change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import boto3
import httpx2
import pytest

from tests.end_to_end.client import Client
from tests.receiver import Receiver
from tests.services import DynamoDB, Kms, RabbitMQ
from tests.stack import ENCRYPTION_KEYS, Stack, open_client, stack

NEW: Final = "k2:" + "AAAA" * 10 + "AAA="
TARGET: Final = {"headers": {"authorization": "Bearer hunter2"}}


@pytest.fixture
def running(rabbitmq: RabbitMQ, dynamodb: DynamoDB, tmp_path: Path) -> Iterator[Stack]:
    with stack(rabbitmq, dynamodb, tmp_path) as built:
        yield built


@contextmanager
def started(running: Stack, api: dict[str, str], consumer: dict[str, str]) -> Iterator[httpx2.AsyncClient]:
    """Start an api and a consumer with settings of their own."""
    members = running.api(**api), running.consumer(**consumer)
    for member in members:
        member.start()
    yield open_client(members[0])
    for member in members:
        member.stop()


async def calls(http: httpx2.AsyncClient, receiver: Receiver) -> None:
    """Let a secret be sealed by the one and opened by the other."""
    async with http:
        timer = await Client(http).schedule(receiver.url("called"), 0, target=TARGET)
        [call] = await receiver.wait("called")
    assert timer["target"]["headers"] == {"authorization": "***"}
    assert call.headers["authorization"] == "Bearer hunter2"


@pytest.mark.parametrize(
    ("api", "consumer"),
    [
        (ENCRYPTION_KEYS, f"{ENCRYPTION_KEYS},{NEW}"),
        (f"{NEW},{ENCRYPTION_KEYS}", f"{ENCRYPTION_KEYS},{NEW}"),
        (NEW, f"{NEW},{ENCRYPTION_KEYS}"),
    ],
    ids=["before", "between", "after"],
)
async def test_keys_rotate_one_process_after_another(
    running: Stack, receiver: Receiver, api: str, consumer: str
) -> None:
    settings = ({"TIMERS_ENCRYPTION_KEYS": keys} for keys in (api, consumer))
    with started(running, *settings) as http:
        await calls(http, receiver)


@pytest.fixture
def kms_settings(kms: Kms) -> dict[str, str]:
    client = boto3.session.Session(region_name="us-east-1").client(
        "kms", endpoint_url=kms.endpoint, aws_access_key_id="test", aws_secret_access_key="test"
    )
    arn = str(client.create_key()["KeyMetadata"]["Arn"])
    client.close()
    access = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    return {"TIMERS_KMS_KEY": arn, "AWS_ENDPOINT_URL_KMS": kms.endpoint, "TIMERS_ENCRYPTION_KEYS": "", **access}


async def test_keys_can_come_from_kms(running: Stack, receiver: Receiver, kms_settings: dict[str, str]) -> None:
    with started(running, kms_settings, kms_settings) as http:
        await calls(http, receiver)


async def test_without_a_key_secrets_are_refused_and_others_go_on(running: Stack) -> None:
    none = {"TIMERS_ENCRYPTION_KEYS": ""}
    url = "http://127.0.0.1:1025/"
    with started(running, none, none) as http:
        async with http:
            refused = await http.post("/v1/timers", json={"delay": 60, "target": {"url": url, **TARGET}})
            taken = await http.post("/v1/timers", json={"delay": 60, "target": {"url": url}})
    assert (refused.status_code, taken.status_code) == (422, 201)
    [error] = refused.json()["errors"]
    assert error == {
        "pointer": "/target/headers/authorization",
        "detail": "secret headers and bodies need TIMERS_ENCRYPTION_KEYS",
    }
