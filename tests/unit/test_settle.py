"""What follows an attempt."""

from random import Random

import pytest

from tests.builders import NOW_MS, make_attempt, make_timer
from timers.retry import Answer, RetryPolicy
from timers.settle import lapsed, settled
from timers.state import State
from timers.timer import Timer

ENDED_MS = NOW_MS + 40
POLICY = RetryPolicy(max_attempts=3, min_backoff=2, jitter=0)


def firing(attempts_made: int = 0) -> Timer:
    return make_timer(state=State.FIRING, retry=POLICY, attempts_made=attempts_made, lease_until_ms=NOW_MS + 15_000)


def settle(timer: Timer, answer: Answer) -> Timer:
    return settled(timer, answer, started_at_ms=NOW_MS + 3, now_ms=ENDED_MS, random=Random(1))


@pytest.mark.parametrize(
    ("answer", "attempts_made", "state"),
    [
        (Answer(204), 0, State.DELIVERED),
        (Answer(204), 2, State.DELIVERED),
        (Answer(500), 0, State.SCHEDULED),
        (Answer(500), 1, State.SCHEDULED),
        (Answer(500), 2, State.DEAD),
        (Answer(error="timeout"), 0, State.SCHEDULED),
        (Answer(410), 0, State.DEAD),
        (Answer(500, stop=True), 0, State.DEAD),
    ],
)
def test_an_answer_leads_to_its_state(answer: Answer, attempts_made: int, state: State) -> None:
    after = settle(firing(attempts_made), answer)
    assert after.state is state
    assert after.attempts_made == attempts_made + 1


def test_the_attempt_is_written_down() -> None:
    after = settle(firing(), Answer(503, error="busy"))
    assert after.attempts == (
        make_attempt(1, started_at_ms=NOW_MS + 3, finished_at_ms=ENDED_MS, lateness_ms=3, error="busy"),
    )


def test_a_retry_waits_from_the_end_of_the_attempt() -> None:
    assert settle(firing(), Answer(500)).next_attempt_at_ms == ENDED_MS + 2_000


def test_a_lapsed_timer_is_due_now_and_its_attempt_counts() -> None:
    after = lapsed(firing(), ENDED_MS)
    assert (after.state, after.next_attempt_at_ms, after.attempts_made) == (State.SCHEDULED, ENDED_MS, 1)
    assert "outcome is unknown" in (after.attempts[-1].error or "")


def test_a_timer_that_keeps_killing_its_consumers_ends_dead() -> None:
    assert lapsed(firing(attempts_made=4), ENDED_MS).state is State.SCHEDULED
    assert lapsed(firing(attempts_made=5), ENDED_MS).state is State.DEAD
