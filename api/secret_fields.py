"""Secrets in the contract's JSON: hidden in answers, kept by a merge patch that leaves them alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from timers.errors import Invalid
from timers.secret import ALWAYS_SECRET, BODY, REDACTED, Secret
from timers.target import HttpTarget

_BODIES: Final = ("body", "body_base64")


def named(target: HttpTarget) -> dict[str, Any]:
    """Return the members of a target's JSON that say what is secret, beside the headers that always are."""
    names = [name for name in target.secret_headers if name not in ALWAYS_SECRET]
    members: dict[str, Any] = {"secret_headers": names} if names else {}
    if BODY in target.secrets:
        members["secret_body"] = True
    return members


def hidden(target: HttpTarget) -> dict[str, str]:
    """Return the secret headers as every answer shows them."""
    return dict.fromkeys(target.secret_headers, REDACTED)


def after_patch(target: HttpTarget, change: Mapping[str, Any]) -> tuple[dict[str, Secret], dict[str, Any]]:
    """
    Return the secrets that a merge patch of a target leaves as they are, and the members that say what was secret.

    What the patch takes away is in neither.
    """
    headers = change.get("headers", {})
    if not isinstance(headers, Mapping):
        headers = dict.fromkeys(target.secret_headers)
    bodies = [change[name] for name in _BODIES if name in change]
    touched = {*headers, BODY} if bodies else {*headers}
    kept = {name: secret for name, secret in target.secrets.items() if name not in touched}
    still = [name for name in target.secret_headers if name in kept or headers.get(name) is not None]
    members: dict[str, Any] = {"secret_headers": [name for name in still if name not in ALWAYS_SECRET]}
    if BODY in target.secrets:
        members["secret_body"] = BODY in kept or any(body is not None for body in bodies)
    return kept, members


def with_lower_case(change: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a merge patch of a target with the names of headers as they are kept. Raises Invalid."""
    headers = change.get("headers")
    if not isinstance(headers, Mapping):
        return change
    lower = {name.lower(): value for name, value in headers.items()}
    if len(lower) < len(headers):
        raise Invalid("/target/headers", "a header is given twice")
    return {**change, "headers": lower}
