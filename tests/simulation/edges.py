"""What stands between the real code and the made-up world, one set per process: clock, table, store, targets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Final

from infra.dynamodb.client import Item, Table
from infra.dynamodb.store import DynamoTimerStore
from tests.simulation.loop import Process
from tests.simulation.plan import Moment, Reply
from timers.errors import AlreadyExists, Conflict, TimerNotFound, Unavailable
from timers.ports import Action, Call, Counts, Filter, Page, Position, QueueCounts
from timers.retry import Answer
from timers.state import State
from timers.timer import QueueName, Timer

if TYPE_CHECKING:
    from tests.simulation.world import World

EPOCH_MS: Final = 1_800_000_000_000
_LINGERS_S: Final = (0.0, 0.02, 0.5)
_TABLE_TIMEOUT_S: Final = 3.0
_TOKEN_BITS: Final = 96


class SimulatedClock:
    """A process's clock: ``offset_s`` off the true time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, offset_s: float) -> None:
        self._loop = loop
        self.offset_s = offset_s

    def now_ms(self) -> int:
        return EPOCH_MS + int((self._loop.time() + self.offset_s) * 1000)

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SimulatedTable(Table):
    """A process's way to the table. What was sent acts even if the sender is gone by then."""

    def __init__(self, world: World, process: Process) -> None:
        self.name = "timers"
        self._world = world
        self._process = process

    async def call(self, operation: str, **arguments: Any) -> Any:
        world = self._world
        answer: asyncio.Future[Any] = world.loop.create_future()
        world.loop.call_in_world(world.table_delay_s(), self._act, operation, arguments, answer)
        world.loop.call_in_world(_TABLE_TIMEOUT_S, _reply, answer, Unavailable("dynamodb", "ReadTimeoutError"))
        return await answer

    def _act(self, operation: str, arguments: Any, answer: asyncio.Future[Any]) -> None:
        world = self._world
        if world.table_away:
            return
        if world.chance(world.rates.table_refused):
            _reply(answer, Unavailable("dynamodb", "InternalServerError"))
            return
        try:
            result = self._execute(operation, arguments)
        except Exception as error:  # noqa: BLE001 - the caller gets it
            result = error
        if not world.chance(world.rates.table_unanswered):
            world.loop.call_in_world(world.random.uniform(0.001, 0.005), _reply, answer, result)
        elif world.chance(0.5):
            _reply(answer, Unavailable("dynamodb", "ConnectionClosedError"))

    def _execute(self, operation: str, arguments: Any) -> Any:
        world = self._world
        if operation == "batch_execute_statement":
            return world.dynamo.execute(arguments["Statements"], world.refuses_statement, self._committed)
        if operation == "execute_transaction":
            return world.dynamo.transact(arguments["TransactStatements"], world.refuses_statement, self._committed)
        if operation == "batch_get_item":
            return world.dynamo.read(arguments["RequestItems"], world.refuses_statement)
        assert operation == "query", f"an operation that the simulation does not know: {operation}"
        return world.dynamo.query(arguments)

    def _committed(self, before: Item | None, after: Item) -> None:
        if after["id"]["S"].startswith("#"):
            return
        timer = self._world.promises.committed(before, after, self._process)
        self._world.note(self._process, "wrote", timer.id, timer.version, timer.state.value)
        self._world.happened(self._process, _moment(timer))


def _moment(timer: Timer) -> Moment:
    if timer.version == 1:
        return Moment.CREATED
    if timer.state is State.FIRING:
        return Moment.CLAIMED
    if timer.attempts and "unknown" in (timer.attempts[-1].error or ""):
        return Moment.TAKEN_OVER
    return Moment.SETTLED


def _reply(answer: asyncio.Future[Any], result: Any) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)


