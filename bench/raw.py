"""What the parts give by themselves on this machine: the limits that every figure is held against."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from uuid import uuid4

import aiohttp
import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel

from bench.calls import Void
from bench.processes import cpu_s
from bench.results import Outcome
from bench.service import Installation, chunks
from bench.systems import body

_OUTSTANDING: Final = 1_000
_HOP_MS: Final = 200
_TIMEOUT_S: Final = 60.0
_TOGETHER: Final = 100
_THREADS: Final = 8
_CALLS_AT_ONCE: Final = 100
_EXPIRY_MS: Final = 600_000


async def broker(installation: Installation, size: int) -> Outcome:
    """Publish with confirms, through two dead-letter hops on quorum queues, and consume: pika alone."""
    flow = _Flow(size)
    async with asyncio.timeout(_TIMEOUT_S):
        connection = await _connect(installation.broker_url)
        try:
            took = await flow.run(connection)
        finally:
            connection.close()
    return Outcome("raw broker", "pika, two hops", 0, {"per_s": size / took})


async def _connect(url: str) -> AsyncioConnection:
    opened: asyncio.Future[AsyncioConnection] = asyncio.get_running_loop().create_future()
    AsyncioConnection(
        pika.URLParameters(url),
        on_open_callback=opened.set_result,
        on_open_error_callback=lambda _, error: opened.set_exception(Void(f"broker: {error}")),
    )
    return await opened


class _Flow:
    """Messages on their way through queues that are there for them alone."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._received = 0
        self._places = asyncio.Semaphore(_OUTSTANDING)
        self._confirmed = 0
        self._done = asyncio.Event()
        self._name = f"bench.{uuid4().hex[:8]}"

    async def run(self, connection: AsyncioConnection) -> float:
        """Return the seconds from the first publish to the last receipt, the hops' own delay taken off."""
        channel: Channel = await _step(lambda done: connection.channel(on_open_callback=done))
        names = [f"{self._name}.{hop}" for hop in (1, 2, 3)]
        try:
            await self._declare(channel, names)
            began = time.perf_counter()
            for _ in range(self._size):
                await self._places.acquire()
                channel.basic_publish("", names[0], b"x" * 150, pika.BasicProperties(delivery_mode=2))
            await self._done.wait()
            return time.perf_counter() - began - 2 * _HOP_MS / 1000
        finally:
            for name in names:
                await _step(lambda done, name=name: channel.queue_delete(name, callback=done))  # type: ignore[misc]

    async def _declare(self, channel: Channel, names: Sequence[str]) -> None:
        for name, following in zip(names, (*names[1:], None), strict=True):
            arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-expires": _EXPIRY_MS}
            if following:
                arguments |= {
                    "x-message-ttl": _HOP_MS,
                    "x-dead-letter-exchange": "",
                    "x-dead-letter-routing-key": following,
                    "x-dead-letter-strategy": "at-least-once",
                    "x-overflow": "reject-publish",
                }
            await _step(
                lambda done, name=name, arguments=arguments: channel.queue_declare(  # type: ignore[misc]
                    name, durable=True, arguments=arguments, callback=done
                )
            )
        await _step(lambda done: channel.confirm_delivery(self._confirm, callback=done))
        channel.basic_qos(prefetch_count=_OUTSTANDING)
        channel.basic_consume(names[-1], self._receive)

    def _confirm(self, frame: Any) -> None:
        confirmed = frame.method.delivery_tag if frame.method.multiple else self._confirmed + 1
        for _ in range(confirmed - self._confirmed):
            self._places.release()
        self._confirmed = max(confirmed, self._confirmed)

    def _receive(self, channel: Channel, method: Any, _properties: Any, _body: bytes) -> None:
        channel.basic_ack(method.delivery_tag)
        self._received += 1
        if self._received == self._size:
            self._done.set()


async def _step(begin: Callable[[Callable[[Any], None]], Any]) -> Any:
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    begin(done.set_result)
    return await done


def table(installation: Installation, size: int) -> Outcome:
    """Insert and update items in transactions of 100 on eight threads: boto3 alone, on a table of its own."""
    name = f"bench-{uuid4().hex[:8]}"
    client = installation.client(_THREADS)
    _create(client, name)
    try:
        ids = [f"bench-{n:08}-{uuid4()}" for n in range(size)]
        inserted = _rate(ids, lambda some: _insert(client, name, some))
        claimed = _rate(ids, lambda some: _claim(client, name, some))
        settled = _rate(ids, lambda some: _update(client, name, some, 2))
    finally:
        client.delete_table(TableName=name)
    # a timer is written three times: created, claimed (and read), settled
    lives = 1 / (1 / inserted + 1 / claimed + 1 / settled)
    figures = {"inserts_per_s": inserted, "updates_per_s": settled, "timers_per_s": lives}
    return Outcome("raw table", "boto3, transactions of 100", 0, figures)


def _rate(ids: Sequence[str], act: Callable[[list[str]], object]) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(act, chunks(ids, _TOGETHER)))
    return len(ids) / (time.perf_counter() - began)


def _insert(client: Any, name: str, ids: Sequence[str]) -> None:
    text = "x" * 400  # what a timer with a body of 200 bytes takes
    statement = f"""INSERT INTO "{name}" VALUE {{'id': ?, 'shard': ?, 'at_ms': ?, 'version': ?, 'spec': ?}}"""
    values = [[{"S": one}, {"S": f"live.{one[-2:]}"}, {"N": "1"}, {"N": "1"}, {"S": text}] for one in ids]
    client.execute_transaction(TransactStatements=[{"Statement": statement, "Parameters": value} for value in values])


def _claim(client: Any, name: str, ids: Sequence[str]) -> None:
    _update(client, name, ids, 1)
    keys = [{"id": {"S": one}} for one in ids]
    client.batch_get_item(RequestItems={name: {"Keys": keys, "ConsistentRead": True}})


def _update(client: Any, name: str, ids: Sequence[str], version: int) -> None:
    text = f'UPDATE "{name}" SET "version"=?, "at_ms"=? WHERE "id"=? AND "version"=?'
    after = {"N": str(version + 1)}
    values = [[after, after, {"S": one}, {"N": str(version)}] for one in ids]
    client.execute_transaction(TransactStatements=[{"Statement": text, "Parameters": value} for value in values])


def _create(client: Any, name: str) -> None:
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "shard", "AttributeType": "S"},
            {"AttributeName": "at_ms", "AttributeType": "N"},
        ],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by_time",
                "KeySchema": [
                    {"AttributeName": "shard", "KeyType": "HASH"},
                    {"AttributeName": "at_ms", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    )


async def http(url: str, pid: int, size: int) -> Outcome:
    """Make calls in a loop, a hundred at once: aiohttp alone. ``pid`` is the process that makes them."""
    waiting = iter(range(size))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_CALLS_AT_ONCE)) as session:

        async def client() -> None:
            for n in waiting:
                async with session.post(url, json=body(str(n)), headers={"webhook-id": str(n)}) as answer:
                    await answer.read()

        began, used = time.perf_counter(), cpu_s([pid])
        await asyncio.gather(*(client() for _ in range(_CALLS_AT_ONCE)))
        took = time.perf_counter() - began
    figures = {"per_s": size / took, "cpu_client_ms": (cpu_s([pid]) - used) * 1000 / size}
    return Outcome("raw http", "aiohttp, 100 at once", 0, figures)
