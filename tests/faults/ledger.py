"""What clients were told, what arrived, and where the two disagree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final

from timers.stamps import parse_rfc3339

LATE_MS: Final = 100
_CALM_MS: Final = 8_000


class Kind(StrEnum):
    """What a client asked for."""

    CREATE = "create"
    EDIT = "edit"
    CANCEL = "cancel"
    FIRE = "fire"


class Outcome(StrEnum):
    """
    What a client knows of its write.

    UNKNOWN: the request failed, or was answered 503: it may have happened, may still happen, or never will.
    """

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Write:
    """One write; ``marker`` is in the body and in the path of every call of what it asked for."""

    kind: Kind
    marker: int
    due_ms: int
    outcome: Outcome
    answered_ms: float


@dataclass(slots=True)
class Call:
    """One call at the receiver; ``ended_ms`` is None while it is neither answered nor dropped by the caller."""

    timer_id: str
    attempt: int
    marker: int
    path_marker: int
    due_ms: int
    started_ms: float
    ended_ms: float | None = None
    status: int | None = None

    @property
    def taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass(slots=True)
class Entry:
    """A timer as its client knows it. ``aside``: its target is the fault, so its lateness says nothing."""

    timer_id: str
    timeout_ms: int
    aside: bool = False
    writes: list[Write] = field(default_factory=list)
    final: dict[str, Any] | None = None

    @property
    def acknowledged(self) -> bool:
        return any(write.outcome is Outcome.ACKNOWLEDGED for write in self.of(Kind.CREATE))

    def of(self, *kinds: Kind) -> Iterator[Write]:
        return (write for write in self.writes if write.kind in kinds)

    def told(self, kind: Kind, *outcomes: Outcome) -> list[Write]:
        return [write for write in self.of(kind) if write.outcome in outcomes]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The row of one fault; ``details`` has a sentence for each thing that must not be."""

    fault: str
    acknowledged: int
    delivered: int
    counts: Counter[str]
    repeated: int
    late: int
    worst_ms: float
    recovered_s: float
    details: tuple[str, ...]


MUST_BE_ZERO: Final = ("lost", "after-cancel", "after-edit", "overlapping", "early", "after-settled", "same-attempt")


