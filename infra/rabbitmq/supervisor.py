"""Keeps one session to the broker: connects, sets up, waits for its end, backs off, begins again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Final

from pika.exceptions import AMQPError

from infra.rabbitmq.session import Session
from timers.errors import Unavailable

logger = logging.getLogger(__name__)

_FIRST_WAIT_S: Final = 0.2
_LONGEST_WAIT_S: Final = 5.0


class Supervisor:
    """
    Owns the connection of one purpose.

    ``set_up`` gets each new session and returns once it is of use; ``on_flow`` is called whenever
    ``usable`` may have changed.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        set_up: Callable[[Session], Awaitable[None]],
        on_flow: Callable[[], None],
        random: Random,
    ) -> None:
        self._url = url
        self._name = name
        self._set_up = set_up
        self._on_flow = on_flow
        self._random = random
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self.session: Session | None = None

    @property
    def usable(self) -> bool:
        """Whether the session is set up and not blocked by the broker."""
        session = self.session
        return session is not None and session.is_open and not session.blocked

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._task = asyncio.create_task(self._keep(), name=f"rabbitmq {self._name}")

    async def ready(self, timeout: float) -> None:
        """Wait until there is a session. Raises Unavailable where there is none in time."""
        try:
            async with asyncio.timeout(timeout):
                await self._ready.wait()
        except TimeoutError:
            raise Unavailable("rabbitmq", "not connected in time") from None

    async def stop(self) -> None:
        """Close the session for good."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _keep(self) -> None:
        wait = _FIRST_WAIT_S
        while True:
            try:
                await self._live_once()
                wait = _FIRST_WAIT_S
            except (Unavailable, AMQPError, OSError) as error:
                logger.warning("rabbitmq is away", extra={"purpose": self._name, "reason": str(error)})
                wait = min(2 * wait, _LONGEST_WAIT_S)
            except Exception:
                logger.exception("rabbitmq session failed", extra={"purpose": self._name})
                wait = _LONGEST_WAIT_S
            await asyncio.sleep(wait * self._random.uniform(0.5, 1))

    async def _live_once(self) -> None:
        session = await Session.open(self._url, self._name, self._on_flow)
        try:
            await self._set_up(session)
            self.session = session
            self._ready.set()
            logger.info("rabbitmq connected", extra={"purpose": self._name})
            self._on_flow()
            reason = await asyncio.shield(session.closed)
            logger.warning("rabbitmq connection ended", extra={"purpose": self._name, "reason": reason})
        finally:
            self.session = None
            self._ready.clear()
            session.end("stopped")
            self._on_flow()
            await session.ended()
