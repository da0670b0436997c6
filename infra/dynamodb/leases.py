"""The shard leases, as items beside the timers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from infra.dynamodb.client import Item, Rejected, Table
from infra.dynamodb.reads import Reads
from infra.dynamodb.statements import Statements, insert, update
from timers.ports import ShardLease

_PREFIX: Final = "#keeper."


class DynamoShardLeases:
    """One item per shard; its key begins with "#", which no timer's does."""

    def __init__(self, table: Table, *, shards: int) -> None:
        self._table = table
        self._shards = shards
        self._reads = Reads(table)
        self._statements = Statements(table)

    async def read(self) -> Sequence[ShardLease]:
        items = await asyncio.gather(*(self._reads.get(f"{_PREFIX}{shard}") for shard in range(self._shards)))
        return [_decode(shard, item) for shard, item in enumerate(items) if item is not None]

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
            if error.code in ("ConditionalCheckFailed", "DuplicateItem"):
                return False
            raise
        return True


def _encode(lease: ShardLease) -> Item:
    return {
        "id": {"S": f"{_PREFIX}{lease.shard}"},
        "owner": {"S": lease.owner},
        "beat": {"N": str(lease.beat)},
        "loaded_until_ms": {"N": str(lease.loaded_until_ms)},
    }


def _decode(shard: int, item: Item) -> ShardLease:
    return ShardLease(shard, item["owner"]["S"], int(item["beat"]["N"]), int(item["loaded_until_ms"]["N"]))
