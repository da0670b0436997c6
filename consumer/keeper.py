"""
The keeper: sees to it that every live timer of its shards is on the wheel when its time comes.

It loads what comes within the horizon and re-drives what is overdue. It trusts nothing that the broker
remembers, and publishing a hint twice is harmless.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from consumer.handler import take_over
from consumer.shards import Shards
from timers.errors import TimerError
from timers.limits import CLOCK_SKEW_MS, SETTLE_MARGIN_MS
from timers.ports import Clock, DelayQueue, Position, TimerStore
from timers.service import GRACE_MS
from timers.state import State
from timers.timer import Timer

logger = logging.getLogger(__name__)

_ROUND_S: Final = 1.0
_TURN_S: Final = 0.02
_LEAST_SPARE_MS: Final = 1_000 + CLOCK_SKEW_MS
_REST_S: Final = 2.0
"""How long a shard that was gone through is left in peace; an idle service shall cost next to nothing."""

_PAGE: Final = 200
_BUSY: Final = 1_000
"""How many hints may wait for consumers before the keeper adds no more."""

_BEHIND: Final = 100
_GRACE_WHEN_BEHIND_MS: Final = 60_000
"""Where consumers are behind, what is overdue is most likely in their hands: driving it again adds to the load."""

_SHORTEST_LEASE_MS: Final = SETTLE_MARGIN_MS + CLOCK_SKEW_MS
"""No claim is over sooner after its timer's time."""

_LEASES_REST_S: Final = 5.0
"""How often leases of pull queues are looked at whose end nobody noticed."""

_RECOVERY_REST_S: Final = 5.0
"""How long after a page of what waits for consumers that are behind the next one is looked at."""

_REPEAT_S: Final = 5.0
"""A frozen consumer may have got the hint: soon again, for another to get it, and then more and more seldom."""

_LONGEST_REPEAT_S: Final = 3_600.0
_MOST_TIMES: Final = 16
_REMEMBERED: Final = 100_000


Places = dict[int, Position]
"""How far a shard was gone through, by shard."""


class PacedQueue(DelayQueue, Protocol):
    """A delay queue that tells how much waits for consumers."""

    async def depth(self) -> int:
        """Return how many hints are due and not taken. Raises Unavailable."""
        ...


class KeeperObserver(Protocol):
    """Is told what the keeper did, for metrics."""

    def loaded(self, count: int) -> None: ...

    def redriven(self, count: int) -> None: ...

    def lapsed(self) -> None: ...


