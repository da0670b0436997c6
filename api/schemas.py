"""The JSON of the public contract, and its way into and out of the core."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, WithJsonSchema
from pydantic.config import JsonDict

from api import secret_fields
from api.strict_json import NotJson, dumps, parse
from api.times import DelayMs, Time
from timers import limits
from timers.amqp import AmqpTarget, Destination
from timers.body import Body, BodyKind
from timers.errors import Invalid
from timers.retry import RetryPolicy
from timers.secret import BODY, NO_SECRETS, REDACTED, Secret
from timers.service import Stats
from timers.stamps import rfc3339
from timers.state import State
from timers.target import HttpTarget, LogTarget, QueueTarget, Target, check_http, check_target, set_apart
from timers.timer import Spec, Timer

_NULL: Final[JsonDict] = {"type": "null"}
Labels = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=limits.MAX_LABEL_LENGTH, pattern="^[^:]*$")],
        Annotated[str, Field(max_length=limits.MAX_LABEL_LENGTH)],
    ],
    Field(max_length=limits.MAX_LABELS),
]
Id = Annotated[str, Field(pattern=f"^{limits.ID_PATTERN.pattern}$")]


AnyBody = Annotated[Any, Field(description="Any JSON, or a string that is sent as it is. At most 256 KiB.")]
Base64Body = Annotated[str | None, Field(description="A binary body, instead of `body`.")]


class Strict(BaseModel):
    """A value of the contract: no field too many, no type bent."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class HttpTargetIn(Strict):
    """An HTTP endpoint and the request it gets."""

    type: Literal["http"] = "http"
    url: str = Field(max_length=limits.MAX_URL_LENGTH, examples=["https://example.com/hook"])
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    headers: dict[str, str] = Field(default_factory=dict, max_length=limits.MAX_HEADERS)
    body: AnyBody = None
    body_base64: Base64Body = None
    timeout: float = Field(
        10.0, ge=limits.MIN_TIMEOUT_S, le=limits.MAX_TIMEOUT_S, description="Seconds for the whole call."
    )
    secret_headers: list[str] = Field(
        default_factory=list,
        max_length=limits.MAX_HEADERS,
        description="Headers whose values are kept encrypted and never shown; authorization and cookie always are.",
    )
    secret_body: bool = Field(False, description="Whether the body is, likewise.")  # noqa: FBT003
    signing_key: str | None = Field(
        None, max_length=64, description="The id of the one signing secret of the tenant that signs; else all of them."
    )

    def target(self, kept: Mapping[str, Secret]) -> Target:
        """Return the core's value, with the secrets that it keeps from before. Raises Invalid."""
        body = _body(self.body, self.body_base64)
        asked = HttpTarget(self.url, self.method, self.headers, body, self.timeout, signing_key=self.signing_key)
        target = check_http(asked)
        return set_apart(target, self.secret_headers, body=self.secret_body, kept=kept)


AmqpName = Annotated[str, Field(max_length=limits.MAX_AMQP_NAME_BYTES)]
AmqpHeader = Annotated[
    Any,
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "boolean"}]}),
]


class DestinationIn(Strict):
    """Where a message is published; without an exchange the routing key is the name of a queue."""

    exchange: AmqpName = ""
    routing_key: AmqpName = ""

    def destination(self) -> Destination:
        """Return the core's value."""
        return Destination(self.exchange, self.routing_key)


class AmqpPropertiesIn(Strict):
    """What AMQP calls the properties of a message; the rest of them the service sets."""

    content_type: AmqpName | None = None
    content_encoding: AmqpName | None = None
    correlation_id: AmqpName | None = None
    reply_to: AmqpName | None = None
    type: AmqpName | None = None
    app_id: AmqpName | None = None
    priority: int | None = Field(None, ge=0, le=255)
    expiration: int | None = Field(None, ge=0, le=2**32 - 1, description="Milliseconds, as AMQP has it.")


