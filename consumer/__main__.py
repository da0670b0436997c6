"""``python -m consumer``: one consumer process, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from consumer.gate import Gate
from consumer.handler import Handler
from consumer.health import Pages, serve
from consumer.keeper import Keeper
from consumer.shards import Shards
from consumer.sweeper import Sweeper
from consumer.worker import Worker
from infra import wiring
from infra.callbacks import HttpCallbacks, tls_context
from infra.clock import SystemClock
from infra.dynamodb.client import Table
from infra.metrics import Metrics
from infra.rabbitmq.deliveries import RabbitDeliveries
from infra.rabbitmq.publisher import RabbitPublisher
from infra.rabbitmq.queue import RabbitDelayQueue
from infra.settings import Settings
from infra.targets import Targets
from timers.errors import TimerError

logger = logging.getLogger(__name__)

_GOODBYE_S: Final = 3.0
_DRAIN_S: Final = 5.0
_LINGER_S: Final = 0.02
"""How long an outcome waits for claims to share a call with: nobody waits for it, and each call has its price."""


class Consumer:
    """One consumer's parts, put together."""

    def __init__(self, settings: Settings, table: Table, callbacks: HttpCallbacks, metrics: Metrics) -> None:
        self._settings = settings
        clock, random = SystemClock(), wiring.UNPREDICTABLE
        lanes, url = wiring.lanes(settings), settings.rabbitmq_url
        horizon_ms = settings.horizon * 1000
        store = wiring.store(settings, table, metrics, linger=_LINGER_S)
        leases = wiring.leases(settings, table, metrics)
        self._queue = RabbitDelayQueue(
            url, lanes=lanes, on_new=leases.clear, clock=clock, random=random, metrics=metrics
        )
        on_time_ms = round(settings.on_time * 1000)
        vault = wiring.vault(settings)
        signers = wiring.signers(settings, table, vault)
        self._publisher = RabbitPublisher(url, allowed=wiring.destinations(settings), random=random)
        targets = Targets(callbacks, self._publisher)
        handler = Handler(store, self._queue, targets, clock, random, horizon_ms, metrics, signers, on_time_ms, vault)
        gate = Gate(clock, total=settings.concurrency, per_target=settings.target_concurrency)
        self._worker = Worker(handler, gate, clock)
        self._deliveries = RabbitDeliveries(
            url,
            lanes=lanes,
            on_new=leases.clear,
            prefetch=settings.prefetch,
            on_delivery=self._worker.receive,
            random=random,
            metrics=metrics,
        )
        self._shards = Shards(
            leases,
            clock,
            random,
            owner=f"{socket.gethostname()}.{os.getpid()}.{random.getrandbits(32):08x}",
            shards=settings.shards,
        )
        self._keeper = Keeper(
            store,
            self._queue,
            self._shards,
            clock,
            horizon_ms=horizon_ms,
            backlog=lambda: gate.waiting,
            observer=metrics,
        )

        expiry = wiring.expiry(settings, table)
        self._sweepers = [Sweeper(expiry, self._shards, clock)] if expiry else []

        metrics.gauge("timers_in_flight", "Calls in progress.", lambda: gate.calling)
        metrics.gauge("timers_held", "Due messages that wait for their time.", lambda: self._worker.held)
        metrics.gauge("timers_overdue", "Overdue timers seen, up to 500 a shard.", lambda: self._keeper.overdue)
        metrics.gauge("timers_broker_connected", "1 where the broker can be used.", lambda: self._connected)
        self._metrics = metrics

    @property
    def _connected(self) -> bool:
        return self._queue.connected and self._deliveries.connected

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; a background part that dies takes the process down with it."""
        self._queue.start()
        self._publisher.start()
        self._deliveries.start()
        pages = serve(
            self._settings.consumer_host,
            self._settings.consumer_port,
            Pages(checks={"broker": lambda: self._connected}, metrics=self._metrics.page),
        )
        async with pages:
            async with asyncio.TaskGroup() as background:
                runs = [self._shards.run(), self._keeper.run(), *(sweeper.run() for sweeper in self._sweepers)]
                parts = [background.create_task(run) for run in runs]
                logger.info("consumer started")
                await stop.wait()
                for part in parts:
                    part.cancel()
            await self._stop()

    async def _stop(self) -> None:
        """Finish what is in progress, return what is held."""
        logger.info("consumer stopping", extra={"held": self._worker.held})
        async with _best_effort("pause"):
            await self._deliveries.pause()
        await self._worker.stop(self._settings.stop_timeout)
        async with _best_effort("leave the shards"):
            await self._shards.leave()
        await self._publisher.stop()
        await self._deliveries.stop()
        await self._queue.stop(_DRAIN_S)
        logger.info("consumer stopped")


@asynccontextmanager
async def _best_effort(step: str) -> AsyncIterator[None]:
    """Give a step of the stop a few seconds; what it would have done, others find out by themselves."""
    try:
        async with asyncio.timeout(_GOODBYE_S):
            yield
    except (TimerError, TimeoutError) as error:
        logger.warning("stopping without a goodbye", extra={"step": step, "reason": str(error)})


def open_callbacks(settings: Settings) -> HttpCallbacks:
    """Return what makes calls, or end the process where the file of certificates is no good."""
    try:
        tls = tls_context(settings.ca_file)
    except OSError as error:
        wiring.give_up(f"TIMERS_CA_FILE={settings.ca_file!r}: no certificates: {error}")
    return HttpCallbacks(connections=settings.concurrency, rules=wiring.rules(settings), tls=tls)


async def main() -> None:
    settings = wiring.settings_or_exit()
    stop = asyncio.Event()
    metrics = Metrics()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with (
        wiring.table(settings, metrics) as table,
        open_callbacks(settings) as callbacks,
    ):
        await wiring.check_layout(settings, table)
        await Consumer(settings, table, callbacks, metrics).run(stop)


if __name__ == "__main__":
    wiring.run(main())
