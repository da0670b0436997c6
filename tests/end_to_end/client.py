"""What a test says to the api, in a line each."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx2

from timers.stamps import parse_rfc3339

Json = dict[str, Any]


class Client:
    """The api, answering with JSON; a call that must succeed fails the test where it does not."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    async def schedule(self, url: str, delay: float = 0, **fields: Any) -> Json:
        target = {"url": url, **fields.pop("target", {})}
        if "due_at" not in fields:
            fields["delay"] = delay
        return await self.create(target=target, **fields)

    async def create(self, **fields: Any) -> Json:
        return answered(await self.http.post("/v1/timers", json=fields), 201)

    async def read(self, timer_id: str) -> Json:
        return answered(await self.http.get(f"/v1/timers/{timer_id}"), 200)

    async def edit(self, timer_id: str, **changes: Any) -> Json:
        return answered(await self.http.patch(f"/v1/timers/{timer_id}", json=changes), 200)

    async def cancel(self, timer_id: str) -> Json:
        return answered(await self.http.delete(f"/v1/timers/{timer_id}"), 200)

    async def until(self, timer_id: str, state: str, timeout: float = 30) -> Json:
        """Read a timer until it is in a state."""
        deadline = time.monotonic() + timeout
        while True:
            timer = await self.read(timer_id)
            if timer["state"] == state:
                return timer
            assert time.monotonic() < deadline, f"still not {state}: {timer}"
            await asyncio.sleep(0.02)


def answered(response: httpx2.Response, status: int) -> Json:
    """Return an answer's JSON; its status must be that."""
    assert response.status_code == status, response.text
    body: Json = response.json()
    return body


def due_ms(timer: Json) -> int:
    """Return when a timer is due, in epoch milliseconds."""
    return parse_rfc3339(timer["due_at"])
