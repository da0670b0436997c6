"""What else a timer can do than call a url."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from tests.end_to_end.client import Client
from tests.receiver import Receiver
from tests.stack import Member

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
