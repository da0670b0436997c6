"""Many in one request, each with its own outcome."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.end_to_end.client import Client
from tests.end_to_end.test_front_door import FAR, URL, pointers, problem
from tests.receiver import Receiver


async def batch(client: Client, timers: list[Any]) -> list[Any]:
    response = await client.http.post("/v1/timers/batch", json={"timers": timers})
    assert response.status_code == 200, response.text
    results: list[Any] = response.json()["results"]
    return results


async def test_a_thousand_timers_in_one_request_all_arrive_once(client: Client, receiver: Receiver) -> None:
    wishes = [{"delay": 1, "target": {"url": receiver.url("many"), "body": number}} for number in range(1000)]
    results = await batch(client, wishes)
    calls = await receiver.wait("many", 1000, timeout=60)

    assert [result["status"] for result in results] == [201] * 1000
    assert [result["timer"]["target"]["body"] for result in results] == list(range(1000))
    assert sorted(call.timer_id for call in calls) == sorted(result["timer"]["id"] for result in results)


async def test_each_item_has_its_own_outcome_in_order(client: Client) -> None:
    chosen = str(uuid4())
    results = await batch(
        client,
        [
            {"id": chosen, **FAR},
            {"delay": -1, "target": {"url": URL}},
            {"id": chosen, **FAR},
            "nonsense",
            {"delay": 1, "target": {"url": "ftp://x"}},
            FAR,
        ],
    )
    assert [result["status"] for result in results] == [201, 422, 409, 422, 422, 201]
    assert results[1]["problem"]["errors"][0]["pointer"] == "/delay"
    assert results[4]["problem"]["errors"][0]["pointer"] == "/target/url"
    assert results[0]["timer"]["id"] == chosen


async def test_many_are_cancelled_each_with_its_own_outcome(client: Client, receiver: Receiver) -> None:
    done = await client.schedule(receiver.url("done"))
    await client.until(done["id"], "delivered")
    ids = [result["timer"]["id"] for result in await batch(client, [FAR] * 300)]
    response = await client.http.post(
        "/v1/timers/batch-cancel", json={"ids": [*ids, "none", done["id"], "#keeper.0", ids[0]]}
    )
    results = response.json()["results"]

    assert [result["status"] for result in results] == [200] * 300 + [404, 409, 404, 200]
    assert {result["timer"]["state"] for result in results[:300]} == {"cancelled"}
    assert results[301]["problem"]["state"] == "delivered"


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("batch", {"timers": [FAR] * 1001}, "/timers"),
        ("batch", {"timers": "x"}, "/timers"),
        ("batch", {}, "/timers"),
        ("batch", {"timers": [], "more": 1}, "/more"),
        ("batch-cancel", {"ids": [1]}, "/ids/0"),
        ("batch-cancel", {"ids": ["x"] * 1001}, "/ids"),
    ],
)
async def test_a_bad_batch_is_refused_whole(client: Client, path: str, body: object, pointer: str) -> None:
    response = await client.http.post(f"/v1/timers/{path}", json=body)
    assert response.status_code == 422
    assert pointer in pointers(response)


async def test_a_batch_may_be_empty_but_not_huge(client: Client) -> None:
    assert await batch(client, []) == []
    huge = b'{"timers": ["' + b"x" * (17 * 1024 * 1024) + b'"]}'
    response = await client.http.post("/v1/timers/batch", content=huge, headers={"content-type": "application/json"})
    assert response.status_code == 413
    problem(response)