class Ledger:
    """Everything that was asked and everything that arrived, by timer."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.calls: defaultdict[str, list[Call]] = defaultdict(list)

    @property
    def unfinished(self) -> list[Entry]:
        """Who may exist and is not known to be final."""
        return [entry for entry in self.entries.values() if entry.final is None and entry.writes]

    def verdict(self, fault: str, ended_ms: float) -> Verdict:
        """Compare; ``ended_ms`` is when the fault was over."""
        found = list(self._violations())
        acknowledged = [entry for entry in self.entries.values() if entry.acknowledged]
        lateness = sorted(self._lateness())
        return Verdict(
            fault=fault,
            acknowledged=len(acknowledged),
            delivered=sum(any(call.taken for call in self.calls[entry.timer_id]) for entry in acknowledged),
            counts=Counter(kind for kind, _ in found),
            repeated=sum(sum(call.taken for call in calls) > 1 for calls in self.calls.values()),
            late=sum(late_ms >= LATE_MS for _, late_ms in lateness),
            worst_ms=max((late_ms for _, late_ms in lateness), default=0),
            recovered_s=max(0, _calm_from(lateness, ended_ms) - ended_ms) / 1000,
            details=tuple(f"{kind}: {sentence}" for kind, sentence in found),
        )

    def _violations(self) -> Iterator[tuple[str, str]]:
        for timer_id in self.calls.keys() - self.entries.keys():
            yield "stray", f"{timer_id} called, which was final before"
        for entry in self.entries.values():
            calls = sorted(self.calls[entry.timer_id], key=lambda call: call.started_ms)
            yield from (("lost", text) for text in _lost(entry, calls))
            yield from (("after-cancel", text) for text in _after_cancel(entry, calls))
            yield from (("after-edit", text) for text in _after_edit(entry, calls))
            yield from (("overlapping", text) for text in _overlapping(entry, calls))
            yield from (("same-attempt", text) for text in _same_attempt(entry, calls))
            yield from (("early", text) for text in _early(entry, calls))
            yield from (("after-settled", text) for text in _after_settled(entry, calls))

    def _lateness(self) -> Iterator[tuple[float, float]]:
        """
        Yield when each timer's first call that arrived should have come, and its lateness in milliseconds.

        It cannot have been expected before its client was told that the timer is accepted.
        """
        for timer_id, entry in self.entries.items():
            calls = self.calls[timer_id]
            if calls and not entry.aside:
                first = min(calls, key=lambda call: call.started_ms)
                told = entry.told(Kind.CREATE, Outcome.ACKNOWLEDGED) + entry.told(Kind.EDIT, Outcome.ACKNOWLEDGED)
                due_ms = max([first.due_ms, *(write.answered_ms for write in told if write.marker == first.marker)])
                yield due_ms, max(0, first.started_ms - due_ms)


def _calm_from(lateness: Sequence[tuple[float, float]], ended_ms: float) -> float:
    """Return when the last late call had arrived before all that came due for eight seconds was on time."""
    calm_ms = ended_ms
    for due_ms, late_ms in lateness:
        if due_ms > calm_ms + _CALM_MS:
            break
        if late_ms >= LATE_MS:
            calm_ms = max(calm_ms, due_ms + late_ms)
    return calm_ms


def _lost(entry: Entry, calls: Sequence[Call]) -> Iterable[str]:
    """Acknowledged, not cancelled, and never taken by the target, or not final in the end."""
    if not entry.acknowledged:
        return
    state = entry.final["state"] if entry.final else "not final"
    may_be_cancelled = entry.told(Kind.CANCEL, Outcome.ACKNOWLEDGED, Outcome.UNKNOWN)
    if state == "cancelled" and may_be_cancelled:
        return
    if state != "delivered" or not any(call.taken for call in calls):
        yield f"{entry.timer_id} is {state} after {len(calls)} calls"


def _after_cancel(entry: Entry, calls: Sequence[Call]) -> Iterable[str]:
    """A call that arrived after the client had its 200 for the cancel."""
    for write in entry.told(Kind.CANCEL, Outcome.ACKNOWLEDGED):
        for call in calls:
            if call.started_ms > write.answered_ms:
                yield f"{entry.timer_id} called {call.started_ms - write.answered_ms:.0f} ms after its cancel"


def _after_edit(entry: Entry, calls: Sequence[Call]) -> Iterable[str]:
    """
    A call with the body, url or due time of a version known to be superseded when it arrived.

    Known means: both it and a later one were acknowledged. What a write of unknown outcome asked for may come.
    """
    for call in calls:
        asked = {write.marker: write for write in entry.of(Kind.CREATE, Kind.EDIT)}
        write = asked[call.marker]
        newer = [
            edit.marker
            for edit in entry.told(Kind.EDIT, Outcome.ACKNOWLEDGED)
            if edit.marker > call.marker and edit.answered_ms < call.started_ms
        ]
        known = _outcome_of(entry, call.marker) is Outcome.ACKNOWLEDGED
        if newer and known:
            yield f"{entry.timer_id} called with version {call.marker} after the answer to {newer}"
        if call.path_marker != call.marker:
            yield f"{entry.timer_id} called at version {call.path_marker} with the body of {call.marker}"
        if call.due_ms != write.due_ms and not _may_be_fired(entry, call):
            yield f"{entry.timer_id} called with another due time than it was given"


def _outcome_of(entry: Entry, marker: int) -> Outcome:
    """Return what is known of a marker: an edit tried several times is unknown where one try is."""
    outcomes = {write.outcome for write in entry.of(Kind.EDIT) if write.marker == marker}
    if Outcome.UNKNOWN in outcomes:
        return Outcome.UNKNOWN
    return Outcome.ACKNOWLEDGED  # a creation comes before all else, whatever its client was told


def _may_be_fired(entry: Entry, call: Call) -> bool:
    fires = entry.told(Kind.FIRE, Outcome.ACKNOWLEDGED, Outcome.UNKNOWN)
    return bool(fires) and call.due_ms <= max(write.due_ms for write in entry.writes)


def _overlapping(entry: Entry, calls: Sequence[Call]) -> Iterable[str]:
    """
    A call that arrived while an earlier one of the timer was open.

    A call is open from its arrival until the receiver has answered, the caller's connection is dropped, or its
    time-out has passed: from then on nobody waits for it, be its caller dead, frozen or cut off.
    """
    for earlier, later in pairwise(calls):
        times_out_ms = earlier.started_ms + entry.timeout_ms
        ended_ms = times_out_ms if earlier.ended_ms is None else min(earlier.ended_ms, times_out_ms)
        if later.started_ms < ended_ms:
            yield f"{entry.timer_id} called {ended_ms - later.started_ms:.0f} ms before its last call ended"


def _same_attempt(entry: Entry, calls: Sequence[Call]) -> Iterable[str]:
    """A repeated call whose number is not higher; an edit counts afresh."""
    for earlier, later in pairwise(calls):
        if later.attempt <= earlier.attempt and later.marker == earlier.marker:
            yield f"{entry.timer_id} called with attempt {later.attempt} after {earlier.attempt}"


def _early(entry: Entry, calls: Sequence[Call]) -> Iterable[str]:
    for call in calls:
        if call.started_ms < call.due_ms:
            yield f"{entry.timer_id} called {call.due_ms - call.started_ms:.0f} ms early"


def _after_settled(entry: Entry, calls: Sequence[Call]) -> Iterable[str]:
    """A call that arrived after the one which the timer says has delivered it had ended."""
    if entry.final is None or entry.final["state"] != "delivered":
        return
    settled_ms = parse_rfc3339(entry.final["attempts"][-1]["finished_at"])
    for call in calls:
        if call.started_ms > settled_ms + 1:
            yield f"{entry.timer_id} called {call.started_ms - settled_ms:.0f} ms after it was delivered"
