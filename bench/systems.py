"""What every system under measurement must be able to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

PULLERS: Final = 8
WAITS_S: Final = 0.02  #: a worker has waited for so long before it is given a lone job
_PADDING: Final = "x" * 150


@dataclass(frozen=True, slots=True)
class Job:
    """A call to be made at ``due_ms``, asked for no sooner than ``send_ms``."""

    id: str
    due_ms: int
    send_ms: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """Jobs of one round, and where their calls go."""

    url: str
    jobs: Sequence[Job]

    @property
    def wanted(self) -> dict[str, int]:
        """When each job is due."""
        return {job.id: job.due_ms for job in self.jobs}


class System(Protocol):
    """Something that makes calls later."""

    @property
    def name(self) -> str: ...

    @property
    def strict(self) -> bool:
        """Whether it promises never to be early."""
        ...

    def ready(self) -> AbstractAsyncContextManager[None]:
        """Have it running for as long as the context lasts."""
        ...

    def groups(self) -> Mapping[str, Sequence[int]]:
        """Return its processes by their part in it."""
        ...

    async def enqueue(self, work: Work) -> float:
        """Ask for all jobs as fast as one client can, each acknowledged; returns the seconds it took."""
        ...

    async def enqueue_singly(self, work: Work) -> float:
        """Do the same without any operation on many at once, but 64 of them at a time where it can."""
        ...

    async def pace(self, work: Work) -> None:
        """Ask for each job at its own time."""
        ...

    async def check(self, work: Work) -> None:
        """Raise Void where its own record of the jobs does not say that all are done."""
        ...

    async def clean(self, work: Work, *, done: bool) -> None:
        """Leave nothing of these jobs behind; ``done``: all are known to have been made."""
        ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """What workers committed, an id for each time, and the seconds from their first look to the last commit."""

    ids: Sequence[str]
    took_s: float


class Workers(Protocol):
    """Workers that fetch jobs from a system's queues, instead of its making calls."""

    async def put(self, queue: str, work: Work) -> float:
        """Put all jobs into a queue as fast as one client can, each acknowledged; returns the seconds it took."""
        ...

    async def fetch(self, queue: str, work: Work) -> Fetched:
        """Have as many workers as PULLERS fetch and commit until all jobs are done, then look a little longer."""
        ...

    async def hand_over(self, queue: str, work: Work) -> Sequence[float]:
        """Put one job after the other while a worker waits; returns the milliseconds until it had each."""
        ...


def body(job_id: str) -> dict[str, Any]:
    """Return what a job's call carries: about 200 bytes."""
    return {"job": job_id, "text": _PADDING}
