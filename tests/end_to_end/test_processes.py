"""How processes start, refuse to start, and what they tell of themselves."""

from __future__ import annotations

import subprocess
import sys

import httpx2
import pytest

from tests.end_to_end.client import Client
from tests.receiver import Receiver
from tests.stack import ENVIRONMENT, ROOT, Member, Stack, open_client


def start_wrongly(module: str, **settings: str) -> str:
    """Start a process that must end at once with status 2 and one line; return the line."""
    ended = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=ENVIRONMENT | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    [line] = ended.stderr.splitlines()
    return line


@pytest.mark.parametrize("module", ["api", "consumer", "infra.provision"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("TIMERS_HORIZONT", "5"), ("TIMERS_API_PORT", "0"), ("TIMERS_RABBITMQ_URL", "http://x"), ("TIMERS_LANES", "x")],
)
def test_a_setting_that_makes_no_sense_stops_the_start(module: str, name: str, value: str) -> None:
    assert name in start_wrongly(module, **{name: value})


async def test_another_number_of_shards_than_the_tables_stops_the_start(running: Stack) -> None:
    for module in ("consumer", "infra.provision"):
        line = start_wrongly(module, **(running.settings | {"TIMERS_SHARDS": "3", "TIMERS_LOG_LEVEL": "error"}))
        assert "TIMERS_SHARDS" in line


async def test_what_happens_is_counted(
    client: Client, receiver: Receiver, api: Member, consumers: list[Member]
) -> None:
    timer = await client.schedule(receiver.url("counted"))
    await client.until(timer["id"], "delivered")
    cancelled = await client.schedule(receiver.url("never"), 3600)
    await client.cancel(cancelled["id"])

    async with httpx2.AsyncClient() as http:
        pages = [await http.get(f"http://127.0.0.1:{member.port}/metrics") for member in (api, *consumers)]
    samples = [line for page in pages for line in page.text.splitlines() if not line.startswith("#")]

    def total(name: str) -> float:
        return sum(float(line.split()[-1]) for line in samples if line.startswith(name))

    assert total("timers_scheduled_total") >= 2
    assert total('timers_finished_total{state="delivered"}') >= 1
    assert total('timers_finished_total{state="cancelled"}') >= 1
    assert total('timers_attempts_total{outcome="delivered"}') >= 1
    assert total("timers_lateness_seconds_count") >= 1
    assert total("timers_attempt_duration_seconds_count") >= 1
    assert total('timers_table_call_seconds_count{operation="batch_execute_statement"}') >= 4
    assert total("timers_table_batch_size_count") >= 4
    assert total("timers_publish_confirm_seconds_count") >= 1
    assert total("timers_broker_connected") == 1 + len(consumers)
    for name in ("timers_in_flight", "timers_held", "timers_overdue", "timers_redriven_total", "timers_loaded_total"):
        assert any(line.startswith(name) for line in samples), name


async def test_two_api_workers_share_one_port_and_one_page_of_metrics(running: Stack, receiver: Receiver) -> None:
    member = running.api(TIMERS_API_WORKERS="2")
    member.start()
    async with open_client(member) as http:
        for _ in range(20):
            await Client(http).schedule(receiver.url("workers"), 3600)
        page = (await http.get("/metrics")).text
    [line] = [line for line in page.splitlines() if line.startswith("timers_scheduled_total")]
    assert float(line.split()[-1]) == 20
