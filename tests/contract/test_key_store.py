"""What every key store keeps to."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from tests.builders import NOW_MS
from timers.keys import Key, Scope, Token
from timers.ports import KeyStore

RANDOM = Random(7)


def make_key(owner: str = "acme", *, now_ms: int = NOW_MS, remark: str = "") -> Key:
    scopes = {Scope.READ, Scope.WRITE}
    return Key.of(Token.new(RANDOM), owner, scopes, salt=b"salt", now_ms=now_ms, remark=remark)


async def test_a_key_is_read_as_it_was_added(keys: KeyStore) -> None:
    for key in (make_key(), make_key("default", remark="für „alles“"), replace(make_key(), revoked_at_ms=NOW_MS)):
        assert await keys.add(key)
        assert await keys.get(key.id) == key


async def test_there_is_no_key_that_nobody_added(keys: KeyStore) -> None:
    assert await keys.get("0" * 16) is None
    assert await keys.all() == []


async def test_an_id_is_taken_once(keys: KeyStore) -> None:
    key = make_key()
    assert await keys.add(key)
    assert not await keys.add(replace(make_key("zeta"), id=key.id))
    assert await keys.get(key.id) == key


async def test_all_keys_are_listed_oldest_first(keys: KeyStore) -> None:
    made = [make_key(now_ms=NOW_MS + number) for number in (3, 1, 2)]
    for key in made:
        await keys.add(key)
    assert await keys.all() == sorted(made, key=lambda key: key.created_at_ms)


@pytest.mark.parametrize("at_ms", [NOW_MS, NOW_MS + 60_000])
async def test_a_revoked_key_says_since_when(keys: KeyStore, at_ms: int) -> None:
    key = make_key()
    await keys.add(key)
    assert await keys.revoke(key.id, at_ms)
    assert await keys.get(key.id) == replace(key, revoked_at_ms=at_ms)


async def test_what_does_not_exist_cannot_be_revoked(keys: KeyStore) -> None:
    assert not await keys.revoke("0" * 16, NOW_MS)
    assert await keys.get("0" * 16) is None
