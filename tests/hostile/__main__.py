"""
``python -m tests.hostile``: thousands of requests that a fuzzer makes of the OpenAPI document.

Starts a broker, a table and the service for itself; nobody outside is called.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.hostile.fuzzing import fuzz
from tests.services import new_dynamodb, new_rabbitmq


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="about how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="repeat what was done with it")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="timers-") as name:
        folder = Path(name)
        with new_rabbitmq(folder) as rabbitmq, new_dynamodb(folder) as dynamodb:
            result = fuzz(rabbitmq, dynamodb, folder, cases=arguments.cases, seed=arguments.seed)
    print(result.stdout)
    print(f"hostile: {'clean' if result.returncode == 0 else 'failed'} with --seed {arguments.seed}")
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
