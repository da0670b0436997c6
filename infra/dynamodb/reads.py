"""Strongly consistent reads by id, gathered into BatchGetItem calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from infra.batching import Batcher
from infra.dynamodb.client import Item, Table
from timers.errors import Unavailable

_BATCH: Final = 100
_IN_FLIGHT: Final = 4
_WAITING: Final = 20_000
_PAUSE_S: Final = 0.1


class Reads:
    """Reads items; None where there is none."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._batcher = Batcher(self._read, key=str, size=_BATCH, in_flight=_IN_FLIGHT, waiting=_WAITING)

    async def get(self, item_id: str) -> Item | None:
        """Return an item as of the latest write, None where there is none."""
        return await self._batcher.submit(item_id)

    async def insist(self, item_id: str, seconds: float) -> Item | None:
        """Get an item, asking again while the table is away. Raises Unavailable after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        return await self.get(item_id)
                    except Unavailable:
                        await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            raise Unavailable("dynamodb", "no answer in time") from None

    async def _read(self, ids: Sequence[str]) -> Sequence[Item | Exception | None]:
        keys = [{"id": {"S": item_id}} for item_id in ids]
        answer = await self._table.call(
            "batch_get_item", RequestItems={self._table.name: {"Keys": keys, "ConsistentRead": True}}
        )
        if "Responses" not in answer:
            raise Unavailable("dynamodb", "an answer is missing")
        found = {item["id"]["S"]: item for item in answer["Responses"].get(self._table.name, ())}
        left_out = answer.get("UnprocessedKeys", {}).get(self._table.name, {}).get("Keys", ())
        postponed = {key["id"]["S"] for key in left_out}
        return [
            Unavailable("dynamodb", "unprocessed key") if item_id in postponed else found.get(item_id)
            for item_id in ids
        ]
