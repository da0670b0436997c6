"""What goes to the service and comes from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NotRequired, Self, TypedDict

Json = Any


class HttpTarget(TypedDict):
    """A call."""

    type: NotRequired[Literal["http"]]
    url: str
    method: NotRequired[Literal["GET", "POST", "PUT", "PATCH", "DELETE"]]
    headers: NotRequired[Mapping[str, str]]
    body: NotRequired[Json]
    body_base64: NotRequired[str]
    timeout: NotRequired[float]
    secret_headers: NotRequired[Sequence[str]]
    secret_body: NotRequired[bool]


class Destination(TypedDict):
    """Where a message goes; without an exchange the routing key is the name of a queue."""

    exchange: NotRequired[str]
    routing_key: NotRequired[str]


class AmqpTarget(Destination):
    """A message."""

    type: Literal["amqp"]
    headers: NotRequired[Mapping[str, str | int | bool]]
    properties: NotRequired[Mapping[str, str | int]]
    body: NotRequired[Json]
    body_base64: NotRequired[str]
    redeliveries_left: NotRequired[int]
    dead_letter: NotRequired[Destination]
    secret_body: NotRequired[bool]


class LogTarget(TypedDict):
    """A line in the log."""

    type: Literal["log"]
    body: NotRequired[Json]
    body_base64: NotRequired[str]


class QueueTarget(TypedDict):
    """A pull queue."""

    type: Literal["queue"]
    queue: str
    body: NotRequired[Json]
    body_base64: NotRequired[str]
    secret_body: NotRequired[bool]


Target = HttpTarget | AmqpTarget | LogTarget | QueueTarget


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer as the service has it; ``remaining`` in seconds, as of the answer, None once it is final."""

    id: str
    state: str
    version: int
    due_at: datetime
    remaining: float | None
    target: Mapping[str, Json]
    labels: Mapping[str, str]
    attempts: tuple[Mapping[str, Json], ...]

    @classmethod
    def of(cls, body: Mapping[str, Json]) -> Self:
        """Return the timer of an answer."""
        return cls(
            id=body["id"],
            state=body["state"],
            version=body["version"],
            due_at=datetime.fromisoformat(body["due_at"]),
            remaining=body["remaining"],
            target=body["target"],
            labels=body["labels"],
            attempts=tuple(body["attempts"]),
        )


@dataclass(frozen=True, slots=True)
class Lease:
    """
    A timer of a pull queue in the hands of its worker until ``expires_at``, unless it is extended.

    ``attempt`` is 1 for the first one; ``seconds`` is how long the lease was asked for.
    """

    token: str = field(repr=False)
    attempt: int
    expires_at: datetime
    timer: Timer
    seconds: float

    @classmethod
    def of(cls, body: Mapping[str, Json], seconds: float) -> Self:
        """Return the lease of an answer."""
        expires_at = datetime.fromisoformat(body["expires_at"])
        return cls(body["token"], body["attempt"], expires_at, Timer.of(body["timer"]), seconds)


@dataclass(frozen=True, slots=True)
class KnownQueue:
    """A pull queue, uncounted."""

    name: str
    paused: bool


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How many timers of a pull queue wait for their time, are ready, are leased; how long the oldest is ready."""

    scheduled: int
    ready: int
    leased: int
    oldest_ready_seconds: float | None
    paused: bool

    @classmethod
    def of(cls, body: Mapping[str, Json]) -> Self:
        """Return the counts of an answer."""
        return cls(**{name: body[name] for name in cls.__slots__})
