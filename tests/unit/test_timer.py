"""A timer's moves."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import NOW_MS, make_attempt, make_spec, make_target, make_timer
from timers import limits
from timers.errors import IllegalTransition
from timers.retry import Answer
from timers.state import State
from timers.timer import Spec, Timer, lease_until_ms

LATER_MS = NOW_MS + 60_000

Move = Callable[[Timer, int], Timer]

FROM_SCHEDULED: dict[str, Move] = {
    "replaced": lambda timer, now_ms: timer.replaced(make_spec(due_at_ms=now_ms + 5), now_ms),
    "edited": lambda timer, now_ms: timer.edited(make_spec(due_at_ms=timer.due_at_ms + 5), now_ms),
    "edited but for its time": lambda timer, now_ms: timer.edited(make_spec(due_at_ms=timer.due_at_ms), now_ms),
    "fired": lambda timer, now_ms: timer.fired(now_ms),
    "cancelled": lambda timer, now_ms: timer.cancelled(now_ms),
    "claimed": lambda timer, now_ms: timer.claimed(now_ms + 15_000, now_ms),
}
FROM_FIRING: dict[str, Move] = {
    "succeeded": lambda timer, now_ms: timer.succeeded(timer.attempt(Answer(200), now_ms, now_ms), now_ms),
    "given up": lambda timer, now_ms: timer.given_up(timer.attempt(Answer(410), now_ms, now_ms), now_ms),
    "retried": lambda timer, now_ms: timer.retried(timer.attempt(Answer(503), now_ms, now_ms), now_ms + 9, now_ms),
    "released": lambda timer, now_ms: timer.released(now_ms),
    "lapsed": lambda timer, now_ms: timer.lapsed(timer.lost_attempt(), now_ms, now_ms),
}
FROM_DEAD: dict[str, Move] = {"replayed": lambda timer, now_ms: timer.replayed(now_ms)}
MOVES = {State.SCHEDULED: FROM_SCHEDULED, State.FIRING: FROM_FIRING, State.DEAD: FROM_DEAD}


def spec_of(timer: Timer, due_at_ms: int) -> Spec:
    return Spec(due_at_ms, timer.target, timer.retry, timer.labels)


@pytest.mark.parametrize(("state", "name"), [(state, name) for state, moves in MOVES.items() for name in moves])
def test_every_move_counts_the_version_by_one_and_tells_when(state: State, name: str) -> None:
    after = MOVES[state][name](make_timer(state=state, version=7), LATER_MS)
    assert (after.version, after.updated_at_ms, after.created_at_ms) == (8, LATER_MS, NOW_MS)


@pytest.mark.parametrize("state", [State.DELIVERED, State.DEAD, State.CANCELLED, State.EXPIRED, State.FIRING])
@pytest.mark.parametrize("name", FROM_SCHEDULED)
def test_what_a_scheduled_timer_can_do_no_other_can(state: State, name: str) -> None:
    with pytest.raises(IllegalTransition):
        FROM_SCHEDULED[name](make_timer(state=state), LATER_MS)


@pytest.mark.parametrize("state", [State.DELIVERED, State.DEAD, State.CANCELLED, State.EXPIRED, State.SCHEDULED])
@pytest.mark.parametrize("name", FROM_FIRING)
def test_what_a_firing_timer_can_do_no_other_can(state: State, name: str) -> None:
    with pytest.raises(IllegalTransition):
        FROM_FIRING[name](make_timer(state=state), LATER_MS)


def test_a_new_timer_is_scheduled_for_its_due_time() -> None:
    timer = Timer.create("a", make_spec(due_at_ms=LATER_MS, labels={"order": "42"}), NOW_MS)
    assert (timer.state, timer.version, timer.next_attempt_at_ms) == (State.SCHEDULED, 1, LATER_MS)
    assert (timer.labels, timer.attempts, timer.attempts_made) == ({"order": "42"}, (), 0)


def test_a_replaced_timer_keeps_its_id_and_birth_and_drops_its_history() -> None:
    before = make_timer(attempts=(make_attempt(),), attempts_made=1, labels={"a": "b"})
    after = before.replaced(make_spec(due_at_ms=LATER_MS), LATER_MS)
    assert (after.id, after.created_at_ms) == (before.id, before.created_at_ms)
    assert (after.attempts, after.attempts_made, after.labels) == ((), 0, {})


def test_a_new_due_time_counts_attempts_afresh_and_keeps_the_history() -> None:
    before = make_timer(attempts=(make_attempt(),), attempts_made=1, next_attempt_at_ms=NOW_MS + 1_000)
    after = before.edited(spec_of(before, LATER_MS), NOW_MS)
    assert (after.due_at_ms, after.next_attempt_at_ms, after.attempts_made) == (LATER_MS, LATER_MS, 0)
    assert after.attempts == before.attempts


def test_an_edit_of_anything_else_leaves_a_retry_where_it_is() -> None:
    before = make_timer(attempts=(make_attempt(),), attempts_made=1, next_attempt_at_ms=NOW_MS + 1_000)
    after = before.edited(replace(spec_of(before, before.due_at_ms), target=make_target(method="PUT")), NOW_MS)
    assert (after.next_attempt_at_ms, after.attempts_made, after.target) == (
        NOW_MS + 1_000,
        1,
        make_target(method="PUT"),
    )


def test_firing_early_makes_a_timer_due_now() -> None:
    after = make_timer(due_at_ms=LATER_MS).fired(NOW_MS)
    assert (after.due_at_ms, after.next_attempt_at_ms) == (NOW_MS, NOW_MS)


def test_firing_a_waiting_retry_leaves_its_due_time_as_it_was() -> None:
    after = make_timer(due_at_ms=NOW_MS, next_attempt_at_ms=LATER_MS).fired(NOW_MS + 5)
    assert (after.due_at_ms, after.next_attempt_at_ms) == (NOW_MS, NOW_MS + 5)


def test_a_replay_counts_attempts_afresh_and_keeps_the_history() -> None:
    before = make_timer(state=State.DEAD, attempts=(make_attempt(),), attempts_made=8)
    after = before.replayed(LATER_MS)
    assert (after.state, after.next_attempt_at_ms, after.attempts_made) == (State.SCHEDULED, LATER_MS, 0)
    assert after.attempts == before.attempts


def test_a_release_counts_no_attempt() -> None:
    after = make_timer(state=State.FIRING, attempts_made=2, lease_until_ms=LATER_MS).released(NOW_MS)
    assert (after.state, after.attempts_made, after.lease_until_ms) == (State.SCHEDULED, 2, 0)


def test_the_latest_twenty_attempts_are_kept() -> None:
    timer = make_timer()
    for _ in range(25):
        timer = FROM_FIRING["retried"](FROM_SCHEDULED["claimed"](timer, LATER_MS), LATER_MS)
    assert [attempt.number for attempt in timer.attempts] == list(range(6, 26))
    assert timer.attempts_made == 25


def test_an_attempt_tells_how_late_it_started() -> None:
    timer = make_timer(state=State.FIRING, attempts_made=2)
    attempt = timer.attempt(Answer(503), NOW_MS + 3, NOW_MS + 10)
    assert (attempt.number, attempt.lateness_ms, attempt.status) == (3, 3, 503)


def test_a_lease_is_over_only_past_the_clocks_tolerance() -> None:
    timer = make_timer(state=State.FIRING, lease_until_ms=NOW_MS)
    boundary_ms = NOW_MS + limits.CLOCK_SKEW_MS
    assert not timer.lease_over(boundary_ms)
    assert timer.lease_over(boundary_ms + 1)
    assert not replace(timer, state=State.SCHEDULED).lease_over(boundary_ms + 1)


def test_a_lease_covers_a_call_and_the_time_to_write_its_outcome() -> None:
    assert lease_until_ms(NOW_MS, 10_000) == NOW_MS + 15_000


def test_a_live_timer_is_listed_by_its_next_attempt_and_a_final_one_by_its_due_time() -> None:
    timer = make_timer(due_at_ms=NOW_MS, next_attempt_at_ms=LATER_MS)
    assert timer.listed_at_ms == LATER_MS
    assert timer.cancelled(NOW_MS).listed_at_ms == NOW_MS


def test_a_hint_tells_what_can_be_known_without_the_table() -> None:
    timer = make_timer(version=4, target=make_target(url="https://Example.com:444/a", timeout=2.5))
    hint = timer.hint
    assert (hint.timer_id, hint.version, hint.at_ms) == (timer.id, 4, timer.next_attempt_at_ms)
    assert (hint.timeout_ms, hint.target_key, hint.bounces) == (2_500, "https://example.com:444", 0)


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 100_000)), max_size=40))
def test_no_walk_through_the_moves_breaks_what_always_holds(walk: list[tuple[int, int]]) -> None:
    timer, now_ms, moved = make_timer(due_at_ms=LATER_MS), NOW_MS, 0
    for choice, wait_ms in walk:
        moves = list(MOVES.get(timer.state, {}).items())
        if not moves:
            break
        name, move = moves[choice % len(moves)]
        now_ms = max(now_ms + wait_ms, timer.next_attempt_at_ms if name == "claimed" else 0)
        timer, moved = move(timer, now_ms), moved + 1
        assert timer.version == 1 + moved
        assert timer.next_attempt_at_ms >= timer.due_at_ms
        assert len(timer.attempts) <= limits.KEPT_ATTEMPTS
        assert (timer.lease_until_ms > 0) == (timer.state is State.FIRING)
        assert timer.final == (timer.state in {State.DELIVERED, State.DEAD, State.CANCELLED})
