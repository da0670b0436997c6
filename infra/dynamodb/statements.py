"""Conditional writes, gathered into BatchExecuteStatement calls; each gets its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from infra.batching import Batcher
from infra.dynamodb.client import Item, Rejected, Table, translate
from timers.errors import TimerError, Unavailable

BATCH: Final = 25
_IN_FLIGHT: Final = 4
_WAITING: Final = 20_000


@dataclass(frozen=True, slots=True)
class Statement:
    """One PartiQL statement on the item ``id``."""

    id: str
    text: str
    parameters: Sequence[Any]


class Statements:
    """Carries statements; each returns the item it asks for, or raises its own Rejected or Unavailable."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._batcher = Batcher(self._execute, key=_item_of, size=BATCH, in_flight=_IN_FLIGHT, waiting=_WAITING)

    async def execute(self, statement: Statement) -> Item | None:
        """Execute one statement in some batch."""
        return await self._batcher.submit(statement)

    async def _execute(self, batch: Sequence[Statement]) -> Sequence[Item | Exception | None]:
        try:
            return await self._execute_together(batch)
        except Rejected:
            if len(batch) == 1:
                raise
        # one request that is refused as a whole takes its batch along: alone, only the bad one fails
        return await asyncio.gather(*(self._execute_alone(statement) for statement in batch))

    async def _execute_alone(self, statement: Statement) -> Item | Exception | None:
        try:
            return (await self._execute_together([statement]))[0]
        except TimerError as error:
            return error

    async def _execute_together(self, batch: Sequence[Statement]) -> Sequence[Item | Exception | None]:
        answer = await self._table.call(
            "batch_execute_statement",
            Statements=[{"Statement": s.text, "Parameters": s.parameters} for s in batch],
        )
        responses = answer.get("Responses", ())
        if len(responses) != len(batch):
            raise Unavailable("dynamodb", "an answer is missing")
        return [_outcome(response) for response in responses]


def _item_of(statement: Statement) -> str:
    return statement.id


def _outcome(response: Mapping[str, Any]) -> Item | Exception | None:
    if "Error" in response:
        return translate(response["Error"])
    return response.get("Item")


def insert(table: str, item: Item) -> Statement:
    """Return the statement that stores a new item and fails with DuplicateItem where its id is taken."""
    names = ", ".join(f"'{name}': ?" for name in item)
    return Statement(item["id"]["S"], f'INSERT INTO "{table}" VALUE {{{names}}}', list(item.values()))


def update(table: str, item_id: str, changed: Item, expected: Item, *, returning: bool = False) -> Statement:
    """Return the statement that sets attributes, and fails with ConditionalCheckFailed unless ``expected`` hold."""
    assignments = ", ".join(f'"{name}"=?' for name in changed)
    conditions = "".join(f' AND "{name}"=?' for name in expected)
    text = f'UPDATE "{table}" SET {assignments} WHERE "id"=?{conditions}'
    if returning:
        text += " RETURNING ALL NEW *"
    return Statement(item_id, text, [*changed.values(), {"S": item_id}, *expected.values()])
