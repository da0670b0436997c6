"""What a target gets."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from timers.amqp import AmqpTarget
from timers.ports import Action, Call, Echo, Message
from timers.signature import sign
from timers.stamps import rfc3339
from timers.target import HttpTarget, LogTarget, QueueTarget
from timers.timer import Timer

VERSION = "0.1.0"
ON_TIME_MS: Final = 1_000
_ECHOED: Final = 4_096
"""How many characters of a body a line of the log has."""


def action_for(
    timer: Timer,
    *,
    started_at_ms: int,
    random: Random,
    secrets: Sequence[bytes] = (),
    on_time_ms: int = ON_TIME_MS,
) -> Action:
    """
    Return what the next attempt on a claimed timer is that starts now.

    Up to ``on_time_ms`` after its planned time it is on time.
    """
    lateness_ms = started_at_ms - timer.next_attempt_at_ms
    status = "on-time" if lateness_ms <= on_time_ms else "delayed"
    match timer.target:
        case HttpTarget():
            return call_for(timer, started_at_ms=started_at_ms, random=random, secrets=secrets, status=status)
        case AmqpTarget():
            return _message(timer, timer.target, started_at_ms, random, status)
        case LogTarget(body):
            text = body.text[:_ECHOED] if body else ""
            return Echo(timer.id, text, timer.attempts_made + 1, lateness_ms)
        case QueueTarget():
            raise ValueError("nobody is called for a timer of a pull queue")


def call_for(
    timer: Timer, *, started_at_ms: int, random: Random, secrets: Sequence[bytes] = (), status: str = "on-time"
) -> Call:
    """Return the call of the next attempt on a claimed timer that starts now, signed where there are secrets."""
    target = timer.target
    assert isinstance(target, HttpTarget)
    headers = dict(target.headers)
    content = None
    if target.body is not None:
        content = target.body.content()
        headers.setdefault("content-type", target.body.content_type)
    headers.setdefault("user-agent", f"timers/{VERSION}")
    headers["webhook-id"] = name = timer.name
    headers["webhook-timestamp"] = str(started_at_ms // 1000)
    if secrets:
        headers["webhook-signature"] = sign(secrets, name, started_at_ms // 1000, content or b"")
    headers["timer-attempt"] = str(timer.attempts_made + 1)
    headers["timer-due-at"] = rfc3339(timer.due_at_ms)
    headers["timer-lateness-ms"] = str(started_at_ms - timer.next_attempt_at_ms)
    headers["timer-status"] = status
    if timer.trace is not None:
        headers.setdefault("traceparent", _child(timer.trace, random))
    return Call(target.url, target.method, headers, content, target.timeout)


def _message(timer: Timer, target: AmqpTarget, started_at_ms: int, random: Random, status: str) -> Message:
    headers = dict(target.headers)
    headers["timer-attempt"] = timer.attempts_made + 1
    headers["timer-due-at"] = rfc3339(timer.due_at_ms)
    headers["timer-lateness-ms"] = started_at_ms - timer.next_attempt_at_ms
    headers["timer-status"] = status
    if target.redeliveries_left is not None:
        headers["timer-redeliveries-left"] = max(0, target.redeliveries_left - 1)
    if timer.trace is not None:
        headers.setdefault("traceparent", _child(timer.trace, random))
    body = target.body
    properties = {
        **({"content_type": body.content_type} if body else {}),
        **target.properties,
        "message_id": timer.name,
        "timestamp": started_at_ms // 1000,
    }
    return Message(target.destination, headers, properties, body.content() if body else b"", target.timeout_ms / 1000)


def _child(traceparent: str, random: Random) -> str:
    """Continue a trace with a span of our own. Source: W3C Trace Context, 3.2."""
    version, trace_id, _, flags = traceparent.split("-")
    return f"{version}-{trace_id}-{random.getrandbits(64) or 1:016x}-{flags}"
