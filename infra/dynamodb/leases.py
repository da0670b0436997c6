"""The shard leases, as items beside the timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from infra.dynamodb.broken import BrokenItems
from infra.dynamodb.client import Item, Rejected, Table
from infra.dynamodb.reads import Reads
from infra.dynamodb.statements import Statements, insert, update
from timers.ports import ShardLease

_PREFIX: Final = "#keeper."


class DynamoShardLeases:
    """One item per shard; its key begins with "#", which no timer's does."""

    def __init__(self, table: Table, *, shards: int, on_broken: Callable[[], None] = lambda: None) -> None:
        """``on_broken`` is called for each broken lease, once."""
        self._table = table
        self._shards = shards
        self._reads = Reads(table)
        self._statements = Statements(table)
        self._broken = BrokenItems(on_broken)

    async def read(self) -> Sequence[ShardLease]:
        items = await asyncio.gather(*(self._reads.get(_key(shard)) for shard in range(self._shards)))
        leases = []
        for shard, item in enumerate(items):
            if item is None:
                continue
            try:
                leases.append(_decode(shard, item))
            except (KeyError, ValueError, TypeError) as error:
                await self._forget(shard, repr(error))
        return leases

    async def _forget(self, shard: int, reason: str) -> None:
        """Delete a broken lease, so that somebody can take the shard: what it said, its next keeper finds out."""
        self._broken.met(_key(shard), reason)
        await self._delete(shard)

    async def write(self, before: ShardLease | None, after: ShardLease) -> bool:
        item = _encode(after)
        if before is None:
            statement = insert(self._table.name, item)
        else:
            expected = {name: _encode(before)[name] for name in ("owner", "beat")}
            statement = update(self._table.name, item.pop("id")["S"], item, expected)
        try:
            await self._statements.execute(statement)
        except Rejected as error:
            if error.unmet:
                return False
            raise
        return True

    async def clear(self) -> None:
        await asyncio.gather(*(self._delete(shard) for shard in range(self._shards)))

    async def _delete(self, shard: int) -> None:
        await self._table.call("delete_item", TableName=self._table.name, Key={"id": {"S": _key(shard)}})


def _key(shard: int) -> str:
    return f"{_PREFIX}{shard}"


def _encode(lease: ShardLease) -> Item:
    return {
        "id": {"S": _key(lease.shard)},
        "owner": {"S": lease.owner},
        "beat": {"N": str(lease.beat)},
        "loaded_until_ms": {"N": str(lease.loaded_until_ms)},
    }


def _decode(shard: int, item: Item) -> ShardLease:
    return ShardLease(shard, item["owner"]["S"], int(item["beat"]["N"]), int(item["loaded_until_ms"]["N"]))
