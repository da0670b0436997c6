"""
Group commit: requests that wait together travel together.

While one batch is in flight the next one fills, so a lone request waits for nothing and a thousand
share forty calls. A further batch takes off beside the one in flight only when it is full. A part of a
batch waits until the last take-off is twice as long ago as a flight takes: at a few hundred requests a
second that makes a half of the calls do, and the busier the machine the more they share. Whoever is in
no hurry may linger for company, and costs no call of its own where others come along.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from math import inf
from typing import Final, Generic, TypeVar

from timers.errors import Overloaded

_PACE: Final = 2.0
_LONGEST_FLIGHT_S: Final = 0.05
"""A flight that took longer, because the table was away, says nothing of the next."""

Request = TypeVar("Request")
Result = TypeVar("Result")


class Batcher(Generic[Request, Result]):
    """
    Gathers single requests into calls of up to ``size``.

    ``flush`` carries a batch and returns one result or exception per request, in order; if it raises,
    every request of the batch gets that exception. Two requests with the same ``key`` never share a batch.
    At most ``waiting`` requests wait; one more raises Overloaded. ``pace`` is how many flights' time lies
    between the take-offs of parts of a batch.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Request]], Awaitable[Sequence[Result | Exception]]],
        *,
        key: Callable[[Request], Hashable],
        size: int,
        in_flight: int,
        waiting: int,
        pace: float = _PACE,
    ) -> None:
        self._flush = flush
        self._key = key
        self._size = size
        self._most_in_flight = in_flight
        self._most_waiting = waiting
        self._pace = pace
        self._waiting: deque[tuple[Request, asyncio.Future[Result]]] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._planned = False
        self._alarm: asyncio.TimerHandle | None = None
        self._last_take_off = -inf
        self._flight_s = 0.0
        self._patient_until = inf

    async def submit(self, request: Request, *, linger: float = 0.0) -> Result:
        """
        Carry a request in some batch and return its own result, or raise its own exception.

        With ``linger``, in seconds, it waits so long for others to go with.
        """
        if len(self._waiting) >= self._most_waiting:
            raise Overloaded("too many table requests are waiting")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((request, future))
        self._patient_until = min(self._patient_until, loop.time() + linger)
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
            self._disarm()
            self._last_take_off = asyncio.get_running_loop().time()
            flight = asyncio.create_task(self._fly(self._next_batch()))
            self._patient_until = -inf if self._waiting else inf
            self._flights.add(flight)
            flight.add_done_callback(self._landed)

    def _may_take_off(self) -> bool:
        if len(self._waiting) >= self._size:
            return len(self._flights) < self._most_in_flight
        if self._flights:
            return False
        loop = asyncio.get_running_loop()
        at = max(self._last_take_off + self._pace * self._flight_s, self._patient_until)
        if loop.time() >= at:
            return True
        if self._alarm is None or at < self._alarm.when():
            self._disarm()
            self._alarm = loop.call_at(at, self._wake)
        return False

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _wake(self) -> None:
        self._alarm = None
        # an alarm may go off a little early; asking the time again could spin
        self._last_take_off = self._patient_until = -inf
        self._take_off()

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
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            results = await self._flush([request for request, _ in batch])
            if len(results) != len(batch):
                raise ValueError(f"{len(results)} results for {len(batch)} requests")
        except Exception as error:  # noqa: BLE001 - it is handed on to whoever waits
            results = [error] * len(batch)
        self._flight_s = min(loop.time() - began, _LONGEST_FLIGHT_S)
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
