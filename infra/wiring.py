"""How the parts are made from settings; the ``__main__`` files put them together."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn

import uvloop

from infra import logs
from infra.clock import SystemClock
from infra.dynamodb import schema
from infra.dynamodb.client import Table
from infra.dynamodb.expiry import DynamoExpiry
from infra.dynamodb.leases import DynamoShardLeases
from infra.dynamodb.queues import DynamoQueueRegistry
from infra.dynamodb.signing import DynamoSecretStore
from infra.dynamodb.store import DynamoTimerStore
from infra.dynamodb.wire import AWS
from infra.guard import AddressList, HostList, PortList, Rules
from infra.kms import KmsKeys
from infra.metrics import Metrics
from infra.rabbitmq.destinations import DestinationList
from infra.rabbitmq.topology import Lane
from infra.settings import BadSettings, Settings
from infra.signing import Signing
from infra.vault import AesVault, KeyProvider, LocalKeys, parse_keys
from timers.errors import TimerError
from timers.ports import DelayQueue, TimerStore
from timers.queues import Queues
from timers.signature import parse_secrets
from timers.timer import Timer

logger = logging.getLogger(__name__)

UNPREDICTABLE = random.SystemRandom()


def settings_or_exit() -> Settings:
    """Return the settings of the environment, or end the process with one clear line."""
    try:
        settings = Settings.from_environment(os.environ)
    except BadSettings as error:
        give_up(str(error))
    logs.configure(settings.log_level, settings.log_format)
    return settings


def table(settings: Settings, metrics: Metrics | None = None) -> Table:
    """Return the table's client."""
    return Table(
        settings.table,
        endpoint=settings.dynamodb_endpoint,
        region=settings.dynamodb_region,
        timeout=settings.dynamodb_timeout,
        metrics=metrics,
    )


async def check_layout(settings: Settings, client: Table) -> None:
    """End the process where the table has another layout; a table that does not answer is not asked twice."""
    try:
        await schema.check_layout(client, shards=settings.shards)
    except schema.OtherLayout as error:
        give_up(str(error))
    except TimerError as error:
        logger.warning("the table's layout is not checked", extra={"reason": str(error)})


class _MeteredTimerStore(DynamoTimerStore):
    """Counts the timers that begin and end here."""

    def __init__(self, client: Table, metrics: Metrics, **options: Any) -> None:
        super().__init__(client, **options)
        self._metrics = metrics

    async def create(self, timer: Timer) -> None:
        await super().create(timer)
        self._metrics.scheduled()

    async def save(self, before: Timer, after: Timer) -> None:
        await super().save(before, after)
        if after.final:
            self._metrics.finished(after.state)


def store(settings: Settings, client: Table, metrics: Metrics, *, linger: float = 0.0) -> DynamoTimerStore:
    """Return the timer store; a timer's end may ``linger`` so many seconds for company."""
    return _MeteredTimerStore(
        client,
        metrics,
        shards=settings.shards,
        retention_ms=round(settings.retention_days * 86_400_000),
        random=UNPREDICTABLE,
        patience=settings.table_patience,
        on_broken=metrics.met_broken,
        transactions=settings.table_transactions,
        linger=linger,
    )


def expiry(settings: Settings, client: Table) -> DynamoExpiry | None:
    """Return what removes expired timers; None on AWS, which does so by itself, free of charge."""
    if settings.dynamodb_endpoint == AWS:
        return None
    return DynamoExpiry(
        client,
        retention_ms=round(settings.retention_days * 86_400_000),
        transactions=settings.table_transactions,
    )


def leases(settings: Settings, client: Table, metrics: Metrics) -> DynamoShardLeases:
    """Return the keepers' leases."""
    return DynamoShardLeases(client, shards=settings.shards, on_broken=metrics.met_broken)


def new_salt() -> bytes:
    """Return a salt for a key's digest."""
    return UNPREDICTABLE.randbytes(16)


def vault(settings: Settings) -> AesVault | None:
    """Return what secrets are sealed with, None where there is no key for it."""
    providers: list[KeyProvider] = []
    if settings.kms_key:
        providers.append(KmsKeys(settings.kms_key, region=settings.dynamodb_region, clock=SystemClock()))
    if keys := parse_keys(settings.encryption_keys.get_secret_value()):
        providers.append(LocalKeys(keys))
    return AesVault(providers) if providers else None


def signers(settings: Settings, client: Table, sealed_with: AesVault | None) -> Signing:
    """Return what calls are signed with."""
    default = parse_secrets(settings.signing_secret.get_secret_value())
    return Signing(DynamoSecretStore(client), sealed_with, SystemClock(), default)


def queues(
    settings: Settings,
    client: Table,
    timers: TimerStore,
    wheel: DelayQueue,
    *,
    vault: AesVault | None,
    metrics: Metrics,
) -> Queues:
    """Return the pull queues."""
    return Queues(
        timers,
        DynamoQueueRegistry(client),
        wheel,
        SystemClock(),
        UNPREDICTABLE,
        horizon_ms=settings.horizon * 1000,
        waiting=settings.api_waiting,
        capacity=settings.queue_capacity,
        observer=metrics,
        vault=vault,
    )


def lanes(settings: Settings) -> list[Lane]:
    """Return the wheels."""
    return [Lane(number, settings.queue_type) for number in range(settings.lanes)]


def rules(settings: Settings) -> Rules:
    """Return whom calls may reach."""
    return Rules(
        allow_addresses=AddressList.parse(settings.allow_addresses),
        deny_addresses=AddressList.parse(settings.deny_addresses),
        allow_hosts=HostList.parse(settings.allow_hosts),
        deny_hosts=HostList.parse(settings.deny_hosts),
        allow_ports=PortList.parse(settings.allow_ports),
        allow_http=settings.allow_http,
    )


def destinations(settings: Settings) -> DestinationList:
    """Return where messages may go."""
    return DestinationList.parse(settings.allow_amqp)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a process on uvloop."""
    tame_garbage_collection()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def tame_garbage_collection() -> None:
    """
    Look for cycles seldom: what a process makes per timer has none.

    The default looks after every 700 new objects, a dozen timers' worth.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def give_up(message: str) -> NoReturn:
    """End the process with one clear line."""
    print(f"timers: {message}", file=sys.stderr)
    raise SystemExit(2)
