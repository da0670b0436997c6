"""The timer store on DynamoDB."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from random import Random
from types import TracebackType
from typing import Final

from infra.dynamodb import codec, schema
from infra.dynamodb.broken import BrokenItems
from infra.dynamodb.client import Item, Rejected, Table
from infra.dynamodb.index import EVER, Entry, Index, Range
from infra.dynamodb.reads import Reads
from infra.dynamodb.statements import Statement, Statements, insert, update
from timers.errors import AlreadyExists, BrokenTimer, Conflict, TimerNotFound, Unavailable
from timers.ports import Counts, Filter, Page, Position, QueueCounts
from timers.state import LIVE, State
from timers.timer import QueueName, Timer

_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 1.0
_COUNT_PATIENCE_S: Final = 60.0
_EXAMINED: Final = 5_000
"""How many timers one list or count looks at; a list goes on from there with its cursor."""


class DynamoTimerStore:
    """
    Timers as items of one table.

    Each write leaves a ``writer`` token that no other write has, and the first one also an ``origin`` that
    stays, so that a write whose answer was lost is recognised when it is tried again, and not taken for
    somebody else's.
    """

    def __init__(  # noqa: PLR0913 - what it depends on, and nothing else
        self,
        table: Table,
        *,
        shards: int,
        retention_ms: int,
        random: Random,
        patience: float,
        transactions: bool = False,
        linger: float = 0.0,
        on_broken: Callable[[], None] = lambda: None,
    ) -> None:
        """
        ``on_broken`` is called for each broken item, once.

        A timer's end may ``linger`` so many seconds for other writes to share a call with: nothing waits for it.
        """
        self._table = table
        self._shards = shards
        self._retention_ms = retention_ms
        self._random = random
        self._patience = patience
        self._linger = linger
        self._statements = Statements(table, transactions=transactions)
        self._reads = Reads(table)
        self._index = Index(table)
        self._broken = BrokenItems(on_broken)

    async def create(self, timer: Timer) -> None:
        item = codec.encode(timer, shards=self._shards, retention_ms=self._retention_ms)
        item["writer"] = item["origin"] = self._token()
        try:
            await self._write(insert(self._table.name, item), item["writer"], timer.version)
        except Conflict:
            raise AlreadyExists(timer.id) from None

    async def get(self, timer_id: str) -> Timer:
        async with self._patiently():
            item = await self._read(timer_id)
        if item is None:
            raise TimerNotFound(timer_id)
        return self._decode(timer_id, item)

    async def save(self, before: Timer, after: Timer) -> None:
        changed = codec.changes(before, after, shards=self._shards, retention_ms=self._retention_ms)
        changed["writer"] = self._token()
        expected = {"version": {"N": str(before.version)}}
        statement = update(self._table.name, after.id, changed, expected)
        linger = self._linger if after.final else 0.0
        await self._write(statement, changed["writer"], after.version, linger=linger)

    async def claim(self, timer_id: str, version: int, *, now_ms: int, lease_until_ms: int) -> Timer | None:
        changed = {
            "state": {"S": State.FIRING.value},
            "version": {"N": str(version + 1)},
            "lease_until_ms": {"N": str(lease_until_ms)},
            "updated_at_ms": {"N": str(now_ms)},
            "writer": self._token(),
        }
        expected = {"version": {"N": str(version)}, "state": {"S": State.SCHEDULED.value}}
        statement = update(self._table.name, timer_id, changed, expected, returning=True)
        try:
            item = await self._write(statement, changed["writer"], version + 1)
        except Conflict:
            return None
        if item is None:
            raise Unavailable("dynamodb", "a claim returned no item")
        return self._decode(timer_id, item)

    async def live(
        self, shard: int, *, from_ms: int, until_ms: int, limit: int, after: Position | None = None
    ) -> Sequence[Timer]:
        window = Range(schema.shard_key("live", shard), from_ms, until_ms)
        start = None if after is None else (after.at_ms, after.timer_id)
        found: list[Timer] = []
        async with self._patiently(), aclosing(self._index.pages(window, limit, start)) as pages:
            async for entries in pages:
                # who has moved since the index was written is found at its new place, or not live any more
                found += [
                    timer
                    for (at_ms, _), timer in await self._read_all(entries)
                    if schema.partition(timer) == "live" and timer.next_attempt_at_ms == at_ms
                ]
                if len(found) >= limit:
                    break
        return found[:limit]

    async def lapsed(self, shard: int, *, until_ms: int, limit: int) -> Sequence[Timer]:
        window = Range(schema.shard_key("leased", shard), 0, until_ms)
        async with self._patiently():
            found = await self._read_all(await self._index.entries(window, limit))
        return [
            timer for (at_ms, _), timer in found if schema.partition(timer) == "leased" and timer.listed_at_ms == at_ms
        ]

    async def waiting(self, queue: QueueName, *, limit: int) -> Sequence[Position]:
        async with self._patiently():
            parts = await asyncio.gather(*(self._index.entries(wanted, limit) for wanted in _of_queue(queue)))
        return [Position(*entry) for entry in sorted(itertools.chain(*parts))[:limit]]

    async def count_queue(self, queue: QueueName, *, now_ms: int) -> QueueCounts:
        async with _Patience(max(self._patience, _COUNT_PATIENCE_S)):
            ready, scheduled, leased, oldest = await asyncio.gather(
                self._sum(_of_queue(queue, until_ms=now_ms + 1)),
                self._sum(_of_queue(queue, from_ms=now_ms + 1)),
                self._sum(_of_queue(queue, leased=True)),
                self.waiting(queue, limit=1),
            )
        oldest_ms = min((place.at_ms for place in oldest if place.at_ms <= now_ms), default=None)
        return QueueCounts(scheduled, ready, leased, oldest_ms)

    async def select(self, wanted: Filter, *, after: Position | None, limit: int) -> Page:
        start = (after.at_ms, after.timer_id) if after else (-1, "")
        found: list[tuple[Entry, Timer]] = []
        examined = 0
        last: Entry | None = start
        async with self._patiently():
            async for entries in self._batches(self._ranges(wanted, start[0]), start, limit):
                found += [pair for pair in await self._read_all(entries) if wanted.admits(pair[1])]
                examined += len(entries)
                last = entries[-1]
                if len(found) >= limit or examined >= _EXAMINED:
                    break
            else:
                last = None
        return _page(found, limit, last)

    async def count(self, *, tenant: str, now_ms: int, grace_ms: int) -> Counts:
        async with _Patience(max(self._patience, _COUNT_PATIENCE_S)):
            totals = await asyncio.gather(*(self._count(tenant, group) for group in schema.PARTITIONS))
            overdue_total = await self._count(tenant, "live", until_ms=now_ms - grace_ms)
            started = await self._started(tenant, now_ms)
        by_partition = dict(zip(schema.PARTITIONS, totals, strict=True))
        firing = [timer for timer in started if timer.state is State.FIRING]
        waiting = [timer for timer in started if timer.state is State.SCHEDULED]
        in_call = sum(timer.next_attempt_at_ms < now_ms - grace_ms for timer in firing)
        overdue = max(0, overdue_total - in_call)
        by_state = {state: by_partition.get(state.value, 0) for state in State}
        by_state[State.FIRING] = len(firing) + by_partition["leased"]
        by_state[State.SCHEDULED] = max(0, by_partition["live"] - len(firing)) + by_partition["queued"]
        oldest = min((timer.next_attempt_at_ms for timer in waiting), default=now_ms)
        return Counts(by_state, overdue, oldest if overdue and oldest < now_ms - grace_ms else None)

    async def pending(self, *, tenant: str) -> int:
        async with _Patience(max(self._patience, _COUNT_PATIENCE_S)):
            return await self._count(tenant, "live")

    async def delivered(self, *, tenant: str, since_ms: int, limit: int) -> Sequence[Timer]:
        keys = [schema.shard_key(State.DELIVERED, shard) for shard in range(self._shards)]
        share = -(-limit // self._shards)
        async with self._patiently():
            pages = await asyncio.gather(
                *(self._index.latest(Range(key, since_ms, tenant=tenant), share) for key in keys)
            )
            found = await self._read_all([entry for page in pages for entry in page])
        return [timer for _, timer in found if timer.state is State.DELIVERED]

    async def check(self) -> None:
        answer = await self._table.call("describe_table", TableName=self._table.name)
        if answer["Table"]["TableStatus"] not in ("ACTIVE", "UPDATING"):
            raise Unavailable("dynamodb", "the table is not active")

    async def _count(self, tenant: str, group: str, until_ms: int = EVER) -> int:
        keys = [schema.shard_key(group, shard) for shard in range(self._shards)]
        return await self._sum([Range(key, 0, until_ms, tenant) for key in keys])

    async def _sum(self, ranges: Sequence[Range]) -> int:
        return sum(await asyncio.gather(*(self._index.count(wanted) for wanted in ranges)))

    async def _started(self, tenant: str, now_ms: int) -> list[Timer]:
        """Return a tenant's live timers whose planned time has come, at most _EXAMINED."""
        keys = [schema.shard_key("live", shard) for shard in range(self._shards)]
        share = _EXAMINED // self._shards
        ranges = [Range(key, 0, now_ms + 1, tenant) for key in keys]
        pages = await asyncio.gather(*(self._index.entries(wanted, share) for wanted in ranges))
        return [timer for _, timer in await self._read_all([entry for page in pages for entry in page])]

    def _ranges(self, wanted: Filter, start_ms: int) -> list[Range]:
        from_ms = max(0, start_ms, wanted.due_after_ms or 0)
        until_ms = EVER if wanted.due_before_ms is None else wanted.due_before_ms
        states = wanted.states
        ranges: list[Range] = []
        if wanted.queue is not None:  # its index has what is live; what is final is looked for among all that is
            queue = QueueName(wanted.tenant, wanted.queue)
            for state in states & LIVE:
                ranges += _of_queue(queue, from_ms=from_ms, until_ms=until_ms, leased=state is State.FIRING)
            states -= LIVE
        groups = frozenset[str]().union(*(schema.partitions(state) for state in states))
        keys = [schema.shard_key(group, shard) for group in sorted(groups) for shard in range(self._shards)]
        return [*ranges, *(Range(key, from_ms, until_ms, wanted.tenant) for key in keys)]

    async def _batches(self, ranges: Sequence[Range], start: Entry, limit: int) -> AsyncIterator[list[Entry]]:
        batch: list[Entry] = []
        ahead = max(20, 2 * limit // self._shards)
        async for entry in self._index.merged(ranges, ahead):
            if entry <= start:
                continue
            batch.append(entry)
            if len(batch) > limit:
                yield batch
                batch = []
        if batch:
            yield batch

    async def _read_all(self, entries: Sequence[Entry]) -> list[tuple[Entry, Timer]]:
        """Return the timers of entries, each with its entry; those that are gone are left out."""
        items = await asyncio.gather(*(self._read(timer_id) for _, timer_id in entries))
        timers = []
        for entry, item in zip(entries, items, strict=True):
            if item is None:
                continue
            with suppress(BrokenTimer):
                timers.append((entry, self._decode(entry[1], item)))
        return timers

    def _decode(self, item_id: str, item: Item) -> Timer:
        try:
            return codec.decode(item)
        except BrokenTimer as error:
            self._broken.met(item_id, str(error))
            raise

    async def _read(self, item_id: str) -> Item | None:
        wait = _FIRST_WAIT_S
        while True:
            try:
                return await self._reads.get(item_id)
            except Unavailable:
                await asyncio.sleep(wait * self._random.uniform(0.5, 1))
                wait = min(2 * wait, _LONGEST_WAIT_S)

    async def _write(self, statement: Statement, writer: Item, version: int, *, linger: float = 0.0) -> Item | None:
        """Execute until the outcome is known. Raises Conflict, or Unavailable where time runs out before."""
        wait, unsure = _FIRST_WAIT_S, False
        async with self._patiently():
            while True:
                try:
                    return await self._statements.execute(statement, linger=linger)
                except Unavailable:
                    unsure = True
                except Rejected as error:
                    if not error.unmet:
                        raise
                    if not unsure:
                        raise Conflict(statement.id) from None
                    return await self._recognise(statement.id, writer, version)
                await asyncio.sleep(wait * self._random.uniform(0.5, 1))
                wait = min(2 * wait, _LONGEST_WAIT_S)

    async def _recognise(self, item_id: str, writer: Item, version: int) -> Item | None:
        """Return the item if the write that got no answer had happened. Raises Conflict, Unavailable."""
        item = await self._read(item_id)
        if item is None or int(item["version"]["N"]) < version:
            raise Conflict(item_id)
        if writer in (item.get("writer"), item.get("origin")):
            return item
        if int(item["version"]["N"]) > version:
            raise Unavailable("dynamodb", "the outcome of a write is not known")
        raise Conflict(item_id)

    def _patiently(self) -> _Patience:
        return _Patience(self._patience)

    def _token(self) -> Item:
        return {"S": f"{self._random.getrandbits(96):024x}"}


def _of_queue(queue: QueueName, *, from_ms: int = 0, until_ms: int = EVER, leased: bool = False) -> list[Range]:
    keys = [schema.queue_key(queue, shard, leased=leased) for shard in range(schema.QUEUE_SHARDS)]
    return [Range(key, from_ms, until_ms, queue=True) for key in keys]


class _Patience:
    """A time-out that raises Unavailable; a class, as a generator would cost as much as the rest of a claim."""

    __slots__ = ("_timeout",)

    def __init__(self, seconds: float) -> None:
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise Unavailable("dynamodb", "no answer in time") from None


def _page(found: Sequence[tuple[Entry, Timer]], limit: int, last: Entry | None) -> Page:
    """
    Return a page that goes on from where the index was left.

    The place is the entry's, not the timer's: one that moved since would skip or repeat what lies between.
    """
    if len(found) > limit:
        last = found[limit - 1][0]
    return Page(tuple(timer for _, timer in found[:limit]), Position(*last) if last else None)
