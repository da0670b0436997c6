"""The workers of the pull queue: ask one of the apis, work for a while, report back, too late or never."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from tests.simulation.nodes import QUEUE, Api
from tests.simulation.plan import Reply
from timers.errors import TimerError
from timers.polling import Leases, Wish
from timers.queues import Outcome, token_of
from timers.timer import Timer

if TYPE_CHECKING:
    from tests.simulation.world import World

_WORKERS: Final = 2
_PATIENCE_S: Final = 12.0
_AGAIN_S: Final = 0.3
_VERY_LATE: Final = 0.15
"""How many report back when somebody else may have had their timer for long."""

_LEASES_MS: Final = (1_000, 2_000, 4_000)

Settle = Callable[[Api], Awaitable[list[Outcome]]]


class Workers:
    """Whoever fetches timers; each asks again and again until the world ends."""

    def __init__(self, world: World) -> None:
        self._world = world

    def start(self) -> None:
        for _ in range(_WORKERS):
            self._later(self._world.random.uniform(0, 1), self._poll)

    def _later(self, seconds: float, act: Callable[..., object], *args: object) -> None:
        self._world.loop.call_in_world(seconds, act, *args)

    def _api(self) -> Api | None:
        apis = [node for node in self._world.nodes if isinstance(node, Api) and node.process.alive]
        return self._world.random.choice(apis) if apis else None

    def _poll(self) -> None:
        """Ask for timers once; where the answer stays away, ask somebody else."""
        node, random = self._api(), self._world.random
        if node is None:
            self._later(_AGAIN_S, self._poll)
            return
        wish = Wish(random.choice((1, 1, 3)), random.choice(_LEASES_MS), random.choice((0.0, 1.0, 5.0)))
        poll = _Poll(self, node)
        task = self._world.loop.spawn(node.process, poll.ask(wish))
        if self._world.chance(0.1):  # it leaves while it waits
            self._later(random.uniform(0, 1), task.cancel)
        self._later(wish.wait_s + _PATIENCE_S, poll.give_up)

    def answered(self, node: Api, leases: Leases) -> None:
        for timer in leases:
            self._world.promises.handed(timer)
            self._world.note(node.process, "hands out", timer.id, timer.version)
            self._work(timer, self._world.next_reply(timer.id))
        self._later(self._world.random.uniform(0, _AGAIN_S), self._poll)

    def _work(self, timer: Timer, reply: Reply) -> None:
        token = [token_of(timer)]
        after_s = reply.after_s + (self._world.random.uniform(5, 12) if self._world.chance(_VERY_LATE) else 0)
        match reply.status:
            case None:
                return  # nobody hears of it again
            case 200:
                self._settle(after_s, timer, lambda api: api.queues.commit(QUEUE, token), committed=True)
            case 410:
                self._settle(after_s, timer, lambda api: api.queues.extend(QUEUE, token, 3_000))
                self._settle(after_s + 1.0, timer, lambda api: api.queues.commit(QUEUE, token), committed=True)
            case _:
                delay_ms = reply.retry_after_ms
                self._settle(after_s, timer, lambda api: api.queues.reject(QUEUE, token, delay_ms))

    def _settle(self, after_s: float, timer: Timer, settle: Settle, *, committed: bool = False) -> None:
        self._later(after_s, self._report, timer, settle, committed)

    def _report(self, timer: Timer, settle: Settle, committed: bool) -> None:
        node = self._api()
        if node is not None:
            self._world.loop.spawn(node.process, self._reported(node, timer, settle, committed=committed))

    async def _reported(self, node: Api, timer: Timer, settle: Settle, *, committed: bool) -> None:
        [outcome] = await settle(node)
        self._world.note(node.process, "answers a worker", timer.id, type(outcome).__name__)
        if outcome is None and committed:
            self._world.promises.commit_confirmed(timer)


class _Poll:
    """One request for timers; of its answer and the worker's patience the first counts."""

    def __init__(self, workers: Workers, node: Api) -> None:
        self._workers = workers
        self._node = node
        self._over = False

    async def ask(self, wish: Wish) -> None:
        leases: Leases = []
        with contextlib.suppress(TimerError, asyncio.CancelledError):
            leases = await self._node.queues.lease(QUEUE, wish)
        self._end(leases)

    def give_up(self) -> None:
        self._end([])

    def _end(self, leases: Leases) -> None:
        if not self._over:
            self._over = True
            self._workers.answered(self._node, leases)
