"""The api keys, as items beside the timers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from infra.dynamodb.client import Item, Rejected, Table
from infra.dynamodb.index import Index, Range
from infra.dynamodb.reads import Reads
from infra.dynamodb.schema import tenant_key
from timers.keys import Key, parse_scopes

_PREFIX: Final = "#key/"
_ALL: Final = ("#", "keys")
"""Where the index by tenant lists them; no tenant has such a name."""

_PATIENCE_S: Final = 3.0


class DynamoKeyStore:
    """One item a key; its id begins with "#", which no timer's does."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._reads = Reads(table)
        self._index = Index(table)

    async def add(self, key: Key) -> bool:
        return await self._changed("put_item", Item=_encode(key), ConditionExpression="attribute_not_exists(#id)")

    async def get(self, key_id: str) -> Key | None:
        item = await self._reads.insist(_PREFIX + key_id, _PATIENCE_S)
        return None if item is None else _decode(item)

    async def all(self) -> Sequence[Key]:
        tenant, shard = _ALL
        ids = await self._index.ids(Range(shard, tenant=tenant))
        items = await asyncio.gather(*(self._reads.get(item_id) for item_id in ids))
        return [_decode(item) for item in items if item is not None]

    async def revoke(self, key_id: str, at_ms: int) -> bool:
        return await self._changed(
            "update_item",
            Key={"id": {"S": _PREFIX + key_id}},
            UpdateExpression="SET revoked_at_ms = :at",
            ExpressionAttributeValues={":at": {"N": str(at_ms)}},
            ConditionExpression="attribute_exists(#id)",
        )

    async def _changed(self, operation: str, **arguments: Any) -> bool:
        try:
            await self._table.call(
                operation, TableName=self._table.name, ExpressionAttributeNames={"#id": "id"}, **arguments
            )
        except Rejected as error:
            if error.unmet:
                return False
            raise
        return True


def _encode(key: Key) -> Item:
    return {
        "id": {"S": _PREFIX + key.id},
        "tenant": {"S": key.tenant},
        "scopes": {"S": ",".join(sorted(key.scopes))},
        "salt": {"S": key.salt.hex()},
        "digest": {"S": key.digest.hex()},
        "remark": {"S": key.remark},
        "tenant_shard": {"S": tenant_key(*_ALL)},
        "at_ms": {"N": str(key.created_at_ms)},
        **({} if key.revoked_at_ms is None else {"revoked_at_ms": {"N": str(key.revoked_at_ms)}}),
    }


def _decode(item: Mapping[str, Any]) -> Key:
    return Key(
        id=item["id"]["S"].removeprefix(_PREFIX),
        tenant=item["tenant"]["S"],
        scopes=parse_scopes(item["scopes"]["S"]),
        salt=bytes.fromhex(item["salt"]["S"]),
        digest=bytes.fromhex(item["digest"]["S"]),
        created_at_ms=int(item["at_ms"]["N"]),
        remark=item["remark"]["S"],
        revoked_at_ms=int(item["revoked_at_ms"]["N"]) if "revoked_at_ms" in item else None,
    )
