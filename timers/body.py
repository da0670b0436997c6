"""What a target is sent, as the client gave it."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from timers import limits
from timers.errors import Invalid


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

    def packed(self) -> str:
        """Return kind and text in one, to be sealed."""
        return f"{self.kind}:{self.text}"

    @classmethod
    def unpack(cls, packed: str) -> Body:
        """Return the body that was packed."""
        kind, _, text = packed.partition(":")
        return cls(BodyKind(kind), text)


_CONTENT_TYPES: Final = {
    BodyKind.JSON: "application/json",
    BodyKind.TEXT: "text/plain; charset=utf-8",
    BodyKind.BASE64: "application/octet-stream",
}


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
