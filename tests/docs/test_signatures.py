"""Calls verify: by the library of Standard Webhooks, and by the receivers of the guide."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from infra.callbacks import HttpCallbacks
from infra.guard import AddressList, Rules
from tests.builders import make_target, make_timer
from tests.docs.markdown import code_blocks, read
from tests.receiver import Received, Receiver, receiving
from tests.services.port import free_port
from timers.body import Body, BodyKind
from timers.call import call_for
from timers.ports import Call
from timers.signature import parse_secrets

NEW = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
OTHER = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
GUIDE = "docs/how-to/verify-signatures.md"
PATIENCE_S = 60.0

BODIES = {
    "nothing": None,
    "an empty text": Body(BodyKind.TEXT, ""),
    "JSON": Body(BodyKind.JSON, '{"order":42,"name":"Zoë ☃"}'),
    "text": Body(BodyKind.TEXT, "a.b.c\r\n\x00"),
}


@pytest.fixture
async def callbacks() -> AsyncIterator[HttpCallbacks]:
    rules = Rules(allow_addresses=AddressList.parse("loopback"), allow_http=True)
    async with HttpCallbacks(connections=2, rules=rules) as client:
        yield client


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as server:
        yield server


def call(url: str, body: Body | None, secrets: str, *, ago_s: int = 0) -> Call:
    timer = make_timer("order-42", target=make_target(url=url, body=body))
    started_at_ms = time.time_ns() // 1_000_000 - ago_s * 1000
    return call_for(timer, started_at_ms=started_at_ms, random=Random(1), secrets=parse_secrets(secrets))


def verify(received: Received, secret: str) -> None:
    Webhook(secret).verify(received.body, received.headers, json_parse=False)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_call_verifies_by_the_library(body: Body | None, callbacks: HttpCallbacks, receiver: Receiver) -> None:
    assert (await callbacks.invoke(call(receiver.url("hook"), body, NEW))).delivered
    verify(receiver["hook"][0], NEW)
    with pytest.raises(WebhookVerificationError):
        verify(receiver["hook"][0], OTHER)


@pytest.mark.parametrize("secret", [NEW, OLD])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_while_secrets_rotate_a_call_verifies_by_either(
    body: Body | None, secret: str, callbacks: HttpCallbacks, receiver: Receiver
) -> None:
    await callbacks.invoke(call(receiver.url("hook"), body, f"{NEW},{OLD}"))
    verify(receiver["hook"][0], secret)
    with pytest.raises(WebhookVerificationError):
        verify(receiver["hook"][0], OTHER)


async def test_without_a_secret_there_is_no_signature(callbacks: HttpCallbacks, receiver: Receiver) -> None:
    await callbacks.invoke(call(receiver.url("hook"), None, ""))
    assert "webhook-signature" not in receiver["hook"][0].headers


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def command(language: str, source: Path) -> list[str]:
    """Return what runs a program, built first where that is needed."""
    if language == "go":
        program = source.with_suffix("")
        environment = os.environ | {"GOCACHE": str(source.parent / "cache"), "GO111MODULE": "off"}
        subprocess.run(["go", "build", "-o", program, source], env=environment, check=True)
        return [str(program)]
    return [{"python": sys.executable, "js": "node"}[language], str(source)]


@contextmanager
def running(language: str, folder: Path) -> Iterator[str]:
    """Run the guide's receiver and give its url."""
    port = free_port()
    source = folder / f"receiver.{language}"
    source.write_text(code_blocks(read(GUIDE), language)[0].replace("9000", str(port)))
    process = subprocess.Popen(
        command(language, source), env=os.environ | {"SIGNING_SECRET": NEW}, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + PATIENCE_S
    try:
        while not listens(port):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.kill()
        process.wait()


TOOLS = {"python": sys.executable, "js": "node", "go": "go"}


# The other languages are tried where they are at hand: none of them is worth a compiler in every test run.
@pytest.fixture(scope="module", params=[language for language, tool in TOOLS.items() if shutil.which(tool)])
def guide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(request.param, tmp_path_factory.mktemp("receiver")) as url:
        yield url


@pytest.mark.parametrize(
    ("secrets", "ago_s", "status"),
    [
        (NEW, 0, 204),
        (NEW, 240, 204),
        (f"{NEW},{OLD}", 0, 204),
        (f"{OLD},{NEW}", 0, 204),
        (OLD, 0, 401),
        ("", 0, 401),
        (NEW, 360, 401),
        (NEW, -360, 401),
    ],
    ids=["signed", "minutes ago", "rotating", "rotating back", "another secret", "unsigned", "old", "of the future"],
)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_the_receivers_of_the_guide_take_what_is_ours_only(
    guide: str, body: Body | None, secrets: str, ago_s: int, status: int, callbacks: HttpCallbacks
) -> None:
    assert (await callbacks.invoke(call(guide, body, secrets, ago_s=ago_s))).status == status


@pytest.mark.parametrize(
    "changed",
    [
        lambda signed: {"content": b"other"},
        lambda signed: {"headers": {**signed.headers, "webhook-id": "order-43"}},
        lambda signed: {"headers": {**signed.headers, "webhook-signature": "v1,"}},
        lambda signed: {"headers": {**signed.headers, "webhook-signature": "é"}},
        lambda signed: {"headers": {**signed.headers, "webhook-timestamp": "1e9"}},
        lambda signed: {"headers": {**signed.headers, "webhook-timestamp": ""}},
    ],
    ids=["body", "id", "signature", "bytes", "time", "no time"],
)
async def test_the_receivers_of_the_guide_refuse_what_was_changed(
    guide: str, changed: Callable[[Call], dict[str, Any]], callbacks: HttpCallbacks
) -> None:
    signed = call(guide, BODIES["JSON"], NEW)
    assert (await callbacks.invoke(replace(signed, **changed(signed)))).status == 401
