"""What tests are made of: values that name only what matters, a clock that is set, parts that follow a script."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from hypothesis import strategies as st

from timers.amqp import AmqpTarget, Destination
from timers.body import Body, BodyKind
from timers.ports import Action, Call, Clock
from timers.retry import Answer, RetryPolicy
from timers.secret import BODY, Sealed
from timers.state import State
from timers.target import HttpTarget, LogTarget, QueueTarget
from timers.timer import Attempt, Hint, Lease, Spec, Timer

NOW_MS: Final = 1_800_000_000_000


def make_target(**changes: Any) -> HttpTarget:
    return replace(HttpTarget("https://example.com/hook"), **changes)


def make_spec(**changes: Any) -> Spec:
    return replace(Spec(due_at_ms=NOW_MS, target=make_target()), **changes)


def make_timer(timer_id: str = "timer-1", **changes: Any) -> Timer:
    """Return a scheduled timer that is due NOW_MS; a due time given alone is that of the next attempt too."""
    if "due_at_ms" in changes:
        changes.setdefault("next_attempt_at_ms", changes["due_at_ms"])
    return replace(Timer.create(timer_id, make_spec(), NOW_MS), **changes)


def make_hint(timer_id: str = "timer-1", **changes: Any) -> Hint:
    return replace(make_timer(timer_id).hint, **changes)


def make_attempt(number: int = 1, **changes: Any) -> Attempt:
    return replace(Attempt(number, NOW_MS, NOW_MS + 5, 3, 503, None), **changes)


def make_queued(timer_id: str = "timer-1", queue: str = "jobs", **changes: Any) -> Timer:
    """Return a timer of a pull queue that is due NOW_MS."""
    return make_timer(timer_id, target=QueueTarget(queue), **changes)


def make_leased(timer_id: str = "timer-1", *, until_ms: int = NOW_MS + 30_000, **changes: Any) -> Timer:
    """Return a timer of a pull queue that was leased NOW_MS."""
    return make_queued(timer_id, **changes).leased(Lease("0123456789abcdef" * 2, NOW_MS), until_ms)


class FakeClock:
    """A clock that stands until it is set; whoever sleeps moves it on."""

    def __init__(self, now_ms: int = NOW_MS, *, monotonic: float = 0.0) -> None:
        self._now_ms = float(now_ms)
        self._monotonic = monotonic

    def now_ms(self) -> int:
        return int(self._now_ms)

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        self._now_ms = round(self._now_ms + seconds * 1000, 3)
        self._monotonic += seconds


class Answers:
    """Callbacks that answer by a script, the last answer for ever; a call takes ``seconds`` of the clock."""

    def __init__(self, script: Iterable[Answer | int], *, clock: Clock, seconds: float = 0.0) -> None:
        self._script = [answer if isinstance(answer, Answer) else Answer(answer) for answer in script]
        self._clock = clock
        self._seconds = seconds
        self.calls: list[tuple[int, Call]] = []
        """When each call began, and the call."""

    async def invoke(self, action: Action) -> Answer:
        assert isinstance(action, Call)
        self.calls.append((self._clock.now_ms(), action))
        if self._seconds:
            await self._clock.sleep(self._seconds)
        return self._script.pop(0) if len(self._script) > 1 else self._script[0]


class RecordingQueue:
    """A delay queue that delivers nothing and remembers everything."""

    def __init__(self) -> None:
        self.taken: list[tuple[Hint, int]] = []
        """Each hint and the time it was to be delivered."""
        self.ready = 0
        """How many hints wait for consumers."""

    @property
    def hints(self) -> list[Hint]:
        return [hint for hint, _ in self.taken]

    def put(self, hint: Hint, *, not_before_ms: int | None = None) -> None:
        self.taken.append((hint, hint.at_ms if not_before_ms is None else not_before_ms))

    async def publish(self, hint: Hint, *, not_before_ms: int | None = None) -> None:
        self.put(hint, not_before_ms=not_before_ms)

    async def depth(self) -> int:
        return self.ready


class Unobserving:
    """Is told and forgets, but for what was dropped."""

    def __init__(self) -> None:
        self.drops: list[str] = []

    def attempted(self, timer: Timer, lateness_ms: int, seconds: float) -> None: ...

    def dropped(self, reason: str) -> None:
        self.drops.append(reason)

    def loaded(self, count: int) -> None: ...

    def redriven(self, count: int) -> None: ...

    def lapsed(self) -> None: ...

    def leased(self, count: int) -> None: ...

    def settled(self, outcome: str) -> None: ...


async def turns(count: int = 10) -> None:
    """Let the loop run until whatever is ready has gone on."""
    for _ in range(count):
        await asyncio.sleep(0)


_TEXT: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_TIMES: Final = st.integers(0, 2**43)

policies: Final = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 100),
    min_backoff=st.floats(0, 60),
    max_backoff=st.floats(60, 604_800),
    multiplier=st.floats(1, 100),
    jitter=st.floats(0, 1),
)
bodies: Final = (
    st.none()
    | st.builds(Body, st.just(BodyKind.TEXT), _TEXT)
    | st.builds(Body, st.just(BodyKind.JSON), _TEXT.map(json.dumps))
    | st.builds(Body, st.just(BodyKind.BASE64), st.binary(max_size=20).map(lambda raw: b64encode(raw).decode()))
)
_NAMES: Final = st.from_regex(r"[a-z]{1,10}", fullmatch=True)
http_targets: Final = st.builds(
    HttpTarget,
    url=st.builds("https://{}/{}".format, st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True), _TEXT),
    method=st.sampled_from(["GET", "POST"]),
    headers=st.dictionaries(_TEXT, _TEXT, max_size=3),
    body=bodies,
    timeout=st.floats(0.01, 300),
    secrets=st.dictionaries(_NAMES, st.builds(Sealed, _TEXT), max_size=2),
)
_secret_bodies: Final = st.dictionaries(st.just(BODY), st.builds(Sealed, _TEXT), max_size=1)
destinations: Final = st.builds(Destination, st.just("") | _NAMES, _NAMES)
_messages: Final = st.builds(
    AmqpTarget,
    to=destinations,
    headers=st.dictionaries(_NAMES, _TEXT | st.integers(-(2**63), 2**63 - 1) | st.booleans(), max_size=3),
    properties=st.dictionaries(st.sampled_from(["type", "app_id"]), _NAMES),
    body=bodies,
    secrets=_secret_bodies,
)
amqp_targets: Final = _messages | st.builds(
    replace, _messages, redeliveries_left=st.integers(0, 1_000), dead_letter=destinations
)
queue_targets: Final = st.builds(QueueTarget, st.sampled_from(["jobs", "mail"]), bodies, _secret_bodies)
targets: Final = http_targets | amqp_targets | queue_targets | st.builds(LogTarget, bodies)
attempts: Final = st.builds(
    Attempt,
    number=st.integers(1, 100),
    started_at_ms=_TIMES,
    finished_at_ms=_TIMES,
    lateness_ms=_TIMES,
    status=st.none() | st.integers(100, 599),
    error=st.none() | _TEXT,
)
timers: Final = st.builds(
    Timer,
    id=st.from_regex(r"([a-z0-9]{1,5}/)?[A-Za-z0-9._:-]{1,20}", fullmatch=True),
    state=st.sampled_from(State),
    version=st.integers(1, 2**31),
    due_at_ms=_TIMES,
    next_attempt_at_ms=_TIMES,
    target=targets,
    retry=policies,
    labels=st.dictionaries(_TEXT, _TEXT, max_size=3),
    created_at_ms=_TIMES,
    updated_at_ms=_TIMES,
    attempts=st.lists(attempts, max_size=3).map(tuple),
    attempts_made=st.integers(0, 100),
    lease_until_ms=_TIMES,
    request=st.none() | _TEXT | st.builds(Sealed, _TEXT),
    lease=st.none() | st.builds(Lease, st.just("0123456789abcdef" * 2), _TIMES),
    trace=st.none() | st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
)
