"""Keys from a real KMS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest

from infra.kms import AGE_S, USES, KmsKeys
from infra.vault import AesVault, LocalKeys
from tests.builders import FakeClock
from tests.services import Kms
from timers.errors import Unavailable, Unreadable
from timers.secret import Sealed

PLACE = "timer-1\nhttps://example.com\nauthorization"
LOCAL = LocalKeys({"k1": bytes(32)})


@pytest.fixture(autouse=True)
def endpoint(kms: Kms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", kms.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture
def admin(endpoint: None) -> Iterator[Any]:
    client = boto3.session.Session(region_name="us-east-1").client("kms")
    yield client
    client.close()


@pytest.fixture
def key(admin: Any) -> str:
    return str(admin.create_key()["KeyMetadata"]["Arn"])


def keys(key: str, clock: FakeClock | None = None) -> KmsKeys:
    return KmsKeys(key, region="us-east-1", clock=clock or FakeClock())


async def sealed(provider: KmsKeys, text: str = "hunter2") -> Sealed:
    return (await AesVault([provider]).seal({PLACE: text}))[PLACE]


async def opened(secret: Sealed, *providers: Any) -> str:
    return (await AesVault(providers).open({PLACE: secret}))[PLACE]


@contextmanager
def paused(kms: Kms) -> Iterator[None]:
    kms.stop()
    try:
        yield
    finally:
        kms.start()


async def test_what_one_process_seals_another_opens(key: str) -> None:
    secret = await sealed(keys(key))
    assert secret.token.startswith("kms.")
    assert "hunter2" not in secret.token
    assert await opened(secret, keys(key)) == "hunter2"


async def test_from_keys_of_the_settings_to_kms_and_back(key: str) -> None:
    before = (await AesVault([LOCAL]).seal({PLACE: "hunter2"}))[PLACE]
    after = await sealed(keys(key))
    for providers in ((keys(key), LOCAL), (LOCAL, keys(key))):
        assert await opened(before, *providers) == "hunter2"
        assert await opened(after, *providers) == "hunter2"
    with pytest.raises(Unreadable):
        await opened(after, LOCAL)


async def test_a_data_key_seals_many_and_is_asked_for_once(key: str) -> None:
    provider = keys(key)
    tokens = [(await sealed(provider)).token.split(".")[1] for _ in range(20)]
    together = keys(key)
    at_once = await asyncio.gather(*(sealed(together) for _ in range(20)))
    assert len(set(tokens)) == 1
    assert len({secret.token.split(".")[1] for secret in at_once}) == 1


async def test_a_data_key_is_used_for_a_bounded_time(key: str) -> None:
    clock = FakeClock()
    provider = keys(key, clock)
    first = await provider.current()
    clock.advance(AGE_S - 1)
    assert await provider.current() == first
    clock.advance(1)
    assert await provider.current() != first


async def test_a_data_key_is_used_a_bounded_number_of_times(key: str) -> None:
    provider = keys(key)
    used = {(await provider.current())[0] for _ in range(USES + 1)}
    assert len(used) == 2


async def test_a_key_that_is_disabled_opens_nothing_once_it_is_forgotten(key: str, admin: Any) -> None:
    clock = FakeClock()
    provider = keys(key, clock)
    secret = await sealed(provider)
    admin.disable_key(KeyId=key)
    assert await opened(secret, provider) == "hunter2"
    clock.advance(AGE_S)
    with pytest.raises(Unreadable, match=r"its key in KMS does not open it: \w+"):
        await opened(secret, provider)
    with pytest.raises(Unavailable, match=r"kms is not available"):
        await sealed(provider)


async def test_while_kms_is_away_what_is_remembered_works(key: str, kms: Kms) -> None:
    provider, other = keys(key), keys(key)
    secret = await sealed(provider)
    with paused(kms):
        assert await opened(secret, provider) == "hunter2"
        assert await opened(await sealed(provider), provider) == "hunter2"
        with pytest.raises(Unavailable, match=r"kms is not available"):
            await opened(secret, other)


@pytest.mark.parametrize("token", ["kms.!.AAAA", "kms.AAAA.AAAA", "kms..", "kms"])
async def test_what_kms_never_encrypted_is_unreadable(token: str, key: str) -> None:
    with pytest.raises(Unreadable):
        await opened(Sealed(token), keys(key))


async def test_without_such_a_key_nothing_is_sealed() -> None:
    with pytest.raises(Unavailable, match=r"kms is not available"):
        await sealed(keys("arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000000"))
