"""The broker goes and comes back; processes stop and start; nothing is lost."""

from __future__ import annotations

from asyncio import gather, sleep, timeout, to_thread
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.end_to_end.client import Client, due_ms
from tests.receiver import Receiver, Reply
from tests.services import DynamoDB, RabbitMQ, new_rabbitmq
from tests.stack import Member, Stack, open_client, stack, start_together
from timers.service import GRACE_MS


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A broker of this module's own, to be stopped at will."""
    with new_rabbitmq(tmp_path_factory.mktemp("broker")) as service:
        yield service


@pytest.fixture(scope="module")
def running(rabbitmq: RabbitMQ, dynamodb: DynamoDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(rabbitmq, dynamodb, tmp_path_factory.mktemp("outages"), TIMERS_HORIZON="10") as built:
        yield built


async def test_beyond_the_horizon_the_keeper_loads_in_time(
    client: Client, receiver: Receiver, consumers: list[Member]
) -> None:
    before = await _loaded(*consumers)
    timer = await client.schedule(receiver.url("beyond"), 13)
    [call] = await receiver.wait("beyond")
    assert call.at_ms >= due_ms(timer)
    assert await _loaded(*consumers) > before


async def test_waiting_timers_survive_a_restart_of_the_broker(
    client: Client, receiver: Receiver, rabbitmq: RabbitMQ
) -> None:
    waiting = [await client.schedule(receiver.url("waiting"), 3 + n / 10) for n in range(20)]
    await to_thread(rabbitmq.restart)
    calls = await receiver.wait("waiting", len(waiting), timeout=60)
    assert {call.timer_id for call in calls} == {timer["id"] for timer in waiting}


async def test_with_the_broker_away_the_api_accepts_and_says_so(
    client: Client, receiver: Receiver, rabbitmq: RabbitMQ
) -> None:
    await to_thread(rabbitmq.stop)
    try:
        accepted = [await client.schedule(receiver.url("away"), delay) for delay in (0, 0.5, 2)]
        kept = await client.schedule(receiver.url("kept"), 0.5)
        await client.cancel(kept["id"])
        degraded = await client.http.get("/readyz")
    finally:
        await to_thread(rabbitmq.start)
    calls = await receiver.wait("away", 3, timeout=60)

    assert degraded.status_code == 503
    assert degraded.json()["status"] == "degraded"
    assert degraded.json()["broker"] == "down"
    assert "schedule" in degraded.json()["works"]
    assert {call.timer_id for call in calls} == {timer["id"] for timer in accepted}
    assert receiver["kept"] == []


async def test_a_broker_wiped_clean_loses_no_timer(client: Client, receiver: Receiver, rabbitmq: RabbitMQ) -> None:
    timers = [await client.schedule(receiver.url("wiped"), 4 + n / 10) for n in range(20)]
    await to_thread(rabbitmq.wipe)
    calls = await receiver.wait("wiped", len(timers), timeout=60)
    assert {call.timer_id for call in calls} == {timer["id"] for timer in timers}
    after = await client.schedule(receiver.url("after"), 0.5)
    await client.until(after["id"], "delivered")


async def test_what_a_wiped_broker_forgot_is_loaded_again_long_before_it_is_due(
    receiver: Receiver, dynamodb: DynamoDB, tmp_path: Path
) -> None:
    # On a broker that no other stack sets up again: whoever does so tells the keepers of its own table only.
    with new_rabbitmq(tmp_path) as rabbitmq, stack(rabbitmq, dynamodb, tmp_path) as built:
        api, consumer = built.api(), built.consumer()
        await to_thread(start_together, api, consumer)
        async with open_client(api) as http:
            for _ in range(20):
                await Client(http).schedule(receiver.url("far"), 3_000)
            before = await _loaded(consumer)
            await to_thread(rabbitmq.wipe)
            async with timeout(60):
                while await _loaded(consumer) < before + 20:  # noqa: ASYNC110 - a process tells nobody
                    await sleep(0.2)


async def _loaded(*consumers: Member) -> float:
    """Return how many timers the consumers' keepers have loaded."""
    async with httpx2.AsyncClient() as http:
        pages = [(await http.get(f"http://127.0.0.1:{consumer.port}/metrics")).text for consumer in consumers]
    return sum(float(page.split("\ntimers_loaded_total ")[1].split("\n")[0]) for page in pages)


async def test_a_consumer_killed_in_a_call_is_followed_by_another(
    client: Client, receiver: Receiver, consumers: list[Member]
) -> None:
    receiver.answer("killed", Reply(never=True), Reply(200))
    timer = await client.schedule(receiver.url("killed"), target={"timeout": 1})
    await receiver.wait("killed")
    for consumer in consumers:
        consumer.kill()
    await gather(*(to_thread(consumer.start) for consumer in consumers))
    _, second = await receiver.wait("killed", 2, timeout=60)
    delivered = await client.until(timer["id"], "delivered")

    assert second.timer_id == timer["id"]
    assert second.attempt == 2
    assert "outcome is unknown" in delivered["attempts"][0]["error"]


async def test_a_stop_finishes_calls_and_returns_what_is_held(
    client: Client, receiver: Receiver, consumers: list[Member]
) -> None:
    receiver.answer("in-call", Reply(after=1))
    in_call = await client.schedule(receiver.url("in-call"))
    held = [await client.schedule(receiver.url("held"), 2.5) for _ in range(10)]
    await receiver.wait("in-call")
    assert await gather(*(to_thread(consumer.stop) for consumer in consumers)) == [0, 0]
    assert (await client.read(in_call["id"]))["state"] == "delivered"

    await gather(*(to_thread(consumer.start) for consumer in consumers))
    calls = await receiver.wait("held", len(held), timeout=60)
    assert sorted(call.timer_id for call in calls) == sorted(timer["id"] for timer in held)
    assert len(receiver["in-call"]) == 1


async def test_an_api_that_stops_has_published_what_it_accepted(
    running: Stack, client: Client, receiver: Receiver
) -> None:
    short_lived = running.api()
    await to_thread(short_lived.start)
    async with open_client(short_lived) as http:
        timers = [await Client(http).schedule(receiver.url("short-lived"), 2 + n / 10) for n in range(10)]
    await to_thread(short_lived.stop)
    delivered = [await client.until(timer["id"], "delivered") for timer in timers]
    # Without a hint a keeper would find each of them, late by its grace at least.
    assert min(timer["attempts"][0]["lateness_ms"] for timer in delivered) < GRACE_MS


async def test_without_the_table_a_write_is_refused_in_bounded_time(
    client: Client, receiver: Receiver, dynamodb: DynamoDB
) -> None:
    timer = await client.schedule(receiver.url("unharmed"), 3)
    await to_thread(dynamodb.pause)
    try:
        refused = await client.http.post("/v1/timers", json={"delay": 1, "target": {"url": receiver.url("x")}})
        ready = await client.http.get("/readyz")
    finally:
        await to_thread(dynamodb.resume)
    await client.until(timer["id"], "delivered", timeout=60)

    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert ready.json()["table"] == "down"
