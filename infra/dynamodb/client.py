"""The one door to the table: its errors become ours."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from infra.dynamodb.wire import Answer, Wire, wire_name
from infra.metrics import Metrics
from timers.errors import TimerError, Unavailable

Item = dict[str, Any]

_PASSING: Final = frozenset(
    {
        "InternalServerError",
        "InternalFailure",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ResourceInUseException",
        "ResourceNotFoundException",
        "ServiceUnavailable",
        "ThrottlingError",  # of one statement of a batch; of a whole call it is ThrottlingException
        "ThrottlingException",
        "TransactionConflict",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)


_UNMET: Final = frozenset({"ConditionalCheckFailedException", "ConditionalCheckFailed", "DuplicateItem"})


class Rejected(TimerError):
    """The table refused a request for what it holds; ``code`` is DynamoDB's."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"dynamodb: {code}: {detail}")
        self.code = code

    @property
    def unmet(self) -> bool:
        """Whether a condition did not hold; DynamoDB has a code for it in a call, in a statement, and in an INSERT."""
        return self.code in _UNMET


class Cancelled(Rejected):
    """A transaction did nothing; ``reasons`` has an error for each of its requests, in order, or the code "None"."""

    def __init__(self, reasons: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("TransactionCanceledException", "")
        self.reasons = reasons


class Table:
    """One table of one endpoint. Whoever writes retries, and knows what it wrote."""

    def __init__(
        self, name: str, *, endpoint: str, region: str, timeout: float, metrics: Metrics | None = None
    ) -> None:
        self.name = name
        self._metrics = metrics or Metrics()
        self._wire = Wire(endpoint=endpoint, region=region, timeout=timeout)

    async def call(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        """Call an operation by its boto3 name. Raises Unavailable, Rejected."""
        began = time.monotonic()
        try:
            answer = await self._wire.ask(wire_name(operation), arguments)
        finally:
            self._metrics.called_table(operation, time.monotonic() - began, _requests(arguments))
        if answer.status != 200:
            raise _refusal(answer)
        return answer.content

    async def __aenter__(self) -> Self:
        await self._wire.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._wire.__aexit__()


def _requests(arguments: Mapping[str, Any]) -> int:
    """Return how many requests share a call."""
    for kind in ("Statements", "TransactStatements"):
        if kind in arguments:
            return len(arguments[kind])
    return sum(len(keys["Keys"]) for keys in arguments.get("RequestItems", {}).values())


def _refusal(answer: Answer) -> TimerError:
    content = answer.content
    if reasons := content.get("CancellationReasons"):
        return Cancelled(reasons)
    code = str(content.get("__type", "")).rpartition("#")[2]
    return translate({"Code": code, "Message": content.get("message", content.get("Message", ""))}, answer.status)


def translate(error: Mapping[str, Any], status: int | None = None) -> TimerError:
    """Return our error for DynamoDB's, of a call or of one statement of a batch."""
    code, detail = str(error.get("Code", "")), str(error.get("Message", ""))
    if code in _PASSING or code + "Exception" in _PASSING or (status or 0) >= 500:
        return Unavailable("dynamodb", code)
    return Rejected(code, detail)
