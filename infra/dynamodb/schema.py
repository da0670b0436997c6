"""
The table: one item per timer, one index by time, and one of the timers of each tenant but the default one.

    key                 id
    index by_time       shard ("live.03", "dead.03", …) + at_ms, keys only
    index by_tenant     tenant_shard ("acme/live.03", …) + at_ms, keys only; sparse

What is live shares one partition per shard, so that "what is due in this window" and "what is overdue" are
queries; final items move to a partition of their state, so that they can be listed until DynamoDB's TTL
(``expires_at``) removes them. Ids that begin with "#" are ours; no client can choose one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from infra.dynamodb.client import Rejected, Table
from timers.errors import TimerError, Unavailable
from timers.state import LIVE, State
from timers.tenant import BORDER

BY_TIME: Final = "by_time"
BY_TENANT: Final = "by_tenant"
_LAYOUT: Final = {"id": {"S": "#layout"}}
_POLL_S: Final = 0.5
PARTITIONS: Final = ("live", *(state.value for state in State if state not in LIVE))


def partition(state: State) -> str:
    """Return the first part of an item's ``shard``."""
    return "live" if state in LIVE else state.value


def shard_key(group: str, shard: int) -> str:
    """Return the index's hash key of a partition and shard."""
    return f"{group}.{shard:02}"


def tenant_key(tenant: str, key: str) -> str:
    """Return the hash key of the index by tenant."""
    return f"{tenant}{BORDER}{key}"


class OtherLayout(TimerError):
    """The table was provisioned with another number of shards: its timers would not be found."""

    def __init__(self, stored: int, wanted: int) -> None:
        super().__init__(f"the table has {stored} shards and TIMERS_SHARDS is {wanted}; it can't be changed")


class NoTenants(TimerError):
    """The table is of an earlier version and the endpoint adds no index to it."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the table lacks the index {BY_TENANT!r}, and it can't be added: {reason}")


async def provision(table: Table, *, shards: int) -> None:
    """
    Create the table or what it lacks, and wait until it can be used. Safe to repeat.

    Raises OtherLayout where it exists with another number of shards, NoTenants where it cannot get its second index.
    """
    try:
        await table.call("create_table", **_definition(table.name))
    except (Rejected, Unavailable) as error:
        if "ResourceInUse" not in str(error):
            raise
    await _until_active(table)
    await _add_tenants(table)
    await _enable_expiry(table)
    await _write_layout(table, shards)
    await check_layout(table, shards=shards)


async def check_layout(table: Table, *, shards: int) -> None:
    """Raise OtherLayout unless the table was provisioned with this number of shards."""
    answer = await table.call("get_item", TableName=table.name, Key=_LAYOUT, ConsistentRead=True)
    stored = int(answer["Item"]["shards"]["N"]) if "Item" in answer else shards
    if stored != shards:
        raise OtherLayout(stored, shards)


async def _write_layout(table: Table, shards: int) -> None:
    try:
        await table.call(
            "put_item",
            TableName=table.name,
            Item={**_LAYOUT, "shards": {"N": str(shards)}},
            ConditionExpression="attribute_not_exists(#id)",
            ExpressionAttributeNames={"#id": "id"},
        )
    except Rejected as error:
        if error.code != "ConditionalCheckFailedException":
            raise


async def _add_tenants(table: Table) -> None:
    """Give a table of an earlier version its second index."""
    if await _has_tenants(table):
        return
    try:
        await table.call(
            "update_table",
            TableName=table.name,
            AttributeDefinitions=_attributes("tenant_shard", "at_ms"),
            GlobalSecondaryIndexUpdates=[{"Create": _index(BY_TENANT, "tenant_shard")}],
        )
    except Rejected as error:
        if not await _has_tenants(table):  # or another process was faster
            raise NoTenants(str(error)) from None
    await _until_active(table)


async def _has_tenants(table: Table) -> bool:
    indexes = (await _describe(table))["GlobalSecondaryIndexes"]
    return any(index["IndexName"] == BY_TENANT for index in indexes)


async def _until_active(table: Table) -> None:
    while not _active(await _describe(table)):  # noqa: ASYNC110 - AWS tells nobody
        await asyncio.sleep(_POLL_S)


def _active(description: Mapping[str, Any]) -> bool:
    indexes = description.get("GlobalSecondaryIndexes", ())
    states = {description["TableStatus"], *(index.get("IndexStatus", "ACTIVE") for index in indexes)}
    return states == {"ACTIVE"}


async def _describe(table: Table) -> dict[str, Any]:
    answer = await table.call("describe_table", TableName=table.name)
    return dict(answer["Table"])


async def _enable_expiry(table: Table) -> None:
    now = await table.call("describe_time_to_live", TableName=table.name)
    if now.get("TimeToLiveDescription", {}).get("TimeToLiveStatus") in ("ENABLED", "ENABLING"):
        return
    await table.call(
        "update_time_to_live",
        TableName=table.name,
        TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires_at"},
    )


def _definition(name: str) -> dict[str, Any]:
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": _attributes("id", "shard", "tenant_shard", "at_ms"),
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "GlobalSecondaryIndexes": [_index(BY_TIME, "shard"), _index(BY_TENANT, "tenant_shard")],
    }


def _attributes(*names: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": "N" if name == "at_ms" else "S"} for name in names]


def _index(name: str, hash_key: str) -> dict[str, Any]:
    return {
        "IndexName": name,
        "KeySchema": [
            {"AttributeName": hash_key, "KeyType": "HASH"},
            {"AttributeName": "at_ms", "KeyType": "RANGE"},
        ],
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    }
