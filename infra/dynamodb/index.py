"""Reading the indexes: what is live in a window, lists in order, counts."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from infra.dynamodb.client import Table
from infra.dynamodb.schema import BY_QUEUE, BY_TENANT, BY_TIME, tenant_key
from timers.tenant import BORDER, DEFAULT

EVER: Final = 10**15
_PAGE: Final = 100
_LONGEST_PAGE: Final = 2_000
"""Pages grow up to this, so that thousands of timers at one instant take few calls."""

Entry = tuple[int, str]
"""When (epoch ms) and which id."""


@dataclass(frozen=True, slots=True)
class Range:
    """A part of one shard, of one tenant's timers or everybody's: ``from_ms`` included, ``until_ms`` not."""

    shard: str
    from_ms: int = 0
    until_ms: int = EVER
    tenant: str | None = None
    queue: bool = False
    """Whether ``shard`` is of a pull queue, which is a tenant's already."""

    @property
    def place(self) -> tuple[str, str, str]:
        """The index that has it, the attribute of the hash key, and its value."""
        if self.queue:
            return BY_QUEUE, "queue_shard", self.shard
        if self.tenant is None or self.tenant == DEFAULT:
            return BY_TIME, "shard", self.shard
        return BY_TENANT, "tenant_shard", tenant_key(self.tenant, self.shard)


class Index:
    """The indexes; eventually consistent."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def entries(self, wanted: Range, limit: int) -> list[Entry]:
        """Return up to ``limit`` entries, soonest first."""
        found: list[Entry] = []
        async for page in self.pages(wanted, limit):
            found += page
            if len(found) >= limit:
                break
        return found[:limit]

    async def ids(self, wanted: Range) -> list[str]:
        """Return the ids of all entries, soonest first."""
        return [item_id async for page in self.pages(wanted, _PAGE) for _, item_id in page]

    async def latest(self, wanted: Range, limit: int) -> list[Entry]:
        """Return up to ``limit`` entries, latest first."""
        found: list[Entry] = []
        async for answer in self._queries(wanted, Limit=limit, ScanIndexForward=False):
            found += _entries(answer)
            if len(found) >= limit:
                break
        return found[:limit]

    async def merged(self, ranges: Sequence[Range], page: int) -> AsyncIterator[Entry]:
        """Yield the entries of all ranges by time, then id; ``page`` is how many are read ahead of each."""
        streams = [_Stream(self.pages(wanted, page)) for wanted in ranges]
        await asyncio.gather(*(stream.advance() for stream in streams))
        heap = [(stream.head, number) for number, stream in enumerate(streams) if stream.head]
        heapq.heapify(heap)
        while heap:
            entry, number = heap[0]
            yield entry
            await streams[number].advance()
            head = streams[number].head
            if head:
                heapq.heapreplace(heap, (head, number))
            else:
                heapq.heappop(heap)

    async def count(self, wanted: Range) -> int:
        """Return how many entries a range has."""
        total = 0
        async for answer in self._queries(wanted, Select="COUNT"):
            total += int(answer["Count"])
        return total

    async def pages(self, wanted: Range, limit: int, after: Entry | None = None) -> AsyncGenerator[list[Entry]]:
        """Yield all entries, soonest first; the first page has up to ``limit`` and begins behind ``after``."""
        options: dict[str, Any] = {"Limit": limit}
        if after is not None and after[0] >= wanted.until_ms:
            return
        if after is not None and after[0] >= wanted.from_ms:  # DynamoDB refuses a start outside the range
            at_ms, item_id = after
            _, attribute, value = wanted.place
            options["ExclusiveStartKey"] = {
                "id": {"S": item_id},
                attribute: {"S": value},
                "at_ms": {"N": str(at_ms)},
            }
        async for answer in self._queries(wanted, **options):
            yield _entries(answer)

    async def _queries(self, wanted: Range, **options: Any) -> AsyncIterator[Any]:
        if wanted.until_ms <= wanted.from_ms:
            return
        index, attribute, value = wanted.place
        query: dict[str, Any] = {
            "TableName": self._table.name,
            "IndexName": index,
            "KeyConditionExpression": "#shard = :shard AND #at BETWEEN :first AND :last",
            "ExpressionAttributeNames": {"#shard": attribute, "#at": "at_ms"},
            "ExpressionAttributeValues": {
                ":shard": {"S": value},
                ":first": {"N": str(wanted.from_ms)},
                ":last": {"N": str(wanted.until_ms - 1)},
            },
            **options,
        }
        if wanted.tenant == DEFAULT:  # the index has everybody's
            query["FilterExpression"] = "NOT contains(#id, :border)"
            query["ExpressionAttributeNames"]["#id"] = "id"
            query["ExpressionAttributeValues"][":border"] = {"S": BORDER}
        while True:
            answer = await self._table.call("query", **query)
            yield answer
            if not answer.get("LastEvaluatedKey"):
                return
            query["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
            if "Limit" in query:
                query["Limit"] = min(2 * query["Limit"], _LONGEST_PAGE)


def _entries(answer: Any) -> list[Entry]:
    return [(_whole(item["at_ms"]["N"]), item["id"]["S"]) for item in answer["Items"]]


def _whole(number: str) -> int:
    """Return a time; one with a fraction is no timer's, which is seen when its item is read."""
    return int(number) if number.isdigit() else int(float(number))


class _Stream:
    """
    One range, entry by entry.

    DynamoDB leaves the order within one ``at_ms`` open, so each such group is read whole and sorted.
    """

    def __init__(self, pages: AsyncIterator[list[Entry]]) -> None:
        self._pages = pages
        self._read: list[Entry] = []
        self._sorted: list[Entry] = []
        self._exhausted = False
        self.head: Entry | None = None

    async def advance(self) -> None:
        if not self._sorted:
            await self._read_group()
        self.head = self._sorted.pop() if self._sorted else None

    async def _read_group(self) -> None:
        while not self._exhausted and (not self._read or self._read[0][0] == self._read[-1][0]):
            try:
                self._read += await anext(self._pages)
            except StopAsyncIteration:
                self._exhausted = True
        if self._exhausted:
            whole, self._read = self._read, []
        else:
            last = self._read[-1][0]
            whole = [entry for entry in self._read if entry[0] != last]
            self._read = [entry for entry in self._read if entry[0] == last]
        self._sorted = sorted(whole, reverse=True)
