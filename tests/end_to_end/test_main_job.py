"""What the service is for: calls at their time, and only those that are still wanted."""

from __future__ import annotations

import asyncio
import base64
from itertools import pairwise

import httpx2
import pytest
from standardwebhooks import Webhook

from tests.end_to_end.client import Client, due_ms
from tests.receiver import Receiver, Reply
from tests.services.port import free_port
from tests.stack import SIGNING_SECRET, Stack

QUICK = {"min_backoff": 0.2, "max_backoff": 2, "jitter": 0}


async def test_a_call_arrives_once_and_never_early(client: Client, receiver: Receiver) -> None:
    delays = [0, 0.001, 0.05, 0.5, 1, 1.5, 2.3]
    timers = [await client.schedule(receiver.url(f"after-{delay}"), delay) for delay in delays]

    for delay, timer in zip(delays, timers, strict=True):
        [call] = await receiver.wait(f"after-{delay}")
        assert call.at_ms >= due_ms(timer)
        delivered = await client.until(timer["id"], "delivered")
        assert delivered["next_attempt_at"] is None
        assert [attempt["status"] for attempt in delivered["attempts"]] == [200]
        assert delivered["attempts"][0]["lateness_ms"] >= 0


async def test_two_hundred_timers_over_ten_seconds_all_arrive_once(client: Client, receiver: Receiver) -> None:
    timers = await asyncio.gather(
        *(client.schedule(receiver.url("spread"), 0.5 + number * 0.05) for number in range(200))
    )
    calls = await receiver.wait("spread", 200, timeout=60)

    due = {timer["id"]: due_ms(timer) for timer in timers}
    assert sorted(call.timer_id for call in calls) == sorted(due)
    assert min(call.at_ms - due[call.timer_id] for call in calls) >= 0


async def test_a_call_is_signed_with_the_secret_of_the_settings(client: Client, receiver: Receiver) -> None:
    await client.schedule(receiver.url("signed"), target={"body": {"order": 42}})
    await client.schedule(receiver.url("empty"), target={"method": "GET"})

    for path in ("signed", "empty"):
        [call] = await receiver.wait(path)
        Webhook(SIGNING_SECRET).verify(call.body, call.headers, json_parse=False)


async def test_an_address_that_is_not_allowed_is_not_called(running: Stack, client: Client) -> None:
    """Even where the api would have it: the consumer that calls has the last word."""
    lenient = running.api(TIMERS_ALLOW_ADDRESSES="169.254.169.254")
    await asyncio.to_thread(lenient.start)
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{lenient.port}", headers=client.http.headers) as http:
        retry = {"max_attempts": 2, **QUICK}
        timer = await Client(http).schedule("http://169.254.169.254/latest/meta-data/", retry=retry)

    dead = await client.until(timer["id"], "dead")

    assert [attempt["error"] for attempt in dead["attempts"]] == 2 * ["address: 169.254.169.254 is not allowed"]


async def test_the_call_is_the_one_that_was_asked_for(client: Client, receiver: Receiver) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    response = await client.http.post(
        "/v1/timers",
        headers={"traceparent": trace},
        json={
            "delay": 0,
            "target": {
                "url": receiver.url("asked?x=1&y=%20"),
                "method": "PUT",
                "headers": {"X-Team": "billing", "content-type": "application/vnd.x+json"},
                "body": {"order": 42, "name": "Zoë ☃"},
            },
        },
    )
    timer = response.json()
    [call] = await receiver.wait("asked")

    assert response.headers["location"] == f"/v1/timers/{timer['id']}"
    assert response.headers["etag"] == '"1"'
    assert call.method == "PUT"
    assert call.body == '{"order":42,"name":"Zoë ☃"}'.encode()
    assert call.headers["x-team"] == "billing"
    assert call.headers["content-type"] == "application/vnd.x+json"
    assert call.headers["webhook-id"] == timer["id"]
    assert call.headers["timer-attempt"] == "1"
    assert call.headers["timer-due-at"] == timer["due_at"]
    assert int(call.headers["timer-lateness-ms"]) >= 0
    assert abs(int(call.headers["webhook-timestamp"]) * 1000 - call.at_ms) < 60_000
    assert call.headers["traceparent"].split("-")[1] == trace.split("-")[1]
    assert call.headers["traceparent"] != trace
    assert call.headers["user-agent"].startswith("timers/")


