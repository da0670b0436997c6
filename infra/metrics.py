"""What Prometheus is told. Times are in seconds; each process tells its own part."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from timers.state import FINAL, State
from timers.timer import Timer

DROPPED: Final = ("failed", "far", "garbage", "stale", "version")
REFUSED: Final = (401, 403, 408, 413, 429, 431)
"""The statuses that turn a request away before anything of it is done."""

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_LATENESS: Final = (0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES: Final = (1, 2, 5, 10, 15, 20, 25, 50, 100)


class Metrics:
    """One process's metrics; where several share a port, each page shows the sum of all of them."""

    def __init__(self) -> None:
        self._gauges: list[tuple[Gauge, Callable[[], float]]] = []
        self._registry = CollectorRegistry()
        registry = self._registry
        self._scheduled = Counter("timers_scheduled", "Timers created.", registry=registry)
        self._attempts = Counter("timers_attempts", "Calls made, by how they ended.", ["outcome"], registry=registry)
        self._outcomes = {outcome: self._attempts.labels(outcome) for outcome in ("delivered", "error", "refused")}
        self._finished = Counter("timers_finished", "Timers that became final.", ["state"], registry=registry)
        self._ends = {state: self._finished.labels(state.value) for state in FINAL}
        self._lateness = Histogram(
            "timers_lateness_seconds", "Start of a first call after its due time.", buckets=_LATENESS, registry=registry
        )
        self._attempt_duration = Histogram(
            "timers_attempt_duration_seconds", "How long calls took.", buckets=_SECONDS, registry=registry
        )
        self._redriven = Counter("timers_redriven", "Overdue timers put on the wheel again.", registry=registry)
        self._loaded = Counter("timers_loaded", "Timers put on the wheel as they came near.", registry=registry)
        self._table_call = Histogram(
            "timers_table_call_seconds", "Calls to the table.", ["operation"], buckets=_SECONDS, registry=registry
        )
        self._table_batch = Histogram(
            "timers_table_batch_size", "Requests that shared one call to the table.", buckets=_SIZES, registry=registry
        )
        self._confirm = Histogram(
            "timers_publish_confirm_seconds", "From publishing to the confirm.", buckets=_SECONDS, registry=registry
        )
        self._dropped = Counter("timers_dropped", "Messages dropped, by reason.", ["reason"], registry=registry)
        self._drops = {reason: self._dropped.labels(reason) for reason in DROPPED}
        self._broken = Counter("timers_broken", "Items of the table that are no timers.", registry=registry)
        self._refused = Counter("timers_refused", "Requests turned away, by status.", ["status"], registry=registry)
        self._refusals = {status: self._refused.labels(status) for status in REFUSED}
        self._leases = Counter(
            "timers_leases", "Leases of pull queues, by what became of them.", ["event"], registry=registry
        )

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Show what ``read`` returns at the time the page is asked for."""
        gauge = Gauge(name, help_text, registry=self._registry, multiprocess_mode="livemin")
        self._gauges.append((gauge, read))

    def page(self) -> bytes:
        """Return the page that Prometheus reads."""
        for gauge, read in self._gauges:
            gauge.set(read())
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def scheduled(self) -> None:
        """Count a timer created."""
        self._scheduled.inc()

    def finished(self, state: State) -> None:
        """Count a timer that became final."""
        self._ends[state].inc()

    def attempted(self, timer: Timer, lateness_ms: int, seconds: float) -> None:
        """Count a call; ``timer`` is what it made of the timer."""
        attempt = timer.attempts[-1]
        self._outcomes[_outcome(timer)].inc()
        self._attempt_duration.observe(seconds)
        if attempt.number == 1:
            self._lateness.observe(lateness_ms / 1000)

    def loaded(self, count: int) -> None:
        """Count timers put on the wheel as they came near."""
        self._loaded.inc(count)

    def redriven(self, count: int) -> None:
        """Count overdue timers put on the wheel again."""
        self._redriven.inc(count)

    def called_table(self, operation: str, seconds: float, requests: int) -> None:
        """Time a call to the table, and count the requests that shared it; 0 where it is no batch."""
        self._table_call.labels(operation).observe(seconds)
        if requests:
            self._table_batch.observe(requests)

    def confirmed(self, seconds: float) -> None:
        """Time a confirm."""
        self._confirm.observe(seconds)

    def dropped(self, reason: str) -> None:
        """Count a message that was dropped, for one of DROPPED."""
        self._drops[reason].inc()

    def met_broken(self) -> None:
        """Count an item of the table that is none of ours."""
        self._broken.inc()

    def refused(self, status: int) -> None:
        """Count a request that was turned away, with one of REFUSED."""
        self._refusals[status].inc()

    def leased(self, count: int) -> None:
        """Count timers that workers were given."""
        self._leases.labels("leased").inc(count)

    def settled(self, outcome: str) -> None:
        """Count what a worker did with a lease: committed, rejected, extended."""
        self._leases.labels(outcome).inc()

    def lapsed(self) -> None:
        """Count a lease that ended without a word of its worker."""
        self._leases.labels("lapsed").inc()


def _outcome(timer: Timer) -> str:
    if timer.state is State.DELIVERED:
        return "delivered"
    return "error" if timer.attempts[-1].status is None else "refused"
