"""One history from its plan: drives the clients, brings the trouble, ends it, waits until every timer is final."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Final
from unittest.mock import patch

from infra.memory import MemoryQueueRegistry
from tests.simulation.broker import Broker
from tests.simulation.clients import Clients
from tests.simulation.dynamo import Dynamo
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.nodes import Api, Consumer, Node
from tests.simulation.plan import CALM, SKEW_S, Fault, Moment, Plan, Rates, Reply, Trouble
from tests.simulation.promises import Broken, Promises
from tests.simulation.surprises import silence
from tests.simulation.workers import Workers
from timers.errors import TimerError

_LONGEST_S: Final = 240.0
"""Within this time after the last fault every timer must be final."""

_AFTERWARDS_S: Final = 2.0
_MOST_STEPS: Final = 400_000
_INDEX_LAG_S: Final = 1.0
_HOUSE: Final = Process("world")

Event = tuple[float, str, tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class History:
    """How a plan went."""

    plan: Plan
    broken: Broken | None
    events: tuple[Event, ...]
    attempts: int
    acknowledged: int
    crashes: int
    end_s: float


class World:
    """Everything that the processes share."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.random = Random(plan.seed)
        self.loop = VirtualLoop(Random(plan.seed + 1), shuffled=plan.shuffled)
        self.loop.set_exception_handler(self._unhandled)
        self.rates: Rates = plan.rates
        self.table_away = False
        self.dynamo = Dynamo(self._index_later)
        self.promises = Promises(self._clock_ms, self.break_, calm=plan.calm)
        self.broker = Broker(self.loop, self.random, lambda: self.rates)
        self.broker.on_ack = self._acked
        self.registry = MemoryQueueRegistry()
        self._nodes: list[Node] = []
        self._replies = [list(replies) for replies in plan.replies]
        self._moments: Counter[Moment] = Counter()
        self._settling = False
        self._over = False
        self._crashes = 0
        self._attempts = 0
        self.acknowledged = 0
        self.broken: Broken | None = None
        self.events: list[Event] = []

    def run(self) -> History:
        """Live through the plan."""
        offsets = list(enumerate(self.plan.offsets))
        with silence(self.unexpected), patch("consumer.gate.FAILURES_TO_SHUT", self.plan.failures_to_shut):
            for number, offset_s in offsets:
                self._boot(number, offset_s)
            clients = Clients(self)
            for op in self.plan.ops:
                self.loop.call_in_world(op.at_s, clients.request, op)
            if self.plan.pulled:
                Workers(self).start()
            for fault in self.plan.faults:
                self.loop.call_in_world(fault.at_s, self._trouble, fault)
            self.loop.call_in_world(self.plan.quiet_s, self._calm_down)
            self._each_second()
            self.loop.run_forever()
            self._over = True
            self.loop.abandon()
        return History(
            self.plan,
            self.broken,
            tuple(self.events),
            self._attempts,
            self.acknowledged,
            self._crashes,
            self.loop.time(),
        )

    # What the edges ask and tell

    def chance(self, share: float) -> bool:
        return share > 0 and self.random.random() < share

    def refuses_statement(self) -> bool:
        return self.chance(self.rates.statement_refused)

    def table_delay_s(self) -> float:
        """Return how long a request is on its way; a slow one may act long after its caller gave up."""
        if self.chance(self.rates.table_slow):
            return self.random.choice((0.5, self.random.uniform(0.1, 2), self.random.uniform(2, 12)))
        return self.random.uniform(0.001, 0.005)

    def next_reply(self, timer_id: str) -> Reply:
        self._attempts += 1
        replies = self._replies[int(timer_id.removeprefix("t"))]
        return replies.pop(0) if replies else Reply(200, 0.01)

    def happened(self, process: Process, moment: Moment) -> None:
        """Interrupt a process that the plan interrupts about now."""
        if self._settling:
            return
        self._moments[moment] += 1
        for interruption in self.plan.interruptions:
            if interruption.moment is moment and interruption.nth == self._moments[moment]:
                pause_s = interruption.pause_s
                process.fuse = interruption.steps
                process.on_fuse = partial(self._pause, process, pause_s) if pause_s else process.die

    def poisons(self, process: Process, timer_id: str) -> None:
        """Let a call kill its caller, if it is the one that always does."""
        if timer_id == f"t{self.plan.poisonous}":
            process.die()

    def note(self, process: Process, *words: object) -> None:
        self.events.append((self.loop.time(), process.name, words))

    # Processes

    def _boot(self, number: int, offset_s: float) -> None:
        kind = Api if number < self.plan.apis else Consumer
        node = kind(self, f"{kind.__name__.lower()}-{number}", offset_s)
        node.process.on_death = lambda: self._died(number, node)
        self._nodes[number : number + 1] = [node]
        node.process.context.copy().run(node.start)

    def _died(self, number: int, node: Node) -> None:
        self._crashes += 1
        self.note(node.process, "dies")
        notice_s = self.random.choice((0.0, 0.0, self.random.uniform(0, 3)))
        self.loop.call_in_world(notice_s, self.broker.close, node.process)
        back_s = self.random.choice((0.0, self.random.uniform(0, 4), self.random.uniform(0, 20)))
        self.loop.call_in_world(min(back_s, self._left_s), self._boot, number, node.clock.offset_s)

    @property
    def _left_s(self) -> float:
        return max(0.0, self.plan.quiet_s - self.loop.time())

    def _clock_ms(self, process: Process) -> int:
        """Return the time by the clock of a process, or of the process that has its place by now."""
        node = next(node for node in self._nodes if node.process.name == process.name)
        return node.clock.now_ms()

    @property
    def nodes(self) -> Sequence[Node]:
        return self._nodes

    def node(self, number: int) -> Node:
        return self._nodes[number % len(self._nodes)]

    # Trouble

    def _trouble(self, fault: Fault) -> None:
        node = self.node(fault.subject)
        self.note(
            node.process if fault.trouble in _PERSONAL else _HOUSE, fault.trouble.value, f"{fault.length_s:.2f} s"
        )
        match fault.trouble:
            case Trouble.CRASH:
                node.process.die()
            case Trouble.PAUSE:
                self._pause(node.process, fault.length_s)
            case Trouble.ROLL:
                self._roll(node)
            case Trouble.CUT:
                self.broker.cut(node.process)
            case Trouble.CLOCK_STEP:
                node.clock.offset_s = max(-SKEW_S, min(SKEW_S, fault.amount))
            case Trouble.BROKER_AWAY | Trouble.BROKER_WIPED:
                self.broker.go_away(wiped=fault.trouble is Trouble.BROKER_WIPED)
                self.loop.call_in_world(fault.length_s, self.broker.return_)
            case Trouble.TABLE_AWAY:
                self.table_away = True
                self.loop.call_in_world(fault.length_s, self._table_back)

    def _pause(self, process: Process, length_s: float) -> None:
        """Let a process stand still, as a stopped or starved one does."""
        self.note(process, "stands still", f"for {length_s:.2f} s")
        process.paused = True
        self.loop.call_in_world(min(length_s, self._left_s), self.loop.resume, process)

    def _table_back(self) -> None:
        self.table_away = False

    def _roll(self, node: Node) -> None:
        if isinstance(node, Consumer) and node.process.alive:
            self.loop.spawn(node.process, self._stop(node))
        else:
            node.process.die()

    async def _stop(self, node: Consumer) -> None:
        await node.stop()
        node.process.die()

    def _calm_down(self) -> None:
        """End every fault; the world runs on until all is done."""
        self.note(_HOUSE, "no more faults")
        self._settling = True
        self.rates = CALM
        self.table_away = False
        self.broker.return_()
        for node in self._nodes:
            node.process.fuse = None
            self.loop.resume(node.process)

    def _each_second(self) -> None:
        for node in self._nodes:
            self._hold(node.unbounded(), "P9 bounded")
        if self.loop.steps > _MOST_STEPS:
            self.break_(Broken("P9 bounded", "the processes spin"))
        if self._settling and self.promises.all_final and self.loop.time() > self.plan.quiet_s + _AFTERWARDS_S:
            self._finish()
        elif self.loop.time() > self.plan.quiet_s + _LONGEST_S:
            self.break_(Broken("P2 at least once", f"never final: {self.promises.unfinished}"))
        else:
            self.loop.call_in_world(1.0, self._each_second)

    def _finish(self, patience_s: float = 40.0) -> None:
        """End once nothing is held any more, which must be soon."""
        held = [node.at_rest() for node in self._nodes if node.process.alive]
        if any(held) and patience_s > 0:
            self.loop.call_in_world(1.0, self._finish, patience_s - 1)
            return
        for still in held:
            self._hold(still, "P9 bounded")
        self.loop.stop()

    # The table's index

    def _index_later(self, item: dict[str, Any]) -> None:
        self.loop.call_in_world(self.random.uniform(0, _INDEX_LAG_S), self.dynamo.learn, item)

    # Breaking

    def _acked(self, process: Process, hint: Any) -> None:
        self.promises.acked(hint, process)
        self.happened(process, Moment.ACKED)

    def _hold(self, broken: str | None, promise: str) -> None:
        if broken is not None:
            self.break_(Broken(promise, broken))

    def break_(self, broken: Broken) -> None:
        if self.broken is None:
            self.broken = broken
            self.note(_HOUSE, "BROKEN", broken.promise, broken.detail)
        self.loop.stop()

    def unexpected(self, error: BaseException) -> None:
        """Real code ran into something that it does not expect."""
        if not self._over and not isinstance(error, TimerError):
            self.break_(Broken("no surprises", repr(error)))

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.unexpected(context.get("exception") or RuntimeError(context["message"]))


_PERSONAL: Final = frozenset({Trouble.CRASH, Trouble.PAUSE, Trouble.ROLL, Trouble.CUT, Trouble.CLOCK_STEP})


def format_events(history: History) -> str:
    """Return what happened, line by line."""
    return "\n".join(f"{at:9.4f}  {who:<11} {' '.join(map(str, words))}" for at, who, words in history.events)
