"""
``python -m infra.secret``: the secrets that sign the calls of tenants.

    create --tenant NAME     make a secret and print it; it is not shown again
    list [--tenant NAME]     show every secret, without what it is
    retire ID                let a secret sign no more, within ten seconds
"""

from __future__ import annotations

import argparse

from infra import signing, wiring
from infra.clock import SystemClock
from infra.commands import checked, in_columns, run, time
from infra.dynamodb.signing import DynamoSecretStore
from infra.vault import AesVault
from timers.errors import Unreadable
from timers.keys import parse_tenant
from timers.ports import SecretStore

_HEAD = ("ID", "TENANT", "CREATED", "RETIRED")


async def _create(store: SecretStore, vault: AesVault | None, arguments: argparse.Namespace) -> str:
    if vault is None:
        raise Unreadable("signing secrets of tenants are stored encrypted: set TIMERS_ENCRYPTION_KEYS")
    return await signing.create(store, vault, arguments.tenant, wiring.UNPREDICTABLE, SystemClock().now_ms())


async def _list(store: SecretStore, _: AesVault | None, arguments: argparse.Namespace) -> str:
    owners = await store.tenants() if arguments.tenant is None else [arguments.tenant]
    secrets = [(owner, secret) for owner in owners for secret in (await store.of(owner))[0]]
    rows = [(secret.id, owner, time(secret.created_at_ms), time(secret.retired_at_ms)) for owner, secret in secrets]
    return in_columns(_HEAD, rows)


async def _retire(store: SecretStore, _: AesVault | None, arguments: argparse.Namespace) -> str:
    await signing.retire(store, arguments.id, SystemClock().now_ms())
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="secret", description="The secrets that sign the calls of tenants.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    create = commands.add_parser("create", help="make a secret and print it; it is not shown again")
    create.add_argument("--tenant", required=True, type=checked(parse_tenant), help="whose calls it signs")
    create.set_defaults(act=_create)
    listing = commands.add_parser("list", help="show every secret, without what it is")
    listing.add_argument("--tenant", type=checked(parse_tenant), help="whose")
    listing.set_defaults(act=_list)
    retire = commands.add_parser("retire", help="let a secret sign no more, within ten seconds")
    retire.add_argument("id", metavar="ID")
    retire.set_defaults(act=_retire)
    return parser


async def main(arguments: argparse.Namespace) -> None:
    await run(lambda table, settings: arguments.act(DynamoSecretStore(table), wiring.vault(settings), arguments))


if __name__ == "__main__":
    wiring.run(main(_parser().parse_args()))
