"""Delays in hours and minutes, what remains of them, lateness as a word, and putting off."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import pytest

from tests.end_to_end.client import Client, Json, due_ms
from tests.receiver import Receiver
from timers.stamps import parse_rfc3339

URL = "http://127.0.0.1:1024/never"


def put(delay: object) -> Json:
    return {"delay": delay, "target": {"url": URL}}


async def test_a_delay_can_be_given_in_hours_minutes_and_seconds(client: Client) -> None:
    before_ms = time.time() * 1000
    timer = await client.create(**put({"hours": 1, "minutes": 5, "seconds": 3}))
    assert 0 <= due_ms(timer) - 3_903_000 - int(before_ms) < 30_000
    moved = await client.edit(timer["id"], delay={"minutes": 1})
    assert due_ms(moved) < due_ms(timer)


@pytest.mark.parametrize("delay", [{}, {"days": 1}, {"hours": -1}, {"hours": "1"}, {"hours": 99_999}])
async def test_a_bad_object_for_a_delay_is_named(client: Client, delay: Json) -> None:
    response = await client.http.post("/v1/timers", json=put(delay))
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == ["/delay"]


async def test_what_remains_of_a_delay_is_told_and_runs_down(client: Client) -> None:
    timer = await client.create(**put(3600))
    await asyncio.sleep(0.02)
    read = await client.read(timer["id"])
    listed = (await client.http.get("/v1/timers", params={"limit": 500})).json()["timers"]
    cancelled = await client.cancel(timer["id"])

    assert timer["remaining"] == 3600
    assert 3000 < read["remaining"] < 3600
    assert all(other["remaining"] >= 0 for other in listed)
    assert cancelled["remaining"] is None


async def test_nothing_remains_where_a_timer_is_overdue(client: Client, receiver: Receiver) -> None:
    timer = await client.schedule(receiver.url("overdue"), due_at="2020-01-01T00:00:00Z")
    delivered = await client.until(timer["id"], "delivered")
    assert (timer["remaining"], delivered["remaining"]) == (0, None)


async def test_a_call_says_whether_it_is_on_time(client: Client, receiver: Receiver) -> None:
    await client.schedule(receiver.url("late"), due_at="2020-01-01T00:00:00Z")
    await client.schedule(receiver.url("timely"), 0.1)
    [late], [timely] = await receiver.wait("late"), await receiver.wait("timely")

    assert late.headers["timer-status"] == "delayed"
    within = int(timely.headers["timer-lateness-ms"]) <= 1_000
    assert timely.headers["timer-status"] == ("on-time" if within else "delayed")


async def test_a_debounce_keeps_the_latest_time_up_to_a_ceiling(client: Client) -> None:
    path = f"/v1/timers/{uuid4()}"
    created = await client.http.put(f"{path}?keep=latest&max_total_delay=1800", json=put(600))
    sooner = await client.http.put(f"{path}?keep=latest&max_total_delay=1800", json=put(60))
    later = await client.http.put(f"{path}?keep=latest&max_total_delay=1800", json=put(1200))
    ceiling = await client.http.put(f"{path}?keep=latest&max_total_delay=1800", json=put(7200))

    assert [response.status_code for response in (created, sooner, later, ceiling)] == [201, 200, 200, 200]
    first, second, third, last = (response.json() for response in (created, sooner, later, ceiling))
    assert second["due_at"] == first["due_at"]
    assert due_ms(third) > due_ms(first)
    assert due_ms(last) - parse_rfc3339(last["created_at"]) == 1_800_000
    assert last["created_at"] == first["created_at"]


async def test_the_earliest_time_is_kept_of_many_at_once(client: Client) -> None:
    path = f"/v1/timers/{uuid4()}?keep=earliest"
    answers = await asyncio.gather(*(client.http.put(path, json=put(delay)) for delay in (900, 300, 600, 301, 500)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    last = max((answer.json() for answer in answers), key=lambda timer: int(timer["version"]))
    assert 290 < last["remaining"] <= 300


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("keep=newest", "/query/keep"),
        ("keep=", "/query/keep"),
        ("max_total_delay=0", "/query/max_total_delay"),
        ("max_total_delay=-1", "/query/max_total_delay"),
        ("max_total_delay=nan", "/query/max_total_delay"),
        ("max_total_delay=inf", "/query/max_total_delay"),
        ("max_total_delay=soon", "/query/max_total_delay"),
        ("max_total_delay=1e12", "/query/max_total_delay"),
        ("kepp=latest", "/query/kepp"),
    ],
)
async def test_nonsense_in_the_query_of_a_put_is_named(client: Client, query: str, pointer: str) -> None:
    response = await client.http.put(f"/v1/timers/{uuid4()}?{query}", json=put(60))
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
