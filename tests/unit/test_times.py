"""Delays as clients write them."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from api.times import DelayMs
from timers import limits

DELAY: TypeAdapter[int] = TypeAdapter(DelayMs)
MOST_S = limits.MAX_DELAY_MS // 1000


@pytest.mark.parametrize(
    ("delay", "ms"),
    [
        (0, 0),
        (1.5, 1_500),
        ("PT1H5M3S", 3_903_000),
        ({"hours": 1, "minutes": 5, "seconds": 3}, 3_903_000),
        ({"minutes": 90}, 5_400_000),
        ({"seconds": 0}, 0),
        ({"seconds": 0.25}, 250),
        ({"hours": 0.5, "seconds": 0.001}, 1_800_001),
        ({"seconds": 0.0015}, 2),
        ({"hours": 0, "minutes": 0, "seconds": 0}, 0),
        ({"seconds": MOST_S}, limits.MAX_DELAY_MS),
    ],
)
def test_every_form_of_a_delay_is_read(delay: Any, ms: int) -> None:
    assert DELAY.validate_python(delay, strict=True) == ms


@pytest.mark.parametrize(
    "delay",
    [
        {},
        {"days": 1},
        {"hours": 1, "second": 1},
        {"hours": -1},
        {"hours": 1, "minutes": -1},
        {"hours": "1"},
        {"hours": True},
        {"hours": None},
        {"hours": {}},
        {"hours": 10**400},
        {"hours": 1e308, "minutes": 1e308},
        {"seconds": 0.0001},
        {"hours": MOST_S // 3600, "seconds": 1},
        {1: 1},
        [1],
        None,
        True,
    ],
)
def test_what_is_no_delay_is_refused(delay: Any) -> None:
    with pytest.raises(ValidationError):
        DELAY.validate_python(delay, strict=True)