class Keeper:
    """Keeps the shards that this process holds."""

    def __init__(  # noqa: PLR0913 - what it depends on, and nothing else
        self,
        store: TimerStore,
        queue: PacedQueue,
        shards: Shards,
        clock: Clock,
        *,
        horizon_ms: int,
        backlog: Callable[[], int],
        observer: KeeperObserver,
    ) -> None:
        """``backlog`` tells how many due hints this process holds that could not start yet."""
        self._store = store
        self._queue = queue
        self._shards = shards
        self._clock = clock
        # The api publishes what is due within the horizon. Loading less far ahead than that leaves the index its
        # second to show a timer, and the clocks their skew, so that nothing falls between the two.
        spare_ms = max(min(horizon_ms // 10, 60_000), min(horizon_ms // 2, _LEAST_SPARE_MS))
        self._ahead_ms = horizon_ms - spare_ms
        self._step_ms = spare_ms // 4
        self._backlog = backlog
        self._observer = observer
        self._loaded_after: Places = {}
        self._redriven_after: Places = {}
        self._recovered_after: Places = {}
        self._rest_until: dict[int, float] = {}
        self._recovery_rest_until: dict[int, float] = {}
        self._leases_rest_until: dict[int, float] = {}
        self._overdue: dict[int, int] = {}
        self._driven: OrderedDict[tuple[str, int], tuple[int, float]] = OrderedDict()

    @property
    def overdue(self) -> int:
        """How many overdue timers the last look at each shard found, at most a page of each."""
        return sum(self._overdue.values())

    async def run(self) -> None:
        """Keep until cancelled."""
        while True:
            pause_s = _ROUND_S
            try:
                if await self.round():
                    pause_s = _TURN_S
            except TimerError as error:
                logger.warning("keeper waits", extra={"reason": str(error)})
            except Exception:
                logger.exception("keeper's round failed")
            await self._clock.sleep(pause_s)

    async def round(self) -> bool:
        """Load and re-drive a page of each shard; returns whether there is more. Raises Unavailable."""
        for kept in (self._overdue, self._loaded_after, self._redriven_after, self._recovered_after):
            for lost in kept.keys() - self._shards.mine.keys():
                del kept[lost]
        for shard in list(self._shards.mine):
            await self._redrive(shard)
            await self._load(shard)
            await self._end_leases(shard)
        return bool(self._loaded_after or self._redriven_after)

    async def _load(self, shard: int) -> None:
        """Put on the wheel what has come near since the last round."""
        lease = self._shards.mine.get(shard)
        now_ms = self._clock.now_ms()
        edge_ms = now_ms + self._ahead_ms
        if lease is None:
            return
        if not lease.loaded_until_ms:
            self._loaded_after.pop(shard, None)  # the wheel is new: all is to be loaded, from the first page
        if shard not in self._loaded_after and lease.loaded_until_ms + self._step_ms > edge_ms:
            return
        from_ms = max(now_ms, lease.loaded_until_ms)
        timers = await self._page(shard, from_ms, edge_ms, self._loaded_after)
        await self._publish([timer for timer in timers if timer.state is State.SCHEDULED])
        self._observer.loaded(len(timers))
        self._turn_page(shard, timers, self._loaded_after)
        self._shards.loaded(shard, edge_ms if len(timers) < _PAGE else timers[-1].next_attempt_at_ms)

    async def _redrive(self, shard: int) -> None:
        """
        Put on the wheel again what should have been done; take over what a dead consumer left.

        Goes through the overdue oldest first, a page a round, and then from the oldest again.
        """
        if self._clock.monotonic() < self._rest_until.get(shard, 0.0):
            return
        busy, behind = await self._queue.depth() >= _BUSY, self._backlog() >= _BEHIND
        if busy or behind:
            await self._recover(shard)
        if busy:
            return
        now_ms = self._clock.now_ms()
        until_ms = now_ms - (_GRACE_WHEN_BEHIND_MS if behind else GRACE_MS)
        timers = await self._page(shard, 0, until_ms, self._redriven_after)
        self._overdue[shard] = sum(timer.state is State.SCHEDULED for timer in timers)
        await self._take_over([timer for timer in timers if timer.lease_over(now_ms)])
        again = [timer for timer in timers if timer.state is State.SCHEDULED and self._due_again(timer)]
        await self._publish(again)
        self._remember(again)
        self._observer.redriven(len(again))
        self._turn_page(shard, timers, self._redriven_after)
        if len(timers) < _PAGE:
            self._rest_until[shard] = self._clock.monotonic() + _REST_S

    async def _recover(self, shard: int) -> None:
        """Take over what a dead consumer left, where the living are behind: slowly, among all that waits for them."""
        if self._clock.monotonic() < self._recovery_rest_until.get(shard, 0.0):
            return
        now_ms = self._clock.now_ms()
        timers = await self._page(shard, 0, now_ms - _SHORTEST_LEASE_MS, self._recovered_after)
        await self._take_over([timer for timer in timers if timer.lease_over(now_ms)])
        self._turn_page(shard, timers, self._recovered_after)
        self._recovery_rest_until[shard] = self._clock.monotonic() + _RECOVERY_REST_S

    async def _end_leases(self, shard: int) -> None:
        """Take back what workers of pull queues were given and never reported on."""
        if self._clock.monotonic() < self._leases_rest_until.get(shard, 0.0):
            return
        now_ms = self._clock.now_ms()
        timers = await self._store.lapsed(shard, until_ms=now_ms - CLOCK_SKEW_MS, limit=_PAGE)
        await self._take_over([timer for timer in timers if timer.lease_over(now_ms)])
        if len(timers) < _PAGE:
            self._leases_rest_until[shard] = self._clock.monotonic() + _LEASES_REST_S

    async def _page(self, shard: int, from_ms: int, until_ms: int, places: Places) -> Sequence[Timer]:
        return await self._store.live(shard, from_ms=from_ms, until_ms=until_ms, limit=_PAGE, after=places.get(shard))

    def _turn_page(self, shard: int, timers: Sequence[Timer], places: Places) -> None:
        """Go on behind a full page, and from the beginning after the last one."""
        if len(timers) < _PAGE:
            places.pop(shard, None)
        else:
            places[shard] = Position(*timers[-1].position)

    async def _publish(self, timers: Sequence[Timer]) -> None:
        """Publish and wait for every confirm, which also sets the pace. Raises Unavailable."""
        await asyncio.gather(*(self._queue.publish(timer.hint) for timer in timers))

    async def _take_over(self, timers: Sequence[Timer]) -> None:
        """Take over each for itself: one that the table refuses does not keep the others waiting."""
        now_ms = self._clock.now_ms()
        on_lapse = self._observer.lapsed
        taken = (take_over(timer, self._store, self._queue, now_ms, on_lapse=on_lapse) for timer in timers)
        for timer, error in zip(timers, await asyncio.gather(*taken, return_exceptions=True), strict=True):
            if error is not None:
                logger.warning("take-over failed", extra={"timer_id": timer.id, "reason": str(error)})

    def _due_again(self, timer: Timer) -> bool:
        """Whether this version was not driven lately: each time that it was lengthens the pause."""
        times, last = self._driven.get((timer.id, timer.version), (0, 0.0))
        pause_s = min(_REPEAT_S * 2 ** (times - 1), _LONGEST_REPEAT_S)
        return times == 0 or self._clock.monotonic() - last >= pause_s

    def _remember(self, driven: Sequence[Timer]) -> None:
        now = self._clock.monotonic()
        for timer in driven:
            key = (timer.id, timer.version)
            times, _ = self._driven.get(key, (0, 0.0))
            self._driven[key] = (min(times + 1, _MOST_TIMES), now)
            self._driven.move_to_end(key)
        while len(self._driven) > _REMEMBERED:
            self._driven.popitem(last=False)
