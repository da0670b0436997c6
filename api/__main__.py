"""``python -m api``: the api's worker processes, until SIGTERM."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.health import Broker
from infra import wiring
from infra.clock import SystemClock
from infra.rabbitmq.queue import RabbitDelayQueue
from infra.settings import Settings
from timers.service import Timers

_DRAIN_S: Final = 5.0


def app() -> FastAPI:
    """Return the application of one worker process."""
    settings = wiring.settings_or_exit()

    @asynccontextmanager
    async def parts() -> AsyncIterator[tuple[Timers, Broker]]:
        clock, random = SystemClock(), wiring.UNPREDICTABLE
        async with wiring.table(settings) as table:
            queue = RabbitDelayQueue(settings.rabbitmq_url, lanes=wiring.lanes(settings), clock=clock, random=random)
            queue.start()
            store = wiring.store(settings, table)
            yield Timers(store, queue, clock, random, settings.horizon * 1000), queue
            await queue.stop(_DRAIN_S)

    return create_app(parts, pending=settings.api_pending)


def main(settings: Settings) -> None:
    """Serve until told to stop."""
    uvicorn.run(
        "api.__main__:app",
        factory=True,
        host=settings.api_host,
        port=settings.api_port,
        workers=settings.api_workers,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=round(settings.stop_timeout),
    )


if __name__ == "__main__":
    main(wiring.settings_or_exit())
