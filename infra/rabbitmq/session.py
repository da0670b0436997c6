"""One connection with one channel, its callbacks turned into awaitables, until either closes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Self

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel

from infra.rabbitmq.topology import Exchange, Lane, Queue
from timers.errors import Unavailable

logger = logging.getLogger(__name__)

Done = Callable[[Any], None]
OnNew = Callable[[], Awaitable[None]]

_OPEN_TIMEOUT: Final = 10.0
_STEP_TIMEOUT: Final = 30.0
_CLOSE_TIMEOUT: Final = 2.0


class _LenientProperties(pika.BasicProperties):
    """
    What comes with a message, as far as it can be read.

    pika fails on headers that AMQP allows, such as a time past the year 9999, and takes the connection down with it:
    one such message would go from consumer to consumer for ever.
    """

    def decode(self, encoded: bytes, offset: int = 0) -> Self:
        with suppress(Exception):
            super().decode(encoded, offset)
        return self


class Session:
    """
    An open channel on a connection of its own.

    ``closed`` resolves with the reason when the channel or the connection ends, whoever ended it.
    """

    channel: Channel

    def __init__(self, connection: AsyncioConnection, on_flow: Callable[[], None]) -> None:
        self._connection = connection
        self._on_flow = on_flow
        self.blocked = False
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[str] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()

    @classmethod
    async def open(cls, url: str, name: str, on_flow: Callable[[], None]) -> Self:
        """
        Connect and open a channel; ``on_flow`` is told when the broker blocks or unblocks us.

        Raises Unavailable.
        """
        connection = await _connect(url, name)
        session = cls(connection, on_flow)
        connection.add_on_close_callback(lambda _, reason: session._left(str(reason)))
        connection.add_on_connection_blocked_callback(lambda *_: session._flow(blocked=True))
        connection.add_on_connection_unblocked_callback(lambda *_: session._flow(blocked=False))
        try:
            session.channel = await session.open_channel()
        except BaseException:
            session.end("the channel did not open")
            raise
        session.channel.add_on_close_callback(lambda _, reason: session.end(str(reason)))
        return session

    @property
    def is_open(self) -> bool:
        """Whether the channel can be used."""
        return not self.closed.done()

    async def step(self, begin: Callable[[Done], object]) -> Any:
        """Begin what calls back once, and wait for that. Raises Unavailable where the session ends first."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.is_open:
            begin(lambda answer: None if answered.done() else answered.set_result(answer))
            await asyncio.wait((answered, self.closed), timeout=_STEP_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            raise Unavailable("rabbitmq", self.closed.result() if self.closed.done() else "no answer in time")
        return answered.result()

    async def open_channel(self) -> Channel:
        """Open one more channel, whose end is its opener's business. Raises Unavailable."""
        channel: Channel = await self.step(lambda done: self._connection.channel(on_open_callback=done))
        return channel

    async def declare(self, lanes: Sequence[Lane], on_new: OnNew) -> None:
        """
        Declare the wheel. Safe to repeat. Raises Unavailable, also where one exists with other arguments.

        ``on_new`` is awaited before a wheel is made that does not exist, or no more.
        """
        if not all([await self._has(lane.due) for lane in lanes]):
            await on_new()
        for lane in lanes:
            for exchange in lane.exchanges():
                await self.step(partial(self._declare_exchange, exchange))
            for queue in lane.queues():
                await self.step(partial(self._declare_queue, queue))
                for source, key in queue.bindings:
                    await self.step(partial(self._bind, queue.name, source, key))

    async def _has(self, queue: str) -> bool:
        """Whether a queue exists: asked on a channel of its own, as the broker closes that one where it does not."""
        channel = await self.open_channel()

        def ask(done: Done) -> None:
            channel.add_on_close_callback(lambda *_: done(False))  # noqa: FBT003 - the answer
            channel.queue_declare(queue, passive=True, callback=lambda _: done(True))  # noqa: FBT003

        found: bool = await self.step(ask)
        if found:
            channel.close()
        return found

    def _declare_exchange(self, exchange: Exchange, done: Done) -> None:
        self.channel.exchange_declare(
            exchange.name, exchange.kind, durable=True, arguments=exchange.arguments, callback=done
        )

    def _declare_queue(self, queue: Queue, done: Done) -> None:
        self.channel.queue_declare(queue.name, durable=True, arguments=queue.arguments, callback=done)

    def _bind(self, queue: str, source: str, key: str, done: Done) -> None:
        self.channel.queue_bind(queue, source, key, callback=done)

    async def depth(self, queue: str) -> int:
        """Return how many messages of a queue are ready. Raises Unavailable."""
        answer = await self.step(lambda done: self.channel.queue_declare(queue, passive=True, callback=done))
        return int(answer.method.message_count)

    def end(self, reason: str) -> None:
        """Close the connection; what was not acknowledged goes to somebody else."""
        if not self.closed.done():
            self.closed.set_result(reason)
        if not (self._connection.is_closing or self._connection.is_closed):
            self._connection.close()

    async def ended(self) -> None:
        """Wait, for a bounded time, until the broker has seen the end."""
        await asyncio.wait((self._gone,), timeout=_CLOSE_TIMEOUT)

    def _left(self, reason: str) -> None:
        self.end(reason)
        if not self._gone.done():
            self._gone.set_result(None)

    def _flow(self, *, blocked: bool) -> None:
        self.blocked = blocked
        logger.warning("rabbitmq blocks us" if blocked else "rabbitmq unblocked us")
        self._on_flow()


async def _connect(url: str, name: str) -> AsyncioConnection:
    pika.spec.props[pika.BasicProperties.INDEX] = _LenientProperties
    parameters = pika.URLParameters(url)
    parameters.client_properties = {"connection_name": name}
    parameters.heartbeat = 15
    parameters.socket_timeout = _OPEN_TIMEOUT
    parameters.stack_timeout = _OPEN_TIMEOUT
    parameters.connection_attempts = 1
    opened: asyncio.Future[AsyncioConnection] = asyncio.get_running_loop().create_future()
    AsyncioConnection(
        parameters,
        on_open_callback=lambda connection: _settle(opened, connection),
        on_open_error_callback=lambda _, reason: _fail(opened, reason),
    )
    try:
        async with asyncio.timeout(2 * _OPEN_TIMEOUT):
            return await opened
    except TimeoutError:
        raise Unavailable("rabbitmq", "no answer in time") from None


def _settle(opened: asyncio.Future[AsyncioConnection], connection: AsyncioConnection) -> None:
    if opened.done():
        connection.close()
    else:
        opened.set_result(connection)


def _fail(opened: asyncio.Future[AsyncioConnection], reason: BaseException | str) -> None:
    if not opened.done():
        opened.set_exception(Unavailable("rabbitmq", _innermost(reason)))


def _innermost(reason: BaseException | str) -> str:
    """Return what pika's layers of connection errors are about."""
    while isinstance(reason, BaseException):
        deeper = [*getattr(reason, "exceptions", ()), getattr(reason, "exception", None), *reason.args]
        inner = next((error for error in reversed(deeper) if isinstance(error, BaseException)), None)
        if inner is None:
            return str(reason) or type(reason).__name__
        reason = inner
    return reason