class AmqpTargetIn(DestinationIn):
    """A message to an exchange or a queue of the broker that the service itself uses."""

    type: Literal["amqp"]
    headers: dict[str, AmqpHeader] = Field(default_factory=dict, max_length=limits.MAX_HEADERS)
    properties: AmqpPropertiesIn = Field(default_factory=AmqpPropertiesIn)
    body: AnyBody = None
    body_base64: Base64Body = None
    redeliveries_left: int | None = Field(
        None, ge=0, le=limits.MAX_REDELIVERIES, description="At 0 the message goes to `dead_letter`."
    )
    dead_letter: DestinationIn | None = None

    def target(self, _: Mapping[str, Secret]) -> Target:
        """Return the core's value. Raises Invalid."""
        return check_target(
            AmqpTarget(
                to=self.destination(),
                headers=self.headers,
                properties=self.properties.model_dump(exclude_none=True),
                body=_body(self.body, self.body_base64),
                redeliveries_left=self.redeliveries_left,
                dead_letter=self.dead_letter.destination() if self.dead_letter else None,
            )
        )


class LogTargetIn(Strict):
    """A line in the log of the consumer that handles it."""

    type: Literal["log"]
    body: AnyBody = None
    body_base64: Base64Body = None

    def target(self, _: Mapping[str, Secret]) -> Target:
        """Return the core's value. Raises Invalid."""
        return check_target(LogTarget(_body(self.body, self.body_base64)))


class QueueTargetIn(Strict):
    """A pull queue: the timer waits there until a worker leases it."""

    type: Literal["queue"]
    queue: str = Field(pattern=f"^{limits.QUEUE_PATTERN.pattern}$", examples=["jobs"])
    body: AnyBody = None
    body_base64: Base64Body = None

    def target(self, _: Mapping[str, Secret]) -> Target:
        """Return the core's value. Raises Invalid."""
        return check_target(QueueTarget(self.queue, _body(self.body, self.body_base64)))


def _body(body: Any, body_base64: str | None) -> Body | None:
    if body is not None and body_base64 is not None:
        raise Invalid("/target/body_base64", "only one of body and body_base64")
    if body_base64 is not None:
        return Body(BodyKind.BASE64, body_base64)
    if isinstance(body, str):
        return Body(BodyKind.TEXT, body)
    return None if body is None else Body(BodyKind.JSON, dumps(body).decode())


def _type_of(target: object) -> str | None:
    """Return the type that a target says it has; one that says none is an HTTP endpoint."""
    said = target.get("type", HttpTarget.type) if isinstance(target, dict) else getattr(target, "type", HttpTarget.type)
    return said if isinstance(said, str) else None


UNKNOWN_TYPE: Final = "unknown_target_type"
TARGETS: Final = {"http": HttpTargetIn, "amqp": AmqpTargetIn, "log": LogTargetIn, "queue": QueueTargetIn}
TargetIn = Annotated[
    Annotated[HttpTargetIn, Tag("http")]
    | Annotated[AmqpTargetIn, Tag("amqp")]
    | Annotated[LogTargetIn, Tag("log")]
    | Annotated[QueueTargetIn, Tag("queue")],
    Discriminator(_type_of, custom_error_type=UNKNOWN_TYPE, custom_error_message=f"one of {', '.join(TARGETS)}"),
]


class RetryIn(Strict):
    """How often and how far apart; times in seconds."""

    max_attempts: int = Field(8, ge=1, le=limits.MAX_ATTEMPTS)
    min_backoff: float = Field(1.0, ge=0, le=limits.MAX_BACKOFF_S)
    max_backoff: float = Field(3600.0, ge=0, le=limits.MAX_BACKOFF_S)
    multiplier: float = Field(2.0, ge=1, le=limits.MAX_MULTIPLIER)
    jitter: float = Field(0.1, ge=0, le=1, description="The share by which a wait varies either way.")

    def policy(self) -> RetryPolicy:
        """Return the core's value. Raises Invalid."""
        if self.max_backoff < self.min_backoff:
            raise Invalid("/retry/max_backoff", "not below min_backoff")
        return RetryPolicy(self.max_attempts, self.min_backoff, self.max_backoff, self.multiplier, self.jitter)


