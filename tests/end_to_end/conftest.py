"""A running service, and a receiver for its calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.client import Client
from tests.queues import Queues
from tests.receiver import Receiver, receiving
from tests.services import DynamoDB, RabbitMQ
from tests.stack import Member, Stack, open_client, stack, start_together


@pytest.fixture(scope="module")
def running(rabbitmq: RabbitMQ, dynamodb: DynamoDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(rabbitmq, dynamodb, tmp_path_factory.mktemp("stack")) as built:
        yield built


@pytest.fixture(scope="module")
def api(running: Stack) -> Member:
    member = running.api()
    member.start()
    return member


@pytest.fixture(scope="module")
def consumers(running: Stack) -> list[Member]:
    members = [running.consumer() for _ in range(2)]
    start_together(*members)
    return members


@pytest.fixture
async def client(api: Member, consumers: list[Member]) -> AsyncIterator[Client]:
    async with open_client(api) as http:
        yield Client(http)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as server:
        yield server


@pytest.fixture
def queues(rabbitmq: RabbitMQ) -> Iterator[Queues]:
    own = Queues(rabbitmq)
    yield own
    own.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
