"""Secrets in the contract's JSON: hidden in answers, kept by a merge patch that leaves them alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from timers.errors import Invalid
from timers.secret import ALWAYS_SECRET, BODY, REDACTED, Secret
from timers.target import HttpTarget, Target

_BODIES: Final = ("body", "body_base64")


def named(target: HttpTarget) -> dict[str, Any]:
    """Return the member of a target's JSON that says which headers are secret, beside those that always are."""
    names = [name for name in target.secret_headers if name not in ALWAYS_SECRET]
    return {"secret_headers": names} if names else {}


def hidden(target: HttpTarget) -> dict[str, str]:
    """Return the secret headers as every answer shows them."""
    return dict.fromkeys(target.secret_headers, REDACTED)


def after_patch(target: Target, change: Mapping[str, Any]) -> tuple[dict[str, Secret], dict[str, Any]]:
    """
    Return the secrets that a merge patch of a target leaves as they are, and the members that say what was secret.

    What the patch takes away is in neither.
    """
    kept, members = _body_after(target, change)
    if isinstance(target, HttpTarget):
        headers = change.get("headers", {})
        if not isinstance(headers, Mapping):
            headers = dict.fromkeys(target.secret_headers)
        kept |= {name: target.secrets[name] for name in target.secret_headers if name not in headers}
        still = [name for name in target.secret_headers if name in kept or headers.get(name) is not None]
        members["secret_headers"] = [name for name in still if name not in ALWAYS_SECRET]
    return kept, members


def _body_after(target: Target, change: Mapping[str, Any]) -> tuple[dict[str, Secret], dict[str, Any]]:
    if BODY not in target.secrets:
        return {}, {}
    bodies = [change[name] for name in _BODIES if name in change]
    if not bodies:
        return {BODY: target.secrets[BODY]}, {"secret_body": True}
    return {}, {"secret_body": any(body is not None for body in bodies)}


def with_lower_case(change: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a merge patch of a target with the names of headers as they are kept. Raises Invalid."""
    headers = change.get("headers")
    if not isinstance(headers, Mapping):
        return change
    lower = {name.lower(): value for name, value in headers.items()}
    if len(lower) < len(headers):
        raise Invalid("/target/headers", "a header is given twice")
    return {**change, "headers": lower}
