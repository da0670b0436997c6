"""What happens in one history, drawn from its seed: values only, so that a history can be cut down."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import Final

SKEW_S: Final = 2.5
"""How far each clock may be off, so that two differ by up to CLOCK_SKEW_MS."""

_PLENTY: Final = 10
_FAR_MS: Final = 10_000
"""A horizon whose tenth covers the index's lag, so that the keeper loads in time whatever is not published."""


class Wish(StrEnum):
    """What a client asks for."""

    SCHEDULE = "schedule"
    REPLACE = "replace"
    EDIT = "edit"
    CANCEL = "cancel"
    FIRE = "fire"
    REPLAY = "replay"


@dataclass(frozen=True, slots=True)
class Op:
    """One request; ``matching`` sends it with If-Match of what the client saw last."""

    at_s: float
    wish: Wish
    timer: int
    api: int
    delay_ms: int
    matching: bool = False


class Trouble(StrEnum):
    """A fault that begins at some time."""

    CRASH = "crash"
    PAUSE = "pause"
    ROLL = "roll"
    CUT = "cut"
    CLOCK_STEP = "clock step"
    BROKER_AWAY = "broker away"
    BROKER_WIPED = "broker wiped"
    TABLE_AWAY = "table away"


class Moment(StrEnum):
    """What a process may die just after, in the middle of what it is doing."""

    CREATED = "created"
    CLAIMED = "claimed"
    SETTLED = "settled"
    TAKEN_OVER = "taken over"
    INVOKED = "invoked"
    ANSWERED = "answered"
    PUBLISHED = "published"
    ACKED = "acked"


@dataclass(frozen=True, slots=True)
class Fault:
    """Trouble for a process, for a time; ``amount`` is the new offset of a stepping clock."""

    at_s: float
    trouble: Trouble
    subject: int = 0
    length_s: float = 0.0
    amount: float = 0.0

    @property
    def end_s(self) -> float:
        return self.at_s + self.length_s


@dataclass(frozen=True, slots=True)
class Interruption:
    """Whoever does something for the ``nth`` time dies ``steps`` callbacks later, or stands still for ``pause_s``."""

    moment: Moment
    nth: int
    steps: int
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Rates:
    """How likely each small fault is, per call or message."""

    table_refused: float = 0.0
    table_unanswered: float = 0.0
    table_slow: float = 0.0
    statement_refused: float = 0.0
    publish_unconfirmed: float = 0.0
    message_lost: float = 0.0
    message_doubled: float = 0.0
    message_late: float = 0.0


CALM: Final = Rates()


@dataclass(frozen=True, slots=True)
class Reply:
    """How a target answers: a status, None for never; after how many seconds."""

    status: int | None
    after_s: float
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """One history. Whatever it leaves open is drawn from ``seed``."""

    seed: int
    apis: int
    offsets: tuple[float, ...]
    """Of each process's clock, the apis first."""
    timers: int
    ops: tuple[Op, ...]
    faults: tuple[Fault, ...]
    interruptions: tuple[Interruption, ...]
    rates: Rates
    replies: tuple[tuple[Reply, ...], ...]
    """By timer, by call; then always a 200."""
    shuffled: bool = True
    shards: int = 1
    horizon_ms: int = 3_600_000
    concurrency: int = 10
    prefetch: int = 5
    failures_to_shut: int = 20
    poisonous: int | None = None
    """The timer whose every call kills its consumer."""
    pulled: frozenset[int] = frozenset()
    """The timers that wait in a pull queue for workers."""

    @property
    def consumers(self) -> int:
        return len(self.offsets) - self.apis

    @property
    def calm(self) -> bool:
        """Whether nothing goes wrong, all clocks agree and nothing is scarce, so that timers must be on time."""
        troubles = (self.faults, self.interruptions, any(self.offsets), self.poisonous is not None)
        scarce = self.concurrency < _PLENTY or self.prefetch < _PLENTY or self.failures_to_shut < _PLENTY
        return not any(troubles) and self.rates == CALM and not scarce and self.horizon_ms >= _FAR_MS

    @property
    def quiet_s(self) -> float:
        """When the faults are over."""
        times = [8.0, *(fault.end_s for fault in self.faults), *(op.at_s for op in self.ops)]
        times += [8.0 + interruption.pause_s for interruption in self.interruptions]
        return max(times) + 0.5


