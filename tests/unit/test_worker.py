"""Receiving, holding, acknowledging."""

import asyncio
from random import Random

import pytest

import consumer.worker
from consumer.gate import Called, Gate, Visitor
from consumer.handler import Handler
from consumer.worker import Worker
from infra.clock import SystemClock
from infra.memory import MemoryTimerStore
from tests.builders import Answers, RecordingQueue, Unobserving, make_timer, turns
from timers.errors import Unavailable
from timers.ports import Action
from timers.retry import Answer
from timers.state import State
from timers.timer import Hint, Timer
from timers.wheel import SPAN_MS

PATIENCE_S = 10.0


class Delivery:
    """A hint as delivered, and what became of it."""

    def __init__(self, hint: Hint, *, redelivered: bool = False) -> None:
        self.hint = hint
        self.redelivered = redelivered
        self.fate: str | None = None
        self.decided = asyncio.Event()

    def ack(self) -> None:
        self._decide("acknowledged")

    def give_back(self) -> None:
        self._decide("given back")

    async def done(self) -> str:
        async with asyncio.timeout(PATIENCE_S):
            await self.decided.wait()
        assert self.fate is not None
        return self.fate

    def _decide(self, fate: str) -> None:
        assert self.fate is None, "a delivery is answered once"
        self.fate = fate
        self.decided.set()


class SlowAnswers(Answers):
    """Callbacks that answer when they are told to."""

    def __init__(self) -> None:
        super().__init__([200], clock=SystemClock())
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()

    async def invoke(self, action: Action) -> Answer:
        self.begun.set()
        await self.may_end.wait()
        return await super().invoke(action)


class Scene:
    """A worker on the machine's own clock."""

    def __init__(self, callbacks: Answers | None = None) -> None:
        self.clock = SystemClock()
        self.store = MemoryTimerStore()
        self.queue = RecordingQueue()
        self.callbacks = callbacks or Answers([200], clock=self.clock)
        self.gate = Gate(self.clock, total=10, per_target=2)
        self.observer = Unobserving()
        handler = Handler(self.store, self.queue, self.callbacks, self.clock, Random(1), 3_600_000, self.observer)
        self.worker = Worker(handler, self.gate, self.clock)

    async def receive(self, *, ahead_ms: int, timer_id: str = "timer-1", redelivered: bool = False) -> Delivery:
        """Receive the hint of a timer that is due so far ahead."""
        timer = make_timer(timer_id, due_at_ms=self.clock.now_ms() + ahead_ms)
        await self.store.create(timer)
        delivery = Delivery(timer.hint, redelivered=redelivered)
        self.worker.receive(delivery)
        return delivery

    async def state(self, timer_id: str = "timer-1") -> State:
        return (await self.store.get(timer_id)).state


async def test_what_is_overdue_is_called_at_once_and_acknowledged() -> None:
    scene = Scene()
    delivery = await scene.receive(ahead_ms=-5)
    assert await delivery.done() == "acknowledged"
    assert await scene.state() is State.DELIVERED


async def test_a_hint_is_held_until_its_time_and_never_called_before() -> None:
    scene = Scene()
    delivery = await scene.receive(ahead_ms=80)
    assert scene.worker.held == 1
    assert await delivery.done() == "acknowledged"
    ((started_at_ms, _),) = scene.callbacks.calls
    assert started_at_ms >= delivery.hint.at_ms
    assert scene.worker.held == 0


async def test_hints_are_called_in_the_order_of_their_times_whatever_order_they_came_in() -> None:
    scene = Scene()
    ahead = {"c": 120, "a": 40, "b": 80}
    deliveries = [await scene.receive(ahead_ms=ahead_ms, timer_id=name) for name, ahead_ms in ahead.items()]
    for delivery in deliveries:
        await delivery.done()
    assert [call.headers["webhook-id"] for _, call in scene.callbacks.calls] == ["a", "b", "c"]


async def test_a_hint_that_came_long_before_its_time_is_sent_on() -> None:
    scene = Scene()
    delivery = await scene.receive(ahead_ms=60_000)
    assert await delivery.done() == "acknowledged"
    assert scene.queue.hints == [delivery.hint]
    assert scene.worker.held == 0
    assert await scene.state() is State.SCHEDULED


