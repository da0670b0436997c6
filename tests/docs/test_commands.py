"""The commands of the README and the tutorial work as they are printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.markdown import code_blocks, read, section
from tests.services import DynamoDB, RabbitMQ
from tests.services.port import free_port
from tests.stack import API_KEY, Member, stack

PATIENCE_S = 20.0
PRINTED = "http://127.0.0.1:8000"
RECEIVER = "127.0.0.1:9000"

# A failure of curl's, or a 4xx or 5xx, ends the script.
STRICT = """
set -euo pipefail
curl() { command curl --fail-with-body --show-error "$@"; echo; }
"""


@pytest.fixture(scope="module")
def api(rabbitmq: RabbitMQ, dynamodb: DynamoDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with stack(rabbitmq, dynamodb, tmp_path_factory.mktemp("stack")) as built:
        member, consumer = built.api(), built.consumer()
        for process in (member, consumer):
            process.start()
        yield member


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the .env that setup.sh would have written."""
    folder = tmp_path_factory.mktemp("installation")
    (folder / ".env").write_text(f"TIMERS_API_KEY={API_KEY}\n")
    return folder


def run(script: str, api: Member, installation: Path) -> str:
    """Run a script against the running api and return what it prints."""
    command = ["bash", "-c", STRICT + script.replace(PRINTED, f"http://127.0.0.1:{api.port}")]
    result = subprocess.run(
        command, cwd=installation, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def objects(output: str) -> list[Any]:
    """Return the JSON objects of an output, one a line."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_the_quickstart_works_as_printed(api: Member, installation: Path) -> None:
    commands = "\n".join(code_blocks(section(read("README.md"), "Quickstart"), "sh"))

    output = run(commands, api, installation)

    scheduled, seen, edited, cancelled, listed, stats = objects(output)
    assert 'etag: "1"' in output
    assert scheduled | {"remaining": seen["remaining"]} == seen
    assert edited["version"] == 2
    assert edited["target"]["body"] == {"order": 42, "urgent": True}
    assert cancelled["state"] == "cancelled"
    assert [timer["id"] for timer in listed["timers"]] == [scheduled["id"]]
    assert stats["counts"]["cancelled"] == 1


class Script:
    """The tutorial's receiver, running; its lines are in a file."""

    def __init__(self, source: str, folder: Path) -> None:
        self._file = folder / "receiver.py"
        self._file.write_text(source)
        self._output = folder / "output"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen([sys.executable, self._file], stdout=output, stderr=output)

    def lines(self) -> list[str]:
        return self._output.read_text().splitlines()

    def wait(self, count: int) -> list[str]:
        """Wait until it has printed so many lines."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.lines()) < count:
            assert time.monotonic() < deadline, self.lines()
            time.sleep(0.02)
        return self.lines()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def receiver_port() -> int:
    return free_port()


@pytest.fixture
def receiver(receiver_port: int, tmp_path: Path) -> Iterator[Script]:
    source = code_blocks(read("docs/tutorial.md"), "python")[0]
    script = Script(source.replace("9000", str(receiver_port)), tmp_path)
    yield script
    script.close()


def test_the_tutorial_works_as_printed(api: Member, installation: Path, receiver: Script, receiver_port: int) -> None:
    tutorial = read("docs/tutorial.md").replace(RECEIVER, f"127.0.0.1:{receiver_port}")

    with_key = code_blocks(section(tutorial, "1. Bring the service up"), "sh")[1]

    def step(heading: str) -> list[Any]:
        return objects(run("\n".join([with_key, *code_blocks(section(tutorial, heading), "sh")]), api, installation))

    step("3. Schedule a call")
    assert re.fullmatch(r'first: \{"hello":"world"\}, \d+ ms late', receiver.wait(1)[0])

    first: dict[str, Any] = {"state": "firing"}
    deadline = time.monotonic() + PATIENCE_S
    while first["state"] == "firing":  # the receiver prints before it answers, and a test is faster than a reader
        assert time.monotonic() < deadline
        (first,) = step("4. See what became of it")
    assert first["state"] == "delivered"
    assert [attempt["status"] for attempt in first["attempts"]] == [204]

    *_, third = step("5. Change your mind")
    assert receiver.wait(2)[1].startswith("second: but this, ")
    assert third["state"] == "cancelled"

    *_, fourth = step("6. Watch a failure")
    assert fourth["state"] == "dead"
    assert [attempt["status"] for attempt in fourth["attempts"]] == [None, None, None]
    assert len(receiver.lines()) == 2
