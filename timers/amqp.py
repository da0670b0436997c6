"""A message to the broker, as a target."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

from timers import limits
from timers.body import Body, check_body
from timers.errors import Invalid
from timers.secret import BODY, Secret, Unsigned

HeaderValue = str | int | bool
Properties = Mapping[str, str | int]

RESERVED: Final = ("timers.v", "amq.rabbitmq.")
"""How the names begin of what nobody but this service and the broker itself may write to."""

OUR_HEADERS: Final = "timer-"

_HEEDED: Final = frozenset({"cc", "bcc", "x-death"})
"""Headers that the broker acts on: the first two name more queues, past every check."""

_TEXTS: Final = frozenset({"content_type", "content_encoding", "correlation_id", "reply_to", "type", "app_id"})
_NUMBERS: Final = {"priority": 255, "expiration": 2**32 - 1}

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_BIGGEST: Final = 2**63


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a message is published; the exchange without a name leads to the queue that the key names."""

    exchange: str
    routing_key: str

    def __str__(self) -> str:
        return f"{self.exchange}/{self.routing_key}"


@dataclass(frozen=True, slots=True)
class AmqpTarget(Unsigned):
    """
    A message to an exchange or a queue of the broker.

    With ``redeliveries_left``, how often it may still be worked at, it goes to ``dead_letter`` where none is left.
    A secret body is BODY of ``secrets``.
    """

    to: Destination
    headers: Mapping[str, HeaderValue] = field(default_factory=dict, repr=False)
    properties: Properties = field(default_factory=dict)
    body: Body | None = field(default=None, repr=False)
    redeliveries_left: int | None = None
    dead_letter: Destination | None = None
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)

    type: ClassVar = "amqp"
    timeout_ms: ClassVar = 10_000

    @property
    def destination(self) -> Destination:
        """Where this message goes."""
        return self.dead_letter if self.dead_letter is not None and not self.redeliveries_left else self.to

    @property
    def key(self) -> str:
        """Which receiver this is, for limits and fairness."""
        return f"amqp:{self.destination}"

    def opened(self, texts: Mapping[str, str]) -> AmqpTarget:
        """Return this target with its body, read by a vault, in its place."""
        return replace(self, body=Body.unpack(texts[BODY]), secrets={})


def check_amqp(target: AmqpTarget) -> AmqpTarget:
    """Return a target that can be published to, else raise Invalid."""
    _check_destination(target.to, "/target")
    _check_headers(target.headers)
    _check_properties(target.properties)
    if (target.redeliveries_left is None) != (target.dead_letter is None):
        missing = "redeliveries_left" if target.redeliveries_left is None else "dead_letter"
        raise Invalid(f"/target/{missing}", "redeliveries_left and dead_letter go together")
    left = target.redeliveries_left
    if left is not None and (type(left) is not int or not 0 <= left <= limits.MAX_REDELIVERIES):
        raise Invalid("/target/redeliveries_left", f"0 to {limits.MAX_REDELIVERIES}")
    if target.dead_letter is not None:
        _check_destination(target.dead_letter, "/target/dead_letter")
    return replace(target, body=check_body(target.body))


def _check_destination(to: Destination, pointer: str) -> None:
    _check_name(to.exchange, f"{pointer}/exchange")
    _check_name(to.routing_key, f"{pointer}/routing_key")
    if not to.exchange and not to.routing_key:
        raise Invalid(f"{pointer}/routing_key", "the name of a queue, where no exchange is named")


def _check_name(name: str, pointer: str) -> None:
    _check_short(name, pointer)
    if name.startswith(RESERVED):
        raise Invalid(pointer, f"names that begin with {' or '.join(RESERVED)} are not for messages of clients")


def _check_short(text: str, pointer: str) -> None:
    if len(text.encode()) > limits.MAX_AMQP_NAME_BYTES:
        raise Invalid(pointer, f"at most {limits.MAX_AMQP_NAME_BYTES} bytes")
    if _CONTROL.search(text):
        raise Invalid(pointer, "no control characters")


def _check_headers(headers: Mapping[str, HeaderValue]) -> None:
    if len(headers) > limits.MAX_HEADERS:
        raise Invalid("/target/headers", f"at most {limits.MAX_HEADERS} headers")
    total = 0
    for name, value in headers.items():
        total += _check_header(name, value)
    if total > limits.MAX_AMQP_HEADERS_BYTES:
        raise Invalid("/target/headers", f"at most {limits.MAX_AMQP_HEADERS_BYTES} bytes for all of them")


def _check_header(name: str, value: HeaderValue) -> int:
    """Check one header and return its size."""
    pointer = f"/target/headers/{name.replace('~', '~0').replace('/', '~1')}"
    if not name:
        raise Invalid(pointer, "a header has a name")
    _check_short(name, pointer)
    if name.lower().startswith(OUR_HEADERS):
        raise Invalid(pointer, "this header is set by the service")
    if name.lower() in _HEEDED:
        raise Invalid(pointer, "the broker acts on this header")
    if not isinstance(value, (str, int)):
        raise Invalid(pointer, "a string, a whole number, true or false")
    if isinstance(value, int) and not -_BIGGEST <= value < _BIGGEST:
        raise Invalid(pointer, "whole numbers have 64 bits")
    size = len(name.encode()) + len(str(value).encode())
    if size > limits.MAX_HEADER_BYTES:
        raise Invalid(pointer, f"at most {limits.MAX_HEADER_BYTES} bytes for name and value")
    return size


def _check_properties(properties: Properties) -> None:
    for name, value in properties.items():
        pointer = f"/target/properties/{name}"
        if name in _NUMBERS:
            if type(value) is not int or not 0 <= value <= _NUMBERS[name]:
                raise Invalid(pointer, f"0 to {_NUMBERS[name]}")
        elif name in _TEXTS and isinstance(value, str):
            _check_short(value, pointer)
        else:
            raise Invalid(pointer, "there is no such property, or it is set by the service")
    if str(properties.get("reply_to", "")).startswith(RESERVED):
        raise Invalid("/target/properties/reply_to", f"not a name that begins with {' or '.join(RESERVED)}")
