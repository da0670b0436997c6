"""The signing secrets of tenants, as items beside the timers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from infra.dynamodb.client import Item, Rejected, Table
from infra.dynamodb.index import Index, Range
from infra.dynamodb.reads import Reads
from infra.dynamodb.schema import tenant_key
from timers.errors import Conflict
from timers.secret import Sealed
from timers.signing import Secrets, SigningSecret

_PREFIX: Final = "#secrets/"
_ALL: Final = ("#", "secrets")
"""Where the index by tenant lists them; no tenant has such a name."""

_PATIENCE_S: Final = 2.0


class DynamoSecretStore:
    """One item a tenant, so that one read finds all that signs, and one condition bounds how many do."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._reads = Reads(table)
        self._index = Index(table)

    async def of(self, tenant: str) -> tuple[Secrets, int]:
        item = await self._reads.insist(_PREFIX + tenant, _PATIENCE_S)
        return ((), 0) if item is None else _decode(item)

    async def tenants(self) -> list[str]:
        tenant, shard = _ALL
        ids = await self._index.ids(Range(shard, tenant=tenant))
        return sorted(item_id.removeprefix(_PREFIX) for item_id in ids)

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
            if error.unmet:
                raise Conflict(tenant) from None
            raise


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
