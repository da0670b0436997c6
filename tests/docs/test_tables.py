"""The settings that the guide names for each table are accepted, and make the client that is meant."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from infra import wiring
from infra.dynamodb.client import Table
from infra.settings import PREFIX, Settings
from tests.docs.markdown import code_blocks, read, section

GUIDE = "docs/how-to/run-on-aws.md"
AWS, LOCAL = "Settings", "DynamoDB Local"
NOBODY = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none"}


def documented(heading: str) -> Mapping[str, str]:
    """Return the variables of the one block below a heading that sets the endpoint."""
    [block] = [block for block in code_blocks(section(read(GUIDE), heading), "sh") if "_ENDPOINT=" in block]
    return dict(line.split("=", 1) for line in block.splitlines())


@pytest.fixture(autouse=True)
def machine_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith(("AWS_", PREFIX)):
            monkeypatch.delenv(name)
    for name, value in NOBODY.items():
        monkeypatch.setenv(name, value)


def settings(heading: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return what a process reads that is started with a block's variables."""
    for name, value in documented(heading).items():
        monkeypatch.setenv(name, value)
    return Settings.from_environment(os.environ)


def key_id(table: Table) -> str | None:
    """Return the id of the key that requests are signed with, None where none was found."""
    found = table._wire._found
    return None if found is None else str(found.access_key)


async def test_the_word_aws_is_the_regions_own_endpoint_with_keys_from_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with wiring.table(settings(AWS, monkeypatch)) as table:
        assert table.name == "timers"
        assert table._wire.url == "https://dynamodb.eu-central-1.amazonaws.com/"
        assert key_id(table) is None


async def test_aws_removes_what_has_expired_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings(AWS, monkeypatch)
    assert wiring.expiry(chosen, wiring.table(chosen)) is None


async def test_dynamodb_local_is_asked_where_it_listens_with_the_key_that_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with wiring.table(settings(LOCAL, monkeypatch)) as table:
        assert table.name == "timers"
        assert table._wire.url == "http://127.0.0.1:8001/"
        assert key_id(table) == documented(LOCAL)["AWS_ACCESS_KEY_ID"]
    assert any(block.rstrip().endswith("-port 8001") for block in code_blocks(section(read(GUIDE), LOCAL), "sh"))


async def test_the_keepers_remove_what_has_expired_in_dynamodb_local(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings(LOCAL, monkeypatch)
    assert wiring.expiry(chosen, wiring.table(chosen)) is not None


@pytest.mark.parametrize("given", [True, False], ids=["given", "made up"])
async def test_a_key_for_dynamodb_local_has_letters_and_digits_only(
    monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    chosen = settings(LOCAL, monkeypatch)
    if not given:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with wiring.table(chosen) as table:
        assert str(key_id(table)).isalnum()
