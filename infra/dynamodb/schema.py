"""
The table: one item per timer, one index by time.

    key                 id
    index by_time       shard ("live.03", "dead.03", …) + at_ms, keys only

What is live shares one partition per shard, so that "what is due in this window" and "what is overdue" are
queries; final items move to a partition of their state, so that they can be listed until DynamoDB's TTL
(``expires_at``) removes them. Ids that begin with "#" are ours; no client can choose one.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from infra.dynamodb.client import Rejected, Table
from timers.errors import TimerError, Unavailable
from timers.state import LIVE, State

INDEX: Final = "by_time"
_LAYOUT: Final = {"id": {"S": "#layout"}}
_POLL_S: Final = 0.5
PARTITIONS: Final = ("live", *(state.value for state in State if state not in LIVE))


def partition(state: State) -> str:
    """Return the first part of an item's ``shard``."""
    return "live" if state in LIVE else state.value


def shard_key(group: str, shard: int) -> str:
    """Return the index's hash key of a partition and shard."""
    return f"{group}.{shard:02}"


class OtherLayout(TimerError):
    """The table was provisioned with another number of shards: its timers would not be found."""

    def __init__(self, stored: int, wanted: int) -> None:
        super().__init__(f"the table has {stored} shards and TIMERS_SHARDS is {wanted}; it can't be changed")


async def provision(table: Table, *, shards: int) -> None:
    """
    Create the table where there is none and wait until it can be used. Safe to repeat.

    Raises OtherLayout where it exists with another number of shards.
    """
    try:
        await table.call("create_table", **_definition(table.name))
    except (Rejected, Unavailable) as error:
        if "ResourceInUse" not in str(error):
            raise
    while (await _describe(table))["TableStatus"] != "ACTIVE":  # noqa: ASYNC110 - AWS tells nobody
        await asyncio.sleep(_POLL_S)
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
    types = {"id": "S", "shard": "S", "at_ms": "N"}
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": attribute, "AttributeType": kind} for attribute, kind in types.items()
        ],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "GlobalSecondaryIndexes": [
            {
                "IndexName": INDEX,
                "KeySchema": [
                    {"AttributeName": "shard", "KeyType": "HASH"},
                    {"AttributeName": "at_ms", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    }
