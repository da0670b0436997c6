"""Who may call now."""

import pytest

from consumer.gate import FAILURES_TO_SHUT, FIRST_PAUSE_S, LONGEST_PAUSE_S, Called, Gate, Visitor
from tests.builders import FakeClock
from timers.tenant import DEFAULT


class Calls:
    """Calls through a gate, by target, in the order in which they started."""

    def __init__(self, *, total: int, per_target: int) -> None:
        self.clock = FakeClock()
        self.gate = Gate(self.clock, total=total, per_target=per_target)
        self.started: list[str] = []
        self.turned_away: list[str] = []

    def enter(self, key: str, times: int = 1, *, tenant: str = DEFAULT) -> list[bool]:
        """Return for each whether it starts now or later."""
        return [self._enter(key, tenant) for _ in range(times)]

    def _enter(self, key: str, tenant: str = DEFAULT) -> bool:
        before = len(self.turned_away)
        visitor = Visitor(lambda: self.started.append(key), lambda _: self.turned_away.append(key), tenant)
        self.gate.enter(key, visitor)
        return len(self.turned_away) == before

    def leave(self, key: str, times: int = 1, call_s: float | None = None, *, tenant: str = DEFAULT) -> None:
        for _ in range(times):
            self.gate.leave(key, None if call_s is None else Called(call_s, well=True), tenant=tenant)

    def fail(self, key: str, times: int = 1) -> None:
        """Make calls one after the other that fail."""
        for _ in range(times):
            assert self._enter(key)
            self.gate.leave(key, Called(0.01, well=False))

    def calling(self, key: str) -> int:
        return self.started.count(key)


def test_a_call_starts_at_once_while_there_is_room() -> None:
    calls = Calls(total=10, per_target=5)
    assert calls.enter("a", 3) == [True] * 3
    assert calls.started == ["a"] * 3


def test_one_target_never_has_more_calls_than_its_bound() -> None:
    calls = Calls(total=100, per_target=5)
    calls.enter("a", 20)
    assert calls.calling("a") == 5
    calls.leave("a")
    assert calls.calling("a") == 6


def test_a_lone_target_leaves_half_of_the_places_to_others() -> None:
    calls = Calls(total=100, per_target=100)
    calls.enter("a", 100)
    assert calls.calling("a") == 50


def test_each_further_slow_target_leaves_its_share() -> None:
    calls = Calls(total=120, per_target=120)
    for key in "abcdef":
        calls.enter(key, 120)
    assert [calls.calling(key) for key in "abc"] == [60, 30, 15]
    assert calls.gate.calling < 120, "some place is always free"


def test_there_are_never_more_calls_than_the_total() -> None:
    calls = Calls(total=4, per_target=4)
    for number in range(20):
        calls.enter(f"target-{number}")
    assert calls.gate.calling == 4
    calls.leave(calls.started[0])
    assert calls.gate.calling == 4


def test_a_tenant_alone_may_have_every_place() -> None:
    calls = Calls(total=100, per_target=5)
    for number in range(200):
        calls.enter(f"host-{number}", tenant="many")
    assert calls.gate.calling == 100


def test_a_tenant_of_many_targets_leaves_a_fifth_of_the_places_to_others() -> None:
    calls = Calls(total=100, per_target=50)
    calls.enter("one", tenant="few")
    for number in range(200):
        calls.enter(f"host-{number}", tenant="many")
    assert calls.gate.calling == 1 + 80
    assert calls.enter("one", 9, tenant="few") == [True] * 9
    assert calls.calling("one") == 10


def test_what_gets_free_is_anothers_until_it_has_its_share() -> None:
    calls = Calls(total=100, per_target=50)
    for number in range(200):
        calls.enter(f"host-{number}", tenant="many")
    calls.enter("one", 50, tenant="few")
    assert calls.calling("one") == 0
    for number in range(32):
        calls.leave(f"host-{number}", tenant="many")
    assert calls.calling("one") == 16, "half of what gets free, as one target leaves half of the places"
    assert calls.gate.calling == 100 - 32 + 16, "and nobody else starts"
    for number in range(32, 100):
        calls.leave(f"host-{number}", tenant="many")
    assert calls.gate.calling == 84, (
        "a sixth stays free: as much as the one target has, a quarter of what the others have"
    )


