"""Removing final timers whose retention has ended, where the table does not do it by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from infra.dynamodb import schema
from infra.dynamodb.client import Item, Rejected, Table
from infra.dynamodb.index import Index, Range
from infra.dynamodb.reads import Reads
from infra.dynamodb.statements import Statements, delete
from timers.state import FINAL

_PAGE: Final = 100


class DynamoExpiry:
    """
    Removes what ``expires_at`` says has expired, as DynamoDB's own TTL does.

    It looks among timers that were due before the retention began: no final timer expires sooner.
    """

    def __init__(self, table: Table, *, retention_ms: int, transactions: bool) -> None:
        self._table = table
        self._retention_ms = retention_ms
        self._index = Index(table)
        self._reads = Reads(table)
        self._statements = Statements(table, transactions=transactions)

    async def sweep(self, shard: int, *, now_ms: int) -> int:
        """Remove the expired timers of a shard and return how many. Raises Unavailable."""
        removed = 0
        for state in sorted(FINAL):
            old = Range(schema.shard_key(state.value, shard), 0, now_ms - self._retention_ms)
            async for entries in self._index.pages(old, _PAGE):
                for some in (entries[at : at + _PAGE] for at in range(0, len(entries), _PAGE)):
                    removed += await self._remove([item_id for _, item_id in some], now_ms)
        return removed

    async def _remove(self, ids: Sequence[str], now_ms: int) -> int:
        items = await asyncio.gather(*(self._reads.get(item_id) for item_id in ids))
        expired = [item for item in items if item is not None and _has_expired(item, now_ms)]
        return sum(await asyncio.gather(*(self._delete(item) for item in expired)))

    async def _delete(self, item: Item) -> bool:
        """Delete an item as it was read; returns False where it has moved since, as a dead timer that is replayed."""
        try:
            await self._statements.execute(delete(self._table.name, item["id"]["S"], {"version": item["version"]}))
        except Rejected as error:
            if error.unmet:
                return False
            raise
        return True


def _has_expired(item: Item, now_ms: int) -> bool:
    expires_at = item.get("expires_at", {}).get("N")
    return expires_at is not None and "version" in item and int(expires_at) * 1000 <= now_ms
