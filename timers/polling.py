"""
Long polls: whoever waits for timers of a pull queue, and the one task per queue that looks for them.

However many wait in one process, its table sees one or two small queries a second for each queue that is
waited for, and the look that finds something serves them in the order in which they came.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from typing import Final

from timers.errors import Overloaded, TimerError, Unavailable
from timers.leasing import Taker
from timers.ports import Clock, Position
from timers.timer import QueueName, Timer

logger = logging.getLogger(__name__)

MOST_POLLED: Final = 1_000
_AT_ONCE: Final = 200
"""How many timers one look hands out, so that queues take turns at the table."""

_LOOK_AGAIN_S: Final = 1.0
"""How long what another process wrote may go unseen."""

_INDEX_PAUSE_S: Final = 0.1
_INDEX_LAG_S: Final = 1.0
_STOP_S: Final = 5.0

Leases = list[Timer]


@dataclass(frozen=True, slots=True)
class Wish:
    """Up to ``most`` timers, each for ``lease_ms``; where there is none, within ``wait_s``."""

    most: int = 1
    lease_ms: int = 30_000
    wait_s: float = 0.0


@dataclass(eq=False, slots=True)
class _Waiter:
    wish: Wish
    until: float
    answer: asyncio.Future[Leases] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    seen: bool = False
    """Whether the latest look found nothing more for it."""


class Poller:
    """Looks into one queue as long as somebody waits."""

    def __init__(self, taker: Taker, clock: Clock, paused: Callable[[], Awaitable[bool]]) -> None:
        self._taker = taker
        self._clock = clock
        self._paused = paused
        self._waiters: dict[_Waiter, None] = {}
        self._bell = asyncio.Event()
        self._arrival_ms = inf
        self._wake_ms = -inf
        self._index_late_until = -inf
        self._giving_back: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiters)

    async def wait(self, wish: Wish) -> Leases:
        """
        Return leases, or nothing once the time is over. Raises Unavailable.

        Whoever is cancelled has none: what was meant for it goes back to the queue.
        """
        waiter = _Waiter(wish, self._clock.monotonic() + wish.wait_s)
        self._waiters[waiter] = None
        self._bell.set()
        try:
            return await waiter.answer
        except asyncio.CancelledError:
            if not waiter.answer.cancelled() and waiter.answer.done() and waiter.answer.exception() is None:
                self._give_back_later(waiter.answer.result())
            raise
        finally:
            self._waiters.pop(waiter, None)
            if not self._waiters:
                self._bell.set()

    def ring(self, at_ms: int) -> None:
        """Be told of a timer that came into the queue in this process."""
        self._arrival_ms = min(self._arrival_ms, at_ms)
        if at_ms <= self._clock.now_ms():
            self._index_late_until = self._clock.monotonic() + _INDEX_LAG_S
        if at_ms < self._wake_ms:
            self._bell.set()

    def dismiss(self, error: TimerError | None = None) -> None:
        """Answer everybody at once."""
        for waiter in self._waiters:
            if waiter.answer.done():
                continue
            if error is None:
                waiter.answer.set_result([])
            else:
                waiter.answer.set_exception(error)
        self._waiters.clear()
        self._bell.set()

    async def run(self) -> None:
        """Serve until nobody waits."""
        while self._waiters:
            self._bell.clear()
            self._wake_ms, self._arrival_ms = -inf, inf
            try:
                wake_ms = await self._serve()
            except TimerError as error:
                self.dismiss(error)
                return
            self._answer_late()
            await self._rest(wake_ms)

    async def _serve(self) -> float:
        """Hand out what is ready; return when there may be more."""
        waiters = [waiter for waiter in self._waiters if not waiter.answer.done()]
        wake_ms = inf
        if waiters and not await self._paused():
            look = await self._taker.look(min(sum(waiter.wish.most for waiter in waiters), _AT_ONCE))
            ready = iter(look.ready)
            await asyncio.gather(*(self._hand(waiter, list(islice(ready, waiter.wish.most))) for waiter in waiters))
            if look.ready:
                self._index_late_until = -inf
            wake_ms = look.again_ms
        for waiter in waiters:
            waiter.seen = wake_ms > -inf
        return wake_ms

    async def _hand(self, waiter: _Waiter, timers: Sequence[Timer]) -> None:
        if not timers or waiter.answer.done():
            return
        takes = (self._taker.take(timer, waiter.wish.lease_ms) for timer in timers)
        results = await asyncio.gather(*takes, return_exceptions=True)
        leases = [result for result in results if isinstance(result, Timer)]
        errors = [result for result in results if isinstance(result, BaseException)]
        if waiter.answer.done():  # it left while the table was written
            await self._give_back(leases)
        elif leases:
            waiter.answer.set_result(leases)
        elif errors:
            waiter.answer.set_exception(errors[0])

    def _answer_late(self) -> None:
        now = self._clock.monotonic()
        for waiter in self._waiters:
            if waiter.seen and now >= waiter.until and not waiter.answer.done():
                waiter.answer.set_result([])
        self._waiters = {waiter: None for waiter in self._waiters if not waiter.answer.done()}

    async def _rest(self, wake_ms: float) -> None:
        """Wait for the next timer, a new one, a new waiter, the end of somebody's time, or the next look anyway."""
        now, now_ms = self._clock.monotonic(), self._clock.now_ms()
        again_s = _INDEX_PAUSE_S if now < self._index_late_until else _LOOK_AGAIN_S
        self._wake_ms = min(wake_ms, self._arrival_ms, now_ms + 1000 * again_s)
        last = min((waiter.until for waiter in self._waiters), default=now)
        seconds = min((self._wake_ms - now_ms) / 1000, last - now)
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        except TimeoutError:
            pass

    def _give_back_later(self, leases: Leases) -> None:
        task = asyncio.create_task(self._give_back(leases))
        self._giving_back.add(task)
        task.add_done_callback(self._giving_back.discard)

    async def _give_back(self, leases: Leases) -> None:
        await asyncio.gather(*(self._taker.give_back(timer) for timer in leases))