class Tokens(Random):
    """Remembers which writer token each task drew last."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._drawn: dict[asyncio.Task[Any], int] = {}

    def getrandbits(self, k: int, /) -> int:
        value = super().getrandbits(k)
        task = asyncio.current_task()
        if k == _TOKEN_BITS and task is not None:
            self._drawn[task] = value
        return value

    @property
    def last(self) -> str:
        task = asyncio.current_task()
        assert task is not None
        return f"{self._drawn[task]:024x}"


class WatchedStore:
    """The real store; each of its answers is checked against the table."""

    def __init__(self, world: World, process: Process, shards: int, seed: int) -> None:
        self._tokens = Tokens(seed)
        self._promises = world.promises
        self._store = DynamoTimerStore(
            SimulatedTable(world, process),
            shards=shards,
            retention_ms=86_400_000,
            random=self._tokens,
            patience=8.0,
            transactions=seed % 2 == 1,
            linger=_LINGERS_S[seed % len(_LINGERS_S)],
        )

    async def create(self, timer: Timer) -> None:
        try:
            await self._store.create(timer)
        except AlreadyExists:
            self._promises.denied(timer.id, self._tokens.last)
            raise
        self._promises.confirmed(timer, self._tokens.last)

    async def get(self, timer_id: str) -> Timer:
        known = self._promises.is_acknowledged(timer_id)
        try:
            return await self._store.get(timer_id)
        except TimerNotFound:
            self._promises.missing(timer_id, known=known)
            raise

    async def save(self, before: Timer, after: Timer) -> None:
        try:
            await self._store.save(before, after)
        except Conflict:
            self._promises.denied(before.id, self._tokens.last)
            raise
        self._promises.confirmed(after, self._tokens.last)

    async def claim(self, timer_id: str, version: int, *, now_ms: int, lease_until_ms: int) -> Timer | None:
        timer = await self._store.claim(timer_id, version, now_ms=now_ms, lease_until_ms=lease_until_ms)
        if timer is None:
            self._promises.denied(timer_id, self._tokens.last)
        else:
            self._promises.confirmed(timer, self._tokens.last)
            self._promises.claimed(timer)
        return timer

    async def live(
        self, shard: int, *, from_ms: int, until_ms: int, limit: int, after: Position | None = None
    ) -> Sequence[Timer]:
        return await self._store.live(shard, from_ms=from_ms, until_ms=until_ms, limit=limit, after=after)

    async def lapsed(self, shard: int, *, until_ms: int, limit: int) -> Sequence[Timer]:
        return await self._store.lapsed(shard, until_ms=until_ms, limit=limit)

    async def waiting(self, queue: QueueName, *, limit: int) -> Sequence[Position]:
        return await self._store.waiting(queue, limit=limit)

    async def count_queue(self, queue: QueueName, *, now_ms: int) -> QueueCounts:
        return await self._store.count_queue(queue, now_ms=now_ms)

    async def select(self, wanted: Filter, *, after: Position | None, limit: int) -> Page:
        return await self._store.select(wanted, after=after, limit=limit)

    async def count(self, *, tenant: str, now_ms: int, grace_ms: int) -> Counts:
        return await self._store.count(tenant=tenant, now_ms=now_ms, grace_ms=grace_ms)

    async def pending(self, *, tenant: str) -> int:
        return await self._store.pending(tenant=tenant)

    async def delivered(self, *, tenant: str, since_ms: int, limit: int) -> Sequence[Timer]:
        return await self._store.delivered(tenant=tenant, since_ms=since_ms, limit=limit)

    async def check(self) -> None:
        await self._store.check()


class SimulatedTargets:
    """The targets as one process reaches them; each call is answered as the plan says."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    async def invoke(self, call: Action) -> Answer:
        assert isinstance(call, Call)
        world, process = self._world, self._process
        timer_id = call.headers["webhook-id"]
        running = world.promises.started(call, process)
        reply = world.next_reply(timer_id)
        world.note(process, "calls", timer_id, call.headers["timer-attempt"], f"-> {reply.status}")
        answers = reply.status is not None and reply.after_s < call.timeout
        world.loop.call_in_world(reply.after_s if answers else call.timeout, world.promises.ended, running)
        world.happened(process, Moment.INVOKED)
        world.poisons(process, timer_id)
        answer = await self._await(call, reply)
        world.happened(process, Moment.ANSWERED)
        return answer

    async def _await(self, call: Call, reply: Reply) -> Answer:
        try:
            async with asyncio.timeout(call.timeout):
                await asyncio.sleep(reply.after_s if reply.status is not None else 1_000)
        except TimeoutError:
            return Answer(error="timeout")
        return Answer(reply.status, retry_after_ms=reply.retry_after_ms)
