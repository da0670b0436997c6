"""Keys are remembered for seconds, and no longer."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from infra import keyring
from infra.keyring import FRESH_S, LIFE_S, Keyring
from infra.memory import MemoryKeyStore
from tests.builders import NOW_MS, FakeClock, turns
from timers import limits
from timers.errors import Overloaded, Unavailable
from timers.keys import Key, Scope, Token

RANDOM = Random(3)


class CountingStore(MemoryKeyStore):
    """Counts look-ups; may be away, or made to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_up: list[str] = []
        self.away = False
        self.answering = asyncio.Event()
        self.answering.set()

    async def get(self, key_id: str) -> Key | None:
        self.looked_up.append(key_id)
        await self.answering.wait()
        if self.away:
            raise Unavailable("dynamodb")
        return await super().get(key_id)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(monotonic=100.0)


@pytest.fixture
def ring(store: CountingStore, clock: FakeClock) -> Keyring:
    return Keyring(store, clock)


@pytest.fixture
async def token(store: CountingStore) -> Token:
    token = Token.new(RANDOM)
    await store.add(Key.of(token, "acme", {Scope.READ}, salt=b"salt", now_ms=NOW_MS))
    return token


async def test_a_key_is_found_by_its_token_only(ring: Keyring, token: Token) -> None:
    found = await ring.find(str(token))
    assert found is not None
    assert found.tenant == "acme"
    assert await ring.find(str(Token(token.key_id, Token.new(RANDOM).secret))) is None
    assert await ring.find(str(Token.new(RANDOM))) is None
    assert await ring.find("timers_") is None


async def test_within_seconds_a_key_is_looked_up_once_and_so_is_one_that_there_is_not(
    ring: Keyring, store: CountingStore, token: Token
) -> None:
    unknown = Token.new(RANDOM)
    for _ in range(100):
        assert await ring.find(str(token))
        assert await ring.find(str(unknown)) is None
    assert store.looked_up == [token.key_id, unknown.key_id]


async def test_many_who_ask_at_once_share_one_look_up(ring: Keyring, store: CountingStore, token: Token) -> None:
    store.answering.clear()
    asking = [asyncio.create_task(ring.find(str(token))) for _ in range(50)]
    await turns()
    asking[0].cancel()
    store.answering.set()
    assert all(await asyncio.gather(*asking[1:]))
    assert store.looked_up == [token.key_id]


async def test_a_key_in_use_is_read_again_beside_the_requests(
    ring: Keyring, store: CountingStore, clock: FakeClock, token: Token
) -> None:
    await ring.find(str(token))
    store.answering.clear()
    clock.advance(FRESH_S)
    assert await ring.find(str(token))
    assert await ring.find(str(token))
    store.answering.set()
    await turns()
    assert await ring.find(str(token))
    assert store.looked_up == [token.key_id] * 2


async def test_a_revoked_key_opens_nothing_within_ten_seconds(
    ring: Keyring, store: CountingStore, clock: FakeClock, token: Token
) -> None:
    await ring.find(str(token))
    await store.revoke(token.key_id, clock.now_ms() + limits.CLOCK_SKEW_MS)  # by the clock of another machine
    for _ in range(10):
        clock.advance(0.999)
        await ring.find(str(token))
        await turns()
    assert await ring.find(str(token)) is None
    assert LIFE_S * 1000 + limits.CLOCK_SKEW_MS < 10_000


async def test_with_the_table_away_a_key_is_believed_for_seconds_and_then_nobody_is(
    ring: Keyring, store: CountingStore, clock: FakeClock, token: Token
) -> None:
    await ring.find(str(token))
    store.away = True
    clock.advance(LIFE_S - 0.001)
    assert await ring.find(str(token))
    await turns()
    clock.advance(0.001)
    with pytest.raises(Unavailable):
        await ring.find(str(token))
    store.away = False
    assert await ring.find(str(token))


async def test_a_new_key_opens_once_its_absence_is_forgotten(
    ring: Keyring, store: CountingStore, clock: FakeClock
) -> None:
    token = Token.new(RANDOM)
    assert await ring.find(str(token)) is None
    await store.add(Key.of(token, "acme", {Scope.READ}, salt=b"salt", now_ms=NOW_MS))
    clock.advance(FRESH_S)
    assert await ring.find(str(token))


async def test_guessing_ids_drives_out_no_key(
    ring: Keyring, store: CountingStore, token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "_REMEMBERED", 10)
    await ring.find(str(token))
    for _ in range(50):
        await ring.find(str(Token.new(RANDOM)))
    await ring.find(str(token))
    assert store.looked_up.count(token.key_id) == 1
    assert len(ring._unknown) == 10


async def test_look_ups_of_unknown_keys_are_bounded(
    ring: Keyring, store: CountingStore, clock: FakeClock, token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "_LOOKUPS", 10)
    await ring.find(str(token))
    store.answering.clear()
    guesses = [asyncio.create_task(ring.find(str(Token.new(RANDOM)))) for _ in range(10)]
    await turns()
    with pytest.raises(Overloaded):
        await ring.find(str(Token.new(RANDOM)))
    clock.advance(FRESH_S)
    assert await ring.find(str(token))
    store.answering.set()
    assert await asyncio.gather(*guesses) == [None] * 10
