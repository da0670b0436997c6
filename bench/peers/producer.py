"""
A producer's side of the conversation with the bench.

It goes over standard input and output, a JSON object a line:

    <- {"mode": "all", "url": "http://…", "jobs": [["id", due_ms, send_ms, {…body}], …]}
    -> {"took_s": 1.23}

``mode`` is "all" as fast as possible, "single" without any bulk operation, or "pace", each job at ``send_ms``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

Send = Callable[[str, str, int, dict[str, Any]], object]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def serve(send: Send) -> None:
    """Answer requests with ``send(url, id, due_ms, body)``, which returns once a job is accepted."""
    for line in sys.stdin:
        request = json.loads(line)
        began = time.perf_counter()
        for job_id, due_ms, send_ms, body in request["jobs"]:
            if request["mode"] == "pace":
                time.sleep(max(0, send_ms - now_ms()) / 1000)
            send(request["url"], job_id, due_ms, body)
        print(json.dumps({"took_s": time.perf_counter() - began}), flush=True)


async def serve_async(send: Callable[[str, str, int, dict[str, Any]], Awaitable[object]], at_once: int) -> None:
    """Do the same with a coroutine, so many jobs at once."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        waiting = iter(request["jobs"])

        async def client(url: str, jobs: Any, *, pace: bool) -> None:
            for job_id, due_ms, send_ms, body in jobs:
                if pace:
                    await asyncio.sleep(max(0, send_ms - now_ms()) / 1000)
                await send(url, job_id, due_ms, body)

        began = time.perf_counter()
        await asyncio.gather(*(client(request["url"], waiting, pace=request["mode"] == "pace") for _ in range(at_once)))
        print(json.dumps({"took_s": time.perf_counter() - began}), flush=True)
