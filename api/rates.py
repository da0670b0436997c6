"""How fast each tenant may ask: a token bucket for each, in every api process."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil, floor
from typing import Final

from timers.errors import Overloaded
from timers.ports import Clock

_TENANTS: Final = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class Rates:
    """
    Lets every tenant have ``rate`` requests a second, and a second's worth at once.

    A batch is a request for each of its items. It is let in while the tenant owes nothing, and what it takes too
    much the tenant owes.
    """

    def __init__(self, clock: Clock, rate: float) -> None:
        self._clock = clock
        self._rate = rate
        self._size = max(1.0, rate)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self.policy: Final = f'"requests";q={floor(self._size)};w={ceil(floor(self._size) / rate)}'
        """What ``RateLimit-Policy`` says. Source: draft-ietf-httpapi-ratelimit-headers-11."""

    def take(self, tenant: str) -> None:
        """Count a request. Raises Overloaded where it is one too many."""
        self._take(tenant, 1, at_least=1.0)

    def take_more(self, tenant: str, count: int) -> None:
        """Count further items of a request that was let in. Raises Overloaded where the tenant owes from before."""
        self._take(tenant, count, at_least=0.0)

    def left(self, tenant: str) -> str:
        """Return what ``RateLimit`` says: how many requests are left, and in how many seconds all will be again."""
        bucket = self._filled(tenant)
        seconds = ceil((self._size - bucket.tokens) / self._rate)
        return f'"requests";r={max(0, floor(bucket.tokens))};t={seconds}'

    def _take(self, tenant: str, count: int, *, at_least: float) -> None:
        bucket = self._filled(tenant)
        if bucket.tokens < at_least:
            wait_s = (at_least - bucket.tokens) / self._rate
            raise Overloaded(f"more than {self._rate:g} requests a second of one tenant", max(1, ceil(wait_s)))
        bucket.tokens -= count

    def _filled(self, tenant: str) -> _Bucket:
        now = self._clock.monotonic()
        bucket = self._buckets.get(tenant)
        if bucket is None:
            bucket = self._buckets[tenant] = _Bucket(self._size, now)
            if len(self._buckets) > _TENANTS:
                self._buckets.popitem(last=False)
            return bucket
        self._buckets.move_to_end(tenant)
        bucket.tokens = min(self._size, bucket.tokens + (now - bucket.filled_at) * self._rate)
        bucket.filled_at = now
        return bucket
