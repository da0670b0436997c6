"""``python -m tests.faults [--only NAME] [--repeat N] [--brief] [--write]``: every fault, and its verdict."""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults import report
from tests.faults.faults import FAULTS
from tests.faults.ledger import Verdict
from tests.faults.run import BRIEF, WHOLE, judge
from tests.faults.world import World, world
from tests.services import new_dynamodb, new_rabbitmq


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Break everything; see what is lost.")
    parser.add_argument("--only", action="append", choices=FAULTS, help="just this fault; may be repeated")
    parser.add_argument("--repeat", type=int, default=1, help="how many runs in a row")
    parser.add_argument("--brief", action="store_true", help="shorter phases, as in the tests")
    parser.add_argument("--write", action="store_true", help=f"write {report.PAGE.name}")
    parser.add_argument("--logs", type=Path, help="an existing folder that keeps the processes' logs")
    return parser.parse_args()


async def _run(built: World, number: int, arguments: argparse.Namespace) -> AsyncIterator[Verdict]:
    for name in arguments.only or FAULTS:
        verdict = await judge(built, name, FAULTS[name], BRIEF if arguments.brief else WHOLE, seed=time.time_ns())
        print(number, report.line(verdict), flush=True)
        for sentence in verdict.details:
            print("   ", sentence, flush=True)
        yield verdict


async def _runs(built: World, arguments: argparse.Namespace) -> list[Verdict]:
    """Run as often as told; the page is written after every run, as the last may be long in coming."""
    began = time.monotonic()
    verdicts: list[Verdict] = []
    for number in range(1, arguments.repeat + 1):
        verdicts += [verdict async for verdict in _run(built, number, arguments)]
        if arguments.write:
            report.write(verdicts, runs=number, seconds=time.monotonic() - began)
    return verdicts


async def _main(arguments: argparse.Namespace) -> int:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with ExitStack() as closing:
        folder = Path(closing.enter_context(TemporaryDirectory(prefix="timers-")))
        rabbitmq = closing.enter_context(new_rabbitmq(folder))
        dynamodb = closing.enter_context(new_dynamodb(folder))
        async with world(rabbitmq, dynamodb, arguments.logs or folder) as built:
            verdicts = await _runs(built, arguments)
    print(report.table(verdicts))
    return 1 if any(verdict.details for verdict in verdicts) else 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(_main(_arguments())))