def test_whoever_is_the_only_one_again_may_have_every_place() -> None:
    calls = Calls(total=100, per_target=50)
    calls.enter("one", tenant="few")
    for number in range(200):
        calls.enter(f"host-{number}", tenant="many")
    calls.leave("one", tenant="few")
    assert calls.gate.calling == 100


def test_a_tenant_that_was_turned_away_or_forgotten_counts_no_more() -> None:
    calls = Calls(total=10, per_target=1)
    calls.fail("sick", FAILURES_TO_SHUT - 1)
    calls.enter("sick", 3)
    calls.gate.leave("sick", Called(0.01, well=False))
    assert not calls.gate._tenants
    calls.enter("a", 3, tenant="one")
    calls.gate.clear()
    calls.leave("a", tenant="one")
    assert not calls.gate._tenants


def test_even_with_one_place_everybody_gets_a_turn() -> None:
    calls = Calls(total=1, per_target=1)
    calls.enter("a", 3)
    calls.enter("b", 2)
    for number in range(4):
        calls.leave(calls.started[number])
    assert sorted(calls.started) == ["a", "a", "a", "b", "b"]


def test_waiting_targets_take_turns() -> None:
    calls = Calls(total=1, per_target=1)
    calls.enter("x")
    calls.enter("a", 3)
    calls.enter("b", 3)
    for number in range(6):
        calls.leave(calls.started[number])
    assert calls.started == ["x", "a", "b", "a", "b", "a", "b"]


def test_nobody_overtakes_who_stands_in_the_same_line() -> None:
    gate = Gate(FakeClock(), total=2, per_target=1)
    order: list[int] = []

    def visitor(number: int) -> Visitor:
        return Visitor(lambda: order.append(number), lambda _: order.append(-number))

    for number in range(4):
        gate.enter("a", visitor(number))
    for _ in range(3):
        gate.leave("a", None)
    assert order == [0, 1, 2, 3]


def test_the_line_of_a_slow_target_is_as_long_as_what_it_gets_through_in_a_second() -> None:
    calls = Calls(total=100, per_target=2)
    calls.enter("a", 2)
    for _ in range(40):
        calls.leave("a", call_s=0.5)
        calls.enter("a")
    assert calls.enter("a", 6) == [True] * 4 + [False] * 2


def test_the_line_of_the_slowest_target_still_has_one_place() -> None:
    calls = Calls(total=100, per_target=2)
    calls.enter("a", 2)
    calls.leave("a", call_s=10_000)
    calls.enter("a")
    assert calls.enter("a", 2) == [True, False]


def test_a_call_that_was_none_says_nothing_about_a_targets_speed() -> None:
    calls = Calls(total=10, per_target=1)
    calls.enter("a")
    calls.enter("a")
    calls.leave("a", call_s=None)
    assert all(calls.enter("a", 900))


def test_after_a_clear_nobody_who_waited_starts() -> None:
    calls = Calls(total=2, per_target=1)
    calls.enter("a", 5)
    calls.gate.clear()
    calls.leave("a")
    assert calls.started == ["a"]
    assert calls.gate.calling == 0


def test_a_target_that_nobody_calls_is_forgotten() -> None:
    calls = Calls(total=10, per_target=5)
    for number in range(1_000):
        calls.enter(f"target-{number}")
        calls.leave(f"target-{number}", call_s=1.0)
    assert not calls.gate._targets


