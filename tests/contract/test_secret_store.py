"""What every store of signing secrets does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from infra.dynamodb.signing import DynamoSecretStore
from infra.memory import MemorySecretStore
from tests.builders import NOW_MS
from tests.contract.conftest import new_table
from timers.errors import Conflict
from timers.ports import SecretStore
from timers.secret import Sealed
from timers.signing import SigningSecret

ONE = SigningSecret("one", NOW_MS, Sealed("local.k1.AAAA"))
TWO = SigningSecret("two", NOW_MS + 1, Sealed("local.k1.BBBB"))
GONE = SigningSecret("one", NOW_MS, None, NOW_MS + 2)


@pytest.fixture(params=["memory", "dynamodb"])
async def secrets(request: pytest.FixtureRequest) -> AsyncIterator[SecretStore]:
    if request.param == "memory":
        yield MemorySecretStore()
        return
    async with new_table(request.getfixturevalue("dynamodb")) as table:
        yield DynamoSecretStore(table)


async def test_a_tenant_begins_with_none(secrets: SecretStore) -> None:
    assert await secrets.of("acme") == ((), 0)
    assert await secrets.tenants() == []


async def test_what_is_saved_is_read(secrets: SecretStore) -> None:
    await secrets.save("acme", (ONE,), 0)
    await secrets.save("acme", (GONE, TWO), 1)
    assert await secrets.of("acme") == ((GONE, TWO), 2)
    assert await secrets.of("other") == ((), 0)


async def test_who_has_any_is_listed(secrets: SecretStore) -> None:
    for tenant in ("default", "acme"):
        await secrets.save(tenant, (ONE,), 0)
    async with asyncio.timeout(10):
        while len(await secrets.tenants()) < 2:  # noqa: ASYNC110 - an index tells nobody
            await asyncio.sleep(0.05)
    assert await secrets.tenants() == ["acme", "default"]


async def test_of_two_writers_one_succeeds(secrets: SecretStore) -> None:
    await secrets.save("acme", (ONE,), 0)
    with pytest.raises(Conflict):
        await secrets.save("acme", (TWO,), 0)
    await secrets.save("acme", (ONE, TWO), 1)
    with pytest.raises(Conflict):
        await secrets.save("acme", (TWO,), 1)
    assert await secrets.of("acme") == ((ONE, TWO), 2)
