"""Looking things up, each once at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Lookups(Generic[K, V]):
    """Whoever wants what is being looked up already waits for the same answer; who leaves stops it for nobody."""

    def __init__(self, look_up: Callable[[K], Coroutine[Any, Any, V]]) -> None:
        self._look_up = look_up
        self._running: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, name: K) -> bool:
        return name in self._running

    def start(self, name: K) -> asyncio.Task[V]:
        """Look it up in the background, unless that is being done."""
        task = self._running.get(name)
        if task is None:
            task = self._running[name] = asyncio.create_task(self._look_up(name))
            task.add_done_callback(lambda task: self._ended(name, task))
        return task

    async def answer(self, name: K) -> V:
        """Return what is found. Raises what looking it up raises."""
        return await asyncio.shield(self.start(name))

    def _ended(self, name: K, task: asyncio.Task[V]) -> None:
        del self._running[name]
        if not task.cancelled():
            task.exception()  # whoever waits is told; one in the background that failed is tried again
