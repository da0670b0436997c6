"""The one door to boto3: its calls run on a few threads, its errors become ours."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.metrics import Metrics
from timers.errors import TimerError, Unavailable

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]

AWS: Final = "aws"
_THREADS: Final = 8
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
    """
    One table of one endpoint.

    boto3 never retries here: a write that it would silently send twice could answer "condition failed"
    to its own success. Whoever writes retries and knows what it wrote.
    """

    def __init__(
        self, name: str, *, endpoint: str, region: str, timeout: float, metrics: Metrics | None = None
    ) -> None:
        self.name = name
        self._metrics = metrics or Metrics()
        self._client = _client(endpoint, region, timeout)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="dynamodb")

    async def call(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        """Call an operation by its boto3 name. Raises Unavailable, Rejected."""
        call = functools.partial(getattr(self._client, operation), **arguments)
        began = time.monotonic()
        try:
            answer: Mapping[str, Any] = await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except ClientError as error:
            raise _translated(error) from error
        except BotoCoreError as error:
            raise Unavailable("dynamodb", type(error).__name__) from error
        finally:
            self._metrics.called_table(operation, time.monotonic() - began, _requests(arguments))
        return answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()


def _requests(arguments: Mapping[str, Any]) -> int:
    """Return how many requests share a call."""
    for kind in ("Statements", "TransactStatements"):
        if kind in arguments:
            return len(arguments[kind])
    return sum(len(keys["Keys"]) for keys in arguments.get("RequestItems", {}).values())


def _translated(error: ClientError) -> TimerError:
    reasons: Sequence[Mapping[str, Any]] = error.response.get("CancellationReasons", ())
    if reasons:
        return Cancelled(reasons)
    return translate(error.response.get("Error", {}), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode"))


def translate(error: Mapping[str, Any], status: int | None = None) -> TimerError:
    """Return our error for DynamoDB's, of a call or of one statement of a batch."""
    code, detail = str(error.get("Code", "")), str(error.get("Message", ""))
    if code in _PASSING or code + "Exception" in _PASSING or (status or 0) >= 500:
        return Unavailable("dynamodb", code)
    return Rejected(code, detail)


def _client(endpoint: str, region: str, timeout: float) -> DynamoDBClient:
    config = Config(
        parameter_validation=False,
        max_pool_connections=_THREADS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=min(timeout, 1.0),
        read_timeout=timeout,
        tcp_keepalive=True,
        user_agent_extra="timers",
    )
    session = boto3.session.Session(region_name=region)
    if endpoint == AWS:
        return session.client("dynamodb", config=config)
    key = None if session.get_credentials() else "local"  # a stand-in takes any key, boto3 wants one
    return session.client(
        "dynamodb", endpoint_url=endpoint, config=config, aws_access_key_id=key, aws_secret_access_key=key
    )
