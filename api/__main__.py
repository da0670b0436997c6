"""``python -m api``: the api's worker processes, until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from api.app import Parts, create_app
from api.rates import Rates
from infra import wiring
from infra.clock import SystemClock
from infra.connections import Connection, Patience, room_for
from infra.dialling import Guard
from infra.dynamodb.keys import DynamoKeyStore
from infra.keyring import Keyring
from infra.metrics import Metrics
from infra.quota import CountedQuota
from infra.rabbitmq.queue import RabbitDelayQueue
from infra.settings import Settings
from infra.targets import TargetRules
from timers.service import Timers

_DRAIN_S: Final = 5.0


def app() -> FastAPI:
    """Return the application of one worker process."""
    settings = wiring.settings_or_exit()
    wiring.tame_garbage_collection()

    @asynccontextmanager
    async def parts() -> AsyncIterator[Parts]:
        clock, random, metrics = SystemClock(), wiring.UNPREDICTABLE, Metrics()
        async with wiring.table(settings, metrics) as table:
            await wiring.check_layout(settings, table)
            queue = RabbitDelayQueue(
                settings.rabbitmq_url,
                lanes=wiring.lanes(settings),
                on_new=wiring.leases(settings, table, metrics).clear,
                clock=clock,
                random=random,
                metrics=metrics,
            )
            queue.start()
            store = wiring.store(settings, table, metrics)
            metrics.gauge("timers_broker_connected", "1 where the broker can be used.", lambda: queue.connected)
            vault = wiring.vault(settings)
            queues = wiring.queues(settings, table, store, queue, vault=vault, metrics=metrics)
            metrics.gauge("timers_waiting", "Requests that wait for timers of a pull queue.", lambda: queues.waiting)
            quota = CountedQuota(store, clock, settings.tenant_pending) if settings.tenant_pending else None
            timers = Timers(
                store,
                queue,
                clock,
                random,
                settings.horizon * 1000,
                vault,
                check=TargetRules(wiring.destinations(settings), Guard(wiring.rules(settings))).check,
                signers=wiring.signers(settings, table, vault),
                quota=quota,
                arrivals=queues,
            )
            rates = Rates(clock, settings.tenant_rate) if settings.tenant_rate else None
            with _on_signal(queues.dismiss):
                keyring = Keyring(DynamoKeyStore(table), clock)
                yield Parts(timers, queues, keyring, rates, queue, metrics.page, metrics.refused)
            await queues.stop()
            await queue.stop(_DRAIN_S)

    return create_app(parts, pending=settings.api_pending, waiting=settings.api_waiting, patience=settings.api_patience)


@contextmanager
def _on_signal(act: Callable[[], None]) -> Iterator[None]:
    """
    Act on a signal to stop, before the server does.

    It waits for requests in progress before it tells the application: those that wait for timers, up to half a minute.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def on_signal(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(act)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(settings: Settings) -> None:
    """Serve until told to stop."""
    if settings.api_workers > 1:
        # worker processes share a folder, so that whichever answers /metrics can add all of them up
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="timers-metrics-")
    patience = Patience(room_for(settings.api_connections), settings.api_patience)
    uvicorn.run(
        "api.__main__:app",
        factory=True,
        host=settings.api_host,
        port=settings.api_port,
        workers=settings.api_workers,
        loop="uvloop",
        http=partial(Connection, patience=patience),  # type: ignore[arg-type]  # it is only called
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whoever calls could write them
        timeout_keep_alive=75,
        timeout_graceful_shutdown=round(settings.stop_timeout),
    )


if __name__ == "__main__":
    main(wiring.settings_or_exit())
