"""What a timer calls when it is due."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import SplitResult, urlsplit

from timers import limits
from timers.errors import Invalid

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")

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


class BodyKind(StrEnum):
    """How the client gave the body, and so how it is read back."""

    JSON = "json"
    TEXT = "text"
    BASE64 = "base64"


@dataclass(frozen=True, slots=True)
class Body:
    """A body as the client gave it: JSON text, plain text, or base64 of bytes."""

    kind: BodyKind
    text: str

    def content(self) -> bytes:
        """Return the bytes that are sent."""
        if self.kind is BodyKind.BASE64:
            return base64.b64decode(self.text)
        return self.text.encode()

    @property
    def content_type(self) -> str:
        """The content type where the client gave none."""
        return _CONTENT_TYPES[self.kind]


_CONTENT_TYPES: Final = {
    BodyKind.JSON: "application/json",
    BodyKind.TEXT: "text/plain; charset=utf-8",
    BodyKind.BASE64: "application/octet-stream",
}


@dataclass(frozen=True, slots=True)
class Target:
    """An HTTP endpoint and the request it gets; ``timeout`` in seconds covers the whole call."""

    url: str
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    timeout: float = 10.0

    @property
    def timeout_ms(self) -> int:
        """The time-out in whole milliseconds."""
        return round(self.timeout * 1000)

    @property
    def key(self) -> str:
        """Which receiver this is, for limits and fairness: scheme, host and port."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()


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


def check_body(body: Body | None) -> Body | None:
    """Return ``body`` if it is within bounds and decodes, else raise Invalid."""
    if body is None:
        return None
    pointer = "/target/body_base64" if body.kind is BodyKind.BASE64 else "/target/body"
    try:
        content = _strict_content(body)
    except (binascii.Error, ValueError):
        raise Invalid(pointer, "not valid base64 or not valid Unicode text") from None
    if len(content) > limits.MAX_BODY_BYTES:
        raise Invalid(pointer, f"at most {limits.MAX_BODY_BYTES} bytes")
    return body


def _strict_content(body: Body) -> bytes:
    if body.kind is BodyKind.BASE64:
        return base64.b64decode(body.text, validate=True)
    return body.content()


def check_target(target: Target) -> Target:
    """Return a target that can be called, with normal header names, else raise Invalid."""
    check_url(target.url)
    if target.method not in METHODS:
        raise Invalid("/target/method", f"one of {', '.join(METHODS)}")
    if not limits.MIN_TIMEOUT_S <= target.timeout <= limits.MAX_TIMEOUT_S:
        raise Invalid("/target/timeout", f"{limits.MIN_TIMEOUT_S} to {limits.MAX_TIMEOUT_S} seconds")
    headers = check_headers(target.headers)
    return Target(target.url, target.method, headers, check_body(target.body), target.timeout)


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
