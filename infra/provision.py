"""``python -m infra.provision``: create the table, its first key and the wheel. Safe to repeat; waits for both."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from infra import wiring
from infra.clock import SystemClock
from infra.dynamodb import schema
from infra.dynamodb.keys import DynamoKeyStore
from infra.metrics import Metrics
from infra.rabbitmq.session import Session
from infra.settings import Settings
from timers.errors import TimerError, Unavailable
from timers.keys import Key, Scope, Token
from timers.ports import KeyStore
from timers.tenant import DEFAULT

logger = logging.getLogger(__name__)

_PATIENCE_S: Final = 120.0
_PAUSE_S: Final = 0.5


async def _table(settings: Settings) -> None:
    async with wiring.table(settings) as table:
        await schema.provision(table, shards=settings.shards)
        await _first_key(settings, DynamoKeyStore(table))


async def _first_key(settings: Settings, store: KeyStore) -> None:
    """Make the table know the key of the settings, whatever became of the table; a revoked one stays revoked."""
    token = Token.parse(settings.api_key.get_secret_value())
    if token is None:
        return
    now_ms = SystemClock().now_ms()
    key = Key.of(token, DEFAULT, {Scope.ADMIN}, salt=wiring.new_salt(), now_ms=now_ms, remark="TIMERS_API_KEY")
    await store.add(key)
    stored = await store.get(token.key_id)
    if stored is None or not stored.opens(token.secret, now_ms):
        logger.warning("TIMERS_API_KEY is revoked or not the key of its id: it opens nothing")


async def _wheel(settings: Settings) -> None:
    async with wiring.table(settings) as table:
        session = await Session.open(settings.rabbitmq_url, "timers provision", on_flow=lambda: None)
        try:
            await session.declare(wiring.lanes(settings), wiring.leases(settings, table, Metrics()).clear)
        finally:
            session.end("done")
            await session.ended()


async def _insist(step: Callable[[Settings], Awaitable[None]], settings: Settings) -> None:
    """Repeat a step until what it needs is up. Raises Unavailable after two minutes."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            try:
                await step(settings)
            except Unavailable as error:
                logger.info("waiting", extra={"reason": str(error)})
                await asyncio.sleep(_PAUSE_S)
            else:
                return


async def main() -> None:
    settings = wiring.settings_or_exit()
    try:
        for step in (_table, _wheel):
            await _insist(step, settings)
    except (TimerError, TimeoutError) as error:
        wiring.give_up(str(error) or "the table or the broker does not answer")
    logger.info("provisioned", extra={"table": settings.table, "lanes": settings.lanes})


if __name__ == "__main__":
    wiring.run(main())
