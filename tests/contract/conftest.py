"""The ports over memory and over the real services."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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


@asynccontextmanager
async def new_table(server: DynamoDB | Kms) -> AsyncIterator[Table]:
    """Make a table of the test's own."""
    async with open_table(server.endpoint, f"timers-{uuid4().hex}") as table:
        await provision(table, shards=SHARDS)
        yield table


@pytest.fixture
async def table(dynamodb: DynamoDB) -> AsyncIterator[Table]:
    async with new_table(dynamodb) as table:
        yield table


@pytest.fixture
def direct(table: Table) -> DynamoTimerStore:
    """A store that nothing comes between."""
    return dynamo_store(table)


@pytest.fixture
async def proxy(dynamodb: DynamoDB) -> AsyncIterator[Proxy]:
    async with Proxy(dynamodb.port) as proxy:
        yield proxy


SERVERS = {"dynamodb": "dynamodb", "transactions": "dynamodb", "ministack": "kms"}


@pytest.fixture(params=["memory", *SERVERS])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[TimerStore]:
    if request.param == "memory":
        yield MemoryTimerStore(shards=SHARDS)
        return
    async with new_table(request.getfixturevalue(SERVERS[request.param])) as table:
        yield dynamo_store(table, transactions=request.param == "transactions")


@pytest.fixture(params=["memory", "dynamodb"])
async def keys(request: pytest.FixtureRequest) -> AsyncIterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    async with new_table(request.getfixturevalue("dynamodb")) as table:
        yield DynamoKeyStore(table)


@pytest.fixture(params=["memory", "dynamodb"])
async def registry(request: pytest.FixtureRequest) -> AsyncIterator[QueueRegistry]:
    if request.param == "memory":
        yield MemoryQueueRegistry()
        return
    async with new_table(request.getfixturevalue("dynamodb")) as table:
        yield DynamoQueueRegistry(table)


@pytest.fixture(params=["memory", "dynamodb"])
async def leases(request: pytest.FixtureRequest) -> AsyncIterator[ShardLeases]:
    if request.param == "memory":
        yield MemoryShardLeases()
        return
    async with new_table(request.getfixturevalue("dynamodb")) as table:
        yield DynamoShardLeases(table, shards=SHARDS)
