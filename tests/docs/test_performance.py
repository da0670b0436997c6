"""The page of the benchmark says what a run found out."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import page
from bench.results import Outcome, Report
from tests.docs.markdown import rows, section

PULL = "Pull queues beside the peers"


def pulled(system: str, fetched_per_s: float, handed_ms: float) -> Outcome:
    figures = {"fetched_per_s": fetched_per_s, "handed_p50_ms": handed_ms, "handed_p99_ms": 2 * handed_ms}
    return Outcome("pull", system, 1, figures)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the page is written to instead."""
    for name in ("PAGE", "PUBLISHED", "MILLION"):
        monkeypatch.setattr(page, name, tmp_path / name)
    return tmp_path / "PAGE"


def publish(folder: Path, *outcomes: Outcome) -> None:
    run = folder / "run.json"
    Report({}, outcomes).save(run)
    page.publish(run)


def test_pull_queues_stand_beside_those_of_each_peer(published: Path, tmp_path: Path) -> None:
    publish(tmp_path, pulled("timers", 1_500, 10), pulled("bullmq", 3_000, 2), pulled("bullmq-synced", 2_000, 5))
    found = {row[0]: row[1:] for row in rows(section(published.read_text(), PULL))}
    assert found["timers, durable in the table"] == ["", "1,500", "10", "20", ""]
    assert found["ratio, ours to BullMQ (Redis)"] == ["", "0.50", "5", "5", ""]
    assert found["ratio, ours to BullMQ (Redis, each write synced)"] == ["", "0.75", "2", "2", ""]


def test_without_a_peer_nothing_is_compared(published: Path, tmp_path: Path) -> None:
    publish(tmp_path, pulled("timers", 1_500, 10))
    assert PULL not in published.read_text()
