"""What FastAPI makes of our routes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api import batches, health, queues, routes

ROUTES = [
    route
    for router in (batches.router, health.router, queues.router, routes.router)
    for route in router.routes
    if isinstance(route, APIRoute)
]


def calls(dependant: Dependant) -> Iterator[object]:
    yield dependant.call
    for needed in dependant.dependencies:
        yield from calls(needed)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{min(route.methods)} {route.path}")
def test_nothing_of_a_request_waits_for_a_thread(route: APIRoute) -> None:
    """A dependency that is no coroutine costs every request a journey to another thread."""
    assert all(map(inspect.iscoroutinefunction, calls(route.dependant)))
