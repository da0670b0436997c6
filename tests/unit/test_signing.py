"""Which secrets sign whose calls, as they come and go."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from infra.memory import MemorySecretStore
from infra.signing import FRESH_S, LIFE_S, Signing, create, retire
from infra.vault import AesVault, LocalKeys
from tests.builders import NOW_MS, FakeClock, turns
from timers.errors import Invalid, Unavailable, Unreadable
from timers.signature import parse_secrets
from timers.signing import FixedSigners, NoSuchSecret, Secrets, SigningSecret, TooManySecrets, without

DEFAULT = b"installation's"
VAULT = AesVault([LocalKeys({"k1": bytes(32)})])


class PatchyStore(MemorySecretStore):
    """A store that can be away, and counts how often it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.reads = 0

    async def of(self, tenant: str) -> tuple[Secrets, int]:
        self.reads += 1
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("dynamodb")
        return await super().of(tenant)


class Scene:
    """What signs, over a store in memory."""

    def __init__(self, vault: AesVault | None = VAULT) -> None:
        self.store = PatchyStore()
        self.clock = FakeClock()
        self.random = Random(1)
        self.signing = Signing(self.store, vault, self.clock, [DEFAULT])

    async def create(self, tenant: str = "acme") -> bytes:
        return parse_secrets(await create(self.store, VAULT, tenant, self.random, NOW_MS))[0]

    async def id(self, number: int = 0, tenant: str = "acme") -> str:
        return (await self.store.of(tenant))[0][number].id

    async def signs(self, tenant: str = "acme", secret_id: str | None = None) -> list[bytes]:
        return list(await self.signing.secrets(tenant, secret_id))


async def test_a_tenant_without_secrets_uses_the_installations() -> None:
    scene = Scene()
    await scene.create("acme")
    assert await scene.signs("other") == [DEFAULT]


async def test_all_secrets_of_a_tenant_sign_and_the_installations_does_not() -> None:
    scene = Scene()
    first, second = await scene.create(), await scene.create()
    assert await scene.signs() == [first, second]


async def test_a_secret_can_be_named() -> None:
    scene = Scene()
    await scene.create()
    second = await scene.create()
    assert await scene.signs(secret_id=await scene.id(1)) == [second]
    with pytest.raises(NoSuchSecret, match=r"no signing secret in force has the id 'other'"):
        await scene.signs(secret_id="other")
    with pytest.raises(NoSuchSecret):
        await scene.signs("other", await scene.id(1))


async def test_a_third_secret_is_refused() -> None:
    scene = Scene()
    for _ in range(2):
        await scene.create()
    with pytest.raises(TooManySecrets, match=r"acme has 2 signing secrets: retire one before making another"):
        await scene.create()
    await retire(scene.store, await scene.id(), NOW_MS)
    await scene.create()


async def test_of_two_made_at_once_none_gets_lost_and_no_third_gets_in() -> None:
    scene = Scene()
    made = await asyncio.gather(*(scene.create() for _ in range(4)), return_exceptions=True)
    good = [secret for secret in made if isinstance(secret, bytes)]
    assert len(good) == 2
    assert set(await scene.signs()) == set(good)


async def test_a_retired_secret_signs_no_more_and_nothing_is_left_of_it() -> None:
    scene = Scene()
    first, second = await scene.create(), await scene.create()
    await retire(scene.store, await scene.id(), NOW_MS + 1)
    assert await scene.signs() == [second]
    (retired, _), _ = await scene.store.of("acme")
    assert (retired.sealed, retired.retired_at_ms) == (None, NOW_MS + 1)
    with pytest.raises(NoSuchSecret):
        await scene.signs(secret_id=retired.id)
    with pytest.raises(NoSuchSecret):
        await retire(scene.store, retired.id, NOW_MS + 2)
    assert first not in await scene.signs()


