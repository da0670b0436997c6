"""Messages of clients: published with confirms, mandatory and persistent, apart from the wheel."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from random import Random
from typing import Any, Final

import pika
from pika.channel import Channel
from pika.exceptions import AMQPError, ChannelClosedByBroker

from infra.rabbitmq.destinations import DestinationList
from infra.rabbitmq.session import Session
from infra.rabbitmq.supervisor import Supervisor
from timers.errors import Unavailable
from timers.ports import Message
from timers.retry import Answer

_CONNECT_S: Final = 5.0
_CHANNELS: Final = 100
_UNCONFIRMED: Final = 1_000
_ERROR_LENGTH: Final = 256

Key = tuple[object, object]
"""What tells a message that came back from the others on its channel: which attempt of which timer."""


class RabbitPublisher:
    """
    Publishes on a connection of its own, with a channel for each exchange.

    So what the broker does to a channel, closing it because its exchange does not exist, say, is felt by
    messages to the same exchange only; and the wheel feels nothing.
    """

    def __init__(self, url: str, *, allowed: DestinationList, random: Random) -> None:
        self._allowed = allowed
        self._supervisor = Supervisor(url, "timers messages", set_up=_nothing, on_flow=lambda: None, random=random)
        self._outlets: OrderedDict[str, _Outlet] = OrderedDict()
        self._opening = asyncio.Lock()
        self.stop = self._supervisor.stop

    def start(self) -> None:
        """Begin to connect, if there is anything that may be published."""
        if self._allowed.patterns:
            self._supervisor.start()

    async def publish(self, message: Message) -> Answer:
        """Publish a message and say how that ended; a failure is an answer, never an exception."""
        if message.to not in self._allowed:
            return Answer(error=f"address: {message.to} is not allowed"[:_ERROR_LENGTH])
        try:
            async with asyncio.timeout(message.timeout):
                outlet = await self._outlet(message.to.exchange)
                return await outlet.publish(message)
        except TimeoutError:
            return Answer(error=f"timeout: no confirm within {message.timeout:g} s")
        except (Unavailable, AMQPError) as error:
            return Answer(error=f"broker: {error!s:.200}")

    async def _outlet(self, exchange: str) -> _Outlet:
        """Return the open channel for an exchange. Raises Unavailable."""
        outlet = self._outlets.get(exchange)
        if outlet is None or not outlet.is_open:
            await self._supervisor.ready(_CONNECT_S)
            async with self._opening:
                outlet = self._outlets.get(exchange)
                if outlet is None or not outlet.is_open:
                    outlet = self._outlets[exchange] = await self._open()
        self._outlets.move_to_end(exchange)
        return outlet

    async def _open(self) -> _Outlet:
        session = self._supervisor.session
        if session is None or not self._supervisor.usable:
            raise Unavailable("rabbitmq", "it takes no messages now")
        self._close_unused()
        return await _Outlet.open(session)

    def _close_unused(self) -> None:
        """Forget channels that are closed, and the longest unused where there are too many."""
        for exchange, outlet in list(self._outlets.items()):
            if not outlet.is_open:
                del self._outlets[exchange]
            elif len(self._outlets) >= _CHANNELS and outlet.idle:
                outlet.close()
                del self._outlets[exchange]


class _Outlet:
    """One channel with confirms."""

    def __init__(self, session: Session, channel: Channel) -> None:
        self._session = session
        self._channel = channel
        self._next_tag = 1
        self._unconfirmed: OrderedDict[int, Key] = OrderedDict()
        self._answers: dict[Key, asyncio.Future[Answer]] = {}
        self._came_back: dict[Key, Answer] = {}
        channel.add_on_close_callback(self._closed)
        channel.add_on_return_callback(self._returned)

    @classmethod
    async def open(cls, session: Session) -> _Outlet:
        """Open a channel. Raises Unavailable; a broker that does not open one in time has lost the connection."""
        try:
            channel = await session.open_channel()
            outlet = cls(session, channel)
            await session.step(lambda done: channel.confirm_delivery(outlet._confirmed, callback=done))
        except BaseException:
            session.end("a channel did not open")
            raise
        return outlet

    @property
    def is_open(self) -> bool:
        return self._channel.is_open

    @property
    def idle(self) -> bool:
        return not self._unconfirmed

    def close(self) -> None:
        self._channel.close()

    async def publish(self, message: Message) -> Answer:
        """Publish a message and wait for what the broker says. Raises AMQPError."""
        if self._session.blocked:
            return Answer(error="broker: it takes no messages now")
        key = _key(message.properties["message_id"], message.headers)
        while same := self._answers.get(key):  # of two tenants, perhaps: what comes back must not be mixed up
            await asyncio.wait([same])
        if len(self._unconfirmed) >= _UNCONFIRMED:
            return Answer(error="broker: too many messages are not confirmed yet")
        self._channel.basic_publish(
            message.to.exchange, message.to.routing_key, message.content, _properties(message), mandatory=True
        )
        answer = self._answers[key] = asyncio.get_running_loop().create_future()
        self._unconfirmed[self._next_tag] = key
        self._next_tag += 1
        return await asyncio.shield(answer)

    def _returned(self, _: Channel, method: Any, properties: Any, __: bytes) -> None:
        """Note that no queue takes a message; its confirm follows."""
        error = f"returned: no queue takes {method.routing_key!r}"
        key = _key(properties.message_id, properties.headers or {})
        if key in self._answers:
            self._came_back[key] = Answer(method.reply_code, error[:_ERROR_LENGTH])
        else:
            self._session.end("a message came back that was not sent")  # else its confirm would be believed

    def _confirmed(self, frame: Any) -> None:
        acked = isinstance(frame.method, pika.spec.Basic.Ack)
        answer = Answer() if acked else Answer(error="refused: the queue takes no more, or the broker failed")
        tag = frame.method.delivery_tag
        if not frame.method.multiple:
            self._settle(tag, answer)
            return
        while self._unconfirmed and next(iter(self._unconfirmed)) <= tag:
            self._settle(next(iter(self._unconfirmed)), answer)

    def _closed(self, _: Channel, reason: Exception) -> None:
        """Settle what was not confirmed: it may have arrived, and is published again."""
        status = reason.reply_code if isinstance(reason, ChannelClosedByBroker) else None
        text = reason.reply_text if isinstance(reason, ChannelClosedByBroker) else "the connection ended"
        answer = Answer(status, f"broker: {text}"[:_ERROR_LENGTH])
        for tag in list(self._unconfirmed):
            self._settle(tag, answer)

    def _settle(self, tag: int, answer: Answer) -> None:
        key = self._unconfirmed.pop(tag, None)
        if key is not None:
            self._answers.pop(key).set_result(self._came_back.pop(key, answer))


def _key(message_id: object, headers: Mapping[str, object]) -> Key:
    return message_id, headers.get("timer-attempt")


def _properties(message: Message) -> pika.BasicProperties:
    given: dict[str, Any] = {**message.properties}
    if "expiration" in given:
        given["expiration"] = str(given["expiration"])
    headers: dict[str, Any] = {**message.headers}
    return pika.BasicProperties(headers=headers, delivery_mode=pika.DeliveryMode.Persistent.value, **given)


async def _nothing(_: Session) -> None:
    """Set up no more than a session has."""
