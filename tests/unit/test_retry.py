"""Whether and when a failed call is tried again."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import NOW_MS, policies
from timers.retry import Answer, Decision, Delivered, GiveUp, RetryAt, RetryPolicy, decide, parse_retry_after

STEADY = RetryPolicy(jitter=0)
answers = st.builds(
    Answer,
    status=st.none() | st.integers(100, 599),
    error=st.none() | st.just("timeout"),
    retry_after_ms=st.none() | st.integers(0, 10**15),
    stop=st.booleans(),
)


def after(answer: Answer, attempts_made: int = 1, policy: RetryPolicy = STEADY) -> Decision:
    return decide(policy, attempts_made, answer, now_ms=NOW_MS, random=Random(1))


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_delivers(status: int) -> None:
    assert after(Answer(status)) == Delivered()
    assert after(Answer(status), attempts_made=99) == Delivered()


@pytest.mark.parametrize("status", [100, 199, 300, 302, 400, 404, 408, 429, 500, 503, 599])
def test_every_other_status_is_tried_again(status: int) -> None:
    assert after(Answer(status)) == RetryAt(NOW_MS + 1_000)


def test_what_is_done_without_a_status_delivers() -> None:
    assert after(Answer()) == Delivered()


@pytest.mark.parametrize(
    ("answer", "well"),
    [(Answer(204), True), (Answer(404), True), (Answer(503), False), (Answer(error="dns: …"), False), (Answer(), True)],
)
def test_a_target_that_answers_is_well_whatever_it_thinks_of_the_request(answer: Answer, well: bool) -> None:
    assert answer.well is well


def test_no_answer_at_all_is_tried_again() -> None:
    assert after(Answer(error="timeout")) == RetryAt(NOW_MS + 1_000)


@pytest.mark.parametrize("answer", [Answer(410), Answer(503, stop=True), Answer(410, retry_after_ms=1_000)])
def test_a_target_that_wants_no_more_gets_no_more(answer: Answer) -> None:
    assert after(answer) == GiveUp()


def test_a_delivery_stays_one_even_where_the_target_wants_no_more() -> None:
    assert after(Answer(200, stop=True)) == Delivered()


def test_the_last_attempt_is_the_last() -> None:
    policy = RetryPolicy(max_attempts=3, jitter=0)
    assert isinstance(after(Answer(500), 2, policy), RetryAt)
    assert after(Answer(500), 3, policy) == GiveUp()


def test_waits_grow_by_the_multiplier_up_to_the_longest() -> None:
    policy = RetryPolicy(min_backoff=0.5, multiplier=3, max_backoff=10, jitter=0)
    assert [policy.backoff_ms(made, Random()) for made in range(1, 6)] == [500, 1_500, 4_500, 10_000, 10_000]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_target_says_when(status: int) -> None:
    assert after(Answer(status, retry_after_ms=7_000)) == RetryAt(NOW_MS + 7_000)
    assert after(Answer(status, retry_after_ms=10**12)) == RetryAt(NOW_MS + 3_600_000)


def test_only_a_busy_target_says_when() -> None:
    assert after(Answer(500, retry_after_ms=7_000)) == RetryAt(NOW_MS + 1_000)


@given(policies, st.integers(1, 100), answers, st.randoms(use_true_random=False))
def test_a_retry_is_never_in_the_past_nor_past_the_longest_wait(
    policy: RetryPolicy, made: int, answer: Answer, random: Random
) -> None:
    decision = decide(policy, made, answer, now_ms=NOW_MS, random=random)
    if isinstance(decision, RetryAt):
        assert 0 <= decision.at_ms - NOW_MS <= round(policy.max_backoff * 1000)
        assert made < policy.max_attempts


@given(policies, st.integers(1, 99), st.integers(0, 2**32))
def test_the_same_throw_of_the_dice_never_waits_less_after_more_attempts(
    policy: RetryPolicy, made: int, seed: int
) -> None:
    assert policy.backoff_ms(made, Random(seed)) <= policy.backoff_ms(made + 1, Random(seed))


@given(policies, st.integers(1, 100), st.randoms(use_true_random=False))
def test_jitter_stays_within_its_share(policy: RetryPolicy, made: int, random: Random) -> None:
    steady = RetryPolicy(policy.max_attempts, policy.min_backoff, policy.max_backoff, policy.multiplier, 0)
    middle = steady.backoff_ms(made, random)
    assert abs(policy.backoff_ms(made, random) - middle) <= (middle + 0.5) * policy.jitter + 1  # both are rounded


@pytest.mark.parametrize(
    ("value", "expected_ms"),
    [
        ("0", 0),
        ("120", 120_000),
        (" 3 ", 3_000),
        ("Fri, 15 Jan 2027 08:00:07 GMT", 7_000),
        ("Friday, 15-Jan-27 08:00:07 GMT", 7_000),
        ("Fri Jan 15 08:00:07 2027", 7_000),
        ("Fri, 15 Jan 2027 09:00:07 +0100", 7_000),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
    ],
)
def test_retry_after_takes_seconds_and_dates(value: str, expected_ms: int) -> None:
    assert parse_retry_after(value, NOW_MS) == expected_ms


@pytest.mark.parametrize(
    "value", ["", "soon", "-1", "1.5", "1e3", "٣", "+5", "0x10", "Fri, 99 Jan 2027 08:00:00 GMT", "Fri, 15 Jan", "\x00"]
)
def test_retry_after_garbage_says_nothing(value: str) -> None:
    assert parse_retry_after(value, NOW_MS) is None


def test_a_huge_retry_after_is_huge_and_harmless() -> None:
    huge = parse_retry_after("9" * 5_000, NOW_MS)
    assert huge is not None
    assert huge > 10**12
    assert after(Answer(503, retry_after_ms=huge)) == RetryAt(NOW_MS + 3_600_000)


@given(st.text(max_size=60) | st.from_regex(r"\A\w{3}, \d{1,2} \w{3} \d{1,5} \d\d:\d\d:\d\d [+-]?\w{1,5}\Z"))
def test_whatever_a_target_sends_as_retry_after_is_survived(value: str) -> None:
    parsed = parse_retry_after(value, NOW_MS)
    assert parsed is None or parsed >= 0