async def test_a_delivery_is_acknowledged_only_when_all_is_written() -> None:
    callbacks = SlowAnswers()
    scene = Scene(callbacks)
    delivery = await scene.receive(ahead_ms=0)
    await callbacks.begun.wait()
    assert delivery.fate is None
    callbacks.may_end.set()
    assert await delivery.done() == "acknowledged"
    assert await scene.state() is State.DELIVERED


async def test_what_fails_unexpectedly_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer.worker, "_PAUSE_S", 0)
    scene = Scene()

    async def broken(*_: object, **__: object) -> Timer:
        raise RuntimeError("a bug")

    monkeypatch.setattr(scene.store, "claim", broken)
    delivery = await scene.receive(ahead_ms=0)
    assert await delivery.done() == "given back"
    await turns()
    assert scene.gate.calling == 0


async def test_what_fails_again_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer.worker, "_PAUSE_S", 0)
    scene = Scene()

    async def broken(*_: object, **__: object) -> Timer:
        raise RuntimeError("a bug")

    monkeypatch.setattr(scene.store, "claim", broken)
    delivery = await scene.receive(ahead_ms=0, redelivered=True)
    assert await delivery.done() == "acknowledged"
    assert scene.observer.drops == ["failed"]


async def test_what_no_keeper_puts_on_the_wheel_yet_is_dropped() -> None:
    scene = Scene()
    delivery = await scene.receive(ahead_ms=2 * SPAN_MS + 60_000)
    assert await delivery.done() == "acknowledged"
    assert scene.observer.drops == ["far"]
    assert scene.queue.hints == []


async def test_what_cannot_be_put_on_the_wheel_again_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer.worker, "_PAUSE_S", 0)
    scene = Scene()

    async def away(*_: object, **__: object) -> None:
        raise Unavailable("rabbitmq")

    monkeypatch.setattr(scene.queue, "publish", away)
    delivery = await scene.receive(ahead_ms=60_000)
    assert await delivery.done() == "given back"


async def test_who_finds_the_line_full_is_sent_round_again() -> None:
    scene = Scene()
    key = make_timer().target.key
    busy = Visitor(lambda: None, lambda _: None)
    for _ in range(3):
        scene.gate.enter(key, busy)
    scene.gate.leave(key, Called(10_000.0, well=True))
    delivery = await scene.receive(ahead_ms=0)
    second = await scene.receive(ahead_ms=0, timer_id="timer-2")
    assert await second.done() == "acknowledged"
    assert [(hint.timer_id, hint.bounces) for hint in scene.queue.hints] == [("timer-2", 1)]
    assert delivery.fate is None
    assert await scene.state("timer-2") is State.SCHEDULED


async def test_a_stop_lets_go_of_what_is_held() -> None:
    scene = Scene()
    delivery = await scene.receive(ahead_ms=1_500)
    await scene.worker.stop(PATIENCE_S)
    assert scene.worker.held == 0
    assert delivery.fate is None
    assert not scene.callbacks.calls


async def test_a_stop_finishes_what_is_in_progress() -> None:
    callbacks = SlowAnswers()
    scene = Scene(callbacks)
    delivery = await scene.receive(ahead_ms=0)
    await callbacks.begun.wait()
    stop = asyncio.create_task(scene.worker.stop(PATIENCE_S))
    await turns()
    callbacks.may_end.set()
    await stop
    assert delivery.fate == "acknowledged"
    assert await scene.state() is State.DELIVERED


async def test_a_stop_cuts_off_what_takes_too_long() -> None:
    callbacks = SlowAnswers()
    scene = Scene(callbacks)
    delivery = await scene.receive(ahead_ms=0)
    await callbacks.begun.wait()
    await scene.worker.stop(0.01)
    await turns()
    assert delivery.fate is None
    assert await scene.state() is State.FIRING, "its lease protects it until it ends"


async def test_after_a_stop_nothing_is_taken() -> None:
    scene = Scene()
    await scene.worker.stop(PATIENCE_S)
    delivery = await scene.receive(ahead_ms=0)
    await turns()
    assert delivery.fate is None
    assert await scene.state() is State.SCHEDULED
