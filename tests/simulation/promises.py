"""The promises as invariants: told of everything as it happens, breaks at the first that does not hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from infra.dynamodb import codec
from infra.dynamodb.client import Item
from tests.simulation.loop import Process
from timers.ports import Call
from timers.state import State
from timers.timer import Hint, Timer

_LEGAL: Final = frozenset(
    {
        (State.SCHEDULED, State.SCHEDULED),
        (State.SCHEDULED, State.CANCELLED),
        (State.SCHEDULED, State.EXPIRED),
        (State.SCHEDULED, State.FIRING),
        (State.FIRING, State.FIRING),
        (State.FIRING, State.SCHEDULED),
        (State.FIRING, State.DELIVERED),
        (State.FIRING, State.DEAD),
        (State.DEAD, State.SCHEDULED),
    }
)
_FINAL: Final = frozenset({State.DELIVERED, State.DEAD, State.CANCELLED, State.EXPIRED})
_LOST_ALLOWED: Final = 3
_SKEW_MS: Final = 5_000
PUNCTUAL_MS: Final = 100
"""How late a first attempt may be where nothing goes wrong."""

Task = asyncio.Task[object]


@dataclass(frozen=True, slots=True)
class Broken:
    """The promise that did not hold, and how."""

    promise: str
    detail: str


@dataclass(frozen=True, slots=True)
class Written:
    """One version of a timer, as the table has it."""

    timer: Timer
    writer: str
    by: Process


@dataclass(eq=False, slots=True)
class Running:
    """An attempt in progress at its target."""

    timer: Timer
    by: Process


@dataclass(eq=False, slots=True)
class _Record:
    """What is known of one timer."""

    versions: list[Written] = field(default_factory=list)
    acknowledged: int = 0
    """The highest version that a client was told of."""
    running: list[Running] = field(default_factory=list)
    last_number: int = 0
    """Of the latest attempt since attempts were last counted afresh."""
    attempts: int = 0

    @property
    def now(self) -> Timer:
        return self.versions[-1].timer


class Promises:
    """Watches one history; ``break_`` is called with what failed."""

    def __init__(self, now_ms: Callable[[Process], int], break_: Callable[[Broken], None], *, calm: bool) -> None:
        self._now_ms = now_ms
        self._break = break_
        self._calm = calm
        self._claims: dict[Task, Timer] = {}
        self._published: set[Task] = set()
        self._sent: set[tuple[str, str, int]] = set()
        self.timers: dict[str, _Record] = {}

    def versions(self, timer_id: str) -> list[Written]:
        return self.timers[timer_id].versions if timer_id in self.timers else []

    @property
    def all_final(self) -> bool:
        return all(record.now.state in _FINAL for record in self.timers.values())

    @property
    def unfinished(self) -> list[Timer]:
        return [record.now for record in self.timers.values() if record.now.state not in _FINAL]

    def committed(self, before: Item | None, after: Item, by: Process) -> Timer:
        """The table took a write."""
        timer = codec.decode(after)
        record = self.timers.setdefault(timer.id, _Record())
        if before is None:
            self._check(timer.version == 1 and timer.state is State.SCHEDULED, "moves", f"created as {timer}")
        else:
            self._check_move(record, timer, by)
        if timer.state is State.SCHEDULED and timer.attempts_made == 0:
            record.last_number = 0
        record.versions.append(Written(timer, after["writer"]["S"], by))
        return timer

    def _check_move(self, record: _Record, after: Timer, by: Process) -> None:
        before = record.now
        self._check(after.version == before.version + 1, "versions", f"{before.version} -> {after.version}")
        self._check((before.state, after.state) in _LEGAL, "moves", f"{before.state} -> {after.state}")
        if before.state is after.state is State.FIRING:
            self._check(after.lease == before.lease is not None, "P4 lease", f"{by.name} changed whose lease it is")
            return
        if after.state is State.FIRING and after.lease is not None:
            early_ms = before.next_attempt_at_ms - after.lease.started_at_ms
            self._check(early_ms <= 0, "P5 never early", f"leased {early_ms} ms early")
        most = after.retry.max_attempts + _LOST_ALLOWED
        self._check(after.attempts_made <= most, "attempts", f"{after.attempts_made} made of {most}")
        if before.state is State.FIRING:
            self._check_release(record, after, by)

    def _check_release(self, record: _Record, after: Timer, by: Process) -> None:
        """Only the claimer ends its claim; anybody else once the lease is over on the claimer's own clock."""
        claim = record.versions[-1]
        lost = after.attempts[-1:] != claim.timer.attempts[-1:] and "unknown" in (after.attempts[-1].error or "")
        if not lost:  # a lease is its worker's, whichever process that one reports to
            of_worker = claim.timer.lease is not None
            self._check(of_worker or by is claim.by, "P4 lease", f"{by.name} settled the claim of {claim.by.name}")
            return
        left_ms = claim.timer.lease_until_ms - self._now_ms(claim.by)
        self._check(left_ms < 0, "P4 lease", f"{by.name} took over {left_ms} ms before {claim.by.name}'s lease ended")
        self._check(not record.running, "P4 one at a time", f"{by.name} took over during the attempt")

    def claimed(self, timer: Timer) -> None:
        """A consumer's task learnt that it has won a claim."""
        self._claims[_task()] = timer

    def published(self, hint: Hint, by: Process) -> None:
        """A task put a hint on the wheel and saw it confirmed."""
        self._published.add(_task())
        self._sent.add((by.name, hint.timer_id, hint.version))

    def started(self, call: Call, by: Process) -> Running:
        """A call leaves for its target."""
        claim = self._claims.get(_task())
        timer_id = call.headers["webhook-id"]
        self._check(claim is not None and claim.id == timer_id, "P4 one at a time", "a call without a claim")
        assert claim is not None
        record = self.timers[timer_id]
        self._check_start(record, claim, by)
        self._check_number(record, claim, int(call.headers["timer-attempt"]))
        record.attempts += 1
        running = Running(claim, by)
        record.running.append(running)
        return running

    def _check_start(self, record: _Record, claim: Timer, by: Process) -> None:
        now, clock_ms = record.now, self._now_ms(by)
        early_ms = record.versions[claim.version - 1].timer.next_attempt_at_ms - clock_ms
        self._check(early_ms <= 0, "P5 never early", f"{early_ms} ms early")
        self._check(
            claim.version > record.acknowledged,
            "P3 truthful",
            f"version {claim.version - 1} called after version {record.acknowledged} was acknowledged",
        )
        self._check(now.state not in _FINAL, "settled once", f"called again though {now.state}")
        self._check(not record.running, "P4 one at a time", "two attempts overlap")
        holds = now.state is State.FIRING and now.version == claim.version
        self._check(holds, "P4 lease", f"claim {claim.version} has ended: {now.state} {now.version}")
        if self._calm and not record.attempts:
            late_ms = clock_ms - claim.next_attempt_at_ms
            self._check(late_ms <= PUNCTUAL_MS, "P6 punctual", f"{late_ms} ms late in a calm world")
        elif self._calm:
            late_ms = clock_ms - claim.next_attempt_at_ms
            self._check(late_ms <= PUNCTUAL_MS, "P6 punctual", f"a retry {late_ms} ms late in a calm world")

    def _check_number(self, record: _Record, claim: Timer, number: int) -> None:
        self._check(number > record.last_number, "attempts", f"number {number} after {record.last_number}")
        most = claim.retry.max_attempts + _LOST_ALLOWED
        self._check(number <= most, "attempts", f"number {number} of {most}")
        record.last_number = number

    def handed(self, timer: Timer) -> None:
        """A worker was given a timer."""
        written = self.versions(timer.id)[timer.version - 1].timer
        self._check(written == timer, "P1 durable", f"handed out {timer}, the table had {written}")
        self._check(timer.lease is not None, "P4 lease", "handed out without a lease")

    def commit_confirmed(self, leased: Timer) -> None:
        """A worker's commit was acknowledged."""
        done = [written.timer for written in self.versions(leased.id) if written.timer.state is State.DELIVERED]
        held = any(timer.lease == leased.lease for timer in done)
        self._check(held, "P4 lease", f"a commit under an ended lease of {leased.id} was acknowledged")

    def ended(self, running: Running) -> None:
        """A target answered, or its caller's time-out passed."""
        self.timers[running.timer.id].running.remove(running)

    def acked(self, hint: Hint, by: Process) -> None:
        """A consumer acknowledges a message: its timer must be somebody's care."""
        task = _task()
        claim = self._claims.get(task)
        record = self.timers.get(hint.timer_id)
        if record is None:
            return
        now = record.now
        if claim is not None:
            left_ms = claim.lease_until_ms + _SKEW_MS - self._now_ms(by)
            held = now.state is State.FIRING and now.version == claim.version
            self._check(not held or left_ms < 0, "ack last", f"{by.name} acknowledged while {now.version} fires")
        elif task not in self._published and (by.name, hint.timer_id, hint.version) not in self._sent:
            # (a second hint of a timer may go once the same process has sent the first one round)
            waits = now.state is State.SCHEDULED and now.version == hint.version
            self._check(not waits, "ack last", f"{by.name} acknowledged a hint without looking at its timer")

    def accepted(self, timer: Timer) -> None:
        """A client got a 2xx that shows ``timer``."""
        versions = self.versions(timer.id)
        held = len(versions) >= timer.version and versions[timer.version - 1].timer == timer
        self._check(held, "P1 durable", f"acknowledged {timer}, the table has {versions[-1:]}")
        record = self.timers[timer.id]
        record.acknowledged = max(record.acknowledged, timer.version)

    def matched(self, timer: Timer, versions: frozenset[int] | None) -> None:
        """A client got a 2xx to a request with If-Match: ``timer`` follows that version, or was cancelled already."""
        held = not versions or timer.version - 1 in versions or timer.state is State.CANCELLED
        self._check(held, "P3 truthful", f"If-Match {versions} led to version {timer.version}")

    def confirmed(self, timer: Timer, writer: str) -> None:
        """The store says that a write has happened."""
        versions = self.versions(timer.id)
        held = len(versions) >= timer.version and versions[timer.version - 1].writer == writer
        self._check(held, "P1 durable", f"version {timer.version} of {timer.id} is not this writer's")

    def denied(self, timer_id: str, writer: str) -> None:
        """The store says that a write has not happened, and never will."""
        happened = any(written.writer == writer for written in self.versions(timer_id))
        self._check(not happened, "truthful store", f"a write of {timer_id} was denied that had happened")

    def is_acknowledged(self, timer_id: str) -> bool:
        record = self.timers.get(timer_id)
        return record is not None and record.acknowledged > 0

    def missing(self, timer_id: str, *, known: bool) -> None:
        """The store says that there is no such timer; ``known`` tells whether one was acknowledged before it looked."""
        self._check(not known, "P1 durable", f"{timer_id} is gone")

    def _check(self, held: bool, promise: str, detail: str) -> None:
        if not held:
            self._break(Broken(promise, detail))
            raise AssertionError(f"{promise}: {detail}")


def _task() -> Task:
    task = asyncio.current_task()
    assert task is not None
    return task
