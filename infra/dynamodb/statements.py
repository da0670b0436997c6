"""Conditional writes, gathered into one call for many; each gets its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from infra.batching import Batcher
from infra.dynamodb.client import Cancelled, Item, Rejected, Table, translate
from infra.dynamodb.reads import Reads
from timers.errors import TimerError, Unavailable

BATCH: Final = 25
TRANSACTION: Final = 100
GONE: Final[dict[str, str]] = {}
"""What an attribute becomes that an item shall not have any more."""

_TRANSACTIONS: Final = 2
"""How often a batch is tried as a transaction: once, and once without those that cancelled it."""

_REST: Final = 4
"""Where many conditions fail, such as claims of cancelled timers, so many batches are not tried as transactions."""

_IN_FLIGHT: Final = 4
_WAITING: Final = 20_000

Outcome = Item | Exception | None


@dataclass(frozen=True, slots=True)
class Statement:
    """One PartiQL statement on the item ``id``; ``returning``: its outcome is the item as written."""

    id: str
    text: str
    parameters: Sequence[Any]
    returning: bool = False


class Statements:
    """
    Carries statements; each returns the item it asks for, or raises its own Rejected or Unavailable.

    With ``transactions`` what travels together is one transaction. A table in one process syncs its disk once for
    all of it, instead of once for each item; AWS charges twice as much.
    """

    def __init__(self, table: Table, *, transactions: bool = False) -> None:
        self._table = table
        self._transactions = transactions
        self._resting = 0
        self._reads = Reads(table)
        size = TRANSACTION if transactions else BATCH
        self._batcher = Batcher(self._execute, key=_item_of, size=size, in_flight=_IN_FLIGHT, waiting=_WAITING)

    async def execute(self, statement: Statement, *, linger: float = 0.0) -> Item | None:
        """Execute one statement in some batch; it may ``linger`` so many seconds for others to go with."""
        return await self._batcher.submit(statement, linger=linger)

    async def _execute(self, batch: Sequence[Statement]) -> Sequence[Outcome]:
        if not self._transactions or len(batch) < _fewest(batch):
            return await self._execute_all(batch)
        if self._resting:
            self._resting -= 1
            return await self._execute_all(batch)
        outcomes = await self._transact(batch)
        rest = [statement for statement in batch if statement.id not in outcomes]
        outcomes |= zip((statement.id for statement in rest), await self._execute_all(rest), strict=True)
        return [outcomes[statement.id] for statement in batch]

    async def _transact(self, batch: Sequence[Statement]) -> dict[str, Outcome]:
        """Return the outcomes that transactions can tell, by item: those who cancel one, then all others at once."""
        outcomes: dict[str, Outcome] = {}
        rest = batch
        for _ in range(_TRANSACTIONS):
            try:
                await self._commit(rest)
            except Cancelled as error:
                reasons = zip(rest, error.reasons, strict=True)
                outcomes |= {s.id: translate(reason) for s, reason in reasons if reason["Code"] != "None"}
                rest = [statement for statement in rest if statement.id not in outcomes]
            except Rejected:
                break
            else:
                return outcomes | await self._written(rest)
            if not rest:
                return outcomes
        self._resting = _REST
        return outcomes

    async def _commit(self, statements: Sequence[Statement]) -> None:
        answer = await self._table.call(
            "execute_transaction",
            TransactStatements=[_request(statement) for statement in statements],
            ReturnConsumedCapacity="TOTAL",
        )
        if not answer.get("ConsumedCapacity"):  # nothing else tells an answer from an empty one
            raise Unavailable("dynamodb", "an answer is missing")

    async def _written(self, batch: Sequence[Statement]) -> dict[str, Outcome]:
        """Return what was written: a transaction returns nothing. The writes have happened, so nothing is raised."""
        wanted = [statement.id for statement in batch if statement.returning]
        items = await asyncio.gather(*(self._reads.get(item_id) for item_id in wanted), return_exceptions=True)
        outcomes: dict[str, Outcome] = {statement.id: None for statement in batch}
        for item_id, item in zip(wanted, items, strict=True):
            assert not isinstance(item, BaseException) or isinstance(item, Exception)
            outcomes[item_id] = item
        return outcomes

    async def _execute_all(self, statements: Sequence[Statement]) -> Sequence[Outcome]:
        batches = [statements[at : at + BATCH] for at in range(0, len(statements), BATCH)]
        done = await asyncio.gather(*(self._execute_batch(batch) for batch in batches))
        return [outcome for outcomes in done for outcome in outcomes]

    async def _execute_batch(self, batch: Sequence[Statement]) -> Sequence[Outcome]:
        try:
            return await self._execute_together(batch)
        except Rejected as error:
            if len(batch) == 1:
                return [error]
        except TimerError as error:
            return [error] * len(batch)
        # one request that is refused as a whole takes its batch along: alone, only the bad one fails
        alone = await asyncio.gather(*(self._execute_batch([statement]) for statement in batch))
        return [outcome for (outcome,) in alone]

    async def _execute_together(self, batch: Sequence[Statement]) -> Sequence[Outcome]:
        answer = await self._table.call("batch_execute_statement", Statements=[_request(s, whole=True) for s in batch])
        responses = answer.get("Responses", ())
        if len(responses) != len(batch):
            raise Unavailable("dynamodb", "an answer is missing")
        return [_outcome(response) for response in responses]


def _fewest(batch: Sequence[Statement]) -> int:
    """Return from how many on a transaction costs less: what it is to return takes a second call."""
    return 4 if any(statement.returning for statement in batch) else 2


def _item_of(statement: Statement) -> str:
    return statement.id


def _request(statement: Statement, *, whole: bool = False) -> dict[str, Any]:
    """Return a statement as a call takes it; ``whole``: with what it is to return."""
    returning = " RETURNING ALL NEW *" if whole and statement.returning else ""
    return {"Statement": statement.text + returning, "Parameters": statement.parameters}


def _outcome(response: Mapping[str, Any]) -> Outcome:
    if "Error" in response:
        return translate(response["Error"])
    return response.get("Item")


def insert(table: str, item: Item) -> Statement:
    """Return the statement that stores a new item and fails with DuplicateItem where its id is taken."""
    names = ", ".join(f"'{name}': ?" for name in item)
    return Statement(item["id"]["S"], f'INSERT INTO "{table}" VALUE {{{names}}}', list(item.values()))


def update(table: str, item_id: str, changed: Item, expected: Item, *, returning: bool = False) -> Statement:
    """
    Return the statement that sets attributes, and fails with ConditionalCheckFailed unless ``expected`` hold.

    An attribute that changes to GONE is taken away.
    """
    given = {name: value for name, value in changed.items() if value is not GONE}
    assignments = ", ".join(f'"{name}"=?' for name in given)
    removals = "".join(f' REMOVE "{name}"' for name, value in changed.items() if value is GONE)
    conditions = "".join(f' AND "{name}"=?' for name in expected)
    text = f'UPDATE "{table}" SET {assignments}{removals} WHERE "id"=?{conditions}'
    return Statement(item_id, text, [*given.values(), {"S": item_id}, *expected.values()], returning)


def delete(table: str, item_id: str, expected: Item) -> Statement:
    """Return the statement that removes an item, and fails with ConditionalCheckFailed unless ``expected`` hold."""
    conditions = "".join(f' AND "{name}"=?' for name in expected)
    return Statement(item_id, f'DELETE FROM "{table}" WHERE "id"=?{conditions}', [{"S": item_id}, *expected.values()])
