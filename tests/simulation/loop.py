"""An event loop without a clock or a socket: time jumps, order is drawn, whole processes can die."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar
from random import Random
from typing import Any, Final


class Process:
    """
    What lives and dies together: every callback whose context names it.

    A dead process's callbacks never run again, not even its ``finally`` blocks: kill -9.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.fuse: int | None = None
        self.on_fuse: Callable[[], None] = self.die
        self.on_death: Callable[[], None] = lambda: None
        self.parked: list[asyncio.Handle] = []
        self.context = Context()
        self.context.run(PROCESS.set, self)

    def burn(self) -> None:
        """Count one callback down to what the plan has in store for it."""
        if self.fuse is None:
            return
        self.fuse -= 1
        if self.fuse < 0:
            self.fuse = None
            self.on_fuse()

    def die(self) -> None:
        """End at once."""
        if self.alive:
            self.alive = False
            self.parked.clear()
            self.on_death()


PROCESS: Final[ContextVar[Process | None]] = ContextVar("process", default=None)


class SimulationTask(asyncio.Task[Any]):
    """A task whose place in a set does not depend on its address, so that histories repeat."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs ready callbacks one at a time, in drawn order; when none is ready, jumps to the next timer."""

    _ready: Any
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, random: Random, *, shuffled: bool) -> None:
        super().__init__()
        self._random = random
        self._shuffled = shuffled
        self._now = 0.0
        self._tasks: list[SimulationTask] = []
        self.steps = 0
        self.set_task_factory(self._new_task)

    def time(self) -> float:
        return self._now

    def call_in_world(self, seconds: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Call later on behalf of no process."""
        return self.call_at(self._now + seconds, callback, *args, context=_WORLD)

    def spawn(self, process: Process, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin a task of a process."""
        return self.create_task(work, context=process.context.copy())

    def resume(self, process: Process) -> None:
        """Let a paused process go on."""
        process.paused = False
        self._ready.extend(process.parked)
        process.parked.clear()

    def abandon(self) -> None:
        """Drop every unfinished task, without letting any of them act."""
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with suppress(BaseException):
                    task.get_coro().close()
        self._tasks.clear()
        self._ready.clear()
        self._scheduled.clear()
        self.close()

    def _new_task(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> SimulationTask:
        task = SimulationTask(work, loop=loop, **options)
        task.number = len(self._tasks)
        self._tasks.append(task)
        return task

    def _run_once(self) -> None:
        if not self._ready:
            self._advance()
        if not self._ready:
            self.stop()
            return
        handle = self._draw()
        if not handle.cancelled() and self._may_run(handle):
            self.steps += 1
            handle._run()

    def _draw(self) -> asyncio.Handle:
        if self._shuffled and len(self._ready) > 1:
            self._ready.rotate(-int(self._random.random() * len(self._ready)))
        handle: asyncio.Handle = self._ready.popleft()
        return handle

    def _may_run(self, handle: asyncio.Handle) -> bool:
        process: Process | None = handle._context.get(PROCESS)  # type: ignore[attr-defined]
        if process is None:
            return True
        if process.alive:
            process.burn()
        if process.paused:
            process.parked.append(handle)
            return False
        return process.alive

    def _advance(self) -> None:
        while self._scheduled:
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False  # type: ignore[attr-defined]
            if handle.cancelled():
                continue
            self._now = max(self._now, handle.when())
            self._ready.append(handle)
            if not self._scheduled or self._scheduled[0].when() > self._now:
                return

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""

    def _process_events(self, event_list: object) -> None: ...

    def _write_to_self(self) -> None: ...


_WORLD: Final = Context()
