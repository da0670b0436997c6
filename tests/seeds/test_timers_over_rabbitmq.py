"""Seed 2, timers over RabbitMQ, DynamoDB and LocalStack (TypeScript): the ancestor of this design."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.end_to_end.client import Client, due_ms
from tests.receiver import Receiver, Reply
from tests.services import RabbitMQ, new_rabbitmq
from tests.stack import Stack, open_client

LOG = {"type": "log"}
QUICK = {"min_backoff": 0.2, "max_backoff": 1, "jitter": 0}


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A broker of this module's own, to be restarted."""
    with new_rabbitmq(tmp_path_factory.mktemp("broker")) as service:
        yield service


@pytest.mark.parametrize("delay", [{"hours": 1, "minutes": 5, "seconds": 3}, 3_903, 3_903.0, "PT1H5M3S"])
async def test_a_delay_is_hours_minutes_and_seconds_or_seconds(client: Client, delay: object) -> None:
    timer = await client.create(delay=delay, target=LOG)
    assert timer["remaining"] == pytest.approx(3_903, abs=5)


async def test_a_time_can_be_given_as_well(client: Client) -> None:
    at_ms = int(time.time() * 1000) + 3_600_000
    assert due_ms(await client.create(due_at=at_ms, target=LOG)) == at_ms


async def test_the_remaining_time_can_be_read_and_is_not_always_zero(client: Client) -> None:
    """Defect: it was always 0."""
    timer = await client.create(delay={"minutes": 10}, target=LOG)
    await asyncio.sleep(0.01)
    read = await client.read(timer["id"])
    assert 0 < read["remaining"] < timer["remaining"] <= 600


async def test_a_timer_calls_its_url(client: Client, receiver: Receiver) -> None:
    timer = await client.schedule(receiver.url(f"callback/{time.time_ns()}"), 0.2, target={"body": {"hello": 1}})
    delivered = await client.until(timer["id"], "delivered")
    assert delivered["attempts"][0]["status"] == 200


async def test_a_rerun_of_the_setup_loses_nothing(client: Client, receiver: Receiver, running: Stack) -> None:
    """What ./setup.sh does to table and broker when they are there already; all of it is in tests/setup."""
    timer = await client.schedule(receiver.url("rerun"), 1)
    await asyncio.to_thread(running.provision)
    await client.until(timer["id"], "delivered")
    assert len(receiver["rerun"]) == 1


async def test_apis_and_consumers_scale_apart(client: Client, receiver: Receiver, running: Stack) -> None:
    second_api, third_consumer = running.api(), running.consumer()
    second_api.start()
    third_consumer.start()
    timers = [await client.schedule(receiver.url("scaled"), 0.5) for _ in range(30)]
    async with open_client(second_api) as http:
        for timer in timers:
            await Client(http).until(timer["id"], "delivered")
    for member in (second_api, third_consumer):
        member.stop()
    assert len(receiver["scaled"]) == len(timers)


async def test_its_to_do_a_timer_can_be_deleted(client: Client, receiver: Receiver) -> None:
    deleted, kept = [await client.schedule(receiver.url(name), 2) for name in ("deleted", "left")]
    await client.cancel(deleted["id"])
    await client.until(kept["id"], "delivered")
    assert receiver["deleted"] == []


async def test_a_timer_of_one_second_behind_a_longer_one_fires_first(client: Client, receiver: Receiver) -> None:
    """Defect: behind one of ten seconds it fired after ten."""
    long = await client.schedule(receiver.url("long"), 59)
    short = await client.schedule(receiver.url("short"), 1)
    await client.until(short["id"], "delivered")
    assert (await client.read(long["id"]))["state"] == "scheduled"
    await client.cancel(long["id"])


async def test_the_2047th_request_is_like_the_first(client: Client) -> None:
    """Defect: every request left a channel open, and there are 2,047."""
    places = asyncio.Semaphore(50)

    async def schedule() -> int:
        async with places:
            return (await client.http.post("/v1/timers", json={"delay": 86_400, "target": LOG})).status_code

    assert set(await asyncio.gather(*(schedule() for _ in range(2_100)))) == {201}


async def test_a_tiny_delay_is_refused_and_stops_nothing(client: Client) -> None:
    """Defect: ``seconds: 0.0001`` stopped the service."""
    for delay in (0.0001, {"seconds": 0.0001}):
        refused = await client.http.post("/v1/timers", json={"delay": delay, "target": LOG})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["pointer"] == "/delay"
    timer = await client.create(delay=0.001, target=LOG)
    await client.until(timer["id"], "delivered")


async def test_a_restart_of_the_broker_loses_nothing_and_everybody_reconnects(
    client: Client, receiver: Receiver, rabbitmq: RabbitMQ
) -> None:
    """Defect: it lost every timer, and nothing reconnected."""
    before = [await client.schedule(receiver.url("before"), 1 + n / 10) for n in range(10)]
    await asyncio.to_thread(rabbitmq.restart)
    after = await client.schedule(receiver.url("after"), 0.5)
    for timer in (*before, after):
        await client.until(timer["id"], "delivered", timeout=60)
    assert {call.timer_id for call in receiver["before"]} == {timer["id"] for timer in before}


async def test_a_failed_callback_is_tried_again(client: Client, receiver: Receiver) -> None:
    """Defect: it was dropped."""
    receiver.answer("failing", Reply(500), Reply(503), Reply(204))
    timer = await client.schedule(receiver.url("failing"), retry=QUICK)
    delivered = await client.until(timer["id"], "delivered")
    assert [attempt["status"] for attempt in delivered["attempts"]] == [500, 503, 204]


@pytest.mark.parametrize("url", ["", "x", "ftp://example.com/", "http://", 5, None, "http://a b/", "//example.com"])
async def test_not_any_value_passes_as_a_url(client: Client, url: object) -> None:
    """Defect: any did."""
    response = await client.http.post("/v1/timers", json={"delay": 1, "target": {"url": url}})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/target/url"