def plan_of(seed: int) -> Plan:
    """Draw a history."""
    random = Random(seed)
    apis, consumers, timers = random.choice((1, 1, 2)), random.choice((1, 2, 2, 3)), random.choice((1, 1, 2, 3))
    plan = Plan(
        seed=seed,
        apis=apis,
        offsets=tuple(_offset(random) for _ in range(apis + consumers)),
        timers=timers,
        ops=_ops(random, timers, apis),
        faults=_faults(random, apis + consumers),
        interruptions=_interruptions(random),
        rates=_rates(random),
        replies=tuple(_replies(random) for _ in range(timers)),
        shuffled=random.random() < 0.8,
        shards=random.choice((1, 1, 2)),
        horizon_ms=random.choice((3_600_000, 3_600_000, 4_000)),
        concurrency=random.choice((1, 2, 10)),
        prefetch=random.choice((1, 3, 10)),
        failures_to_shut=random.choice((2, 20)),
        poisonous=0 if random.random() < 0.02 else None,
    )
    calm = random.random() < 0.1
    if random.random() < 0.4:
        plan = replace(plan, pulled=frozenset(timer for timer in range(timers) if random.random() < 0.6))
    return _calmed(plan) if calm else plan


def _calmed(plan: Plan) -> Plan:
    return replace(
        plan,
        offsets=(0.0,) * len(plan.offsets),
        faults=(),
        interruptions=(),
        rates=CALM,
        concurrency=_PLENTY,
        prefetch=_PLENTY,
        failures_to_shut=2 * _PLENTY,
        poisonous=None,
        horizon_ms=max(plan.horizon_ms, _FAR_MS),
    )


def _offset(random: Random) -> float:
    return random.choice((0.0, -SKEW_S, SKEW_S, random.uniform(-SKEW_S, SKEW_S)))


def _ops(random: Random, timers: int, apis: int) -> tuple[Op, ...]:
    ops = []
    for timer in range(timers):
        at_s = random.uniform(0, 2)
        first = random.choice((Wish.SCHEDULE, Wish.SCHEDULE, Wish.REPLACE))
        ops.append(Op(at_s, first, timer, random.randrange(apis), _delay_ms(random)))
        for _ in range(random.choice((0, 0, 1, 2, 3))):
            at_s += random.choice((0.0, random.uniform(0, 0.1), random.uniform(0, 5)))
            wish = random.choice(list(Wish)[1:])
            matching = random.random() < 0.3
            ops.append(Op(at_s, wish, timer, random.randrange(apis), _delay_ms(random), matching))
    return tuple(sorted(ops, key=lambda op: op.at_s))


def _delay_ms(random: Random) -> int:
    low, high = random.choice(((0, 0), (0, 100), (0, 6_000), (2_000, 8_000), (2_000, 14_000)))
    return random.randint(low, high)


def _faults(random: Random, processes: int) -> tuple[Fault, ...]:
    faults = []
    for _ in range(random.choice((0, 0, 1, 2, 3))):
        trouble = random.choice(list(Trouble))
        length_s = random.choice((0.3, random.uniform(0, 3), random.uniform(3, 12)))
        faults.append(
            Fault(
                at_s=random.uniform(0, 8),
                trouble=trouble,
                subject=random.randrange(processes),
                length_s=length_s,
                amount=random.uniform(-SKEW_S, SKEW_S),
            )
        )
    return tuple(sorted(faults, key=lambda fault: fault.at_s))


def _interruptions(random: Random) -> tuple[Interruption, ...]:
    if random.random() < 0.1:  # the hardest place to be held up: nothing but the lease guards it
        return (Interruption(Moment.CLAIMED, random.choice((1, 2)), random.randint(0, 3), random.uniform(8, 20)),)
    return tuple(_interruption(random) for _ in range(random.choice((0, 0, 1, 2))))


def _interruption(random: Random) -> Interruption:
    return Interruption(
        moment=random.choice(list(Moment)),
        nth=random.choice((1, 1, 2, 3)),
        steps=random.choice((0, 0, random.randint(0, 12))),
        pause_s=random.choice((0.0, 0.0, random.uniform(0, 5), random.uniform(5, 25))),
    )


def _rates(random: Random) -> Rates:
    if random.random() < 0.3:
        return CALM
    return Rates(*(random.choice((0.0, 0.0, 0.03, 0.2)) for _ in Rates.__slots__))


def _replies(random: Random) -> tuple[Reply, ...]:
    return tuple(_reply(random) for _ in range(random.choice((0, 0, 1, 2, 4))))


def _reply(random: Random) -> Reply:
    after_s = random.choice((0.0, 0.01, random.uniform(0, 1), random.uniform(1, 4)))
    status = random.choice((200, 500, 500, None, None, 410, 429))
    return Reply(status, after_s, random.choice((None, 0, 2_000)) if status == 429 else None)