@pytest.mark.parametrize(
    ("target", "sent", "content_type"),
    [
        ({"body": "plain ☃"}, "plain ☃".encode(), "text/plain; charset=utf-8"),
        ({"body": [1, None]}, b"[1,null]", "application/json"),
        ({"body": 0}, b"0", "application/json"),
        ({"body_base64": base64.b64encode(b"\x00\xff").decode()}, b"\x00\xff", "application/octet-stream"),
    ],
)
async def test_every_kind_of_body_is_sent_as_given(
    client: Client, receiver: Receiver, target: dict[str, object], sent: bytes, content_type: str
) -> None:
    timer = await client.schedule(receiver.url("body"), target=target)
    [call] = await receiver.wait("body")

    assert call.body == sent
    assert call.headers["content-type"] == content_type
    read = (await client.read(timer["id"]))["target"]
    assert {name: read[name] for name in target} == target


async def test_without_a_body_none_is_sent(client: Client, receiver: Receiver) -> None:
    await client.schedule(receiver.url("bare"), target={"method": "GET"})
    [call] = await receiver.wait("bare")
    assert call.method == "GET"
    assert call.body == b""
    assert "content-type" not in call.headers


async def test_a_cancelled_timer_is_never_called(client: Client, receiver: Receiver) -> None:
    cancelled = await client.schedule(receiver.url("cancelled"), 1)
    later = await client.schedule(receiver.url("later"), 1.6)

    first = await client.cancel(cancelled["id"])
    again = await client.cancel(cancelled["id"])
    await receiver.wait("later")

    assert first["state"] == "cancelled"
    assert first == again
    assert receiver["cancelled"] == []
    assert (await client.until(later["id"], "delivered"))["state"] == "delivered"


async def test_an_edited_timer_is_called_as_edited_only(client: Client, receiver: Receiver) -> None:
    timer = await client.schedule(receiver.url("old"), 1, target={"body": {"v": 1, "keep": True}})
    edited = await client.edit(
        timer["id"], delay=2, target={"url": receiver.url("new"), "body": {"v": 2}}, labels={"a": "b"}
    )
    [call] = await receiver.wait("new")

    assert edited["version"] == 2
    assert call.at_ms >= due_ms(edited) > due_ms(timer)
    assert call.body == b'{"v":2,"keep":true}'
    assert receiver["old"] == []


async def test_a_timer_moved_forward_fires_at_its_new_time_only(client: Client, receiver: Receiver) -> None:
    timer = await client.schedule(receiver.url("moved"), 3)
    edited = await client.edit(timer["id"], delay=0.5)
    [call] = await receiver.wait("moved")
    assert due_ms(edited) <= call.at_ms < due_ms(timer)

    marker = await client.schedule(receiver.url("marker"), due_at=due_ms(timer) + 500)
    await client.until(marker["id"], "delivered")
    assert len(receiver["moved"]) == 1


async def test_a_replaced_timer_fires_once(client: Client, receiver: Receiver) -> None:
    body = {"delay": 1, "target": {"url": receiver.url("first")}}
    created = await client.http.put("/v1/timers/replaced", json=body)
    body = {"delay": 1.2, "target": {"url": receiver.url("second")}}
    replaced = await client.http.put("/v1/timers/replaced", json=body)
    await receiver.wait("second")
    await client.until("replaced", "delivered")

    assert (created.status_code, replaced.status_code) == (201, 200)
    assert receiver["first"] == []
    assert len(receiver["second"]) == 1


async def test_a_failing_target_is_called_again_with_growing_gaps(client: Client, receiver: Receiver) -> None:
    receiver.answer("flaky", Reply(500), Reply(500), Reply(200))
    timer = await client.schedule(receiver.url("flaky"), retry=QUICK)
    calls = await receiver.wait("flaky", 3)
    delivered = await client.until(timer["id"], "delivered")

    gaps = [after.at_ms - before.at_ms for before, after in pairwise(calls)]
    assert gaps[0] >= 200
    assert gaps[1] >= 400
    assert [call.attempt for call in calls] == [1, 2, 3]
    assert {call.timer_id for call in calls} == {timer["id"]}
    assert [attempt["status"] for attempt in delivered["attempts"]] == [500, 500, 200]


@pytest.mark.parametrize("reply", [Reply(410), Reply(500, {"Timer-Retry": "never"})])
async def test_a_target_can_stop_a_timer_for_good(client: Client, receiver: Receiver, reply: Reply) -> None:
    receiver.answer("stop", reply)
    timer = await client.schedule(receiver.url("stop"), retry=QUICK)
    dead = await client.until(timer["id"], "dead")
    assert len(dead["attempts"]) == len(receiver["stop"]) == 1


