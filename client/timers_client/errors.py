"""
What the service answers when it does not do what was asked.

    TimersError
    ├── Invalid             400, 413, 415, 422  the request is wrong; ``errors`` names the fields
    ├── Unauthorized        401  no api key, or one that opens nothing
    ├── Forbidden           403  the key has not the scope
    ├── TimerNotFound       404
    ├── LeaseEnded          404, of a token: the lease is over, and somebody else may have the timer
    ├── Conflict            409  the id is taken, or the timer's ``state`` does not allow this
    ├── PreconditionFailed  412  the timer has another version by now
    ├── Overloaded          429  nothing was done; come again after ``retry_after`` seconds
    ├── Unavailable         503  likewise, but a write may have happened
    └── Unreachable              no answer; a write may have happened
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class TimersError(Exception):
    """Any error of the service; ``problem`` is its answer (RFC 9457)."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(problem.get("detail", "no detail"))
        self.problem = problem

    @property
    def status(self) -> int:
        """The HTTP status; 0 where there was no answer."""
        return int(self.problem.get("status", 0))

    @property
    def retry_after(self) -> int | None:
        """After how many seconds to come again, where the service says so."""
        return self.problem.get("retry_after")


class Invalid(TimersError):
    """The request is wrong."""

    @property
    def errors(self) -> list[dict[str, str]]:
        """What is wrong: a JSON pointer and a detail for each field."""
        return list(self.problem.get("errors", ()))


class Unauthorized(TimersError):
    """The api key opens nothing."""


class Forbidden(TimersError):
    """The api key has not the scope that this takes."""


class TimerNotFound(TimersError):
    """No timer has this id."""


class LeaseEnded(TimersError):
    """The lease is over: somebody else may have the timer."""


class Conflict(TimersError):
    """The id is taken, or the timer's state does not allow this."""

    @property
    def state(self) -> str | None:
        """The state that the timer is in, where that is the reason."""
        return self.problem.get("state")


class PreconditionFailed(TimersError):
    """The timer has another version by now."""


class Overloaded(TimersError):
    """Nothing was done: come again later."""


class Unavailable(TimersError):
    """The service could not do it now; a write may have happened."""


class Unreachable(TimersError):
    """The service did not answer; a write may have happened."""


_TYPES: Mapping[int, type[TimersError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: TimerNotFound,
    409: Conflict,
    412: PreconditionFailed,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: Overloaded,
    503: Unavailable,
}


def error_of(problem: Mapping[str, Any]) -> TimersError:
    """Return a problem as the error that it stands for."""
    return _TYPES.get(problem.get("status", 0), TimersError)(problem)
