"""Pull queues: for workers that fetch timers instead of being called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote

from timers_client.errors import LeaseEnded, Overloaded, TimersError, Unavailable, Unreachable, error_of
from timers_client.values import Lease, QueueCounts, Timer

_PATIENCE_S: Final = 1
_EXTENSIONS: Final = 3
"""How often a lease is extended in the time that it lasts."""

_Request = Callable[..., Awaitable[Any]]


class PullQueue:
    """
    One pull queue; ``lease_s`` and ``wait_s`` are seconds.

    Every method raises TimersError; what became of several leases is returned in their places instead.
    """

    def __init__(self, name: str, request: _Request) -> None:
        self.name = name
        self._request = request

    async def lease(self, *, most: int = 1, wait_s: float = 0.0, lease_s: float = 30.0) -> list[Lease]:
        """Take timers that are ready; where none is, those that come within ``wait_s``, else nothing."""
        wish = {"max": most, "wait": wait_s, "lease": lease_s}
        answer = await self._post("lease", wish, longer_s=wait_s)
        return [Lease.of(lease, lease_s) for lease in answer["leases"]]

    async def leases(self, *, wait_s: float = 20.0, lease_s: float = 30.0) -> AsyncIterator[Lease]:
        """Yield one lease after the other, for ever; while the service cannot give any, wait and ask again."""
        while True:
            try:
                leases = await self.lease(wait_s=wait_s, lease_s=lease_s)
            except (Overloaded, Unavailable, Unreachable) as error:
                await asyncio.sleep(error.retry_after or _PATIENCE_S)
                continue
            for lease in leases:
                yield lease

    @asynccontextmanager
    async def working(self, lease: Lease) -> AsyncIterator[Timer]:
        """
        Keep a lease as long as the work in this context takes; then commit it, or reject it where the work raised.

        Raises what the work raised, and LeaseEnded where it could not be committed: somebody else may do it again.
        """
        extending = asyncio.create_task(self._extend_on_and_on(lease))
        try:
            yield lease.timer
        except BaseException:
            with suppress(TimersError):  # the lease ends by itself
                await self.reject(lease)
            raise
        finally:
            extending.cancel()
        [error] = await self.commit(lease)
        if error is not None:
            raise error

    async def commit(self, *leases: Lease) -> list[TimersError | None]:
        """Have timers delivered."""
        return await self._settle("commit", leases)

    async def reject(self, *leases: Lease, delay: float | timedelta | None = None) -> list[TimersError | None]:
        """Give timers up, to be had again after ``delay`` (seconds or a timedelta), or by their retry policy."""
        if isinstance(delay, timedelta):
            delay = delay.total_seconds()
        return await self._settle("reject", leases, **({} if delay is None else {"delay": delay}))

    async def extend(self, *leases: Lease, lease_s: float = 30.0) -> list[TimersError | None]:
        """Have leases end ``lease_s`` from now."""
        return await self._settle("extend", leases, lease=lease_s)

    async def counts(self) -> QueueCounts:
        """Return how many timers it has."""
        return QueueCounts.of(await self._request("GET", self._path))

    async def pause(self) -> None:
        """Have it give nothing out."""
        await self._post("pause")

    async def resume(self) -> None:
        """Undo a pause."""
        await self._post("resume")

    async def purge(self) -> int:
        """Cancel all that waits in it; returns how many those were."""
        cancelled, more = 0, True
        while more:
            answer = await self._post("purge")
            cancelled, more = cancelled + answer["cancelled"], answer["more"]
        return cancelled

    async def delete(self) -> None:
        """Forget it. Raises Conflict where it has timers."""
        await self._request("DELETE", self._path)

    @property
    def _path(self) -> str:
        return f"/v1/queues/{quote(self.name, safe='')}"

    async def _post(self, what: str, body: Any = None, *, longer_s: float = 0.0) -> Any:
        return await self._request("POST", f"{self._path}/{what}", json=body, longer_s=longer_s)

    async def _settle(self, what: str, leases: Sequence[Lease], **more: Any) -> list[TimersError | None]:
        answer = await self._post(what, {"tokens": [lease.token for lease in leases], **more})
        return [_outcome(result) for result in answer["results"]]

    async def _extend_on_and_on(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(lease.seconds / _EXTENSIONS)
            with suppress(TimersError):  # the commit will tell
                await self.extend(lease, lease_s=lease.seconds)


def _outcome(result: dict[str, Any]) -> TimersError | None:
    if result["status"] == 200:
        return None
    return LeaseEnded(result) if result["status"] == 404 else error_of(result)
