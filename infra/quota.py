"""How many live timers each tenant may have, by counts that are made now and then."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from math import ceil
from typing import Final

from timers.errors import QuotaReached
from timers.ports import Clock, TimerStore

_SHORTEST_LIFE_S: Final = 1.0
_SHARE: Final = 10
_TENANTS: Final = 10_000


@dataclass(slots=True)
class _Account:
    counted: int = 0
    since: int = 0
    """What was let in since that count began."""
    fresh_until: float = 0.0
    counting: asyncio.Task[None] | None = None
    known: bool = False


class CountedQuota:
    """
    Lets every tenant have ``most`` live timers.

    What it lets in is added to the last count, which is made again in the background after a second, or after ten
    times as long as it took. Only a tenant's first timer waits for one.
    """

    def __init__(self, store: TimerStore, clock: Clock, most: int) -> None:
        self._store = store
        self._clock = clock
        self._most = most
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    async def admit(self, tenant: str) -> None:
        account = self._account(tenant)
        if account.counting is None and self._clock.monotonic() >= account.fresh_until:
            account.counting = asyncio.create_task(self._count(tenant, account))
            account.counting.add_done_callback(lambda task: self._counted(account, task))
        if not account.known:
            assert account.counting is not None
            await asyncio.shield(account.counting)  # others wait for it too
        if account.counted + account.since >= self._most:
            raise QuotaReached(self._most, max(1, ceil(account.fresh_until - self._clock.monotonic())))
        account.since += 1

    async def _count(self, tenant: str, account: _Account) -> None:
        began, before = self._clock.monotonic(), account.since
        account.counted = await self._store.pending(tenant=tenant)
        account.since -= before
        account.known = True
        took = self._clock.monotonic() - began
        account.fresh_until = began + max(_SHORTEST_LIFE_S, _SHARE * took)

    def _counted(self, account: _Account, task: asyncio.Task[None]) -> None:
        account.counting = None
        if not task.cancelled():
            task.exception()  # whoever waits is told; a count in the background that failed is made again

    def _account(self, tenant: str) -> _Account:
        account = self._accounts.setdefault(tenant, _Account())
        self._accounts.move_to_end(tenant)
        if len(self._accounts) > _TENANTS:
            self._accounts.popitem(last=False)
        return account