async def test_retry_after_is_honoured(client: Client, receiver: Receiver) -> None:
    receiver.answer("busy", Reply(429, {"Retry-After": "1"}), Reply(200))
    await client.schedule(receiver.url("busy"), retry=QUICK)
    first, second = await receiver.wait("busy", 2)
    assert second.at_ms - first.at_ms >= 1000


async def test_redirects_are_failures(client: Client, receiver: Receiver) -> None:
    receiver.answer("away", Reply(302, {"Location": receiver.url("elsewhere")}))
    timer = await client.schedule(receiver.url("away"), retry=QUICK | {"max_attempts": 1})
    dead = await client.until(timer["id"], "dead")
    assert dead["attempts"][0]["status"] == 302
    assert receiver["elsewhere"] == []


async def test_a_target_that_never_answers_times_out_until_dead_and_can_be_replayed(
    client: Client, receiver: Receiver
) -> None:
    receiver.answer("mute", Reply(never=True), Reply(never=True), Reply(200))
    timer = await client.schedule(receiver.url("mute"), target={"timeout": 0.3}, retry=QUICK | {"max_attempts": 2})
    dead = await client.until(timer["id"], "dead")
    refused = await client.http.post(f"/v1/timers/{timer['id']}/fire")
    replayed = await client.http.post(f"/v1/timers/{timer['id']}/replay")
    delivered = await client.until(timer["id"], "delivered")

    assert [attempt["status"] for attempt in dead["attempts"]] == [None, None]
    assert "timeout" in dead["attempts"][0]["error"]
    assert (refused.status_code, replayed.status_code) == (409, 202)
    assert [attempt["number"] for attempt in delivered["attempts"]] == [1, 2, 1]


async def test_a_refused_connection_is_retried(client: Client, receiver: Receiver) -> None:
    timer = await client.schedule(f"http://127.0.0.1:{free_port()}/", retry=QUICK | {"max_attempts": 2})
    dead = await client.until(timer["id"], "dead")
    assert len(dead["attempts"]) == 2
    assert "connection" in dead["attempts"][0]["error"]


async def test_fire_runs_a_timer_now(client: Client, receiver: Receiver) -> None:
    timer = await client.schedule(receiver.url("now"), 3600)
    fired = await client.http.post(f"/v1/timers/{timer['id']}/fire")
    [call] = await receiver.wait("now")
    assert fired.status_code == 202
    assert call.at_ms < due_ms(timer)
    assert call.at_ms >= due_ms(fired.json())


async def test_a_time_in_the_past_fires_at_once(client: Client, receiver: Receiver) -> None:
    await client.schedule(receiver.url("past"), due_at="2020-01-01T00:00:00Z")
    [call] = await receiver.wait("past")
    assert int(call.headers["timer-lateness-ms"]) > 0


async def test_a_timer_in_its_call_can_be_neither_cancelled_nor_changed(client: Client, receiver: Receiver) -> None:
    receiver.answer("slow", Reply(after=1))
    timer = await client.schedule(receiver.url("slow"))
    await receiver.wait("slow")
    path = f"/v1/timers/{timer['id']}"

    cancelled = await client.http.delete(path)
    edited = await client.http.patch(path, json={"delay": 5})
    replaced = await client.http.put(path, json={"delay": 5, "target": {"url": receiver.url("x")}})
    fired = await client.http.post(f"{path}/fire")
    for answer in (cancelled, edited, replaced, fired):
        assert answer.status_code == 409
        assert answer.json()["state"] == "firing"

    await client.until(timer["id"], "delivered")
    late = await client.http.delete(path)
    assert (late.status_code, late.json()["state"]) == (409, "delivered")


async def test_one_second_behind_an_hour_and_a_minute_and_a_second(client: Client, receiver: Receiver) -> None:
    """The head of no queue blocks what is behind it, and two hops of the wheel are on time."""
    hour = await client.schedule(receiver.url("hour"), 3600)
    minute = await client.schedule(receiver.url("minute"), 61)
    second = await client.schedule(receiver.url("second"), 1)
    [call] = await receiver.wait("second")
    assert due_ms(second) <= call.at_ms < due_ms(minute)

    [call] = await receiver.wait("minute", timeout=90)
    assert call.at_ms >= due_ms(minute)
    assert (await client.read(hour["id"]))["state"] == "scheduled"
    assert receiver["hour"] == []
