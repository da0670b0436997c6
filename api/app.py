"""The application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from fastapi import FastAPI

from api import batches, document, health, problems, queues, routes
from api.bounds import Bounds
from api.door import Door
from api.rates import Rates
from api.stats import CachedStats
from infra.keyring import Keyring
from timers.call import VERSION
from timers.queues import Queues
from timers.service import Timers

_TENANTS_AT_ONCE: Final = 2
"""So that one tenant alone, however many requests it opens, leaves room for others."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application stands on; ``metrics`` returns Prometheus' page, ``refused`` counts a status for it."""

    timers: Timers
    queues: Queues
    keyring: Keyring
    rates: Rates | None
    broker: health.Broker
    metrics: Callable[[], bytes]
    refused: Callable[[int], None]


def create_app(
    parts: Callable[[], AbstractAsyncContextManager[Parts]], *, pending: int, waiting: int, patience: float = 30.0
) -> FastAPI:
    """
    Return the application; ``parts`` opens what it stands on, for its lifetime.

    Of each tenant up to ``pending`` requests may be in progress, and up to ``waiting`` may wait for timers of pull
    queues; of all together twice as many.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with parts() as opened:
            app.state.parts = opened
            app.state.stats = CachedStats(opened.timers.clock)
            yield

    app = FastAPI(
        title="timers",
        version=VERSION,
        summary="Call an endpoint in ten milliseconds or in ten years.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
    )
    app.include_router(batches.router)
    app.include_router(routes.router)
    app.include_router(queues.router)
    app.include_router(health.router)
    app.add_middleware(Door, pending=pending, waiting=waiting)
    # outermost: what is added last is asked first
    app.add_middleware(
        Bounds, pending=_TENANTS_AT_ONCE * pending, waiting=_TENANTS_AT_ONCE * waiting, patience=patience
    )
    problems.install(app)
    app.openapi = lambda: document.of(app)  # type: ignore[method-assign]
    return app
