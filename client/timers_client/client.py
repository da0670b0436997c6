"""The client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Self
from urllib.parse import quote

import httpx2

from timers_client.errors import TimersError, Unreachable, error_of
from timers_client.queues import PullQueue
from timers_client.values import KnownQueue, Timer

_BATCH: Final = 1_000


class TimersClient:
    """
    Schedules, reads, changes and cancels timers; ``timeout`` in seconds covers one request.

    A wish has the fields of the service's reference: ``target``, one of ``delay`` (seconds or a timedelta) and
    ``due_at`` (a datetime with a zone, or a text), and ``id``, ``labels`` and ``retry`` as needed.
    Every method raises TimersError; a batch returns errors in their places instead.
    """

    def __init__(self, url: str, key: str, *, timeout: float = 30.0) -> None:
        self._timeout = timeout
        self._http = httpx2.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def create(self, *, idempotency_key: str | None = None, **wish: Any) -> Timer:
        """Schedule a timer; repeated under its key, or with an ``id``, it is there once."""
        headers = {"idempotency-key": idempotency_key} if idempotency_key else {}
        return await self._timer("POST", "/v1/timers", json=_wish(wish), headers=headers)

    async def put(
        self,
        timer_id: str,
        *,
        keep: Literal["earliest", "latest"] | None = None,
        max_total_delay: float | timedelta | None = None,
        **wish: Any,
    ) -> Timer:
        """Create a timer under an id, or ask for a scheduled one anew: a debounce, with ``keep`` and a ceiling."""
        chosen = _wish({"keep": keep, "max_total_delay": max_total_delay})
        params = {name: value for name, value in chosen.items() if value is not None}
        return await self._timer("PUT", _path(timer_id), json=_wish(wish), params=params)

    async def get(self, timer_id: str) -> Timer:
        """Read a timer."""
        return await self._timer("GET", _path(timer_id))

    async def update(self, timer_id: str, *, if_version: int | None = None, **changes: Any) -> Timer:
        """Change what is given; with ``if_version`` only where nobody else has changed it since."""
        return await self._timer("PATCH", _path(timer_id), json=_wish(changes), headers=_if_match(if_version))

    async def delete(self, timer_id: str, *, if_version: int | None = None) -> Timer:
        """Cancel a timer: from the return on no attempt of it starts."""
        return await self._timer("DELETE", _path(timer_id), headers=_if_match(if_version))

    async def replay(self, timer_id: str) -> Timer:
        """Schedule a dead timer for now."""
        return await self._timer("POST", f"{_path(timer_id)}/replay")

    async def find(self, **wanted: Any) -> AsyncIterator[Timer]:
        """Yield the timers that a list has, soonest first; its parameters are those of the reference."""
        params = _wish(wanted)
        while True:
            page = await self._request("GET", "/v1/timers", params=params)
            for timer in page["timers"]:
                yield Timer.of(timer)
            if page["next_cursor"] is None:
                return
            params["cursor"] = page["next_cursor"]

    async def batch_create(self, wishes: Iterable[Mapping[str, Any]]) -> list[Timer | TimersError]:
        """Schedule many timers, each with its own outcome, in order."""
        return await self._batch("/v1/timers/batch", "timers", [_wish(wish) for wish in wishes])

    async def batch_delete(self, timer_ids: Iterable[str]) -> list[Timer | TimersError]:
        """Cancel many timers, each with its own outcome, in order."""
        return await self._batch("/v1/timers/batch-cancel", "ids", list(timer_ids))

    def queue(self, name: str) -> PullQueue:
        """Return a pull queue of this name; it is there once a timer names it."""
        return PullQueue(name, self._request)

    async def queues(self) -> list[KnownQueue]:
        """Return the pull queues that there are."""
        answer = await self._request("GET", "/v1/queues")
        return [KnownQueue(queue["name"], queue["paused"]) for queue in answer["queues"]]

    async def _batch(self, path: str, name: str, items: Sequence[Any]) -> list[Timer | TimersError]:
        outcomes: list[Timer | TimersError] = []
        for start in range(0, len(items), _BATCH):
            answer = await self._request("POST", path, json={name: items[start : start + _BATCH]})
            outcomes += [_outcome(result) for result in answer["results"]]
        return outcomes

    async def _timer(self, method: str, path: str, **options: Any) -> Timer:
        return Timer.of(await self._request(method, path, **options))

    async def _request(self, method: str, path: str, *, longer_s: float = 0.0, **options: Any) -> Any:
        """``longer_s`` is how much longer than others a request may take."""
        try:
            response = await self._http.request(method, path, timeout=self._timeout + longer_s, **options)
        except httpx2.TransportError as error:
            raise Unreachable({"detail": f"no answer: {error!r}"}) from error
        if response.is_success:
            return response.json() if response.content else None
        raise error_of(_problem(response))


def _problem(response: httpx2.Response) -> Mapping[str, Any]:
    """Return the problem of an answer, made up where somebody on the way has answered instead."""
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        problem: Mapping[str, Any] = response.json()
        return problem
    return {"status": response.status_code, "detail": response.text[:200]}


def _outcome(result: Mapping[str, Any]) -> Timer | TimersError:
    return Timer.of(result["timer"]) if "timer" in result else error_of(result["problem"])


def _wish(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, datetime) else value


def _path(timer_id: str) -> str:
    return f"/v1/timers/{quote(timer_id, safe='')}"


def _if_match(version: int | None) -> dict[str, str]:
    return {} if version is None else {"if-match": f'"{version}"'}
