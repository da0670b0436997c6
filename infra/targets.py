"""What is done when a timer is due, by the type of its target; and which targets are refused before."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from infra.dialling import Guard
from infra.logs import ECHO
from infra.rabbitmq.destinations import DestinationList
from timers.amqp import AmqpTarget, Destination
from timers.errors import Invalid
from timers.ports import Action, Call, Echo, Message
from timers.retry import Answer
from timers.target import HttpTarget, Target

_echo = logging.getLogger(ECHO)


class Http(Protocol):
    """Makes HTTP calls."""

    async def invoke(self, call: Call) -> Answer: ...


class Queues(Protocol):
    """Publishes messages."""

    async def publish(self, message: Message) -> Answer: ...


class Targets:
    """Hands each action to the part that can do it."""

    def __init__(self, http: Http, queues: Queues) -> None:
        self._http = http
        self._queues = queues

    def invoke(self, action: Action) -> Coroutine[Any, Any, Answer]:
        match action:
            case Call():
                return self._http.invoke(action)
            case Message():
                return self._queues.publish(action)
            case Echo():
                return _write(action)


async def _write(echo: Echo) -> Answer:
    fields = {"timer_id": echo.timer_id, "body": echo.text, "attempt": echo.attempt, "lateness_ms": echo.lateness_ms}
    _echo.info("timer echoed", extra=fields)
    return Answer()


class TargetRules:
    """What is refused when a timer is asked for, because its attempts could only be refused too."""

    def __init__(self, allow_amqp: DestinationList, guard: Guard) -> None:
        self._allow_amqp = allow_amqp
        self._guard = guard

    def check(self, target: Target) -> None:
        """Raise Invalid where a target is not allowed here."""
        if isinstance(target, HttpTarget) and (refusal := self._guard.forbids(target.url)):
            raise Invalid("/target/url", refusal)
        if isinstance(target, AmqpTarget):
            self._check(target.to, "/target")
            if target.dead_letter is not None:
                self._check(target.dead_letter, "/target/dead_letter")

    def _check(self, to: Destination, pointer: str) -> None:
        if to not in self._allow_amqp:
            raise Invalid(f"{pointer}/routing_key", f"messages to {to} are not allowed here (TIMERS_ALLOW_AMQP)")
