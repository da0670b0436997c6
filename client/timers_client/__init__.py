"""A client of the timers service."""

from timers_client.client import TimersClient
from timers_client.errors import (
    Conflict,
    Forbidden,
    Invalid,
    Overloaded,
    PreconditionFailed,
    TimerNotFound,
    TimersError,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from timers_client.values import AmqpTarget, HttpTarget, LogTarget, Target, Timer

__all__ = [
    "AmqpTarget",
    "Conflict",
    "Forbidden",
    "HttpTarget",
    "Invalid",
    "LogTarget",
    "Overloaded",
    "PreconditionFailed",
    "Target",
    "Timer",
    "TimerNotFound",
    "TimersClient",
    "TimersError",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
]
