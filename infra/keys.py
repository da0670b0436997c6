"""
``python -m infra.keys``: the api keys.

    create --tenant NAME --scopes read,write [--remark TEXT]   make a key and print it; it is not shown again
    list                                                       show every key, without its secret
    revoke ID                                                  let a key open nothing, within ten seconds
    rotate ID [--grace SECONDS]                                make and print its successor; revoke it after the grace
"""

from __future__ import annotations

import argparse
from typing import Final

from infra import wiring
from infra.clock import SystemClock
from infra.commands import checked, in_columns, run, time
from infra.dynamodb.keys import DynamoKeyStore
from timers.errors import TimerError
from timers.keys import MAX_REMARK, Key, Scope, Token, parse_scopes, parse_tenant
from timers.ports import KeyStore

_LONGEST_GRACE_S: Final = 365 * 86_400
_HEAD: Final = ("ID", "TENANT", "SCOPES", "CREATED", "REVOKED", "REMARK")


class NoSuchKey(TimerError):
    """The command names a key that there is not."""


async def _create(store: KeyStore, arguments: argparse.Namespace) -> str:
    return await _add(store, arguments.tenant, arguments.scopes, arguments.remark)


async def _list(store: KeyStore, _: argparse.Namespace) -> str:
    return in_columns(_HEAD, [_row(key) for key in await store.all()])


async def _revoke(store: KeyStore, arguments: argparse.Namespace) -> str:
    if not await store.revoke(arguments.id, SystemClock().now_ms()):
        raise NoSuchKey(f"no key has the id {arguments.id!r}")
    return ""


async def _rotate(store: KeyStore, arguments: argparse.Namespace) -> str:
    old = await store.get(arguments.id)
    now_ms = SystemClock().now_ms()
    if old is None or (old.revoked_at_ms is not None and old.revoked_at_ms <= now_ms):
        raise NoSuchKey(f"no key in force has the id {arguments.id!r}")
    token = await _add(store, old.tenant, old.scopes, old.remark)
    await store.revoke(old.id, now_ms + arguments.grace * 1000)
    return token


async def _add(store: KeyStore, tenant: str, scopes: frozenset[Scope], remark: str) -> str:
    token = Token.new(wiring.UNPREDICTABLE)
    now_ms = SystemClock().now_ms()
    key = Key.of(token, tenant, scopes, salt=wiring.new_salt(), now_ms=now_ms, remark=remark)
    if not await store.add(key):
        raise NoSuchKey("the new key's id is taken; try again")
    return str(token)


def _row(key: Key) -> tuple[str, ...]:
    created, revoked = time(key.created_at_ms), time(key.revoked_at_ms)
    return key.id, key.tenant, ",".join(sorted(key.scopes)), created, revoked, key.remark


def _remark(text: str) -> str:
    if len(text) > MAX_REMARK or not text.isprintable():
        raise ValueError(f"a remark has at most {MAX_REMARK} printable characters")
    return text


def _grace(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > _LONGEST_GRACE_S:
        raise ValueError(f"{text!r} is no number of seconds from 0 to {_LONGEST_GRACE_S}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="key", description="The api keys.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    create = commands.add_parser("create", help="make a key and print it; it is not shown again")
    create.add_argument("--tenant", required=True, type=checked(parse_tenant), help="whose timers it opens")
    create.add_argument("--scopes", required=True, type=checked(parse_scopes), help="read, write, admin; with commas")
    create.add_argument("--remark", default="", type=checked(_remark), help="what it is for")
    create.set_defaults(act=_create)
    commands.add_parser("list", help="show every key, without its secret").set_defaults(act=_list)
    revoke = commands.add_parser("revoke", help="let a key open nothing, within ten seconds")
    revoke.add_argument("id", metavar="ID")
    revoke.set_defaults(act=_revoke)
    rotate = commands.add_parser("rotate", help="make a key's successor and print it; revoke it after the grace")
    rotate.add_argument("id", metavar="ID")
    rotate.add_argument("--grace", default=0, type=checked(_grace), metavar="SECONDS", help="how long both are good")
    rotate.set_defaults(act=_rotate)
    return parser


async def main(arguments: argparse.Namespace) -> None:
    await run(lambda table, _: arguments.act(DynamoKeyStore(table), arguments))


if __name__ == "__main__":
    wiring.run(main(_parser().parse_args()))
