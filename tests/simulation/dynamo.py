"""A small DynamoDB: exactly the operations that the adapter uses, strongly consistent, its index a second late."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from infra.dynamodb.client import Cancelled, Item, Rejected

_INSERT: Final = re.compile(r'INSERT INTO "\w+" VALUE \{(.*)\}')
_UPDATE: Final = re.compile(r'UPDATE "\w+" SET (.*?)((?: REMOVE "\w+")?) WHERE "id"=\?(.*?)( RETURNING ALL NEW \*)?')
_INSERTED: Final = re.compile(r"'(\w+)': \?")
_NAMED: Final = re.compile(r'"(\w+)"=\?')
_REMOVED: Final = re.compile(r'"(\w+)"')
_HASH_KEYS: Final = {"by_time": "shard", "by_queue": "queue_shard"}

_REFUSALS: Final = ("ProvisionedThroughputExceeded", "ThrottlingError", "TransactionConflict", "InternalServerError")

Committed = Callable[[Item | None, Item], None]
"""Is told of each write: what was there, what is there now."""


@dataclass(frozen=True, slots=True)
class _Parsed:
    inserted: tuple[str, ...]
    set: tuple[str, ...]
    expected: tuple[str, ...]
    returning: bool
    removed: tuple[str, ...] = ()


@lru_cache(maxsize=1_000)
def _parse(text: str) -> _Parsed:
    if match := _INSERT.fullmatch(text):
        return _Parsed(tuple(_INSERTED.findall(match[1])), (), (), returning=False)
    match = _UPDATE.fullmatch(text)
    assert match, f"a statement that the simulation does not know: {text}"
    return _Parsed(
        (),
        tuple(_NAMED.findall(match[1])),
        tuple(_NAMED.findall(match[3])),
        returning=bool(match[4]),
        removed=tuple(_REMOVED.findall(match[2])),
    )


def _error(code: str) -> Mapping[str, Any]:
    return {"Error": {"Code": code, "Message": "simulated"}}


class Dynamo:
    """The items; ``indexed`` is told of what the index has to learn in a while."""

    def __init__(self, indexed: Callable[[Item], None]) -> None:
        self.items: dict[str, Item] = {}
        self._indexes: dict[str, dict[str, tuple[str, int]]] = {name: {} for name in _HASH_KEYS}
        self._indexed_version: dict[str, int] = {}
        self._indexed = indexed
        self._refusals = itertools.cycle(_REFUSALS)

    def learn(self, item: Item) -> None:
        """Bring the index up to date with a write, unless it knows of a later one."""
        item_id, version = item["id"]["S"], int(item["version"]["N"])
        if version > self._indexed_version.get(item_id, 0):
            self._indexed_version[item_id] = version
            for name, hash_key in _HASH_KEYS.items():
                self._indexes[name].pop(item_id, None)
                if hash_key in item:
                    self._indexes[name][item_id] = (item[hash_key]["S"], int(item["at_ms"]["N"]))

    def execute(
        self, statements: Sequence[Mapping[str, Any]], refused: Callable[[], bool], committed: Committed
    ) -> Mapping[str, Any]:
        """BatchExecuteStatement; ``refused`` draws whether a statement is throttled."""
        keys = [_key(_parse(s["Statement"]), s["Parameters"]) for s in statements]
        if len(set(keys)) < len(keys):
            raise Rejected("ValidationException", "two statements on one item")
        return {"Responses": [self._one(statement, refused, committed) for statement in statements]}

    def transact(
        self, statements: Sequence[Mapping[str, Any]], refused: Callable[[], bool], committed: Committed
    ) -> Mapping[str, Any]:
        """ExecuteTransaction: all or nothing."""
        items, told = self.items, self._indexed
        self.items, written = dict(items), list[tuple[Item | None, Item]]()
        self._indexed = lambda _: None
        try:
            answer = self.execute(statements, refused, lambda before, after: written.append((before, after)))
        finally:
            self.items, self._indexed = items, told
        if any("Error" in response for response in answer["Responses"]):
            raise Cancelled([response.get("Error", {"Code": "None"}) for response in answer["Responses"]])
        for before, after in written:
            self._store(before, after, committed)
        return {"ConsumedCapacity": [{}]}

    def _one(
        self, statement: Mapping[str, Any], refused: Callable[[], bool], committed: Committed
    ) -> Mapping[str, Any]:
        if refused():
            return _error(next(self._refusals))
        parsed, parameters = _parse(statement["Statement"]), statement["Parameters"]
        if parsed.inserted:
            return self._insert(dict(zip(parsed.inserted, parameters, strict=True)), committed)
        return self._update(parsed, parameters, committed)

    def _insert(self, item: Item, committed: Committed) -> Mapping[str, Any]:
        if item["id"]["S"] in self.items:
            return _error("DuplicateItem")
        self._store(None, item, committed)
        return {}

    def _update(self, parsed: _Parsed, parameters: Sequence[Any], committed: Committed) -> Mapping[str, Any]:
        count = len(parsed.set)
        before = self.items.get(parameters[count]["S"])
        expected = zip(parsed.expected, parameters[count + 1 :], strict=True)
        if before is None or any(before.get(name) != value for name, value in expected):
            return _error("ConditionalCheckFailed")
        after = before | dict(zip(parsed.set, parameters[:count], strict=True))
        after = {name: value for name, value in after.items() if name not in parsed.removed}
        self._store(before, after, committed)
        return {"Item": dict(after)} if parsed.returning else {}

    def _store(self, before: Item | None, after: Item, committed: Committed) -> None:
        self.items[after["id"]["S"]] = after
        if "shard" in after:
            self._indexed(after)
        committed(before, after)

    def read(self, requested: Mapping[str, Any], left_out: Callable[[], bool]) -> Mapping[str, Any]:
        """BatchGetItem; ``left_out`` draws whether a key is left unprocessed."""
        (name, wanted), *_ = requested.items()
        assert wanted["ConsistentRead"]
        keys = [key for key in wanted["Keys"] if not left_out()]
        found = [dict(self.items[key["id"]["S"]]) for key in keys if key["id"]["S"] in self.items]
        rest = [key for key in wanted["Keys"] if key not in keys]
        return {"Responses": {name: found}, "UnprocessedKeys": {name: {"Keys": rest}} if rest else {}}

    def query(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Query an index: one hash key, a range of times."""
        values = arguments["ExpressionAttributeValues"]
        shard, first, last = values[":shard"]["S"], int(values[":first"]["N"]), int(values[":last"]["N"])
        found = sorted(
            (at_ms, item_id)
            for item_id, (where, at_ms) in self._indexes[arguments["IndexName"]].items()
            if where == shard and first <= at_ms <= last
        )
        if not arguments.get("ScanIndexForward", True):
            found.reverse()
        return _page(found, arguments)


def _page(found: list[tuple[int, str]], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    start = arguments.get("ExclusiveStartKey")
    if start:
        found = [entry for entry in found if entry > (int(start["at_ms"]["N"]), start["id"]["S"])]
    limit = arguments.get("Limit", 1_000)
    items = [{"id": {"S": item_id}, "at_ms": {"N": str(at_ms)}} for at_ms, item_id in found[:limit]]
    answer: dict[str, Any] = {"Items": items, "Count": len(items)}
    if len(found) >= limit:
        answer["LastEvaluatedKey"] = items[-1]
    return answer


def _key(parsed: _Parsed, parameters: Sequence[Any]) -> str:
    place = parsed.inserted.index("id") if parsed.inserted else len(parsed.set)
    key: str = parameters[place]["S"]
    return key
