"""A broker that loses, doubles, delays and reorders; its wheel runs at the real routes' pace."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.plan import Moment, Rates
from timers.errors import Unavailable
from timers.ports import Clock
from timers.timer import Hint
from timers.wheel import route

_PATIENCE_S: Final = 5.0
"""As the real queue's: how long ``publish`` waits for its confirm."""

_RESEND_S: Final = 0.5


@dataclass(eq=False, slots=True)
class Message:
    """One copy of a hint; ``era`` is the broker's between two wipes."""

    hint: Hint
    era: int
    redelivered: bool = False


@dataclass(eq=False, slots=True)
class Channel:
    """A consumer's connection."""

    process: Process
    receive: Callable[[Delivery], None]
    prefetch: int
    unacked: dict[int, Message]
    open: bool = True
    consuming: bool = True

    @property
    def has_room(self) -> bool:
        return self.open and self.consuming and not self.process.paused and len(self.unacked) < self.prefetch


class Delivery:
    """One delivered hint."""

    def __init__(self, broker: Broker, channel: Channel, tag: int, message: Message) -> None:
        self.hint = message.hint
        self.redelivered = message.redelivered
        self._broker, self._channel, self._tag = broker, channel, tag

    def ack(self) -> None:
        self._broker.on_ack(self._channel.process, self.hint)
        self._broker.later(self._broker.answer, self._channel, self._tag, False)

    def give_back(self) -> None:
        self._broker.later(self._broker.answer, self._channel, self._tag, True)


class Broker:
    """Everything between a publish and a delivery."""

    def __init__(self, loop: VirtualLoop, random: Random, rates: Callable[[], Rates]) -> None:
        self._loop = loop
        self._random = random
        self._rates = rates
        self._tags = itertools.count()
        self._era = 0
        self._ready: list[Message] = []
        self._channels: list[Channel] = []
        self._back = asyncio.Event()
        self._back.set()
        self.on_ack: Callable[[Process, Hint], None] = lambda process, hint: None

    @property
    def up(self) -> bool:
        return self._back.is_set()

    @property
    def depth(self) -> int:
        return len(self._ready)

    async def back(self) -> None:
        """Wait until the broker can be reached."""
        await self._back.wait()

    def later(self, act: Callable[..., object], *arguments: object) -> None:
        """Let a frame travel."""
        self._loop.call_in_world(self._random.uniform(0, 0.003), act, *arguments)

    def take(self, hint: Hint, delay_s: float) -> bool:
        """Accept a message; returns whether the publisher hears of it."""
        if not self.up:
            return False
        rates = self._rates()
        if not self._chance(rates.message_lost):
            for _ in range(2 if self._chance(rates.message_doubled) else 1):
                late_s = self._random.uniform(0, 8) if self._chance(rates.message_late) else 0.0
                message = Message(hint, self._era)
                self._loop.call_in_world(delay_s + late_s + self._random.uniform(0, 0.01), self._due, message)
        return not self._chance(rates.publish_unconfirmed)

    def consume(self, process: Process, receive: Callable[[Delivery], None], prefetch: int) -> None:
        """Open a channel for a consumer, as soon as the broker is there."""
        if not process.alive:
            return
        if not self.up:
            self._loop.call_in_world(0.2, self.consume, process, receive, prefetch)
            return
        self._channels.append(Channel(process, receive, prefetch, {}))
        self._dispatch()

    def pause(self, process: Process) -> None:
        """Deliver no more to a process that stops."""
        for channel in self._of(process):
            channel.consuming = False

    def close(self, process: Process) -> None:
        """End a process's connection; what it had not acknowledged goes to somebody else."""
        for channel in self._of(process):
            self._end(channel)
        self._dispatch()

    def cut(self, process: Process) -> None:
        """End a process's connection; it comes back by itself."""
        for channel in self._of(process):
            self._end(channel)
            self._loop.call_in_world(self._random.uniform(0.2, 2), self._again, channel)
        self._dispatch()

    def go_away(self, *, wiped: bool) -> None:
        """Stop, as a restart does; ``wiped`` also loses every message."""
        self._back.clear()
        for channel in list(self._channels):
            self._end(channel)
            self._loop.call_in_world(self._random.uniform(0.2, 2), self._again, channel)
        if wiped:
            self._era += 1
            self._ready.clear()

    def return_(self) -> None:
        """Come back."""
        self._back.set()
        self._dispatch()

    def answer(self, channel: Channel, tag: int, give_back: bool) -> None:
        """Hear of an ack or a nack."""
        message = channel.unacked.pop(tag, None) if channel.open else None
        if message is not None and give_back:
            message.redelivered = True
            self._ready.insert(0, message)
        self._dispatch()

    def _again(self, channel: Channel) -> None:
        if channel.consuming:
            self.consume(channel.process, channel.receive, channel.prefetch)

    def _end(self, channel: Channel) -> None:
        channel.open = False
        self._channels.remove(channel)
        for message in channel.unacked.values():
            message.redelivered = True
            self._ready.append(message)
        channel.unacked.clear()

    def _of(self, process: Process) -> list[Channel]:
        return [channel for channel in self._channels if channel.process is process]

    def _due(self, message: Message) -> None:
        if message.era == self._era:
            self._ready.append(message)
            self._dispatch()

    def _dispatch(self) -> None:
        while self.up and self._ready:
            willing = [channel for channel in self._channels if channel.has_room]
            if not willing:
                return
            self._deliver(self._random.choice(willing), self._ready.pop(self._which()))

    def _which(self) -> int:
        return self._random.randrange(len(self._ready)) if self._chance(0.3) else 0

    def _deliver(self, channel: Channel, message: Message) -> None:
        tag = next(self._tags)
        channel.unacked[tag] = message
        delivery = Delivery(self, channel, tag, message)
        self._loop.call_later(0.001, self._arrive, channel, delivery, context=channel.process.context)

    def _arrive(self, channel: Channel, delivery: Delivery) -> None:
        if channel.open:
            channel.receive(delivery)

    def _chance(self, share: float) -> bool:
        return share > 0 and self._random.random() < share


