"""
Seed 4, antri (Go): tasks for later, at least once.

What holds for every timer is here: capacity, durability, dead ones, figures, idleness.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from uuid import uuid4

import boto3

from tests.end_to_end.client import Client
from tests.receiver import Receiver, Reply
from tests.services import DynamoDB
from tests.stack import Member, Stack, open_client, start_together

LOG = {"type": "log"}


async def test_at_its_capacity_it_refuses_and_loses_nothing_that_it_took(running: Stack) -> None:
    api = running.api(TIMERS_API_PENDING="2")
    api.start()
    async with open_client(api) as http:
        ids = [str(uuid4()) for _ in range(100)]
        bodies = [{"id": timer_id, "delay": 3600, "target": LOG} for timer_id in ids]
        answers = await asyncio.gather(*(http.post("/v1/timers", json=body) for body in bodies))
        client = Client(http)
        for timer_id, answer in zip(ids, answers, strict=True):
            if answer.status_code == 201:
                assert (await client.read(timer_id))["state"] == "scheduled"
    api.stop()

    assert {answer.status_code for answer in answers} == {201, 429}
    assert {answer.headers.get("retry-after") for answer in answers if answer.status_code == 429} == {"1"}


async def test_what_was_taken_survives_kill_9_in_the_middle_of_a_call(
    client: Client, api: Member, consumers: list[Member], receiver: Receiver
) -> None:
    receiver.answer("cut", Reply(never=True), Reply(200))
    called = await client.schedule(receiver.url("cut"), target={"timeout": 0.5})
    waiting = await client.create(delay=1, target=LOG)
    await receiver.wait("cut")
    for member in (api, *consumers):
        member.kill()
    start_together(api, *consumers)
    async with open_client(api) as http:
        for timer in (called, waiting):
            await Client(http).until(timer["id"], "delivered", timeout=60)


async def test_a_torn_entry_does_not_stop_the_start(
    running: Stack, api: Member, consumers: list[Member], dynamodb: DynamoDB
) -> None:
    """Defect: a torn log did."""
    table = boto3.client(
        "dynamodb",
        endpoint_url=dynamodb.endpoint,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    torn = {"id": {"S": "torn"}, "shard": {"S": "live.00"}, "at_ms": {"N": "1"}, "spec": {"S": '{"target": {"ur'}}
    table.put_item(TableName=running.settings["TIMERS_TABLE"], Item=torn)
    for member in (api, *consumers):
        member.kill()
        member.start()
    async with open_client(api) as http:
        timer = await Client(http).create(delay=0.2, target=LOG)
        await Client(http).until(timer["id"], "delivered")


async def test_its_to_do_dead_ones_and_figures_can_be_read(client: Client, consumers: list[Member]) -> None:
    timer = await client.create(
        delay=0, target={"type": "amqp", "routing_key": f"nobody-{uuid4()}"}, retry={"max_attempts": 1}
    )
    await client.until(timer["id"], "dead")
    stats = (await client.http.get("/v1/stats")).json()
    pages = [(await client.http.get(f"http://127.0.0.1:{member.port}/metrics")).text for member in consumers]

    assert set(stats["counts"]) == {"scheduled", "firing", "delivered", "dead", "cancelled", "expired"}
    assert any('timers_finished_total{state="dead"} ' in page for page in pages)


async def test_idle_it_leaves_the_processors_alone(api: Member, consumers: list[Member]) -> None:
    """Defect: it took 95 % of a core."""
    members = (api, *consumers)
    before = sum(cpu_s(member.pid) for member in members)
    await asyncio.sleep(4)  # what it takes while time passes
    assert sum(cpu_s(member.pid) for member in members) - before < 2


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
