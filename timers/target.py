"""What a timer calls when it is due."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final
from urllib.parse import SplitResult, urlsplit

from timers import limits
from timers.amqp import AmqpTarget, check_amqp
from timers.body import Body, check_body
from timers.errors import Invalid
from timers.secret import ALWAYS_SECRET, BODY, NO_SECRETS, REDACTED, Secret, Unsigned

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
PULLED: Final = "queue:"
"""What the key of a pull queue begins with, and no other target's."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNSAFE_IN_URL: Final = re.compile(r"[\x00-\x20\x7f\\]")
_UNSAFE_IN_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OURS: Final = ("webhook-", "timer-")
_OF_THE_CONNECTION: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """
    An HTTP endpoint and the request it gets; ``timeout`` in seconds covers the whole call.

    ``secrets`` are the values of secret headers by name, and a secret body as BODY: those are in neither
    ``headers`` nor ``body`` until they are opened for the call.
    """

    url: str = field(repr=False)
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Body | None = field(default=None, repr=False)
    timeout: float = 10.0
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)
    signing_key: str | None = None
    """The one signing secret of the tenant that signs; None: all of them."""

    type: ClassVar = "http"
    signed: ClassVar = True

    @property
    def timeout_ms(self) -> int:
        """The time-out in whole milliseconds."""
        return round(self.timeout * 1000)

    @property
    def key(self) -> str:
        """Which receiver this is, for limits and fairness: scheme, host and port."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()

    @property
    def secret_headers(self) -> list[str]:
        """The names of the secret headers."""
        return [name for name in self.secrets if name != BODY]

    def opened(self, texts: Mapping[str, str]) -> HttpTarget:
        """Return this target with its secrets, read by a vault, in their places."""
        headers = {**self.headers, **{name: text for name, text in texts.items() if name != BODY}}
        body = Body.unpack(texts[BODY]) if BODY in texts else self.body
        return replace(self, headers=headers, body=body, secrets={})


@dataclass(frozen=True, slots=True)
class LogTarget(Unsigned):
    """A line in the consumer's log."""

    body: Body | None = field(default=None, repr=False)

    type: ClassVar = "log"
    secrets: ClassVar = NO_SECRETS
    timeout_ms: ClassVar = 1_000
    key: ClassVar = "log"


@dataclass(frozen=True, slots=True)
class QueueTarget(Unsigned):
    """A pull queue: nobody is called, workers come and fetch. A secret body is BODY of ``secrets``."""

    queue: str
    body: Body | None = field(default=None, repr=False)
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)

    type: ClassVar = "queue"
    timeout_ms: ClassVar = 0

    @property
    def key(self) -> str:
        """Which receiver this is."""
        return f"{PULLED}{self.queue}"

    def opened(self, texts: Mapping[str, str]) -> QueueTarget:
        """Return this target with its body, read by a vault, in its place."""
        return replace(self, body=Body.unpack(texts[BODY]), secrets={})


Target = HttpTarget | AmqpTarget | LogTarget | QueueTarget


def check_queue(name: str, pointer: str = "/target/queue") -> str:
    """Return ``name`` if a pull queue can have it, else raise Invalid."""
    if not limits.QUEUE_PATTERN.fullmatch(name):
        raise Invalid(pointer, f"a queue's name matches {limits.QUEUE_PATTERN.pattern}")
    return name


def check_url(url: str) -> str:
    """Return ``url`` if it can be called, else raise Invalid."""
    pointer = "/target/url"
    if len(url) > limits.MAX_URL_LENGTH:
        raise Invalid(pointer, f"at most {limits.MAX_URL_LENGTH} characters")
    if _UNSAFE_IN_URL.search(url):
        raise Invalid(pointer, "no blanks, control characters or backslashes; percent-encode them")
    parts, port = _split(url, pointer)
    if parts.scheme.lower() not in ("http", "https"):
        raise Invalid(pointer, "an absolute http:// or https:// url")
    if not parts.hostname or port == 0:
        raise Invalid(pointer, "a host and, if any, a port from 1 to 65535")
    if parts.username is not None or parts.password is not None:
        raise Invalid(pointer, "no user or password in the url; use the authorization header")
    _check_host(parts.hostname, pointer)
    return url


