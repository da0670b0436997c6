"""Api keys and their tokens."""

from __future__ import annotations

import re
from dataclasses import replace
from random import Random

import pytest

from tests.builders import NOW_MS
from timers.keys import Key, Scope, Token, parse_scopes, parse_tenant

TOKEN = Token.new(Random(1))


def make_key(*scopes: Scope) -> Key:
    return Key.of(TOKEN, "acme", scopes, salt=b"salt", now_ms=NOW_MS)


def test_a_token_is_read_as_it_was_written() -> None:
    assert Token.parse(str(TOKEN)) == TOKEN
    assert re.fullmatch(r"timers_[0-9a-f]{16}_[\w-]{43}", str(TOKEN))


def test_no_two_tokens_are_alike_and_none_shows_its_secret_by_accident() -> None:
    tokens = [Token.new(Random(number)) for number in range(100)]
    assert len({str(token) for token in tokens}) == len({token.key_id for token in tokens}) == 100
    assert TOKEN.secret not in repr(TOKEN)
    assert TOKEN.secret not in repr(make_key())


@pytest.mark.parametrize(
    "text", ["", "timers_", str(TOKEN)[:-1], f"{TOKEN}x", f" {TOKEN}", f"{TOKEN}\n", str(TOKEN).upper(), "whsec_abc"]
)
def test_what_is_no_token(text: str) -> None:
    assert Token.parse(text) is None


def test_a_key_is_opened_by_its_own_secret_only() -> None:
    key = make_key(Scope.READ)
    assert key.opens(TOKEN.secret, NOW_MS)
    assert not key.opens(Token.new(Random(2)).secret, NOW_MS)
    assert not replace(key, salt=b"other").opens(TOKEN.secret, NOW_MS)


def test_a_revoked_key_opens_nothing_from_its_revocation_on() -> None:
    key = replace(make_key(Scope.READ), revoked_at_ms=NOW_MS)
    assert key.opens(TOKEN.secret, NOW_MS - 1)
    assert not key.opens(TOKEN.secret, NOW_MS)


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        ((Scope.READ,), {Scope.READ}),
        ((Scope.WRITE,), {Scope.WRITE}),
        ((Scope.READ, Scope.WRITE), {Scope.READ, Scope.WRITE}),
        ((Scope.ADMIN,), {Scope.READ, Scope.WRITE, Scope.ADMIN}),
    ],
)
def test_a_key_allows_its_scopes_and_an_admins_all(scopes: tuple[Scope, ...], allowed: set[Scope]) -> None:
    assert {scope for scope in Scope if make_key(*scopes).may(scope)} == allowed


def test_scopes_are_words_with_commas_between() -> None:
    assert parse_scopes("read, write") == {Scope.READ, Scope.WRITE}
    for text in ("", "read,", "Read", "root"):
        with pytest.raises(ValueError, match=r"is no scope; there are read, write, admin"):
            parse_scopes(text)


@pytest.mark.parametrize("text", ["", "a/b", "Acme", "#", "default/x"])
def test_a_tenants_name_is_checked(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no tenant"):
        parse_tenant(text)
    assert parse_tenant("acme-2") == "acme-2"
