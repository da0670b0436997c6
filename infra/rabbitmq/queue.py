"""The delay queue: publishes hints into the wheel, with confirms, many outstanding."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Final

import pika
from pika.exceptions import AMQPError

from infra.metrics import Metrics
from infra.rabbitmq import messages
from infra.rabbitmq.session import OnNew, Session
from infra.rabbitmq.supervisor import Supervisor
from infra.rabbitmq.topology import Lane
from timers.errors import Unavailable
from timers.ports import Clock
from timers.timer import Hint
from timers.wheel import route, slot

logger = logging.getLogger(__name__)

_OUTSTANDING: Final = 1_000
_BACKLOG: Final = 100_000
_PATIENCE_S: Final = 5.0
_PAUSE_AFTER_NACK_S: Final = 1.0


@dataclass(slots=True)
class _Entry:
    hint: Hint
    at_ms: int
    confirmed: asyncio.Future[None] | None
    sent_at: float = 0.0


class RabbitDelayQueue:
    """
    Publishes on a connection of its own.

    What is not confirmed when the connection ends is published again on the next one: twice is harmless,
    never is not. While the broker is away up to 100,000 hints wait here, about 50 MB.
    """

    def __init__(
        self, url: str, *, lanes: Sequence[Lane], on_new: OnNew, clock: Clock, random: Random, metrics: Metrics
    ) -> None:
        """``on_new`` is awaited before the wheel is made where it does not exist: no hint is left of those before."""
        self._lanes = lanes
        self._on_new = on_new
        self._clock = clock
        self._metrics = metrics
        self._backlog: deque[_Entry] = deque()
        self._outstanding: OrderedDict[int, _Entry] = OrderedDict()
        self._next_tag = 1
        self._supervisor = Supervisor(url, "timers publisher", set_up=self._set_up, on_flow=self._pump, random=random)
        self.start = self._supervisor.start
        self.ready = self._supervisor.ready
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def connected(self) -> bool:
        """Whether a hint put now is sent now."""
        return self._supervisor.usable

    @property
    def waiting(self) -> int:
        """How many hints are not confirmed yet."""
        return len(self._backlog) + len(self._outstanding)

    async def stop(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds for what is not confirmed, then close."""
        if self._supervisor.usable:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._empty.wait()
        await self._supervisor.stop()

    def put(self, hint: Hint, *, not_before_ms: int | None = None) -> None:
        self._add(_Entry(hint, hint.at_ms if not_before_ms is None else not_before_ms, None))

    async def publish(self, hint: Hint, *, not_before_ms: int | None = None) -> None:
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._add(_Entry(hint, hint.at_ms if not_before_ms is None else not_before_ms, confirmed))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await confirmed
        except TimeoutError:
            raise Unavailable("rabbitmq", "no confirm in time") from None

    async def depth(self) -> int:
        """Return how many hints are ready for consumers, over all lanes. Raises Unavailable."""
        session = self._supervisor.session
        if session is None:
            raise Unavailable("rabbitmq", "not connected")
        return sum([await session.depth(lane.due) for lane in self._lanes])

    def _add(self, entry: _Entry) -> None:
        self._empty.clear()
        self._backlog.append(entry)
        if len(self._backlog) > _BACKLOG:
            _refuse(self._backlog.popleft())
        self._pump()

    async def _set_up(self, session: Session) -> None:
        await session.declare(self._lanes, self._on_new)
        self._backlog.extendleft(reversed(self._outstanding.values()))
        self._outstanding.clear()
        self._next_tag = 1
        channel = session.channel
        channel.add_on_return_callback(lambda *_: session.end("a message could not be routed"))
        confirmed = partial(self._confirmed, session)
        await session.step(lambda done: channel.confirm_delivery(ack_nack_callback=confirmed, callback=done))

    def _pump(self) -> None:
        session = self._supervisor.session
        while self._backlog and self._supervisor.usable and len(self._outstanding) < _OUTSTANDING:
            assert session is not None
            entry = self._backlog.popleft()
            self._outstanding[self._next_tag] = entry
            self._next_tag += 1
            try:
                self._send(session, entry)
            except AMQPError as error:
                session.end(repr(error))

    def _send(self, session: Session, entry: _Entry) -> None:
        entry.sent_at = self._clock.monotonic()
        lane = self._lanes[slot(entry.hint.timer_id, len(self._lanes))]
        way = route(entry.at_ms - self._clock.now_ms())
        session.channel.basic_publish(
            lane.exchange(way.level), way.key, messages.encode(entry.hint), _PERSISTENT, mandatory=True
        )

    def _confirmed(self, session: Session, frame: Any) -> None:
        if not session.is_open:
            return  # what was returned is confirmed too: it is published again on the next session
        acked = isinstance(frame.method, pika.spec.Basic.Ack)
        now = self._clock.monotonic()
        for entry in self._take(frame.method.delivery_tag, multiple=frame.method.multiple):
            if not acked:
                asyncio.get_running_loop().call_later(_PAUSE_AFTER_NACK_S, self._add, entry)
                continue
            self._metrics.confirmed(now - entry.sent_at)
            if entry.confirmed is not None and not entry.confirmed.done():
                entry.confirmed.set_result(None)
        self._pump()
        if not self._outstanding and not self._backlog:
            self._empty.set()

    def _take(self, tag: int, *, multiple: bool) -> list[_Entry]:
        if not multiple:
            entry = self._outstanding.pop(tag, None)
            return [] if entry is None else [entry]
        taken = []
        while self._outstanding and next(iter(self._outstanding)) <= tag:
            taken.append(self._outstanding.popitem(last=False)[1])
        return taken


def _refuse(entry: _Entry) -> None:
    logger.error("hint dropped, the keeper will re-drive it", extra={"timer_id": entry.hint.timer_id})
    if entry.confirmed is not None and not entry.confirmed.done():
        entry.confirmed.set_exception(Unavailable("rabbitmq", "too many hints are waiting"))


_PERSISTENT: Final = pika.BasicProperties(content_type="application/json", delivery_mode=pika.DeliveryMode.Persistent)
