"""Our own service: the native stack that runs on this machine, driven through its HTTP API."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config

from bench.calls import Void, now_ms
from bench.http import Answer, Broken, Pool, connected
from bench.processes import ROOT, children, family, listening
from bench.systems import Job, Work, body

BATCH: Final = 1_000
CONNECTIONS: Final = 64
NAME: Final = "timers"
_DELETED_AT_ONCE: Final = 100
_DELETERS: Final = 4
_CHECKED: Final = 50
_PARTS: Final = {"-m\0api": "api", "-m\0consumer": "consumers", "beam": "rabbitmq"}


class NotRunning(Exception):
    """The stack is not there; the message says what to do."""


class Installation:
    """What ``./setup.sh`` has set up in this folder."""

    def __init__(self) -> None:
        self.settings = _settings(ROOT / ".env")
        self.api_port = int(self.settings["TIMERS_API_PORT"])
        self.authorization = f"authorization: Bearer {self.settings['TIMERS_API_KEY']}\r\n"
        self.broker_url = self.settings["TIMERS_RABBITMQ_URL"]
        self.table_url = self.settings["TIMERS_DYNAMODB_ENDPOINT"]
        self.table = self.settings.get("TIMERS_TABLE", "timers")
        self.region = self.settings.get("TIMERS_DYNAMODB_REGION", "us-east-1")
        self.consumers = int(self.settings["SETUP_CONSUMERS"])
        if "127.0.0.1" not in self.table_url or "127.0.0.1" not in self.broker_url:
            raise NotRunning("the table and the broker must be this machine's own")
        if "loopback" not in self.settings.get("TIMERS_ALLOW_ADDRESSES", "public"):
            raise NotRunning("calls may not reach this machine: put loopback into TIMERS_ALLOW_ADDRESSES of .env")
        if not listening(self.api_port):
            raise NotRunning("nothing answers on the api's port: run ./setup.sh --native")

    def groups(self) -> Mapping[str, Sequence[int]]:
        """Return the stack's processes by what they do."""
        supervisor = int((ROOT / ".data" / "supervisord.pid").read_text())
        groups: dict[str, list[int]] = {"api": [], "consumers": [], "rabbitmq": [], "dynamodb": []}
        for child in children(supervisor):
            command = Path(f"/proc/{child}/cmdline").read_text()
            part = next((part for sign, part in _PARTS.items() if sign in command), "dynamodb")
            groups[part] += family(child)
        return groups

    def scale(self, consumers: int) -> None:
        """Have so many consumers."""
        environment = {name: value for name, value in os.environ.items() if name not in self.settings}
        done = subprocess.run(
            [ROOT / "setup.sh", "--native", "--consumers", str(consumers)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode:
            raise Void(f"./setup.sh --consumers {consumers}: {done.stderr[-300:]}")

    def client(self, connections: int) -> Any:
        """Return a client of the table, for what the API has no verb for."""
        return boto3.client(
            "dynamodb",
            region_name=self.region,
            endpoint_url=self.table_url,
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(parameter_validation=False, max_pool_connections=connections),
        )


class Service:
    """The running service as one of the systems that are measured."""

    name = NAME
    strict = True

    def __init__(self, installation: Installation, api: Pool) -> None:
        self.installation = installation
        self.api = api
        self._table = installation.client(_DELETERS)

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[None]:
        yield

    def groups(self) -> Mapping[str, Sequence[int]]:
        return self.installation.groups()

    async def enqueue(self, work: Work) -> float:
        return await self.schedule_all(wish(job, work.url) for job in work.jobs)

    async def schedule_all(self, wishes: Iterable[dict[str, Any]]) -> float:
        """Ask for many in batches; returns the seconds it took. Raises Void unless all are accepted."""
        began = time.perf_counter()
        for some in chunks(wishes, BATCH):
            answer = await self.api.request("POST", "/v1/timers/batch", {"timers": some})
            _expect_all(answer, 201)
        return time.perf_counter() - began

    async def enqueue_singly(self, work: Work) -> float:
        waiting = iter(work.jobs)

        async def client() -> None:
            for job in waiting:
                await self.schedule(job, work.url)

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(self.api.size)))
        return time.perf_counter() - began

    async def pace(self, work: Work) -> None:
        async with asyncio.TaskGroup() as requests:
            for job in work.jobs:
                await asyncio.sleep(max(0, job.send_ms - now_ms()) / 1000)
                requests.create_task(self.schedule(job, work.url))

    async def schedule(self, job: Job, url: str) -> None:
        """Ask for one job. Raises Void unless it is accepted."""
        expect(await self.api.request("POST", "/v1/timers", wish(job, url)), 201)

    async def cancel(self, ids: Sequence[str]) -> list[int]:
        """Cancel many; returns each one's status."""
        answer = await self.api.request("POST", "/v1/timers/batch-cancel", {"ids": list(ids)})
        expect(answer, 200)
        return [result["status"] for result in answer.json()["results"]]

    async def check(self, work: Work) -> None:
        for job in work.jobs[:: max(1, len(work.jobs) // _CHECKED)]:
            answer = await self.api.request("GET", f"/v1/timers/{job.id}")
            expect(answer, 200)
            timer = answer.json()
            if timer["state"] != "delivered" or len(timer["attempts"]) != 1:
                raise Void(f"{job.id} is {timer['state']} after {len(timer['attempts'])} attempts")

    async def clean(self, work: Work, *, done: bool) -> None:
        ids = [job.id for job in work.jobs]
        if not done:
            await self.cancel_all(ids)
        await self.erase(ids)

    async def cancel_all(self, ids: Sequence[str]) -> None:
        """Cancel whichever of these are still to come."""
        for some in chunks(ids, BATCH):
            await self.cancel(some)

    async def erase(self, ids: Sequence[str]) -> None:
        """Remove final timers from the table, so that every round finds it alike."""
        with ThreadPoolExecutor(_DELETERS) as threads:
            loop = asyncio.get_running_loop()
            deletions = (loop.run_in_executor(threads, self._delete, some) for some in chunks(ids, _DELETED_AT_ONCE))
            for some_deletions in chunks(deletions, _DELETERS * 10):
                await asyncio.gather(*some_deletions)

    def _delete(self, ids: Sequence[str]) -> None:
        name = self.installation.table
        deletions = [{"Delete": {"TableName": name, "Key": {"id": {"S": timer_id}}}} for timer_id in ids]
        self._table.transact_write_items(TransactItems=deletions)


@asynccontextmanager
async def service(installation: Installation) -> AsyncIterator[Service]:
    """Connect to the running service."""
    try:
        async with connected(installation.api_port, CONNECTIONS, installation.authorization) as api:
            yield Service(installation, api)
    except Broken as error:
        raise NotRunning(f"the api: {error}") from error


def wish(job: Job, url: str) -> dict[str, Any]:
    """Return what a client sends to have a job done."""
    return {
        "id": job.id,
        "due_at": job.due_ms,
        "target": {"url": url, "body": body(job.id)},
        "retry": {"max_attempts": 1},  # a call that fails is missing, and nothing goes on after a run that was killed
        "labels": {"bench": "1"},
    }


def expect(answer: Answer, status: int) -> None:
    """Raise Void unless an answer has the status."""
    if answer.status != status:
        raise Void(f"{answer.status} instead of {status}: {answer.body[:300]!r}")


def _expect_all(answer: Answer, status: int) -> None:
    expect(answer, 200)
    others = [result for result in answer.json()["results"] if result["status"] != status]
    if others:
        raise Void(f"{len(others)} not accepted, such as {others[0]}")


def chunks(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield values in lists of one size, the last perhaps shorter."""
    iterator = iter(values)
    while some := list(islice(iterator, size)):
        yield some


def _settings(env_file: Path) -> dict[str, str]:
    """Return what an installation's .env says, its references resolved as a shell does."""
    if not env_file.exists():
        raise NotRunning("nothing was started here yet: run ./setup.sh --native")
    script = "set -a; . ./.env; env -0"
    output = subprocess.run(
        ["env", "-i", "bash", "-c", script], cwd=env_file.parent, capture_output=True, text=True, check=True
    ).stdout
    return dict(line.split("=", 1) for line in output.split("\0") if line)
