"""Merge patches of timers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api import secret_fields
from api.schemas import TimerIn, wishes
from api.targets import target_wish
from timers.errors import Invalid
from timers.secret import NO_SECRETS, Secret
from timers.target import HttpTarget, Target
from timers.timer import Spec, Timer


def patched(timer: Timer, patch: Mapping[str, Any], now_ms: int) -> Spec:
    """
    Return what a timer's client wishes after a merge patch. Raises ValidationError, Invalid.

    A target of another type has nothing of the one before.
    """
    change = patch.get("target", {})
    kept: Mapping[str, Secret] = NO_SECRETS
    asked = {"due_at": timer.due_at_ms, "target": target_wish(timer.target), **wishes(timer)}
    if _changes_type(timer.target, change):
        del asked["target"]
    elif isinstance(change, Mapping):
        if isinstance(timer.target, HttpTarget):
            change = secret_fields.with_lower_case(change)
            patch = {**patch, "target": change}
        kept, secrecy = secret_fields.after_patch(timer.target, change)
        asked["target"] |= secrecy
    if patch.get("delay") is not None and "due_at" not in patch:
        del asked["due_at"]
    spec = TimerIn.model_validate(merge_patch(asked, patch)).spec(now_ms, timer.trace, kept)
    if kept and spec.target.key != timer.target.key:
        pointer = "/target/url" if isinstance(timer.target, HttpTarget) else "/target"
        raise Invalid(pointer, "another receiver: give the secrets anew that it may have")
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
