"""The signing secrets of tenants, as items beside the timers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

from infra.dynamodb.client import Item, Rejected, Table
from infra.dynamodb.index import EVER, Index, Range
from infra.dynamodb.reads import Reads
from infra.dynamodb.schema import tenant_key
from timers.errors import Conflict, Unavailable
from timers.secret import Sealed
from timers.signing import Secrets, SigningSecret

_PREFIX: Final = "#secrets/"
_ALL: Final = ("#", "secrets")
"""Where the index by tenant lists them; no tenant has such a name."""

_PATIENCE_S: Final = 2.0
_PAUSE_S: Final = 0.1


class DynamoSecretStore:
    """One item a tenant, so that one read finds all that signs, and one condition bounds how many do."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._reads = Reads(table)
        self._index = Index(table)

    async def of(self, tenant: str) -> tuple[Secrets, int]:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                item = await self._read(_PREFIX + tenant)
        except TimeoutError:
            raise Unavailable("dynamodb", "no answer in time") from None
        return ((), 0) if item is None else _decode(item)

    async def tenants(self) -> list[str]:
        tenant, shard = _ALL
        entries = [entry async for page in self._index.pages(Range(shard, 0, EVER, tenant), 100) for entry in page]
        return sorted(item_id.removeprefix(_PREFIX) for _, item_id in entries)

    async def save(self, tenant: str, secrets: Secrets, before: int) -> None:
        try:
            await self._table.call(
                "put_item",
                TableName=self._table.name,
                Item=_encode(tenant, secrets, before + 1),
                ConditionExpression="version = :before" if before else "attribute_not_exists(id)",
                **({"ExpressionAttributeValues": {":before": {"N": str(before)}}} if before else {}),
            )
        except Rejected as error:
            if error.code == "ConditionalCheckFailedException":
                raise Conflict(tenant) from None
            raise

    async def _read(self, item_id: str) -> Item | None:
        while True:
            try:
                return await self._reads.get(item_id)
            except Unavailable:
                await asyncio.sleep(_PAUSE_S)


def _encode(tenant: str, secrets: Secrets, version: int) -> Item:
    rows = [[s.id, s.created_at_ms, s.sealed.token if s.sealed else None, s.retired_at_ms] for s in secrets]
    return {
        "id": {"S": _PREFIX + tenant},
        "version": {"N": str(version)},
        "secrets": {"S": json.dumps(rows)},
        "tenant_shard": {"S": tenant_key(*_ALL)},
        "at_ms": {"N": "0"},
    }


def _decode(item: Mapping[str, Any]) -> tuple[Secrets, int]:
    rows = json.loads(item["secrets"]["S"])
    secrets = tuple(
        SigningSecret(secret_id, created_at_ms, Sealed(token) if token else None, retired_at_ms)
        for secret_id, created_at_ms, token, retired_at_ms in rows
    )
    return secrets, int(item["version"]["N"])
