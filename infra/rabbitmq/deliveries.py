"""Consuming: what comes due, from every lane, on a connection of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

from pika.channel import Channel
from pika.exceptions import AMQPError

from infra.metrics import Metrics
from infra.rabbitmq import messages
from infra.rabbitmq.session import OnNew, Session
from infra.rabbitmq.supervisor import Supervisor
from infra.rabbitmq.topology import Lane
from timers.timer import Hint

logger = logging.getLogger(__name__)


class RabbitDelivery:
    """One delivered hint. Unless it is acknowledged, the broker delivers it again to somebody."""

    __slots__ = ("_session", "_tag", "hint", "redelivered")

    def __init__(self, hint: Hint, session: Session, tag: int, *, redelivered: bool) -> None:
        self.hint = hint
        self.redelivered = redelivered
        self._session = session
        self._tag = tag

    def ack(self) -> None:
        self._answer(lambda channel: channel.basic_ack(self._tag))

    def give_back(self) -> None:
        self._answer(lambda channel: channel.basic_nack(self._tag, requeue=True))

    def _answer(self, answer: Callable[[Channel], None]) -> None:
        if not self._session.is_open:
            return
        try:
            answer(self._session.channel)
        except AMQPError as error:
            self._session.end(repr(error))


class RabbitDeliveries:
    """
    Hands every due hint to ``on_delivery``, at most ``prefetch`` unacknowledged at once.

    Reconnects, declares and consumes again by itself, also when the broker cancels the consumer.
    """

    def __init__(  # noqa: PLR0913 - what it depends on, and nothing else
        self,
        url: str,
        *,
        lanes: Sequence[Lane],
        on_new: OnNew,
        prefetch: int,
        on_delivery: Callable[[RabbitDelivery], None],
        random: Random,
        metrics: Metrics,
    ) -> None:
        self._metrics = metrics
        self._lanes = lanes
        self._on_new = on_new
        self._prefetch = prefetch
        self._on_delivery = on_delivery
        self._stopping = False
        self._supervisor = Supervisor(url, "timers consumer", set_up=self._set_up, on_flow=lambda: None, random=random)
        self.start = self._supervisor.start
        self.ready = self._supervisor.ready
        self.stop = self._supervisor.stop

    @property
    def connected(self) -> bool:
        """Whether hints can arrive."""
        return self._supervisor.session is not None

    async def pause(self) -> None:
        """Take no more; what was delivered can still be acknowledged."""
        self._stopping = True
        session = self._supervisor.session
        if session is None:
            return
        for tag in list(session.channel.consumer_tags):
            await session.step(partial(_cancel, session.channel, tag))

    async def _set_up(self, session: Session) -> None:
        await session.declare(self._lanes, self._on_new)
        if self._stopping:
            return
        channel = session.channel
        channel.add_on_cancel_callback(lambda _: session.end("the broker cancelled the consumer"))
        await session.step(lambda done: channel.basic_qos(prefetch_count=self._prefetch, callback=done))
        received = partial(self._received, session)
        for queue in [queue for lane in self._lanes for queue in (lane.due, lane.lost)]:
            await session.step(partial(_consume, channel, queue, received))

    def _received(self, session: Session, _: Channel, method: Any, __: Any, body: bytes) -> None:
        try:
            hint = messages.decode(body)
        except messages.Garbage as error:
            logger.warning("garbage message dropped", extra={"reason": str(error)[:200]})
            self._metrics.dropped("version" if isinstance(error, messages.OtherVersion) else "garbage")
            session.channel.basic_ack(method.delivery_tag)
            return
        self._on_delivery(RabbitDelivery(hint, session, method.delivery_tag, redelivered=method.redelivered))


def _consume(channel: Channel, queue: str, received: Any, done: Callable[[Any], None]) -> None:
    channel.basic_consume(queue, received, callback=done)


def _cancel(channel: Channel, tag: str, done: Callable[[Any], None]) -> None:
    channel.basic_cancel(tag, callback=done)
