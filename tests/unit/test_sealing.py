"""The secrets of a timer, from the request to the call."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from api.patching import patched
from api.schemas import NewTimerIn, fingerprint, timer_out
from infra.memory import MemoryTimerStore
from infra.vault import AesVault, LocalKeys
from tests.builders import NOW_MS, FakeClock, RecordingQueue, make_target, make_timer
from timers.body import Body, BodyKind
from timers.errors import Invalid, KeyReused, Unreadable
from timers.sealing import seal, unseal
from timers.secret import BODY, Sealed
from timers.service import IdempotencyKey, Timers
from timers.target import HttpTarget
from timers.timer import Timer

HOUR_MS = 3_600_000
VAULT = AesVault([LocalKeys({"k1": bytes(32)})])
URL = "https://example.com/hook"
GIVEN: dict[str, Any] = {
    "url": URL,
    "headers": {"Authorization": "Bearer hunter2", "x-api-key": "hunter3", "x-team": "billing"},
    "secret_headers": ["X-Api-Key"],
    "body": {"card": "hunter4"},
    "secret_body": True,
}


class Scene:
    """The use cases over memory."""

    def __init__(self, vault: AesVault | None = VAULT) -> None:
        self.store = MemoryTimerStore()
        self.timers = Timers(self.store, RecordingQueue(), FakeClock(), Random(1), HOUR_MS, vault)

    async def schedule(self, **target: Any) -> Timer:
        return await self.timers.schedule(wish(**target).spec(NOW_MS, None), "timer-1")

    async def patch(self, **change: Any) -> Timer:
        return await self.timers.edit("timer-1", lambda timer: patched(timer, {"target": change}, NOW_MS))

    async def called(self) -> HttpTarget:
        """Return the target as it would be called."""
        return http(await unseal(await self.store.get("timer-1"), VAULT))


def wish(**target: Any) -> NewTimerIn:
    return NewTimerIn.model_validate({"delay": 60, "target": {**GIVEN, **target}})


def http(timer: Timer) -> HttpTarget:
    assert isinstance(timer.target, HttpTarget)
    return timer.target


def shown(timer: Timer) -> dict[str, Any]:
    target: dict[str, Any] = timer_out(timer)["target"]
    return target


async def test_a_secret_is_sealed_in_the_store_and_hidden_in_the_answer() -> None:
    timer = await Scene().schedule()
    assert (dict(http(timer).headers), timer.target.body) == ({"x-team": "billing"}, None)
    assert {name: type(secret) for name, secret in timer.target.secrets.items()} == {
        "authorization": Sealed,
        "x-api-key": Sealed,
        BODY: Sealed,
    }
    assert shown(timer) == {
        "type": "http",
        "url": URL,
        "method": "POST",
        "headers": {"x-team": "billing", "authorization": "***", "x-api-key": "***"},
        "secret_headers": ["x-api-key"],
        "body": "***",
        "secret_body": True,
        "timeout": 10.0,
    }


async def test_a_secret_is_readable_for_the_call() -> None:
    scene = Scene()
    await scene.schedule()
    target = await scene.called()
    assert target.headers == {"x-team": "billing", "authorization": "Bearer hunter2", "x-api-key": "hunter3"}
    assert target.body == Body(BodyKind.JSON, '{"card":"hunter4"}')


@pytest.mark.parametrize("name", ["authorization", "cookie", "Cookie"])
async def test_some_headers_are_secret_unasked(name: str) -> None:
    timer = await Scene().schedule(headers={name: "hunter2"}, secret_headers=[], body=None, secret_body=False)
    assert shown(timer)["headers"] == {name.lower(): "***"}
    assert "secret_headers" not in shown(timer)


async def test_nothing_shows_a_secret_before_it_is_sealed_either() -> None:
    spec = wish().spec(NOW_MS, None)
    timer = Timer.create("timer-1", spec, NOW_MS)
    assert "hunter" not in str(timer_out(timer))
    assert "hunter" not in repr(timer)
    assert "hunter" not in repr(await unseal(await seal(timer, VAULT), VAULT))


@pytest.mark.parametrize(
    ("target", "pointer"),
    [
        ({}, "/target/headers/authorization"),
        ({"headers": {"x-api-key": "hunter3"}}, "/target/headers/x-api-key"),
        ({"headers": {}, "secret_headers": []}, "/target/body"),
    ],
)
async def test_without_a_key_a_secret_is_refused_by_name(target: dict[str, Any], pointer: str) -> None:
    scene = Scene(vault=None)
    with pytest.raises(Invalid, match=r"TIMERS_ENCRYPTION_KEYS") as refused:
        await scene.schedule(**target)
    assert refused.value.pointer == pointer
    assert not scene.store.timers


@pytest.mark.parametrize(
    ("target", "pointer"),
    [
        ({"secret_headers": ["x-api-kee"]}, "/target/secret_headers/0"),
        ({"headers": {"authorization": "***", "x-api-key": "a"}}, "/target/headers/authorization"),
        ({"headers": {"x-api-key": " ***"}}, "/target/headers/x-api-key"),
        ({"body": "***"}, "/target/body"),
        ({"body": None}, "/target/secret_body"),
    ],
)
def test_what_would_be_no_secret_is_refused(target: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        wish(**target).spec(NOW_MS, None)
    assert refused.value.pointer == pointer


def test_stars_are_a_value_like_others_where_nothing_is_secret() -> None:
    spec = wish(headers={"x-team": "***"}, secret_headers=[], body="***", secret_body=False).spec(NOW_MS, None)
    target = http(Timer.create("timer-1", spec, NOW_MS))
    assert (target.headers, target.body) == ({"x-team": "***"}, Body(BodyKind.TEXT, "***"))


ALL = {"authorization": "Bearer hunter2", "x-api-key": "hunter3", "x-team": "billing"}
CARD = '{"card":"hunter4"}'


@pytest.mark.parametrize(
    ("change", "headers", "body"),
    [
        ({}, ALL, CARD),
        ({"url": URL + "/other"}, ALL, CARD),
        ({"headers": {"x-team": None}}, {name: ALL[name] for name in ("authorization", "x-api-key")}, CARD),
        ({"headers": {"x-more": "1"}}, ALL | {"x-more": "1"}, CARD),
        ({"headers": {"Authorization": "Bearer new"}}, ALL | {"authorization": "Bearer new"}, CARD),
        ({"headers": {"X-API-Key": "new"}}, ALL | {"x-api-key": "new"}, CARD),
        ({"headers": {"x-api-key": None}}, {name: ALL[name] for name in ("authorization", "x-team")}, CARD),
        ({"headers": None}, {}, CARD),
        ({"headers": {"x-api-key": "public"}, "secret_headers": []}, ALL | {"x-api-key": "public"}, CARD),
        ({"secret_headers": ["x-team", "x-api-key"]}, ALL, CARD),
        ({"body": {"card": "new"}}, ALL, '{"card":"new"}'),
        ({"body": "text"}, ALL, "text"),
        ({"body": None, "body_base64": "AAE="}, ALL, "AAE="),
        ({"body": None}, ALL, None),
        ({"body": "public", "secret_body": False}, ALL, "public"),
    ],
    ids=str,
)
async def test_a_patch_keeps_the_secrets_that_it_leaves_alone(
    change: dict[str, Any], headers: dict[str, str], body: str | None
) -> None:
    scene = Scene()
    await scene.schedule()
    timer = await scene.patch(**change)
    target = await scene.called()
    assert target.headers == headers
    assert (target.body.text if target.body else None) == body
    assert not any("hunter" in str(part) for part in (shown(timer), http(timer).headers, timer.target.secrets))


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"headers": {"authorization": "***"}}, "/target/headers/authorization"),
        ({"headers": {"X-Api-Key": "***"}}, "/target/headers/x-api-key"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "/target/headers"),
        ({"body": "***"}, "/target/body"),
        ({"secret_headers": []}, "/target/secret_headers"),
        ({"secret_headers": None}, "/target/secret_headers"),
        ({"secret_body": False}, "/target/secret_body"),
        ({"secret_body": None}, "/target/secret_body"),
        ({"url": "https://example.net/hook"}, "/target/url"),
        ({"url": "http://example.com/hook"}, "/target/url"),
        ({"url": "https://example.com:8443/hook"}, "/target/url"),
        ({"headers": {f"x-{number}": "" for number in range(62)}}, "/target/headers"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_a_patch_neither_loses_nor_shows_nor_diverts_a_secret(change: dict[str, Any], pointer: str) -> None:
    scene = Scene()
    await scene.schedule()
    with pytest.raises(Invalid) as refused:
        await scene.patch(**change)
    assert refused.value.pointer == pointer
    assert (await scene.called()).headers == ALL


async def test_with_all_secrets_given_anew_the_receiver_may_change() -> None:
    scene = Scene()
    await scene.schedule(headers={"authorization": "old"}, secret_headers=[], body=None, secret_body=False)
    await scene.patch(url="https://example.net/", headers={"authorization": "new"})
    assert (await scene.called()).headers == {"authorization": "new"}


async def test_a_secret_that_is_moved_to_another_timer_does_not_open() -> None:
    scene = Scene()
    timer = await scene.schedule()
    with pytest.raises(Unreadable):
        await unseal(make_timer("timer-2", target=timer.target), VAULT)
    with pytest.raises(Unreadable):
        await unseal(make_timer("timer-1", target=make_target(url="https://a.b/", secrets=timer.target.secrets)), VAULT)


async def test_the_same_request_under_the_same_key_is_done_once() -> None:
    scene = Scene()
    first, again, other = wish(), wish(), wish(body={"card": "hunter5"})

    async def once(new: NewTimerIn) -> tuple[Timer, bool]:
        key = IdempotencyKey("order-42", fingerprint(new))
        return await scene.timers.schedule_once(new.spec(NOW_MS, None), key, now_ms=NOW_MS)

    timer, created = await once(first)
    assert created
    assert await once(again) == (timer, False)
    with pytest.raises(KeyReused):
        await once(other)


async def test_the_fingerprint_of_a_request_with_secrets_confirms_no_guess() -> None:
    scene = Scene()
    new = wish()
    key = IdempotencyKey("order-42", fingerprint(new))
    timer, _ = await scene.timers.schedule_once(new.spec(NOW_MS, None), key, now_ms=NOW_MS)
    assert isinstance(timer.request, Sealed)


QUEUE: dict[str, Any] = {"type": "queue", "queue": "jobs", "body": {"card": "hunter4"}, "secret_body": True}
AMQP: dict[str, Any] = {"type": "amqp", "routing_key": "orders", "body": {"card": "hunter4"}, "secret_body": True}
SECRET_BODIES = pytest.mark.parametrize("target", [QUEUE, AMQP], ids=["queue", "amqp"])


async def scheduled(target: dict[str, Any], scene: Scene | None = None) -> tuple[Scene, Timer]:
    scene = scene or Scene()
    asked = NewTimerIn.model_validate({"delay": 60, "target": target})
    return scene, await scene.timers.schedule(asked.spec(NOW_MS, None), "timer-1")


@SECRET_BODIES
async def test_a_body_that_nobody_is_called_with_is_sealed_and_hidden_too(target: dict[str, Any]) -> None:
    _, timer = await scheduled(target)
    assert (timer.target.body, type(timer.target.secrets[BODY])) == (None, Sealed)
    assert shown(timer).items() >= {**target, "body": "***"}.items()
    assert "hunter" not in repr(timer)
    opened = await unseal(timer, VAULT)
    assert opened.target.body == Body(BodyKind.JSON, '{"card":"hunter4"}')
    assert "hunter" not in repr(opened)


@SECRET_BODIES
async def test_a_patch_keeps_replaces_or_takes_away_such_a_body(target: dict[str, Any]) -> None:
    scene, before = await scheduled(target)
    kept = await scene.timers.edit("timer-1", lambda timer: patched(timer, {"delay": 5}, NOW_MS))
    assert kept.target == before.target
    replaced = await scene.patch(body="hunter5")
    assert shown(replaced)["body"] == "***"
    assert (await unseal(replaced, VAULT)).target.body == Body(BodyKind.TEXT, "hunter5")
    assert shown(await scene.patch(body=None)).keys() == target.keys() - {"body", "secret_body"} | (
        {"exchange", "headers", "properties"} if target["type"] == "amqp" else set()
    )


@SECRET_BODIES
@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"secret_body": False}, "/target/secret_body"),
        ({"body": "***"}, "/target/body"),
        ({"queue": "mail", "routing_key": "mail"}, "/target"),
    ],
)
async def test_such_a_body_goes_to_nobody_else(target: dict[str, Any], change: dict[str, Any], pointer: str) -> None:
    scene, _ = await scheduled(target)
    known = {name: value for name, value in change.items() if name in target}
    with pytest.raises(Invalid) as refused:
        await scene.patch(**known)
    assert refused.value.pointer == pointer


@SECRET_BODIES
async def test_without_a_key_such_a_body_is_refused(target: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=r"TIMERS_ENCRYPTION_KEYS"):
        await scheduled(target, Scene(vault=None))


def test_a_log_has_nothing_secret() -> None:
    with pytest.raises(ValidationError):
        NewTimerIn.model_validate({"delay": 60, "target": {"type": "log", "body": "hunter4", "secret_body": True}})