class TimerIn(Strict):
    """What to call and when: exactly one of `due_at` and `delay`."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["due_at"], "properties": {"due_at": {"not": _NULL}, "delay": _NULL}},
                {"required": ["delay"], "properties": {"delay": {"not": _NULL}, "due_at": _NULL}},
            ],
            "examples": [
                {"delay": 30, "target": {"url": "https://example.com/hook", "body": {"order": 42}}},
                {"due_at": "2026-12-01T09:00:00Z", "target": {"url": "https://example.com/hook"}},
            ],
        }
    )

    due_at: Time | None = None
    delay: DelayMs | None = None
    target: TargetIn
    retry: RetryIn = Field(default_factory=RetryIn)
    labels: Labels = Field(default_factory=dict)

    def spec(self, now_ms: int, trace: str | None, kept: Mapping[str, Secret] = NO_SECRETS) -> Spec:
        """Return the core's value, a delay counted from now, secrets kept from before. Raises Invalid."""
        return Spec(
            due_at_ms=self._due_at_ms(now_ms),
            target=self.target.target(kept),
            retry=self.retry.policy(),
            labels=self.labels,
            trace=trace,
        )

    def _due_at_ms(self, now_ms: int) -> int:
        if (self.due_at is None) == (self.delay is None):
            raise Invalid("/due_at", "exactly one of due_at and delay is needed")
        if self.due_at is None:
            assert self.delay is not None
            if self.delay > limits.MAX_DELAY_MS:
                raise Invalid("/delay", "0 seconds to 10 years")
            return now_ms + self.delay
        if not 0 <= self.due_at <= now_ms + limits.MAX_DELAY_MS:
            raise Invalid("/due_at", "from 1970 to 10 years ahead")
        return self.due_at


class NewTimerIn(TimerIn):
    """A timer to schedule, under an id of the client's choice if it names one."""

    id: Id | None = None


class TimerPatch(BaseModel):
    """A JSON merge patch: what is given changes, null goes back to the default, the rest stays."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"delay": 60}, {"target": {"headers": {"x-team": None}}}]}
    )

    due_at: Any = None
    delay: Any = None
    target: Any = None
    retry: Any = None
    labels: Any = None


class AttemptOut(BaseModel):
    """One call and how it ended."""

    number: int
    started_at: str
    finished_at: str
    lateness_ms: int
    status: int | None
    error: str | None


class TimerOut(BaseModel):
    """A timer as it is."""

    id: str
    state: State
    version: int
    due_at: str
    next_attempt_at: str | None
    remaining: float | None
    target: TargetIn
    retry: RetryIn
    labels: dict[str, str]
    attempts: list[AttemptOut]
    created_at: str
    updated_at: str


class TimerList(BaseModel):
    """A part of a list; `next_cursor` leads to the next part."""

    timers: list[TimerOut]
    next_cursor: str | None


class LatenessOut(BaseModel):
    """Milliseconds between planned and real start of first attempts, over the latest deliveries."""

    p50: int | None
    p95: int | None
    p99: int | None
    max: int | None
    sample: int


class StatsOut(BaseModel):
    """How a tenant's timers do."""

    counts: dict[str, int]
    overdue: int
    oldest_overdue_seconds: float | None
    lateness_ms: LatenessOut


class FieldError(BaseModel):
    """What is wrong with one field."""

    pointer: str
    detail: str


