"""Seed 3, distributed-timers (Node on DynamoDB): a library, and several stateless instances."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from infra.settings import Settings
from tests.end_to_end.client import Client
from tests.receiver import Receiver, Reply
from tests.stack import API_KEY, Member, Stack
from timers.service import GRACE_MS
from timers_client import Conflict, Invalid, Timer, TimerNotFound, TimersClient

QUICK = {"min_backoff": 0.1, "max_backoff": 1, "jitter": 0}


@pytest.fixture
async def timers(api: Member, consumers: list[Member]) -> AsyncIterator[TimersClient]:
    async with TimersClient(f"http://127.0.0.1:{api.port}", API_KEY) as client:
        yield client


async def test_a_library_creates_updates_and_deletes(timers: TimersClient) -> None:
    target = {"url": "https://example.com/hook", "body": {"message": "hello"}}
    created = await timers.create(delay=timedelta(hours=1), target=target)
    updated = await timers.update(created.id, delay=60, if_version=created.version)
    deleted = await timers.delete(created.id)

    assert isinstance(created, Timer)
    assert (created.state, updated.id, updated.version, deleted.state) == ("scheduled", created.id, 2, "cancelled")
    assert updated.due_at < created.due_at
    assert created.due_at > datetime.now(UTC)


async def test_a_library_creates_and_deletes_in_batches(timers: TimersClient) -> None:
    taken = str(uuid4())
    wishes = [{"id": taken, "delay": 3600, "target": {"type": "log"}}] * 2
    wishes.append({"delay": -1, "target": {"type": "log"}})
    created, again, refused = await timers.batch_create(wishes)
    deleted, unknown = await timers.batch_delete([taken, "nobody-has-this"])

    assert isinstance(created, Timer)
    assert isinstance(again, Conflict)
    assert isinstance(refused, Invalid)
    assert refused.errors[0]["pointer"] == "/delay"
    assert isinstance(deleted, Timer)
    assert deleted.state == "cancelled"
    assert isinstance(unknown, TimerNotFound)


async def test_an_unknown_id_is_an_error_of_its_own_type(timers: TimersClient) -> None:
    for call in (timers.get("nobody-has-this"), timers.update("nobody-has-this", delay=1), timers.delete("nobody")):
        with pytest.raises(TimerNotFound, match="no timer has the id"):
            await call


async def test_a_callback_says_whether_it_is_on_time_or_delayed(client: Client, receiver: Receiver) -> None:
    timer = await client.schedule(receiver.url("message"), due_at=1, target={"body": {"message": "hello"}})
    [call] = await receiver.wait("message")
    assert (call.timer_id, call.body) == (timer["id"], b'{"message":"hello"}')
    assert call.headers["timer-status"] == "delayed"


async def test_two_instances_call_ten_times_for_ten_timers(client: Client, receiver: Receiver) -> None:
    """Defect: they called twenty times."""
    timers = await asyncio.gather(*(client.schedule(receiver.url("ten"), 0.3) for _ in range(10)))
    for timer in timers:
        await client.until(timer["id"], "delivered")
    assert len(receiver["ten"]) == 10


async def test_an_updated_timer_fires_at_its_new_time(client: Client, receiver: Receiver) -> None:
    """Defect: it never fired."""
    timer = await client.schedule(receiver.url("updated"), 3600)
    await client.edit(timer["id"], delay=0.3)
    await client.until(timer["id"], "delivered")
    assert len(receiver["updated"]) == 1


async def test_five_creates_at_once_have_five_ids(client: Client) -> None:
    """Defect: they had one."""
    timers = await asyncio.gather(*(client.create(delay=3600, target={"type": "log"}) for _ in range(5)))
    assert len({timer["id"] for timer in timers}) == 5


async def test_a_deleted_timer_does_not_fire(client: Client, receiver: Receiver) -> None:
    """Defect: it did."""
    deleted, kept = [await client.schedule(receiver.url(name), 2) for name in ("deleted", "kept")]
    await client.cancel(deleted["id"])
    await client.until(kept["id"], "delivered")
    assert receiver["deleted"] == []


async def test_short_timers_do_not_wait_for_a_scan(client: Client) -> None:
    """Defect: they fired up to twice the scan's period late. All that a scan finds here is as late as its grace."""
    timers = await asyncio.gather(*(client.create(delay=n / 10, target={"type": "log"}) for n in range(20)))
    ended = [await client.until(timer["id"], "delivered") for timer in timers]
    assert min(timer["attempts"][0]["lateness_ms"] for timer in ended) < GRACE_MS


async def test_a_timer_is_kept_until_its_call_has_worked(client: Client, receiver: Receiver) -> None:
    """Defect: it was deleted before the call, which was not tried again."""
    receiver.answer("flaky", Reply(500), Reply(200))
    timer = await client.schedule(receiver.url("flaky"), retry=QUICK)
    delivered = await client.until(timer["id"], "delivered")
    assert [attempt["status"] for attempt in delivered["attempts"]] == [500, 200]


def test_any_store_that_speaks_dynamodb_can_be_named(running: Stack) -> None:
    """These tests run on one that is not AWS; the endpoint is all that names it."""
    alternator = Settings.from_environment({"TIMERS_DYNAMODB_ENDPOINT": "http://scylla.example:8000"})
    assert alternator.dynamodb_endpoint == "http://scylla.example:8000"
    assert running.settings["TIMERS_DYNAMODB_ENDPOINT"].startswith("http://127.0.0.1")
