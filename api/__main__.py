"""``python -m api``: the api's worker processes, until SIGTERM."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import uvicorn
from fastapi import FastAPI

from api.app import Parts, create_app
from api.connections import Connection, Patience, room_for
from api.rates import Rates
from infra import wiring
from infra.clock import SystemClock
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
            check = TargetRules(wiring.destinations(settings), Guard(wiring.rules(settings))).check
            vault = wiring.vault(settings)
            signers = wiring.signers(settings, table, vault)
            quota = CountedQuota(store, clock, settings.tenant_pending) if settings.tenant_pending else None
            horizon_ms = settings.horizon * 1000
            timers = Timers(store, queue, clock, random, horizon_ms, vault, check=check, signers=signers, quota=quota)
            rates = Rates(clock, settings.tenant_rate) if settings.tenant_rate else None
            yield Parts(timers, Keyring(DynamoKeyStore(table), clock), rates, queue, metrics.page)
            await queue.stop(_DRAIN_S)

    return create_app(parts, pending=settings.api_pending, patience=settings.api_patience)


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