def test_few_retired_secrets_are_remembered() -> None:
    old = [SigningSecret(f"{number}", NOW_MS, retired_at_ms=NOW_MS) for number in range(25)]
    new = SigningSecret("new", NOW_MS, next(iter(asyncio.run(VAULT.seal({"x": "x"})).values())))
    left = without((*old, new), "new", NOW_MS)
    assert [secret.id for secret in left] == [*(f"{number}" for number in range(6, 25)), "new"]


async def test_a_rotation_is_heeded_within_ten_seconds_while_nothing_is_called_in_between() -> None:
    scene = Scene()
    first = await scene.create()
    assert await scene.signs() == [first]
    second = await scene.create()
    scene.clock.advance(LIFE_S)
    assert await scene.signs() == [first, second]
    assert LIFE_S < 10


async def test_what_is_used_is_read_again_in_the_background() -> None:
    scene = Scene()
    first = await scene.create()
    await scene.signs()
    second = await scene.create()
    scene.clock.advance(FRESH_S)
    assert await scene.signs() == [first]
    await turns()
    assert await scene.signs() == [first, second]


async def test_what_was_read_lately_is_not_read_again() -> None:
    scene = Scene()
    await scene.signs()
    before = scene.store.reads
    for _ in range(100):
        await scene.signs()
    assert scene.store.reads == before


async def test_many_calls_at_once_read_once() -> None:
    scene = Scene()
    await asyncio.gather(*(scene.signs() for _ in range(100)))
    assert scene.store.reads == 1


async def test_while_the_table_is_away_what_was_known_signs_for_minutes() -> None:
    scene = Scene()
    first = await scene.create()
    await scene.signs()
    scene.store.away = True
    for _ in range(int(500 / LIFE_S)):
        scene.clock.advance(LIFE_S)
        assert await scene.signs() == [first]
    scene.clock.advance(110)
    with pytest.raises(Unavailable):
        await scene.signs()


async def test_a_tenant_that_is_not_known_waits_for_the_table() -> None:
    scene = Scene()
    scene.store.away = True
    with pytest.raises(Unavailable):
        await scene.signs()


async def test_a_waiter_that_gives_up_takes_no_other_along() -> None:
    scene = Scene()
    first, second = (asyncio.create_task(scene.signs()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == [DEFAULT]


async def test_without_the_key_a_tenants_secrets_cannot_be_read() -> None:
    scene = Scene(vault=None)
    assert await scene.signs() == [DEFAULT]
    await scene.create()
    scene.clock.advance(LIFE_S)
    assert await scene.signs() == [DEFAULT]  # as long as it was known to be so
    scene.clock.advance(1_000)
    with pytest.raises(Unreadable):
        await scene.signs()


async def test_a_secret_in_the_table_of_one_tenant_is_none_of_another() -> None:
    scene = Scene()
    await scene.create("acme")
    secrets, _ = await scene.store.of("acme")
    await scene.store.save("other", secrets, 0)
    with pytest.raises(Unreadable):
        await scene.signs("other")


async def test_a_timer_can_name_a_secret_as_soon_as_it_is_made() -> None:
    scene = Scene()
    await scene.signs()
    await scene.create()
    await scene.signing.check("acme", await scene.id())
    with pytest.raises(Invalid, match=r"/target/signing_key: no signing secret in force has the id 'x'"):
        await scene.signing.check("acme", "x")
    with pytest.raises(Invalid):
        await scene.signing.check("other", await scene.id())


async def test_tenants_past_a_bound_are_forgotten() -> None:
    scene = Scene()
    for number in range(1_100):
        await scene.signs(f"tenant-{number}")
    assert len(scene.signing._known) == 1_000


async def test_fixed_secrets_have_no_names() -> None:
    signers = FixedSigners([DEFAULT])
    assert await signers.secrets("acme", None) == (DEFAULT,)
    with pytest.raises(NoSuchSecret):
        await signers.secrets("acme", "x")
    with pytest.raises(Invalid):
        await signers.check("acme", "x")
