"""With the table away or its answers lost, the api says what is true, in bounded time, and bounds what waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio

from tests.end_to_end.client import Client
from tests.faults.crash import OnAnswer, OnRequest
from tests.faults.proxy import PassAll
from tests.faults.world import World, world
from tests.services import DynamoDB, RabbitMQ

pytestmark = pytest.mark.asyncio(loop_scope="module")

PENDING: Final = 20
PATIENCE_S: Final = 2.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    rabbitmq: RabbitMQ, dynamodb: DynamoDB, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    settings = {
        "TIMERS_API_PENDING": str(PENDING),
        "TIMERS_TABLE_PATIENCE": str(PATIENCE_S),
        "TIMERS_DYNAMODB_TIMEOUT": "0.5",
    }
    async with world(rabbitmq, dynamodb, tmp_path_factory.mktemp("bounds"), apis=1, consumers=1, **settings) as built:
        yield built


@pytest.fixture
def api(running: World) -> httpx2.AsyncClient:
    return running.clients[0]


def wish(running: World, delay: float, **more: Any) -> dict[str, Any]:
    return {"delay": delay, "target": {"url": running.target.url("quick"), "body": {"marker": 0}}, **more}


async def test_past_the_bound_requests_are_turned_away_at_once(running: World, api: httpx2.AsyncClient) -> None:
    await api.get("/v1/stats")  # so that the key is known, and requests wait for the table behind the door
    running.table.hold()
    try:
        answers = asyncio.as_completed([api.post("/v1/timers", json=wish(running, 60)) for _ in range(PENDING + 5)])
        turned_away = [await next(answers) for _ in range(5)]
        alive = await api.get("/healthz")
        refused = [await answer for answer in answers]
    finally:
        running.table.release()
    after = await api.post("/v1/timers", json=wish(running, 60))

    assert [answer.status_code for answer in turned_away] == [429] * 5
    assert all(int(answer.headers["retry-after"]) > 0 for answer in turned_away)
    assert alive.status_code == 200
    assert [answer.status_code for answer in refused] == [503] * PENDING
    assert after.status_code == 201


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET", "FIRE"])
async def test_without_the_table_every_request_ends_in_bounded_time(
    running: World, api: httpx2.AsyncClient, method: str
) -> None:
    """The table does not come back before there is an answer, and the client would give up."""
    timer = (await api.post("/v1/timers", json=wish(running, 60))).json()
    one = f"/v1/timers/{timer['id']}"
    body: dict[str, Any] = {} if method in {"DELETE", "GET", "FIRE"} else {"json": wish(running, 50)}
    path = {"POST": "/v1/timers", "FIRE": f"{one}/fire"}.get(method, one)
    running.table.hold()
    try:
        answer = await api.request("POST" if method == "FIRE" else method, path, **body)
    finally:
        running.table.release()

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("lost", [OnAnswer, OnRequest])
async def test_a_write_whose_answer_was_lost_is_answered_truthfully(
    running: World, api: httpx2.AsyncClient, lost: type[OnRequest]
) -> None:
    timer_id = str(uuid4())
    one = f"/v1/timers/{timer_id}"
    created = await _losing(running, lost, timer_id, api.post("/v1/timers", json=wish(running, 60, id=timer_id)))
    edited = await _losing(running, lost, timer_id, api.patch(one, json={"labels": {"edited": "yes"}}))
    cancelled = await _losing(running, lost, timer_id, api.request("DELETE", one))
    read = await api.get(one)

    assert [created.status_code, edited.status_code, cancelled.status_code] == [201, 200, 200]
    assert [answer.json()["version"] for answer in (created, edited, cancelled, read)] == [1, 2, 3, 3]
    assert read.json()["state"] == "cancelled"


async def test_a_claim_and_a_settle_whose_answers_were_lost_make_one_call(
    running: World, api: httpx2.AsyncClient
) -> None:
    timer_id = str(uuid4())
    await api.post("/v1/timers", json=wish(running, 1.5, id=timer_id))
    for word in ("firing", '"delivered'):
        running.table.tap = tap = OnAnswer([timer_id, word, "UPDATE"], running.table.cut)
        await asyncio.wait_for(tap.struck.wait(), 10)
    running.table.tap = PassAll()
    timer = await Client(api).until(timer_id, "delivered")

    assert [call.attempt for call in running.target.ledger.calls[timer_id]] == [1]
    assert [attempt["number"] for attempt in timer["attempts"]] == [1]


async def _losing(running: World, lost: type[OnRequest], timer_id: str, request: Any) -> httpx2.Response:
    """Send a request whose first statement on the timer is cut off, before or after it was carried out."""
    running.table.tap = tap = lost([timer_id, "BatchExecuteStatement"], running.table.cut)
    try:
        answer: httpx2.Response = await request
    finally:
        running.table.tap = PassAll()
    assert tap.struck.is_set()
    return answer
