"""
Group commit: requests that wait together travel together.

While one batch is in flight the next one fills, so a lone request waits for nothing and a thousand
share forty calls. A further batch takes off beside the one in flight only when it is full.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from timers.errors import Overloaded

Request = TypeVar("Request")
Result = TypeVar("Result")


class Batcher(Generic[Request, Result]):
    """
    Gathers single requests into calls of up to ``size``.

    ``flush`` carries a batch and returns one result or exception per request, in order; if it raises,
    every request of the batch gets that exception. Two requests with the same ``key`` never share a batch.
    At most ``waiting`` requests wait; one more raises Overloaded.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Request]], Awaitable[Sequence[Result | Exception]]],
        *,
        key: Callable[[Request], Hashable],
        size: int,
        in_flight: int,
        waiting: int,
    ) -> None:
        self._flush = flush
        self._key = key
        self._size = size
        self._most_in_flight = in_flight
        self._most_waiting = waiting
        self._waiting: deque[tuple[Request, asyncio.Future[Result]]] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._planned = False

    async def submit(self, request: Request) -> Result:
        """Carry a request in some batch and return its own result, or raise its own exception."""
        if len(self._waiting) >= self._most_waiting:
            raise Overloaded("too many table requests are waiting")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        self._plan()
        return await future

    def _plan(self) -> None:
        """Take off at the end of this turn of the loop, so that what arrives in one turn goes together."""
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._take_off)

    def _take_off(self) -> None:
        self._planned = False
        while self._waiting and self._may_take_off():
            flight = asyncio.create_task(self._fly(self._next_batch()))
            self._flights.add(flight)
            flight.add_done_callback(self._landed)

    def _may_take_off(self) -> bool:
        if not self._flights:
            return True
        return len(self._waiting) >= self._size and len(self._flights) < self._most_in_flight

    def _next_batch(self) -> list[tuple[Request, asyncio.Future[Result]]]:
        batch: dict[Hashable, tuple[Request, asyncio.Future[Result]]] = {}
        postponed = []
        while self._waiting and len(batch) < self._size:
            entry = self._waiting.popleft()
            if entry[1].done():
                continue
            key = self._key(entry[0])
            if key in batch:
                postponed.append(entry)
            else:
                batch[key] = entry
        self._waiting.extendleft(reversed(postponed))
        return list(batch.values())

    async def _fly(self, batch: list[tuple[Request, asyncio.Future[Result]]]) -> None:
        if not batch:
            return
        try:
            results = await self._flush([request for request, _ in batch])
            if len(results) != len(batch):
                raise ValueError(f"{len(results)} results for {len(batch)} requests")
        except Exception as error:  # noqa: BLE001 - it is handed on to whoever waits
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        if self._waiting:
            self._take_off()
