"""A service that calls nobody, and Schemathesis, with every check but one, over its OpenAPI document."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.services import DynamoDB, RabbitMQ
from tests.stack import API_KEY, ENVIRONMENT, ROOT, stack

CONFIG: Final = Path(__file__).with_name("schemathesis.toml")
_UNFIT: Final = "use_after_free"
"""A cancelled timer stays to be read, and says that it was cancelled."""

_OPERATIONS: Final = 14
_SYSTEMATIC: Final = 1_500
"""How many cases are made without chance: each bound, each missing field."""


def fuzz(
    rabbitmq: RabbitMQ, dynamodb: DynamoDB, folder: Path, *, cases: int, seed: int
) -> subprocess.CompletedProcess[str]:
    """Run about ``cases`` cases; the result's output says what was found."""
    with stack(rabbitmq, dynamodb, folder, TIMERS_ALLOW_ADDRESSES="public,private,loopback") as running:
        api, consumer = running.api(), running.consumer(TIMERS_DENY_HOSTS="*")
        for member in (api, consumer):
            member.start()
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
            *("run", f"http://127.0.0.1:{api.port}/openapi.json"),
            *("--checks", "all", "--exclude-checks", _UNFIT),
            *("--phases", "examples,coverage,fuzzing,stateful", "--continue-on-failure"),
            *("--request-timeout", "20", "--warnings", "off"),
            *("--max-examples", str(max(5, (cases - _SYSTEMATIC) // _OPERATIONS)), "--seed", str(seed)),
            *("--generation-database", "none", "--no-color", "--suppress-health-check", "all"),
        ]
        hooks = {"SCHEMATHESIS_HOOKS": "tests.hostile.hooks", "PYTHONPATH": str(ROOT)}
        environment = ENVIRONMENT | {"TIMERS_API_KEY": API_KEY} | hooks
        return subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
