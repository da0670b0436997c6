"""A client of the timers service."""

from timers_client.client import TimersClient
from timers_client.errors import (
    Conflict,
    Forbidden,
    Invalid,
    LeaseEnded,
    Overloaded,
    PreconditionFailed,
    TimerNotFound,
    TimersError,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from timers_client.queues import PullQueue
from timers_client.values import (
    AmqpTarget,
    HttpTarget,
    KnownQueue,
    Lease,
    LogTarget,
    QueueCounts,
    QueueTarget,
    Target,
    Timer,
)

__all__ = [
    "AmqpTarget",
    "Conflict",
    "Forbidden",
    "HttpTarget",
    "Invalid",
    "KnownQueue",
    "Lease",
    "LeaseEnded",
    "LogTarget",
    "Overloaded",
    "PreconditionFailed",
    "PullQueue",
    "QueueCounts",
    "QueueTarget",
    "Target",
    "Timer",
    "TimerNotFound",
    "TimersClient",
    "TimersError",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
]
