"""A whole service on real processes, every connection to its broker and its table through a proxy."""

from __future__ import annotations

import asyncio
import signal
from asyncio import to_thread
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2

from infra.dynamodb.client import Table
from infra.dynamodb.leases import DynamoShardLeases
from tests.faults.load import PATIENCE_S
from tests.faults.proxy import Proxy, proxy
from tests.faults.target import Target, target
from tests.services import DynamoDB, RabbitMQ
from tests.stack import Member, Stack, open_client

HORIZON_S: Final = 5
"""Short, so that many timers are loaded by a keeper."""

_FINAL_S: Final = 90.0


@dataclass(frozen=True, slots=True)
class World:
    """What a fault can be done to."""

    rabbitmq: RabbitMQ
    dynamodb: DynamoDB
    broker: Proxy
    table: Proxy
    stack: Stack
    apis: list[Member]
    consumers: list[Member]
    target: Target
    clients: list[httpx2.AsyncClient]
    leases: DynamoShardLeases

    @property
    def members(self) -> list[Member]:
        return [*self.apis, *self.consumers]

    async def keeper(self) -> Member:
        """Return the consumer that keeps the most shards."""
        owners = [lease.owner for lease in await self.leases.read()]
        return max(self.consumers, key=lambda member: sum(f".{member.pid}." in owner for owner in owners))

    async def final(self, timer_id: str) -> dict[str, Any]:
        """Return a timer once it is final."""
        async with asyncio.timeout(_FINAL_S):
            while True:
                timer: dict[str, Any] = (await self.clients[0].get(f"/v1/timers/{timer_id}")).json()
                if timer["next_attempt_at"] is None:
                    return timer
                await asyncio.sleep(0.1)

    async def revive(self, after: float) -> None:
        """Start again, after so many seconds, what was killed; nothing may have ended by itself."""
        dead = [member for member in self.members if member.returncode is not None]
        if dead:
            assert {member.returncode for member in dead} == {-signal.SIGKILL}
            await asyncio.sleep(after)
            await asyncio.gather(*(to_thread(member.start) for member in dead))


@asynccontextmanager
async def world(
    rabbitmq: RabbitMQ, dynamodb: DynamoDB, folder: Path, *, apis: int = 2, consumers: int = 3, **settings: str
) -> AsyncIterator[World]:
    """Give a running world of its own table on services that run."""
    async with AsyncExitStack() as closing:
        broker = await closing.enter_async_context(proxy(rabbitmq.port))
        table = await closing.enter_async_context(proxy(dynamodb.port))
        name = f"timers-{uuid4().hex[:12]}"
        built = Stack(
            rabbitmq,
            dynamodb,
            folder,
            **{
                "TIMERS_TABLE": name,
                "TIMERS_RABBITMQ_URL": through(rabbitmq.url, broker),
                "TIMERS_DYNAMODB_ENDPOINT": f"http://127.0.0.1:{table.port}",
                "TIMERS_HORIZON": str(HORIZON_S),
                **settings,
            },
        )
        closing.push_async_callback(to_thread, built.close)
        await to_thread(built.provision)
        made = World(
            rabbitmq=rabbitmq,
            dynamodb=dynamodb,
            broker=broker,
            table=table,
            stack=built,
            apis=[built.api() for _ in range(apis)],
            consumers=[built.consumer() for _ in range(consumers)],
            target=await closing.enter_async_context(target()),
            clients=[],
            leases=await _leases(closing, name, dynamodb),
        )
        await asyncio.gather(*(to_thread(member.start) for member in made.members))
        made.clients.extend([await closing.enter_async_context(client(api)) for api in made.apis])
        yield made


async def _leases(closing: AsyncExitStack, name: str, dynamodb: DynamoDB) -> DynamoShardLeases:
    table = Table(name, endpoint=dynamodb.endpoint, region="us-east-1", timeout=3)
    return DynamoShardLeases(await closing.enter_async_context(table), shards=16)


def client(api: Member) -> httpx2.AsyncClient:
    return open_client(api, timeout=PATIENCE_S)


def through(url: str, broker: Proxy) -> str:
    """Return the broker's url by way of a proxy."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"timers:timers@127.0.0.1:{broker.port}").geturl()
