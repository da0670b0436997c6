"""The ports over memory and over the real services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from copy import copy
from random import Random
from uuid import uuid4

import pytest

from infra.dynamodb.client import Table
from infra.dynamodb.keys import DynamoKeyStore
from infra.dynamodb.leases import DynamoShardLeases
from infra.dynamodb.queues import DynamoQueueRegistry
from infra.dynamodb.schema import provision
from infra.dynamodb.store import DynamoTimerStore
from infra.memory import MemoryKeyStore, MemoryQueueRegistry, MemoryShardLeases, MemoryTimerStore
from tests.contract.proxy import Proxy
from tests.services import DynamoDB, Kms
from timers.ports import KeyStore, QueueRegistry, ShardLeases, TimerStore

SHARDS = 4
WEEK_MS = 7 * 86_400_000


@asynccontextmanager
async def open_table(endpoint: str, name: str, *, timeout: float = 10.0) -> AsyncIterator[Table]:
    async with Table(name, endpoint=endpoint, region="us-east-1", timeout=timeout) as table:
        yield table


def dynamo_store(table: Table, *, patience: float = 20.0, transactions: bool = False) -> DynamoTimerStore:
    return DynamoTimerStore(
        table, shards=SHARDS, retention_ms=WEEK_MS, random=Random(), patience=patience, transactions=transactions
    )


@pytest.fixture(scope="session")
def connection(dynamodb: DynamoDB) -> Iterator[Table]:
    """The one client of the run; another costs a third of a second."""
    table = Table("none", endpoint=dynamodb.endpoint, region="us-east-1", timeout=10.0)
    yield table
    asyncio.run(table.__aexit__())


async def new_table(connection: Table) -> Table:
    """Return a table of the test's own."""
    table = copy(connection)
    table.name = f"timers-{uuid4().hex}"
    await provision(table, shards=SHARDS)
    return table


@pytest.fixture
async def table(connection: Table) -> Table:
    return await new_table(connection)


@pytest.fixture
async def proxy(dynamodb: DynamoDB) -> AsyncIterator[Proxy]:
    async with Proxy(dynamodb.port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def other_connection(kms: Kms) -> Iterator[Table]:
    """The one client of another table server: MiniStack, or LocalStack in Docker."""
    table = Table("none", endpoint=kms.endpoint, region="us-east-1", timeout=10.0)
    yield table
    asyncio.run(table.__aexit__())


CONNECTIONS = {"dynamodb": "connection", "transactions": "connection", "ministack": "other_connection"}


@pytest.fixture(params=["memory", *CONNECTIONS])
async def store(request: pytest.FixtureRequest) -> TimerStore:
    if request.param == "memory":
        return MemoryTimerStore(shards=SHARDS)
    table = await new_table(request.getfixturevalue(CONNECTIONS[request.param]))
    return dynamo_store(table, transactions=request.param == "transactions")


@pytest.fixture(params=["memory", "dynamodb"])
async def keys(request: pytest.FixtureRequest) -> KeyStore:
    if request.param == "memory":
        return MemoryKeyStore()
    return DynamoKeyStore(await new_table(request.getfixturevalue("connection")))


@pytest.fixture(params=["memory", "dynamodb"])
async def registry(request: pytest.FixtureRequest) -> QueueRegistry:
    if request.param == "memory":
        return MemoryQueueRegistry()
    return DynamoQueueRegistry(await new_table(request.getfixturevalue("connection")))


@pytest.fixture(params=["memory", "dynamodb"])
async def leases(request: pytest.FixtureRequest) -> ShardLeases:
    if request.param == "memory":
        return MemoryShardLeases()
    return DynamoShardLeases(await new_table(request.getfixturevalue("connection")), shards=SHARDS)
