"""Sending hints round once more."""

from dataclasses import replace
from random import Random

import pytest

from consumer.bouncer import Bouncer
from tests.builders import NOW_MS, FakeClock, RecordingQueue, make_hint


class Scene:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.queue = RecordingQueue()
        self.bouncer = Bouncer(self.queue, self.clock, Random(1))


@pytest.mark.parametrize("longest_s", [2.0, 30.0])
async def test_each_bounce_waits_longer_up_to_the_longest(longest_s: float) -> None:
    scene = Scene()
    for number in range(40):
        hint = make_hint(f"timer-{number}", bounces=min(number, 30))
        await scene.bouncer.bounce(hint, longest_s)
        again, at_ms = scene.queue.taken[-1]
        most_ms = min(1000 * 2**hint.bounces, longest_s * 1000)
        assert most_ms / 2 <= at_ms - NOW_MS <= most_ms
        assert again == replace(hint, bounces=min(hint.bounces + 1, 30))


async def test_a_second_hint_of_the_same_timer_is_dropped_while_the_first_is_under_way() -> None:
    scene = Scene()
    hint = make_hint("timer-1", bounces=5)
    await scene.bouncer.bounce(hint, 30.0)
    await scene.bouncer.bounce(make_hint("timer-1"), 30.0)
    assert len(scene.queue.hints) == 1


async def test_a_hint_that_comes_back_a_little_early_goes_round_again() -> None:
    scene = Scene()
    await scene.bouncer.bounce(make_hint("timer-1", bounces=5), 30.0)
    again, at_ms = scene.queue.taken[0]
    scene.clock.advance((at_ms - 2_000 - NOW_MS) / 1000)
    await scene.bouncer.bounce(again, 30.0)
    assert len(scene.queue.hints) == 2


async def test_hints_of_other_versions_and_timers_are_their_own() -> None:
    scene = Scene()
    for hint in (make_hint("a", bounces=5), make_hint("a", version=9, bounces=5), make_hint("b", bounces=5)):
        await scene.bouncer.bounce(hint, 30.0)
    assert len(scene.queue.hints) == 3