def _split(url: str, pointer: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError as error:
        raise Invalid(pointer, f"not a url: {error}") from None


def _check_host(host: str, pointer: str) -> None:
    try:
        encoded = host if ":" in host else host.encode("idna").decode()
    except UnicodeError:
        raise Invalid(pointer, "the host is not a valid domain name") from None
    if len(encoded) > 253:
        raise Invalid(pointer, "the host is longer than 253 characters")


def check_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return ``headers`` with lower-case names if they can be sent, else raise Invalid."""
    if len(headers) > limits.MAX_HEADERS:
        raise Invalid("/target/headers", f"at most {limits.MAX_HEADERS} headers")
    checked: dict[str, str] = {}
    for name, value in headers.items():
        pointer = f"/target/headers/{_escape(name)}"
        _check_header(name, value, pointer)
        if name.lower() in checked:
            raise Invalid(pointer, "given twice")
        checked[name.lower()] = value.strip(" \t")
    return checked


def _check_header(name: str, value: str, pointer: str) -> None:
    lower = name.lower()
    if not _TOKEN.fullmatch(name):
        raise Invalid(pointer, "not a header name")
    if lower in _OF_THE_CONNECTION or lower.startswith(_OURS):
        raise Invalid(pointer, "this header is set by the service")
    if _UNSAFE_IN_VALUE.search(value) or not _is_latin(value):
        raise Invalid(pointer, "a header value holds printable Latin-1 characters")
    if len(name) + len(value) > limits.MAX_HEADER_BYTES:
        raise Invalid(pointer, f"at most {limits.MAX_HEADER_BYTES} bytes for name and value")


def _is_latin(value: str) -> bool:
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def check_target(target: Target) -> Target:
    """Return a target that can be called, with normal header names, else raise Invalid."""
    match target:
        case HttpTarget():
            return check_http(target)
        case AmqpTarget():
            return check_amqp(target)
        case LogTarget():
            return LogTarget(check_body(target.body))
        case QueueTarget():
            return QueueTarget(check_queue(target.queue), check_body(target.body))


def check_http(target: HttpTarget) -> HttpTarget:
    """Return an HTTP target that can be called, with normal header names, else raise Invalid."""
    check_url(target.url)
    if target.method not in METHODS:
        raise Invalid("/target/method", f"one of {', '.join(METHODS)}")
    if not limits.MIN_TIMEOUT_S <= target.timeout <= limits.MAX_TIMEOUT_S:
        raise Invalid("/target/timeout", f"{limits.MIN_TIMEOUT_S} to {limits.MAX_TIMEOUT_S} seconds")
    return replace(target, headers=check_headers(target.headers), body=check_body(target.body))


def set_apart(target: HttpTarget, named: Iterable[str], *, body: bool, kept: Mapping[str, Secret]) -> HttpTarget:
    """
    Return a checked target with its secrets set apart: those of ``kept`` and those that are given.

    ``named`` are the headers that are secret beside those that always are, ``body`` says whether the body is.
    Raises Invalid where a name stands for no header, and where what was secret would become public.
    """
    names = [name.lower() for name in named]
    for number, name in enumerate(names):
        if name not in target.headers and name not in kept:
            raise Invalid(f"/target/secret_headers/{number}", "there is no header of this name")
    for name in kept.keys() - ALWAYS_SECRET - set(names) - {BODY}:
        raise Invalid("/target/secret_headers", f"{name} stays secret, unless its value is given anew")
    given = {name: target.headers[name] for name in target.headers if name in ALWAYS_SECRET or name in names}
    for name, value in given.items():
        if value == REDACTED:
            raise Invalid(f"/target/headers/{_escape(name)}", f"{REDACTED} only stands for a secret; give its value")
    secrets = {**kept, **given, **_secret_body(target.body, secret=body, kept=BODY in kept)}
    if not secrets:
        return target
    if len(secrets.keys() | target.headers.keys()) > limits.MAX_HEADERS + (BODY in secrets):
        raise Invalid("/target/headers", f"at most {limits.MAX_HEADERS} headers")
    public = {name: value for name, value in target.headers.items() if name not in given}
    return replace(target, headers=public, body=None if BODY in secrets else target.body, secrets=secrets)


def with_secret_body(
    target: AmqpTarget | QueueTarget, *, secret: bool, kept: Mapping[str, Secret]
) -> AmqpTarget | QueueTarget:
    """Return a checked target with its body set apart where it is ``secret``, given or ``kept``. Raises Invalid."""
    secrets = {**kept, **_secret_body(target.body, secret=secret, kept=BODY in kept)}
    return replace(target, body=None, secrets=secrets) if secrets else target


def _secret_body(body: Body | None, *, secret: bool, kept: bool) -> Mapping[str, str]:
    if kept and not secret:
        raise Invalid("/target/secret_body", "the body stays secret, unless it is given anew")
    if not secret or kept:
        return {}
    if body is None:
        raise Invalid("/target/secret_body", "there is no body")
    if body.text in (REDACTED, f'"{REDACTED}"'):
        raise Invalid("/target/body", f"{REDACTED} only stands for a secret; give the body")
    return {BODY: body.packed()}


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
