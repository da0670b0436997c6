"""A steady load: timers that are scheduled, edited, cancelled and fired, each by a client of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final
from uuid import uuid4

import httpx2

from tests.faults.ledger import Entry, Kind, Ledger, Outcome, Write
from tests.faults.moment import now_ms
from tests.faults.target import FAST, SILENT, SLOW, Target

TIMEOUT_MS: Final = 2_000
_TRIES: Final = 20
_PAUSE_S: Final = 0.5
_FAR_S: Final = 60.0
"""Due so late that it is fired before; were no fire ever answered, it would still be waited for."""

PATIENCE_S: Final = 15.0
_FINAL: Final = frozenset({"delivered", "dead", "cancelled", "expired"})
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Wish:
    """What a timer is to be at one of its versions."""

    marker: int
    due_ms: int
    url: str

    def json(self) -> dict[str, Any]:
        return {
            "due_at": self.due_ms,
            "target": {"url": self.url, "body": {"marker": self.marker}, "timeout": TIMEOUT_MS / 1000},
            "retry": {"min_backoff": 0.5, "max_backoff": 2, "max_attempts": 8},
        }


class Load:
    """
    Speaks to all apis, writes into the ledger what they answered, tries again where that is unknown.

    ``rate`` timers begin a second, due within ``span`` seconds.
    """

    def __init__(
        self, apis: Sequence[httpx2.AsyncClient], target: Target, random: Random, *, rate: float, span: float
    ) -> None:
        self._apis = apis
        self._target = target
        self._random = random
        self._rate = rate
        self._span = span
        self._lives: set[asyncio.Task[None]] = set()

    @property
    def _ledger(self) -> Ledger:
        return self._target.ledger

    async def run(self, stop: asyncio.Event) -> None:
        """Begin lives until told to stop, then wait for their last writes."""
        while not stop.is_set():
            self.begin(self._live())
            await asyncio.sleep(self._random.expovariate(self._rate))
        if self._lives:
            await asyncio.wait(self._lives, timeout=90)

    def begin(self, life: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(life)
        self._lives.add(task)
        task.add_done_callback(self._lives.discard)

    async def flood(self, count: int, *, to_silent: bool = False) -> None:
        """Schedule many timers on the slow or the silent target, due over the next seconds."""
        async with asyncio.TaskGroup() as group:
            places = asyncio.Semaphore(_AT_ONCE)
            for _ in range(count):
                group.create_task(self._flood_one(places, to_silent=to_silent))

    async def _flood_one(self, places: asyncio.Semaphore, *, to_silent: bool) -> None:
        script, host = ("silent", SILENT) if to_silent else ("slow", SLOW)
        entry = self._entry(aside=True)
        due_ms = round(now_ms() + self._random.uniform(1_000, 4_000))
        body = Wish(0, due_ms, self._target.url(script, 0, host)).json()
        async with places:
            await self._insist(entry, Kind.CREATE, 0, due_ms, lambda api: _create(api, entry, body))

    async def _live(self) -> None:
        act = self._random.choices(
            (self._wait, self._edit, self._cancel, self._fire),
            weights=(45, 25, 20, 10),
        )[0]
        await act()

    async def _wait(self) -> None:
        await self._schedule(self._random.uniform(0.1, self._span))

    async def _edit(self) -> None:
        delay = self._random.uniform(1, self._span)
        entry, wish = await self._schedule(delay)
        for marker in range(1, self._random.randint(1, 3) + 1):
            await asyncio.sleep(self._random.uniform(0, delay / 2))
            moved_ms = self._random.choice((0, 0, -700, 500, 1_500))
            wish = Wish(marker, wish.due_ms + moved_ms, self._url(marker))
            if await self._insist_on_edit(entry, wish) is Outcome.REFUSED:
                return

    async def _cancel(self) -> None:
        delay = self._random.uniform(0.5, self._span)
        entry, _ = await self._schedule(delay)
        await asyncio.sleep(self._random.uniform(0, delay + 0.2))
        await self._insist(entry, Kind.CANCEL, -1, 0, lambda api: api.request("DELETE", f"/v1/timers/{entry.timer_id}"))

    async def _fire(self) -> None:
        entry, wish = await self._schedule(_FAR_S)
        await asyncio.sleep(self._random.uniform(0, self._span))
        fire = self._insist(
            entry, Kind.FIRE, -1, wish.due_ms, lambda api: api.post(f"/v1/timers/{entry.timer_id}/fire")
        )
        if await fire is Outcome.UNKNOWN:
            await self._insist(
                entry, Kind.CANCEL, -1, 0, lambda api: api.request("DELETE", f"/v1/timers/{entry.timer_id}")
            )

    def _url(self, marker: int) -> str:
        return self._target.url(self._random.choices(("quick", "working", "flaky"), weights=(6, 3, 1))[0], marker, FAST)

    async def _schedule(self, delay: float) -> tuple[Entry, Wish]:
        entry = self._entry()
        wish = Wish(0, round(now_ms() + delay * 1000), self._url(0))
        await self._insist(entry, Kind.CREATE, 0, wish.due_ms, lambda api: _create(api, entry, wish.json()))
        return entry, wish

    def _entry(self, *, aside: bool = False) -> Entry:
        entry = Entry(str(uuid4()), TIMEOUT_MS, aside=aside)
        self._ledger.entries[entry.timer_id] = entry
        return entry

    async def _insist_on_edit(self, entry: Entry, wish: Wish) -> Outcome:
        return await self._insist(
            entry,
            Kind.EDIT,
            wish.marker,
            wish.due_ms,
            lambda api: api.patch(f"/v1/timers/{entry.timer_id}", json=wish.json()),
        )

    async def _insist(
        self,
        entry: Entry,
        kind: Kind,
        marker: int,
        due_ms: int,
        send: Callable[[httpx2.AsyncClient], Awaitable[httpx2.Response]],
    ) -> Outcome:
        """Try until an answer says what happened, now with this api, now with that one."""
        apis = self._random.sample(self._apis, len(self._apis))
        outcome = Outcome.UNKNOWN
        for number in range(_TRIES):
            status = await _status(send, apis[number % len(apis)])
            outcome = _outcome(kind, status, tried=number > 0)
            entry.writes.append(Write(kind, marker, due_ms, outcome, now_ms()))
            if outcome is not Outcome.UNKNOWN and status != 429:
                break
            await asyncio.sleep(_PAUSE_S)
        return outcome

    async def finish(self, timeout: float) -> None:
        """Wait until every timer that exists is final, and write down as what."""
        deadline_ms = now_ms() + timeout * 1000
        while (unfinished := self._ledger.unfinished) and now_ms() < deadline_ms:
            places = asyncio.Semaphore(_AT_ONCE)
            await asyncio.gather(*(self._look(entry, places) for entry in unfinished))
            await asyncio.sleep(0.5)

    async def _look(self, entry: Entry, places: asyncio.Semaphore) -> None:
        async with places:
            try:
                answer = await self._random.choice(self._apis).get(f"/v1/timers/{entry.timer_id}")
            except httpx2.TransportError:
                return
        if answer.status_code == 200 and answer.json()["state"] in _FINAL:
            entry.final = answer.json()
        elif answer.status_code == 404:
            entry.final = {"state": "gone"}


def _create(api: httpx2.AsyncClient, entry: Entry, body: dict[str, Any]) -> Awaitable[httpx2.Response]:
    return api.post("/v1/timers", json={"id": entry.timer_id, **body})


async def _status(
    send: Callable[[httpx2.AsyncClient], Awaitable[httpx2.Response]], api: httpx2.AsyncClient
) -> int | None:
    try:
        return (await send(api)).status_code
    except httpx2.TransportError:
        return None


def _outcome(kind: Kind, status: int | None, *, tried: bool) -> Outcome:
    if status is None or status >= 500:
        return Outcome.UNKNOWN
    if status < 300 or (kind is Kind.CREATE and status == 409 and tried):
        return Outcome.ACKNOWLEDGED  # an id that only this client knows exists: an earlier try was accepted
    return Outcome.REFUSED
