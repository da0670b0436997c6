"""What else a timer can do than call a url."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.end_to_end.client import Client, Json, due_ms
from tests.queues import Queues
from tests.receiver import Receiver
from tests.stack import Member, Stack, open_client

PATIENCE_S = 20.0


async def test_a_target_without_a_type_is_called_over_http(client: Client, receiver: Receiver) -> None:
    timer = await client.schedule(receiver.url("untyped"))
    [call] = await receiver.wait("untyped")
    assert call.timer_id == timer["id"]
    assert timer["target"]["type"] == "http"


async def test_a_message_without_any_url_is_echoed_to_the_log(client: Client, consumers: list[Member]) -> None:
    timer = await client.create(delay=0.2, target={"type": "log", "body": {"remember": "the milk\n☃"}})
    delivered = await client.until(timer["id"], "delivered")

    assert [(attempt["status"], attempt["error"]) for attempt in delivered["attempts"]] == [(None, None)]
    assert timer["target"] == {"type": "log", "body": {"remember": "the milk\n☃"}}
    [line] = await logged(consumers, lambda line: timer["id"] in line)
    assert "timer echoed" in line
    assert json.loads(line[line.index(" body=") + 6 : line.index(" attempt=")]) == {"remember": "the milk\n☃"}


async def test_a_line_of_the_log_cannot_be_forged_by_a_body(client: Client, consumers: list[Member]) -> None:
    forged = "12:00:00.000 error   forged"
    timer = await client.create(delay=0, target={"type": "log", "body": f"\n{forged}\x1b[31m"})
    await client.until(timer["id"], "delivered")

    [line] = await logged(consumers, lambda line: timer["id"] in line)
    assert forged in line
    assert "\x1b" not in line
    assert not [line for member in consumers for line in member.log().splitlines() if line.startswith(forged)]


async def test_a_timer_can_change_from_a_call_to_a_line(client: Client, receiver: Receiver) -> None:
    timer = await client.schedule(receiver.url("changed"), 0.5, target={"headers": {"authorization": "x"}, "body": "a"})
    edited = await client.edit(timer["id"], target={"type": "log", "body": "b"})
    await client.until(timer["id"], "delivered")

    assert edited["target"] == {"type": "log", "body": "b"}
    assert receiver["changed"] == []


async def test_a_patch_without_a_type_keeps_it(client: Client) -> None:
    timer = await client.create(delay=3600, target={"type": "log", "body": {"a": 1}})
    edited = await client.edit(timer["id"], target={"body": {"b": 2}})
    assert edited["target"] == {"type": "log", "body": {"a": 1, "b": 2}}


async def logged(consumers: list[Member], wanted: Callable[[str], Any]) -> list[str]:
    """Wait until some consumer has logged what is wanted, and return the lines."""
    deadline = time.monotonic() + PATIENCE_S
    while not (lines := [line for member in consumers for line in member.log().splitlines() if wanted(line)]):
        assert time.monotonic() < deadline, "not logged"
        await asyncio.sleep(0.02)
    return lines


async def test_a_message_arrives_at_its_time_in_a_queue(client: Client, queues: Queues) -> None:
    orders = queues.new()
    target = {
        "type": "amqp",
        "routing_key": orders,
        "headers": {"x-team": "billing", "weight": 3},
        "properties": {"correlation_id": "c-1"},
        "body": {"order": 42},
    }
    timer = await client.create(delay=1, target=target, labels={"kind": "delayed"})
    taken = await queues.take(orders)
    delivered = await client.until(timer["id"], "delivered")

    assert timer["target"] == {"exchange": "", **target}
    assert json.loads(taken.body) == {"order": 42}
    assert time.time() * 1000 >= due_ms(timer)
    assert (taken.properties.message_id, taken.properties.content_type) == (timer["id"], "application/json")
    assert (taken.properties.correlation_id, taken.properties.delivery_mode) == ("c-1", 2)
    assert (taken.headers["x-team"], taken.headers["weight"], taken.headers["timer-attempt"]) == ("billing", 3, 1)
    assert taken.headers["timer-due-at"] == timer["due_at"]
    assert taken.headers["timer-lateness-ms"] >= 0
    assert [(attempt["status"], attempt["error"]) for attempt in delivered["attempts"]] == [(None, None)]


async def test_a_delayed_message_can_be_taken_back_and_changed(client: Client, queues: Queues) -> None:
    orders = queues.new()
    cancelled, edited, last = [
        await client.create(delay=delay, target={"type": "amqp", "routing_key": orders, "body": delay})
        for delay in (0.5, 0.6, 1.2)
    ]
    await client.cancel(cancelled["id"])
    await client.edit(edited["id"], target={"body": "changed"})

    arrived = [(await queues.take(orders)).body for _ in range(2)]
    await client.until(last["id"], "delivered")
    assert arrived == [b"changed", b"1.2"]
    assert queues.depth(orders) == 0


async def test_redeliveries_count_down_to_a_dead_letter_queue(client: Client, queues: Queues) -> None:
    """As a queue with a visibility timeout: each time, the worker asks for what it got to be put back."""
    orders, dead = queues.new(), queues.new()
    left: int | None = 2
    arrived = []
    while left is not None:
        target = {"type": "amqp", "routing_key": orders, "body": "work", "redeliveries_left": left}
        timer = await client.create(delay=0, target={**target, "dead_letter": {"routing_key": dead}})
        where = orders if left else dead
        taken = await queues.take(where)
        arrived.append((where, taken.properties.message_id == timer["id"]))
        left = taken.headers["timer-redeliveries-left"] if where == orders else None

    assert arrived == [(orders, True), (orders, True), (dead, True)]


async def test_a_message_that_no_queue_takes_is_tried_again_and_dead_at_last(client: Client, queues: Queues) -> None:
    name = f"late-{uuid4().hex[:8]}"
    retry = {"max_attempts": 2, "min_backoff": 0, "jitter": 0}
    timer = await client.create(delay=0, target={"type": "amqp", "routing_key": name}, retry=retry)
    dead = await client.until(timer["id"], "dead")
    queues.declare(name)
    response = await client.http.post(f"/v1/timers/{timer['id']}/replay")
    await queues.take(name)

    assert [attempt["status"] for attempt in dead["attempts"]] == [312, 312]
    assert dead["attempts"][0]["error"] == f"returned: no queue takes '{name}'"
    assert response.status_code == 202
    await client.until(timer["id"], "delivered")


async def test_nobody_can_publish_into_the_wheel(client: Client) -> None:
    for target, pointer in (
        ({"routing_key": "timers.v1.0.due"}, "/target/routing_key"),
        ({"exchange": "timers.v1.0.minutes", "routing_key": "07.13"}, "/target/exchange"),
        ({"routing_key": "a", "headers": {"CC": "timers.v1.0.due"}}, "/target/headers/CC"),
    ):
        response = await client.http.post("/v1/timers", json={"delay": 0, "target": {"type": "amqp", **target}})
        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("target", "pointer"),
    [
        ({"routing_key": "a", "headers": {"x": [1]}}, "/target/headers/x"),
        ({"routing_key": "a", "headers": {"x": 1.5}}, "/target/headers/x"),
        ({"routing_key": "a", "headers": {"x": None}}, "/target/headers/x"),
        ({"routing_key": 1}, "/target/routing_key"),
        ({"routing_key": "a", "url": "http://x/"}, "/target/url"),
        ({"routing_key": "a", "properties": {"message_id": "mine"}}, "/target/properties/message_id"),
        ({"routing_key": "a", "properties": {"priority": 256}}, "/target/properties/priority"),
        ({"routing_key": "a", "redeliveries_left": 1}, "/target/dead_letter"),
        ({"routing_key": "a", "redeliveries_left": 1.5, "dead_letter": {}}, "/target/redeliveries_left"),
        ({"routing_key": "a", "redeliveries_left": 0, "dead_letter": {"queue": "b"}}, "/target/dead_letter/queue"),
        ({}, "/target/routing_key"),
    ],
)
async def test_a_bad_message_is_named(client: Client, target: Json, pointer: str) -> None:
    response = await client.http.post("/v1/timers", json={"delay": 1, "target": {"type": "amqp", **target}})
    assert response.status_code == 422
    assert pointer in [error["pointer"] for error in response.json()["errors"]]


async def test_where_messages_are_not_allowed_they_are_refused_at_once(running: Stack) -> None:
    api = running.api(TIMERS_ALLOW_AMQP="/orders.*")
    api.start()
    async with open_client(api) as http:
        client = Client(http)
        allowed = await client.create(delay=3600, target={"type": "amqp", "routing_key": "orders.new"})
        other = {"type": "amqp", "routing_key": "mail"}
        posted = await http.post("/v1/timers", json={"delay": 1, "target": other})
        put = await http.put(f"/v1/timers/{allowed['id']}", json={"delay": 1, "target": other})
        patched = await http.patch(f"/v1/timers/{allowed['id']}", json={"target": {"routing_key": "mail"}})
        batch = await http.post("/v1/timers/batch", json={"timers": [{"delay": 1, "target": other}]})
        dead = {"redeliveries_left": 1, "dead_letter": {"routing_key": "mail"}}
        dead_letter = await http.patch(f"/v1/timers/{allowed['id']}", json={"target": dead})
    api.stop()

    for response in (posted, put, patched):
        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"] == "/target/routing_key"
    assert batch.json()["results"][0]["problem"]["errors"][0]["pointer"] == "/target/routing_key"
    assert dead_letter.json()["errors"][0]["pointer"] == "/target/dead_letter/routing_key"
