"""Sealing and opening, and what is refused."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.vault import AesVault, LocalKeys, parse_keys
from timers.errors import Unreadable
from timers.secret import Sealed

OLD = bytes(range(32))
NEW = bytes(range(1, 33))
PLACE = "timer-1\nhttps://example.com\nauthorization"
KEPT = "local.k1.7N1uz8FsJiMpNxsKS//crQhr1Aamw8Xn084zL9YGiFIHZug="


def vault(**keys: bytes) -> AesVault:
    return AesVault([LocalKeys(keys)])


async def sealed(text: str, **keys: bytes) -> Sealed:
    return (await vault(**keys).seal({PLACE: text}))[PLACE]


async def opened(secret: Sealed, **keys: bytes) -> str:
    return (await vault(**keys).open({PLACE: secret}))[PLACE]


@given(st.text(st.characters(exclude_categories=["Cs"])))
async def test_what_is_sealed_opens(text: str) -> None:
    assert await opened(await sealed(text, k1=OLD), k1=OLD) == text


async def test_a_sealed_text_shows_nothing_and_is_never_the_same() -> None:
    tokens = {(await sealed("hunter2", k1=OLD)).token for _ in range(100)}
    assert len(tokens) == 100
    assert not any("hunter2" in token for token in tokens)
    assert all(token.startswith("local.k1.") for token in tokens)


async def test_what_an_earlier_version_sealed_opens() -> None:
    assert await opened(Sealed(KEPT), k1=OLD) == "hunter2"


async def test_the_first_key_seals_and_all_open() -> None:
    before = await sealed("hunter2", k1=OLD)
    after = await sealed("hunter2", k2=NEW, k1=OLD)
    assert after.token.startswith("local.k2.")
    assert await opened(before, k2=NEW, k1=OLD) == "hunter2"
    assert await opened(after, k2=NEW) == "hunter2"


async def test_a_key_that_is_gone_is_named() -> None:
    with pytest.raises(Unreadable, match=r"the key 'k1' is not in TIMERS_ENCRYPTION_KEYS"):
        await opened(await sealed("hunter2", k1=OLD), k2=NEW)


async def test_another_key_of_the_same_name_opens_nothing() -> None:
    with pytest.raises(Unreadable):
        await opened(await sealed("hunter2", k1=OLD), k1=NEW)


@pytest.mark.parametrize(
    "place",
    [
        "timer-2\nhttps://example.com\nauthorization",
        "timer-1\nhttps://example.net\nauthorization",
        "timer-1\nhttps://example.com\ncookie",
        "",
    ],
    ids=["another timer", "another receiver", "another header", "nowhere"],
)
async def test_at_another_place_nothing_opens(place: str) -> None:
    with pytest.raises(Unreadable):
        await vault(k1=OLD).open({place: await sealed("hunter2", k1=OLD)})


@given(st.integers(0, 64), st.integers(1, 255))
async def test_no_changed_byte_goes_unnoticed(position: int, change: int) -> None:
    token = (await sealed("hunter2" * 2, k1=OLD)).token.encode()
    assert len(token) == 65
    changed = bytes([*token[:position], token[position] ^ change, *token[position + 1 :]])
    with pytest.raises(Unreadable):
        await opened(Sealed(changed.decode("latin-1")), k1=OLD)


@given(st.text() | st.text().map(lambda text: f"local.k1.{text}"))
async def test_what_was_never_sealed_is_unreadable(token: str) -> None:
    with pytest.raises(Unreadable):
        await opened(Sealed(token), k1=OLD)


@pytest.mark.parametrize(
    "text",
    [
        "hunter2",
        "k1:hunter2",
        f"k1:{b64encode(OLD[1:]).decode()}",
        f"k1:{b64encode(OLD + OLD).decode()}",
        f"k.1:{b64encode(OLD).decode()}",
        f":{b64encode(OLD).decode()}",
        f"k1:{b64encode(OLD).decode()},k1:{b64encode(NEW).decode()}",
    ],
)
def test_what_is_no_key_is_refused_without_being_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"key") as refused:
        parse_keys(text)
    assert text.rpartition(":")[2] not in str(refused.value)


def test_keys_stay_in_their_order() -> None:
    text = f" k2:{b64encode(NEW).decode()}, k1:{b64encode(OLD).decode()} ,"
    assert list(parse_keys(text).items()) == [("k2", NEW), ("k1", OLD)]
    assert parse_keys("") == {}
