"""Targets in the JSON of the public contract."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, WithJsonSchema

from api import secret_fields
from api.strict_json import NotJson, dumps, parse
from timers import limits
from timers.amqp import AmqpTarget, Destination, check_amqp
from timers.body import Body, BodyKind, check_body
from timers.errors import Invalid
from timers.secret import BODY, REDACTED, Secret
from timers.target import (
    HttpTarget,
    LogTarget,
    QueueTarget,
    Target,
    check_http,
    check_queue,
    check_target,
    set_apart,
    with_secret_body,
)

AnyBody = Annotated[Any, Field(description="Any JSON, or a string that is sent as it is. At most 256 KiB.")]
Base64Body = Annotated[str | None, Field(description="A binary body, instead of `body`.")]
SecretBody = Annotated[bool, Field(description="Whether the body is kept encrypted and never shown.")]


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
    secret_body: SecretBody = False
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
    secret_body: SecretBody = False

    def target(self, kept: Mapping[str, Secret]) -> Target:
        """Return the core's value, with the secret body that it keeps from before. Raises Invalid."""
        target = check_amqp(
            AmqpTarget(
                to=self.destination(),
                headers=self.headers,
                properties=self.properties.model_dump(exclude_none=True),
                body=_body(self.body, self.body_base64),
                redeliveries_left=self.redeliveries_left,
                dead_letter=self.dead_letter.destination() if self.dead_letter else None,
            )
        )
        return with_secret_body(target, secret=self.secret_body, kept=kept)


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
    secret_body: SecretBody = False

    def target(self, kept: Mapping[str, Secret]) -> Target:
        """Return the core's value, with the secret body that it keeps from before. Raises Invalid."""
        target = QueueTarget(check_queue(self.queue), check_body(_body(self.body, self.body_base64)))
        return with_secret_body(target, secret=self.secret_body, kept=kept)


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


def target_out(target: Target) -> dict[str, Any]:
    """Return a target as clients see it, with secrets hidden."""
    out = target_wish(target)
    if isinstance(target, HttpTarget):
        out["headers"] |= secret_fields.hidden(target)
        out |= secret_fields.named(target)
    if BODY in target.secrets:
        out |= {"body": REDACTED, "secret_body": True}
    return out


def target_wish(target: Target) -> dict[str, Any]:
    """Return what a client asked for, without its secrets."""
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
