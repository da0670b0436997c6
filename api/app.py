"""The application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api import batches, health, problems, routes
from api.bounds import Bounds
from api.door import Door, needs_key
from api.rates import Rates
from api.stats import CachedStats
from infra.keyring import Keyring
from timers.call import VERSION
from timers.service import Timers

_TENANTS_AT_ONCE: Final = 2
"""So that one tenant alone, however many requests it opens, leaves room for others."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application stands on; ``metrics`` returns Prometheus' page."""

    timers: Timers
    keyring: Keyring
    rates: Rates | None
    broker: health.Broker
    metrics: Callable[[], bytes]


def create_app(
    parts: Callable[[], AbstractAsyncContextManager[Parts]], *, pending: int, patience: float = 30.0
) -> FastAPI:
    """
    Return the application; ``parts`` opens what it stands on, for its lifetime.

    Of each tenant up to ``pending`` requests may be in progress, of all together twice as many.
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
    app.include_router(health.router)
    app.add_middleware(Door, pending=pending)
    # outermost: what is added last is asked first
    app.add_middleware(Bounds, pending=_TENANTS_AT_ONCE * pending, patience=patience)
    problems.install(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            license_info=app.license_info,
            routes=app.routes,
        )
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        problem = dict(problems.PROBLEM_SCHEMA)
        schemas |= problem.pop("$defs", {})
        schemas["Problem"] = problem
        schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        _ask_for_keys(schema)
        _drop_foreign_errors(schema)
        app.openapi_schema = schema
    return app.openapi_schema


def _ask_for_keys(schema: dict[str, Any]) -> None:
    for path, operations in schema["paths"].items():
        if needs_key(path):
            for operation in operations.values():
                operation["security"] = [{"key": []}]
                operation["responses"] |= {
                    str(status): answer for status, answer in problems.documented(401, 403).items()
                }


def _drop_foreign_errors(schema: dict[str, Any]) -> None:
    """Take out the framework's own validation errors: every error here is a problem."""
    for path in schema["paths"].values():
        for operation in path.values():
            content = operation["responses"].get("422", {}).get("content", {})
            if "application/json" in content:
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
