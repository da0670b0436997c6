"""The clients: ask one of the apis, remember what they were told."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.simulation.nodes import QUEUE, TARGETS, Api
from tests.simulation.plan import Op, Wish
from tests.simulation.promises import Broken
from timers.body import Body, BodyKind
from timers.errors import TimerError, Unavailable
from timers.retry import RetryPolicy
from timers.service import ANY, Precondition
from timers.target import HttpTarget, QueueTarget, Target
from timers.timer import Spec, Timer

if TYPE_CHECKING:
    from tests.simulation.world import World


class Clients:
    """Everybody who schedules, edits, cancels, fires and replays."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: dict[int, int] = {}

    def request(self, op: Op) -> None:
        node = self._world.node(op.api)
        if isinstance(node, Api) and node.process.alive:
            self._world.loop.spawn(node.process, self._serve(node, op))

    async def _serve(self, node: Api, op: Op) -> None:
        condition = self._condition(op)
        try:
            timer = await self._ask(node, op, condition)
        except TimerError as error:
            self._world.note(node.process, "answers", op.wish.value, f"t{op.timer}", type(error).__name__, str(error))
            if isinstance(error, Unavailable) and error.part == "rabbitmq":
                self._world.break_(Broken("P7 accepts", str(error)))
            return
        self._world.note(node.process, "acknowledges", op.wish.value, timer.id, timer.version, timer.state.value)
        self._world.promises.accepted(timer)
        self._world.promises.matched(timer, condition.versions)
        self._world.acknowledged += 1
        self._seen[op.timer] = timer.version

    def _ask(self, node: Api, op: Op, condition: Precondition) -> Coroutine[Any, Any, Timer]:
        timers, timer_id = node.timers, f"t{op.timer}"
        spec = self._spec(op, node.clock.now_ms())
        match op.wish:
            case Wish.SCHEDULE:
                return timers.schedule(spec, timer_id)
            case Wish.REPLACE:
                return _first(timers.replace(timer_id, spec, condition))
            case Wish.EDIT:
                return timers.edit(timer_id, lambda before: replace(spec, retry=before.retry), condition)
            case Wish.CANCEL:
                return timers.cancel(timer_id, condition)
            case Wish.FIRE:
                return timers.fire(timer_id, condition)
            case Wish.REPLAY:
                return timers.replay(timer_id, condition)

    def _condition(self, op: Op) -> Precondition:
        if not op.matching or op.timer not in self._seen:
            return ANY
        return Precondition(versions=frozenset({self._seen[op.timer]}))

    def _spec(self, op: Op, now_ms: int) -> Spec:
        body = Body(BodyKind.TEXT, f"{op.wish} at {op.at_s:.6f}")
        target: Target = HttpTarget(
            url=f"http://target-{op.timer % TARGETS}/",
            body=body,
            timeout=(0.5, 2.0, 5.0)[op.timer % 3],
        )
        if op.timer in self._world.plan.pulled and not (op.wish is Wish.EDIT and op.delay_ms % 4 == 0):
            target = QueueTarget(QUEUE.name, body)
        retry = RetryPolicy(max_attempts=1 + op.timer % 3, min_backoff=0.2 + op.timer % 2, max_backoff=3.0)
        return Spec(now_ms + op.delay_ms, target, retry)


async def _first(work: Coroutine[Any, Any, tuple[Timer, bool]]) -> Timer:
    return (await work)[0]
