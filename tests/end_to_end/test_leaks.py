"""Thousands of requests leave nothing behind: no channel, connection, task, file or memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.end_to_end.client import Client
from tests.stack import Member, open_client

REQUESTS = 5_000
AT_ONCE = 50
POOLED = 12  # connections to the table that are opened when there is need and kept, and the like
URL = "http://127.0.0.1:1024/never"


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def memory_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


async def schedule(api: Member, count: int) -> None:
    """Schedule many timers over connections that are closed at the end."""
    limit = asyncio.Semaphore(AT_ONCE)
    async with open_client(api) as http:
        client = Client(http)

        async def one() -> None:
            async with limit:
                await client.schedule(URL, 3000)

        await asyncio.gather(*(one() for _ in range(count)))


async def test_five_thousand_requests_leak_nothing(client: Client, api: Member) -> None:
    await schedule(api, 500)
    assert (await client.http.get("/readyz")).status_code == 200
    files, memory = open_files(api.pid), memory_kib(api.pid)
    await schedule(api, REQUESTS)

    assert (await client.http.get("/readyz")).status_code == 200
    assert open_files(api.pid) <= files + POOLED
    assert memory_kib(api.pid) <= memory + 20 * 1024