class Problem(BaseModel):
    """An error as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    state: State | None = Field(None, description="With 409: the state that the timer is in.")
    retry_after: int | None = Field(None, description="With 429 and 503: come back after this many seconds.")
    errors: list[FieldError] | None = Field(None, description="With 422: the fields that are wrong.")


class OutcomeOut(BaseModel):
    """What became of one item of a batch."""

    status: int
    timer: TimerOut | None = None
    problem: Problem | None = None


class BatchOut(BaseModel):
    """What became of each item, in order."""

    results: list[OutcomeOut]


def fingerprint(wish: NewTimerIn) -> str:
    """Return what two requests have in common that wish for the same."""
    text = json.dumps(wish.model_dump(), sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:32]


def timer_out(timer: Timer, now_ms: int | None = None) -> dict[str, Any]:
    """Return a timer as clients see it at ``now_ms``, or saw it when it was written."""
    remaining_ms = timer.remaining_ms(timer.updated_at_ms if now_ms is None else now_ms)
    return {
        "id": timer.name,
        "state": timer.state.value,
        "version": timer.version,
        "due_at": rfc3339(timer.due_at_ms),
        "next_attempt_at": None if timer.final else rfc3339(timer.next_attempt_at_ms),
        "remaining": None if remaining_ms is None else remaining_ms / 1000,
        **_shown(timer),
        "attempts": [
            {
                "number": attempt.number,
                "started_at": rfc3339(attempt.started_at_ms),
                "finished_at": rfc3339(attempt.finished_at_ms),
                "lateness_ms": attempt.lateness_ms,
                "status": attempt.status,
                "error": attempt.error,
            }
            for attempt in timer.attempts
        ],
        "created_at": rfc3339(timer.created_at_ms),
        "updated_at": rfc3339(timer.updated_at_ms),
    }


def stats_out(stats: Stats) -> dict[str, Any]:
    """Return the stats as clients see them."""
    overdue_ms = stats.oldest_overdue_ms
    return {
        "counts": {state.value: count for state, count in stats.counts.by_state.items()},
        "overdue": stats.counts.overdue,
        "oldest_overdue_seconds": None if overdue_ms is None else overdue_ms / 1000,
        "lateness_ms": {
            "p50": stats.percentile(0.5),
            "p95": stats.percentile(0.95),
            "p99": stats.percentile(0.99),
            "max": stats.percentile(1),
            "sample": len(stats.lateness_ms),
        },
    }


def patched(timer: Timer, patch: Mapping[str, Any], now_ms: int) -> Spec:
    """
    Return what a timer's client wishes after a merge patch. Raises ValidationError, Invalid.

    A target of another type has nothing of the one before.
    """
    change = patch.get("target", {})
    kept: Mapping[str, Secret] = NO_SECRETS
    wishes = {"due_at": timer.due_at_ms, **_wishes(timer)}
    if _changes_type(timer.target, change):
        del wishes["target"]
    elif isinstance(timer.target, HttpTarget) and isinstance(change, Mapping):
        change = secret_fields.with_lower_case(change)
        patch = {**patch, "target": change}
        kept, secrecy = secret_fields.after_patch(timer.target, change)
        wishes["target"] |= secrecy
    if patch.get("delay") is not None and "due_at" not in patch:
        del wishes["due_at"]
    spec = TimerIn.model_validate(merge_patch(wishes, patch)).spec(now_ms, timer.trace, kept)
    if kept and spec.target.key != timer.target.key:
        raise Invalid("/target/url", "another receiver: give the secrets anew that it may have")
    return spec


def _changes_type(target: Target, patch: object) -> bool:
    return isinstance(patch, Mapping) and "type" in patch and (patch["type"] or HttpTarget.type) != target.type


def merge_patch(value: Any, patch: Any) -> Any:
    """Return ``value`` changed by ``patch``. Source: RFC 7396."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(value) if isinstance(value, Mapping) else {}
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), change)
    return merged


def _wishes(timer: Timer) -> dict[str, Any]:
    """Return what a timer's client asked for, without its secrets."""
    retry = timer.retry
    return {
        "target": _target_out(timer.target),
        "retry": {
            "max_attempts": retry.max_attempts,
            "min_backoff": retry.min_backoff,
            "max_backoff": retry.max_backoff,
            "multiplier": retry.multiplier,
            "jitter": retry.jitter,
        },
        "labels": dict(timer.labels),
    }


def _shown(timer: Timer) -> dict[str, Any]:
    """Return what a timer's client asked for, with secrets hidden."""
    wishes, target = _wishes(timer), timer.target
    if isinstance(target, HttpTarget) and target.secrets:
        wishes["target"]["headers"] |= secret_fields.hidden(target)
        wishes["target"] |= secret_fields.named(target)
        if BODY in target.secrets:
            wishes["target"]["body"] = REDACTED
    return wishes


def _target_out(target: Target) -> dict[str, Any]:
    match target:
        case HttpTarget():
            return {
                "type": target.type,
                "url": target.url,
                "method": target.method,
                "headers": dict(target.headers),
                **_body_out(target.body),
                "timeout": target.timeout,
                **({} if target.signing_key is None else {"signing_key": target.signing_key}),
            }
        case AmqpTarget():
            return _amqp_out(target)
        case LogTarget():
            return {"type": target.type, **_body_out(target.body)}
        case QueueTarget():
            return {"type": target.type, "queue": target.queue, **_body_out(target.body)}


def _amqp_out(target: AmqpTarget) -> dict[str, Any]:
    out: dict[str, Any] = {
        "type": target.type,
        **asdict(target.to),
        "headers": dict(target.headers),
        "properties": dict(target.properties),
        **_body_out(target.body),
    }
    if target.dead_letter is not None:
        out |= {"redeliveries_left": target.redeliveries_left, "dead_letter": asdict(target.dead_letter)}
    return out


def _body_out(body: Body | None) -> dict[str, Any]:
    if body is None:
        return {}
    if body.kind is BodyKind.BASE64:
        return {"body_base64": body.text}
    if body.kind is BodyKind.JSON:
        with suppress(NotJson):  # whatever is in the table can be shown, and listed beside others
            return {"body": parse(body.text)}
    return {"body": body.text}