class Polls:
    """Every poller of this process; of each tenant at most ``waiting`` requests wait at once."""

    def __init__(
        self,
        take: Callable[[QueueName], Taker],
        clock: Clock,
        paused: Callable[[QueueName], Awaitable[bool]],
        *,
        waiting: int,
    ) -> None:
        self._take = take
        self._clock = clock
        self._paused = paused
        self._most_waiting = waiting
        self._pollers: dict[QueueName, Poller] = {}
        self._takers: OrderedDict[QueueName, Taker] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return sum(poller.waiting for poller in self._pollers.values())

    async def lease(self, queue: QueueName, wish: Wish) -> Leases:
        """Return leases of a queue, none once the time is over. Raises Overloaded, Unavailable."""
        if self._stopping:
            return []
        if sum(poller.waiting for poller in self._of(queue.tenant)) >= self._most_waiting:
            raise Overloaded("too many requests of this tenant wait for timers")
        return await self._poller(queue).wait(wish)

    async def give_back(self, queue: QueueName, leases: Leases) -> None:
        """Return leases that nobody has seen."""
        await asyncio.gather(*(self._taker(queue).give_back(timer) for timer in leases))

    def arrived(self, queue: QueueName, place: Position) -> None:
        """Be told of a timer that came into a queue in this process."""
        if queue in self._takers:
            self._takers[queue].arrived(place)
        self.ring(queue, place.at_ms)

    def ring(self, queue: QueueName, at_ms: int) -> None:
        """Have whoever looks into a queue look at some time."""
        if queue in self._pollers:
            self._pollers[queue].ring(at_ms)

    def dismiss(self) -> None:
        """Answer everybody who waits, and let nobody wait any more."""
        self._stopping = True
        for poller in self._pollers.values():
            poller.dismiss()

    async def stop(self) -> None:
        """Finish what is in progress."""
        self.dismiss()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_STOP_S)
            for task in late:
                task.cancel()

    def _poller(self, queue: QueueName) -> Poller:
        if queue not in self._pollers:
            if len(self._of(queue.tenant)) >= MOST_POLLED:
                raise Overloaded(f"{MOST_POLLED} queues of this tenant are waited for in this process")
            poller = self._pollers[queue] = Poller(self._taker(queue), self._clock, lambda: self._paused(queue))
            task = asyncio.create_task(self._run(queue, poller))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return self._pollers[queue]

    def _of(self, tenant: str) -> list[Poller]:
        return [poller for queue, poller in self._pollers.items() if queue.tenant == tenant]

    async def _run(self, queue: QueueName, poller: Poller) -> None:
        try:
            await poller.run()
        except Exception:
            logger.exception("a poller failed", extra={"queue": queue.name})
            poller.dismiss(Unavailable("the queue"))
        finally:
            del self._pollers[queue]

    def _taker(self, queue: QueueName) -> Taker:
        taker = self._takers.pop(queue, None) or self._take(queue)
        self._takers[queue] = taker
        if len(self._takers) > 2 * MOST_POLLED:
            self._takers.popitem(last=False)
        return taker
