"""The registry of pull queues: one item per tenant with two sets of names."""

from __future__ import annotations

from typing import Any, Final

from infra.dynamodb.client import Rejected, Table
from infra.dynamodb.reads import Reads
from timers.ports import KnownQueues
from timers.timer import QueueName

_PREFIX: Final = "#queues."


class DynamoQueueRegistry:
    """Its keys begin with "#", which no timer's does."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._reads = Reads(table)

    async def read(self, tenant: str) -> KnownQueues:
        item = await self._reads.get(f"{_PREFIX}{tenant}") or {}
        return KnownQueues(*(frozenset(item.get(name, {}).get("SS", ())) for name in ("queues", "paused")))

    async def add(self, queue: QueueName, *, most: int) -> bool:
        try:
            await self._update(
                queue,
                "ADD #queues :queue",
                ConditionExpression=(
                    "attribute_not_exists(#queues) OR size(#queues) < :most OR contains(#queues, :name)"
                ),
                ExpressionAttributeValues={":name": {"S": queue.name}, ":most": {"N": str(most)}},
            )
        except Rejected as error:
            if error.unmet:
                return False
            raise
        return True

    async def pause(self, queue: QueueName) -> None:
        await self._update(queue, "ADD #paused :queue")

    async def resume(self, queue: QueueName) -> None:
        await self._update(queue, "DELETE #paused :queue")

    async def remove(self, queue: QueueName) -> None:
        await self._update(queue, "DELETE #queues :queue, #paused :queue")

    async def _update(self, queue: QueueName, expression: str, **more: Any) -> None:
        values = {":queue": {"SS": [queue.name]}, **more.pop("ExpressionAttributeValues", {})}
        names = {"#queues": "queues", "#paused": "paused"}
        await self._table.call(
            "update_item",
            TableName=self._table.name,
            Key={"id": {"S": f"{_PREFIX}{queue.tenant}"}},
            UpdateExpression=expression,
            ExpressionAttributeNames={key: name for key, name in names.items() if key in expression},
            ExpressionAttributeValues=values,
            **more,
        )
