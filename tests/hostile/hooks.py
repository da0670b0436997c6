"""What Schemathesis does before each request."""

from __future__ import annotations

from typing import Any

import schemathesis

from timers import limits

_SHORT_S = 0.05


@schemathesis.hook
def before_call(_: Any, case: Any, __: Any) -> None:
    """Have workers wait a moment only: every queue is empty, and half a minute each would be the whole run."""
    body = case.body
    if not isinstance(body, dict) or isinstance(body.get("wait"), bool):
        return
    wait = body.get("wait")
    if isinstance(wait, int | float) and _SHORT_S < wait <= limits.MAX_WAIT_S:
        case.body = {**body, "wait": _SHORT_S}
