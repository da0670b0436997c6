"""Secrets of tenants, made and retired while the service runs."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from typing import Final

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.end_to_end.client import Client
from tests.receiver import Received, Receiver
from tests.services import DynamoDB, RabbitMQ
from tests.stack import SIGNING_SECRET, Stack, stack

PROMISED_S: Final = 10.0
URL: Final = "http://127.0.0.1:1024/never"
KEY: Final = {"idempotency-key": "order-42"}
TARGET: Final = {"body": {"order": 42}}


@pytest.fixture(scope="module")
def running(rabbitmq: RabbitMQ, dynamodb: DynamoDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(rabbitmq, dynamodb, tmp_path_factory.mktemp("stack")) as built:
        yield built


def verifies(call: Received, secret: str) -> bool:
    try:
        Webhook(secret).verify(call.body, call.headers, json_parse=False)
    except WebhookVerificationError:
        return False
    return True


async def signed_by(client: Client, receiver: Receiver, *secrets: str) -> None:
    """Call until a call is signed by exactly these secrets, for as long as it may take."""
    deadline = time.monotonic() + PROMISED_S
    while True:
        calls = len(receiver["signed"])
        await client.schedule(receiver.url("signed"), 0, target=TARGET)
        call = (await receiver.wait("signed", calls + 1))[-1]
        signatures = call.headers["webhook-signature"].split()
        if len(signatures) == len(secrets) and all(verifies(call, secret) for secret in secrets):
            return
        assert time.monotonic() < deadline, f"signed {len(signatures)} times"
        await asyncio.sleep(0.2)


async def test_a_tenants_secrets_rotate_while_the_service_runs(
    running: Stack, client: Client, receiver: Receiver
) -> None:
    await signed_by(client, receiver, SIGNING_SECRET)
    old = running.secret("create", "--tenant", "default")
    await signed_by(client, receiver, old)

    new = running.secret("create", "--tenant", "default")
    await signed_by(client, receiver, old, new)
    refusal = refused(running, "create", "--tenant", "default")
    assert refusal == "timers: default has 2 signing secrets: retire one before making another\n"

    _, first, second = running.secret("list", "--tenant", "default").splitlines()
    running.secret("retire", first.split()[0])
    await signed_by(client, receiver, new)
    _, first, _ = running.secret("list").splitlines()
    assert first.split()[1] == "default"
    assert len(first.split()) == 4
    assert not any(secret in text for secret in (old, new) for text in (first, second, running.secret("list")))

    running.secret("retire", second.split()[0])
    await signed_by(client, receiver, SIGNING_SECRET)


async def test_a_timer_names_the_secret_that_signs_it(running: Stack, client: Client, receiver: Receiver) -> None:
    secrets = [running.secret("create", "--tenant", "default") for _ in range(2)]
    ids = [
        line.split()[0] for line in running.secret("list", "--tenant", "default").splitlines() if len(line.split()) == 3
    ]
    named = {"target": {**TARGET, "signing_key": ids[1]}}
    timer = await client.schedule(receiver.url("named"), 0, **named)
    wish = {"delay": 3600, "target": {"url": URL, "signing_key": ids[1]}}
    first = await client.http.post("/v1/timers", json=wish, headers=KEY)
    late = await client.schedule(receiver.url("late"), PROMISED_S + 10, **named, retry={"max_attempts": 1})
    [call] = await receiver.wait("named")

    assert timer["target"]["signing_key"] == ids[1]
    assert [verifies(call, secret) for secret in secrets] == [False, True]
    other = {"delay": 60, "target": {"url": receiver.url("x"), "signing_key": "x"}}
    unknown = await client.http.post("/v1/timers", json=other)
    assert unknown.status_code == 422
    assert [error["pointer"] for error in unknown.json()["errors"]] == ["/target/signing_key"]

    running.secret("retire", ids[1])
    [attempt] = (await client.until(late["id"], "dead"))["attempts"]
    assert attempt["error"] == f"signature: no signing secret in force has the id '{ids[1]}'"
    assert receiver["late"] == []
    assert (await client.http.post("/v1/timers", json=wish)).status_code == 422
    again = await client.http.post("/v1/timers", json=wish, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()


def test_a_mistake_is_one_clear_line(running: Stack) -> None:
    assert refused(running, "retire", "x") == "timers: no signing secret in force has the id 'x'\n"
    assert "'Acme' is no tenant" in refused(running, "create", "--tenant", "Acme")


def refused(running: Stack, *arguments: str) -> str:
    """Return what a command says that is refused."""
    with pytest.raises(subprocess.CalledProcessError) as error:
        running.secret(*arguments)
    return str(error.value.stderr)
