"""
The error tree. Nothing foreign (boto3's, pika's, aiohttp's errors) leaves ``infra``.

    TimerError
    ├── Invalid             422  the request names an impossible timer
    ├── TimerNotFound       404
    ├── AlreadyExists       409  the chosen id is taken
    ├── KeyReused           422  an idempotency key came again with another request
    ├── LeaseEnded          404  no lease of this queue has such a token (any more)
    ├── NotEmpty            409  a queue with timers cannot be deleted
    ├── IllegalTransition   409  too late, or not in a state that allows this
    ├── PreconditionFailed  412  If-Match / If-None-Match does not hold
    ├── BrokenTimer         500  what is stored is not a timer
    ├── Unreadable               a sealed secret cannot be opened (inside only: it is how an attempt ended)
    ├── Conflict                 another writer moved the timer first (inside only: callers retry)
    ├── Overloaded          429  a bound is reached; nothing was done
    │   └── QuotaReached         likewise: the tenant has as many live timers as it may have
    └── Unavailable         503  a part we stand on did not answer
"""

from __future__ import annotations

from timers.tenant import name_of


class TimerError(Exception):
    """Any error of this service."""


class Invalid(TimerError):
    """A field holds what no timer can have; ``pointer`` is its JSON pointer."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(f"{pointer or '/'}: {detail}")
        self.pointer = pointer
        self.detail = detail


class TimerNotFound(TimerError):
    """No timer has this id."""

    def __init__(self, timer_id: str) -> None:
        super().__init__(f"no timer has the id {name_of(timer_id)!r}")
        self.timer_id = timer_id


class AlreadyExists(TimerError):
    """The id that the client chose is taken."""

    def __init__(self, timer_id: str) -> None:
        super().__init__(f"a timer with the id {name_of(timer_id)!r} exists already")
        self.timer_id = timer_id


class KeyReused(TimerError):
    """The idempotency key was used for another request."""

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key was used with another body")


class LeaseEnded(TimerError):
    """No lease has this token: it never was one, or its time is over and the timer somebody else's."""

    def __init__(self) -> None:
        super().__init__("no lease of this queue has this token; it may have ended")


class NotEmpty(TimerError):
    """A queue has timers."""

    def __init__(self, queue: str) -> None:
        super().__init__(f"the queue {queue!r} has timers; purge it first")


class IllegalTransition(TimerError):
    """The timer's state does not allow the event."""

    def __init__(self, state: str, event: str) -> None:
        super().__init__(f"a timer that is {state} cannot {event}")
        self.state = state
        self.event = event


class PreconditionFailed(TimerError):
    """The version that the client named is not the stored one."""


class BrokenTimer(TimerError):
    """What is stored under an id is not a timer; whoever meets it passes it over."""


class Unreadable(TimerError):
    """A sealed secret cannot be opened: its key is gone, or it is not what was stored here."""


class Conflict(TimerError):
    """Another writer moved the timer since it was read."""


class Overloaded(TimerError):
    """A bound is reached: nothing was done, come back after ``retry_after`` seconds."""

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class QuotaReached(Overloaded):
    """The tenant has ``most`` live timers, and may have no more."""

    def __init__(self, most: int, retry_after: int) -> None:
        super().__init__(f"the tenant has {most} live timers, and may have no more", retry_after)
        self.most = most


class Unavailable(TimerError):
    """A part that we stand on did not answer in time; ``part`` is its name."""

    def __init__(self, part: str, detail: str = "", retry_after: int = 2) -> None:
        super().__init__(f"{part} is not available" + (f": {detail}" if detail else ""))
        self.part = part
        self.retry_after = retry_after
