"""How fast a tenant may ask."""

from __future__ import annotations

import pytest

from api import rates
from api.rates import Rates
from tests.builders import FakeClock
from timers.errors import Overloaded


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(monotonic=50.0)


def taken(bucket: Rates, tenant: str, tries: int = 1_000) -> int:
    """Return how many requests are let in at once."""
    for number in range(tries):
        try:
            bucket.take(tenant)
        except Overloaded:
            return number
    return tries


def test_a_seconds_worth_is_let_in_at_once_and_the_rest_as_time_goes_by(clock: FakeClock) -> None:
    bucket = Rates(clock, 100)
    assert taken(bucket, "acme") == 100
    clock.advance(0.5)
    assert taken(bucket, "acme") == 50
    clock.advance(60)
    assert taken(bucket, "acme") == 100


def test_tenants_do_not_share(clock: FakeClock) -> None:
    bucket = Rates(clock, 10)
    assert (taken(bucket, "acme"), taken(bucket, "zeta")) == (10, 10)


@pytest.mark.parametrize(("rate", "wait_s"), [(0.1, 10), (0.5, 2), (1, 1), (1000, 1)])
def test_who_is_refused_is_told_when_to_come_again(clock: FakeClock, rate: float, wait_s: int) -> None:
    bucket = Rates(clock, rate)
    taken(bucket, "acme", 2_000)
    with pytest.raises(Overloaded) as refused:
        bucket.take("acme")
    assert refused.value.retry_after == wait_s
    clock.advance(wait_s)
    bucket.take("acme")


def test_a_batch_pays_for_all_of_its_items(clock: FakeClock) -> None:
    bucket = Rates(clock, 100)
    bucket.take("acme")
    bucket.take_more("acme", 999)
    assert taken(bucket, "acme") == 0
    with pytest.raises(Overloaded):
        bucket.take_more("acme", 999)
    clock.advance(9)
    assert taken(bucket, "acme") == 0
    clock.advance(0.1)
    assert taken(bucket, "acme") == 10


def test_what_is_left_is_told(clock: FakeClock) -> None:
    bucket = Rates(clock, 100)
    assert bucket.policy == '"requests";q=100;w=1'
    assert bucket.left("acme") == '"requests";r=100;t=0'
    bucket.take("acme")
    assert bucket.left("acme") == '"requests";r=99;t=1'
    bucket.take_more("acme", 500)
    assert bucket.left("acme") == '"requests";r=0;t=6'
    assert Rates(clock, 0.25).policy == '"requests";q=1;w=4'


def test_few_tenants_are_remembered(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_TENANTS", 10)
    bucket = Rates(clock, 10)
    for number in range(100):
        bucket.take(f"tenant-{number}")
    assert len(bucket._buckets) == 10