@pytest.mark.parametrize("tenants", [1, 2, 3, 7])
@pytest.mark.parametrize("total", [1, 2, 3, 7, 50])
def test_whoever_gets_into_a_line_starts_in_the_end(total: int, tenants: int) -> None:
    calls = Calls(total=total, per_target=3)

    def tenant_of(number: int) -> str:
        return f"tenant-{number % tenants}"

    entered = sum(sum(calls.enter(f"{number % 7}", 3, tenant=tenant_of(number % 7))) for number in range(70))
    left = 0
    while left < len(calls.started):
        calls.leave(calls.started[left], call_s=0.001, tenant=tenant_of(int(calls.started[left])))
        left += 1
    assert left == entered
    assert not calls.gate._tenants


def test_a_target_that_fails_many_times_in_a_row_is_shut() -> None:
    calls = Calls(total=10, per_target=5)
    calls.fail("a", FAILURES_TO_SHUT - 1)
    assert calls.enter("a") == [True]
    calls.gate.leave("a", Called(0.01, well=False))
    assert calls.enter("a") == [False]
    assert calls.enter("b") == [True], "others are none the worse"


def test_one_success_makes_up_for_all_failures_before() -> None:
    calls = Calls(total=10, per_target=5)
    for _ in range(5):
        calls.fail("a", FAILURES_TO_SHUT - 1)
        calls.enter("a")
        calls.leave("a", call_s=0.01)
    assert calls.enter("a") == [True]


def test_calls_that_were_in_progress_when_a_target_was_shut_do_not_lengthen_the_pause() -> None:
    calls = Calls(total=200, per_target=100)
    calls.enter("a", 60)
    for _ in range(60):
        calls.gate.leave("a", Called(0.01, well=False))
    calls.clock.advance(FIRST_PAUSE_S - 0.01)
    assert calls.enter("a") == [False]
    calls.clock.advance(0.01)
    assert calls.enter("a") == [True]


def test_when_a_target_is_shut_its_line_is_turned_away() -> None:
    calls = Calls(total=10, per_target=1)
    calls.fail("a", FAILURES_TO_SHUT - 1)
    calls.enter("a", 4)
    calls.gate.leave("a", Called(0.01, well=False))
    assert calls.turned_away == ["a"] * 3
    assert calls.gate.calling == 0


def test_after_the_pause_a_shut_target_gets_one_probe_at_a_time() -> None:
    calls = Calls(total=10, per_target=5)
    calls.fail("a", FAILURES_TO_SHUT)
    calls.clock.advance(FIRST_PAUSE_S - 0.001)
    assert calls.enter("a") == [False]
    calls.clock.advance(0.001)
    assert calls.enter("a", 3) == [True, False, False]


def test_a_probe_that_succeeds_opens_the_target_again() -> None:
    calls = Calls(total=10, per_target=5)
    calls.fail("a", FAILURES_TO_SHUT)
    calls.clock.advance(FIRST_PAUSE_S)
    calls.enter("a")
    calls.leave("a", call_s=0.01)
    assert calls.enter("a", 3) == [True] * 3


def test_a_probe_that_found_nothing_to_call_leaves_its_turn_to_the_next() -> None:
    calls = Calls(total=10, per_target=5)
    calls.fail("a", FAILURES_TO_SHUT)
    calls.clock.advance(FIRST_PAUSE_S)
    calls.enter("a")
    calls.leave("a", call_s=None)
    assert calls.enter("a") == [True]


def test_each_probe_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    calls = Calls(total=10, per_target=5)
    calls.fail("a", FAILURES_TO_SHUT)
    pause_s = FIRST_PAUSE_S
    for _ in range(8):
        calls.clock.advance(pause_s - 0.001)
        assert calls.enter("a") == [False]
        calls.clock.advance(0.001)
        calls.fail("a")
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def test_a_probe_needs_a_place_like_any_call() -> None:
    calls = Calls(total=1, per_target=1)
    calls.fail("a", FAILURES_TO_SHUT)
    calls.clock.advance(FIRST_PAUSE_S)
    calls.enter("b")
    assert calls.enter("a") == [False]
