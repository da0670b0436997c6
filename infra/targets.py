"""What is done when a timer is due, by the type of its target."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from infra.logs import ECHO
from timers.ports import Action, Call, Echo
from timers.retry import Answer

_echo = logging.getLogger(ECHO)


class HttpTargets(Protocol):
    """Makes HTTP calls."""

    async def invoke(self, call: Call) -> Answer: ...


class Targets:
    """Hands each action to the part that can do it."""

    def __init__(self, http: HttpTargets) -> None:
        self._http = http

    def invoke(self, action: Action) -> Coroutine[Any, Any, Answer]:
        match action:
            case Call():
                return self._http.invoke(action)
            case Echo():
                return _write(action)


async def _write(echo: Echo) -> Answer:
    fields = {"timer_id": echo.timer_id, "body": echo.text, "attempt": echo.attempt, "lateness_ms": echo.lateness_ms}
    _echo.info("timer echoed", extra=fields)
    return Answer()
