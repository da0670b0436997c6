"""The ledger finds what it is there to find."""

from __future__ import annotations

from tests.faults.ledger import Call, Entry, Kind, Ledger, Outcome, Write

DUE = 10_000


def ledger(*writes: Write, calls: list[Call], state: str = "delivered") -> Ledger:
    made = Ledger()
    entry = Entry("a", timeout_ms=2_000)
    entry.writes = [Write(Kind.CREATE, 0, DUE, Outcome.ACKNOWLEDGED, 1_000), *writes]
    entry.final = {"state": state, "attempts": [{"finished_at": "1970-01-01T00:00:20Z"}]}
    made.entries["a"] = entry
    made.calls["a"] = calls
    return made


def call(started_ms: float = DUE, ended_ms: float | None = DUE + 10, **more: int) -> Call:
    fields = {"attempt": 1, "marker": 0, "path_marker": 0, "due_ms": DUE, "status": 200} | more
    return Call("a", started_ms=started_ms, ended_ms=ended_ms, **fields)


def broken(made: Ledger) -> set[str]:
    return set(made.verdict("none", DUE).counts)


def write(kind: Kind, answered_ms: float, outcome: Outcome = Outcome.ACKNOWLEDGED, marker: int = 1) -> Write:
    return Write(kind, marker, DUE, outcome, answered_ms)


def test_one_punctual_call_breaks_nothing() -> None:
    assert broken(ledger(calls=[call()])) == set()


def test_an_acknowledged_timer_that_is_never_taken_is_lost() -> None:
    assert broken(ledger(calls=[])) == {"lost"}
    assert broken(ledger(calls=[call(status=500)])) == {"lost"}
    assert broken(ledger(calls=[call()], state="scheduled")) == {"lost"}


def test_a_cancel_of_unknown_outcome_may_have_happened() -> None:
    unknown = write(Kind.CANCEL, 5_000, Outcome.UNKNOWN)
    assert broken(ledger(unknown, calls=[], state="cancelled")) == set()
    assert broken(ledger(unknown, calls=[call()])) == set()
    assert broken(ledger(calls=[], state="cancelled")) == {"lost"}


def test_a_call_after_the_answer_to_a_cancel_is_found() -> None:
    assert broken(ledger(write(Kind.CANCEL, DUE - 1), calls=[call()], state="cancelled")) == {"after-cancel"}


def test_a_call_of_the_old_version_after_the_answer_to_an_edit_is_found() -> None:
    assert broken(ledger(write(Kind.EDIT, DUE - 1), calls=[call()])) == {"after-edit"}
    assert broken(ledger(write(Kind.EDIT, DUE - 1), calls=[call(marker=1)])) == {"after-edit"}
    assert broken(ledger(write(Kind.EDIT, DUE - 1), calls=[call(marker=1, path_marker=1)])) == set()
    assert broken(ledger(write(Kind.EDIT, DUE - 1, Outcome.UNKNOWN), calls=[call()])) == set()


def test_two_calls_at_once_are_found() -> None:
    assert broken(ledger(calls=[call(), call(DUE + 5, DUE + 20, attempt=2)])) == {"overlapping"}
    assert broken(ledger(calls=[call(), call(DUE + 15, DUE + 20, attempt=2)])) == set()


def test_an_unanswered_call_is_open_until_its_time_out() -> None:
    never = call(ended_ms=None)
    assert broken(ledger(calls=[never, call(DUE + 1_999, DUE + 2_010, attempt=2)])) == {"overlapping"}
    assert broken(ledger(calls=[never, call(DUE + 2_000, DUE + 2_010, attempt=2)])) == set()


def test_a_repeated_call_has_a_higher_attempt() -> None:
    assert broken(ledger(calls=[call(), call(DUE + 15, DUE + 20)])) == {"same-attempt"}


def test_an_early_call_is_found() -> None:
    assert broken(ledger(calls=[call(DUE - 0.5)])) == {"early"}


def test_a_call_after_the_one_that_delivered_is_found() -> None:
    assert broken(ledger(calls=[call(), call(20_010, 20_020, attempt=2)])) == {"after-settled"}


def test_a_call_of_an_earlier_day_is_found() -> None:
    made = ledger(calls=[call()])
    made.calls["b"] = [call()]
    assert broken(made) == {"stray"}


def test_nobody_waits_for_a_timer_before_it_is_accepted() -> None:
    made = ledger(calls=[call(DUE + 300)])
    assert made.verdict("none", DUE).worst_ms == 300
    made.entries["a"].writes = [Write(Kind.CREATE, 0, DUE, Outcome.ACKNOWLEDGED, DUE + 200)]
    assert made.verdict("none", DUE).worst_ms == 100


def test_recovery_lasts_until_eight_seconds_pass_without_a_late_call() -> None:
    made = ledger(calls=[])
    for number, late_ms in enumerate((0, 3_000, 0, 0, 500, *[0] * 9, 500)):
        timer_id = str(number)
        entry = made.entries[timer_id] = Entry(timer_id, 2_000)
        due_ms = DUE + 1_000 * number
        entry.writes = [Write(Kind.CREATE, 0, due_ms, Outcome.ACKNOWLEDGED, 0)]
        made.calls[timer_id] = [Call(timer_id, 1, 0, 0, due_ms, due_ms + late_ms)]
    assert made.verdict("none", DUE).recovered_s == 4.5
