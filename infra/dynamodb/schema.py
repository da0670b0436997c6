"""
The table: one item per timer, one index by time, one of the timers of each tenant but the default one, one of queues.

    key                 id
    index by_time       shard ("live.03", "dead.03", …) + at_ms, keys only
    index by_tenant     tenant_shard ("acme/live.03", …) + at_ms, keys only; sparse
    index by_queue      queue_shard ("default/jobs.0", "default/jobs!leased.0", …) + at_ms, keys only; sparse

What is live shares one partition per shard, so that "what is due in this window" and "what is overdue" are
queries; final items move to a partition of their state, so that they can be listed until DynamoDB's TTL
(``expires_at``) removes them. What waits in a pull queue, or is leased from one, has partitions of its own
("queued", "leased"), as no keeper has to load it, and stands in the index by queue as long as it is live.
Ids that begin with "#" are ours; no client can choose one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from infra.dynamodb.client import Rejected, Table
from timers.errors import TimerError, Unavailable
from timers.state import LIVE, State
from timers.tenant import BORDER
from timers.timer import QueueName, Timer

BY_TIME: Final = "by_time"
BY_TENANT: Final = "by_tenant"
BY_QUEUE: Final = "by_queue"
_INDEXES: Final = {BY_TIME: "shard", BY_TENANT: "tenant_shard", BY_QUEUE: "queue_shard"}
"""The attribute that is the hash key of each index; the range key is ``at_ms``."""

_LAYOUT: Final = {"id": {"S": "#layout"}}
_POLL_S: Final = 0.5
QUEUE_SHARDS: Final = 2
"""Each lease looks into all of a queue's; one takes about 1,000 writes a second, and a timer makes two."""

PARTITIONS: Final = ("live", "queued", "leased", *(state.value for state in State if state not in LIVE))
_OF_LIVE: Final = {
    State.SCHEDULED: frozenset({"live", "queued"}),
    State.FIRING: frozenset({"live", "leased"}),
}


def partition(timer: Timer) -> str:
    """Return the first part of an item's ``shard``."""
    if timer.final:
        return timer.state.value
    if timer.queue is None:
        return "live"
    return "leased" if timer.state is State.FIRING else "queued"


def partitions(state: State) -> frozenset[str]:
    """Return the partitions that have timers of a state."""
    return _OF_LIVE.get(state) or frozenset({state.value})


def queue_key(queue: QueueName, shard: int, *, leased: bool) -> str:
    """Return the hash key of the index by queue."""
    return tenant_key(queue.tenant, f"{queue.name}{'!leased' if leased else ''}.{shard}")


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


class LacksIndex(TimerError):
    """The table is of an earlier version and the endpoint adds no index to it."""

    def __init__(self, index: str, reason: str) -> None:
        super().__init__(f"the table lacks the index {index!r}, and it can't be added: {reason}")


async def provision(table: Table, *, shards: int) -> None:
    """
    Create the table or what it lacks, and wait until it can be used. Safe to repeat.

    Raises OtherLayout where it exists with another number of shards, LacksIndex where it cannot get an index.
    """
    try:
        await table.call("create_table", **_definition(table.name))
    except (Rejected, Unavailable) as error:
        if "ResourceInUse" not in str(error):
            raise
    await _until_active(table)
    for name in _INDEXES:  # one at a time, as AWS has it
        await _add_index(table, name)
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
        if not error.unmet:
            raise


async def _add_index(table: Table, name: str) -> None:
    """Give a table of an earlier version an index."""
    if await _has_index(table, name):
        return
    hash_key = _INDEXES[name]
    try:
        await table.call(
            "update_table",
            TableName=table.name,
            AttributeDefinitions=_attributes(hash_key, "at_ms"),
            GlobalSecondaryIndexUpdates=[{"Create": _index(name, hash_key)}],
        )
    except Rejected as error:
        if not await _has_index(table, name):  # or another process was faster
            raise LacksIndex(name, str(error)) from None
    await _until_active(table)


async def _has_index(table: Table, name: str) -> bool:
    indexes = (await _describe(table))["GlobalSecondaryIndexes"]
    return any(index["IndexName"] == name for index in indexes)


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
        "AttributeDefinitions": _attributes("id", *_INDEXES.values(), "at_ms"),
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "GlobalSecondaryIndexes": [_index(name, hash_key) for name, hash_key in _INDEXES.items()],
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
