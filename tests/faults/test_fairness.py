"""A target that fails or is slow costs only its own timers, and never more than its share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import uuid4

import pytest
import pytest_asyncio

from consumer.gate import FAILURES_TO_SHUT
from tests.faults.ledger import Call
from tests.faults.moment import now_ms
from tests.faults.target import SLOW
from tests.faults.world import World, world
from tests.services import DynamoDB, RabbitMQ

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

CONSUMERS: Final = 2
AT_ONCE: Final = 5
PROBES: Final = 5
"""More than a consumer can make in SHUT_S: their pauses double from one second."""

SHUT_S: Final = 6.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    rabbitmq: RabbitMQ, dynamodb: DynamoDB, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("fairness")
    settings = {"TIMERS_TARGET_CONCURRENCY": str(AT_ONCE)}
    async with world(rabbitmq, dynamodb, folder, apis=1, consumers=CONSUMERS, **settings) as built:
        yield built


async def test_a_failing_target_is_only_probed_until_it_is_well(running: World) -> None:
    attempts_allowed = 3
    well = asyncio.Event()
    running.target.scripts["sick"] = lambda _: (200 if well.is_set() else 500, 0.0)
    ids = await _schedule(running, "sick", 120, retry={"max_attempts": attempts_allowed, "min_backoff": 0.5})
    others = await _schedule(running, "quick", 20, host="fast")
    await asyncio.sleep(3 + SHUT_S)
    while_sick = len(_calls(running, ids))
    well.set()
    ends = [await running.final(timer_id) for timer_id in ids]
    punctual = [await running.final(timer_id) for timer_id in others]

    assert while_sick <= CONSUMERS * (FAILURES_TO_SHUT + AT_ONCE + PROBES)
    assert all(end["state"] == "delivered" or len(end["attempts"]) == attempts_allowed for end in ends)
    assert all(len(end["attempts"]) <= attempts_allowed for end in ends)
    assert sum(end["state"] == "delivered" for end in ends) > len(ids) / 2
    assert {end["state"] for end in punctual} == {"delivered"}
    print(f"others' worst lateness: {max(end['attempts'][0]['lateness_ms'] for end in punctual)} ms")


async def test_a_saturated_target_never_gets_more_calls_at_once_and_none_is_counted(running: World) -> None:
    ids = await _schedule(running, "slow", 60)
    others = await _schedule(running, "quick", 20, host="fast")
    ends = [await running.final(timer_id) for timer_id in ids]
    punctual = [await running.final(timer_id) for timer_id in others]

    assert running.target.most_open["slow"] <= CONSUMERS * AT_ONCE
    assert [end["state"] for end in ends] == ["delivered"] * len(ids)
    assert [call.attempt for call in _calls(running, ids)] == [1] * len(ids)
    assert [len(end["attempts"]) for end in ends] == [1] * len(ids)
    print(f"others' worst lateness: {max(end['attempts'][0]['lateness_ms'] for end in punctual)} ms")


async def _schedule(running: World, script: str, count: int, *, host: str = SLOW, **more: Any) -> list[str]:
    """Schedule timers over the second that begins in two."""
    now = round(now_ms())
    target = {"url": running.target.url(script, 0, host), "body": {"marker": 0}, "timeout": 5}
    timers = [
        {"id": str(uuid4()), "due_at": now + 2_000 + number * 1_000 // count, "target": target, **more}
        for number in range(count)
    ]
    answer = await running.clients[0].post("/v1/timers/batch", json={"timers": timers})
    assert [result["status"] for result in answer.json()["results"]] == [201] * count
    return [str(timer["id"]) for timer in timers]


def _calls(running: World, ids: list[str]) -> list[Call]:
    return [call for timer_id in ids for call in running.target.ledger.calls[timer_id]]
