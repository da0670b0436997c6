"""arq on Redis; a worker polls for jobs whose time has come. As a script: the producer."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import Any

import aiohttp
from arq import create_pool
from arq.connections import RedisSettings

from bench.peers.producer import serve_async

REDIS = RedisSettings(port=int(os.environ["BENCH_REDIS"]))
_AT_ONCE = 64


async def call(context: dict[str, Any], url: str, job_id: str, body: dict[str, Any]) -> None:
    async with context["session"].post(url, json=body, headers={"webhook-id": job_id}) as answer:
        await answer.read()
        answer.raise_for_status()


async def open_session(context: dict[str, Any]) -> None:
    context["session"] = aiohttp.ClientSession()


async def close_session(context: dict[str, Any]) -> None:
    await context["session"].close()


class WorkerSettings:
    """What ``arq`` reads."""

    functions = (call,)
    redis_settings = REDIS
    on_startup = open_session
    on_shutdown = close_session
    max_jobs = 100
    keep_result = 0  # nothing reads the results
    poll_delay = 0.05


async def main() -> None:
    pool = await create_pool(REDIS)

    async def send(url: str, job_id: str, due_ms: int, body: dict[str, Any]) -> None:
        due = datetime.fromtimestamp(due_ms / 1000, UTC)
        await pool.enqueue_job("call", url, job_id, body, _job_id=job_id, _defer_until=due)

    await serve_async(send, _AT_ONCE)


if __name__ == "__main__":
    asyncio.run(main())