class SimulatedQueue:
    """A process's end of the wheel: keeps what is not confirmed and sends it again, as the real one does."""

    def __init__(
        self, broker: Broker, process: Process, clock: Clock, loop: VirtualLoop, happened: Callable[[Moment], None]
    ) -> None:
        self._broker = broker
        self._process = process
        self._clock = clock
        self._loop = loop
        self._happened = happened
        self.waiting = 0

    def put(self, hint: Hint, *, not_before_ms: int | None = None) -> None:
        self._begin(hint, not_before_ms)

    async def publish(self, hint: Hint, *, not_before_ms: int | None = None) -> None:
        sent = self._begin(hint, not_before_ms)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await asyncio.shield(sent)
        except TimeoutError:
            raise Unavailable("rabbitmq", "no confirm in time") from None

    async def depth(self) -> int:
        await asyncio.sleep(0.001)
        if not self._broker.up:
            raise Unavailable("rabbitmq", "not connected")
        return self._broker.depth

    def _begin(self, hint: Hint, not_before_ms: int | None) -> asyncio.Task[None]:
        self.waiting += 1
        at_ms = hint.at_ms if not_before_ms is None else not_before_ms
        return self._loop.spawn(self._process, self._send(hint, at_ms))

    async def _send(self, hint: Hint, at_ms: int) -> None:
        while True:
            await self._broker.back()
            confirmed: asyncio.Future[bool] = self._loop.create_future()
            self._broker.later(self._transmit, hint, _delay_s(at_ms - self._clock.now_ms()), confirmed)
            if await confirmed:
                break
            await asyncio.sleep(_RESEND_S)
        self.waiting -= 1
        self._happened(Moment.PUBLISHED)

    def _transmit(self, hint: Hint, delay_s: float, confirmed: asyncio.Future[bool]) -> None:
        heard = self._broker.take(hint, delay_s)
        if not confirmed.done():
            confirmed.set_result(heard)


def _delay_s(remaining_ms: int) -> float:
    minutes, seconds = route(remaining_ms).key.split(".")
    return 60.0 * int(minutes) + int(seconds)
