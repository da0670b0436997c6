"""The one clock that clients, receiver and faults share; consumers are on the same machine."""

import time


def now_ms() -> float:
    """Return epoch milliseconds, fractions included."""
    return time.time_ns() / 1_000_000
