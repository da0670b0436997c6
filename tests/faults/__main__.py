"""``python -m tests.faults [--only NAME] [--repeat N] [--at-once N] [--write] …``: every fault, and its verdict."""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from collections.abc import Iterator
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
    parser.add_argument("--at-once", type=int, default=1, help="how many of them side by side, each in its own world")
    parser.add_argument("--brief", action="store_true", help="shorter phases, as in the tests")
    parser.add_argument("--write", action="store_true", help=f"write {report.PAGE.name}")
    parser.add_argument("--logs", type=Path, help="an existing folder that keeps the processes' logs")
    return parser.parse_args()


class _Series:
    """Runs one after another, in one or several worlds; the page is written after each, as the last may be long."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._numbers: Iterator[int] = iter(range(1, arguments.repeat + 1))
        self._began = time.monotonic()
        self._ended = 0
        self.verdicts: list[Verdict] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._arguments.at_once, self._arguments.repeat)):
                group.create_task(self._in_a_world())

    async def _in_a_world(self) -> None:
        with ExitStack() as closing:
            folder = Path(closing.enter_context(TemporaryDirectory(prefix="timers-")))
            rabbitmq = await asyncio.to_thread(closing.enter_context, new_rabbitmq(folder))
            dynamodb = await asyncio.to_thread(closing.enter_context, new_dynamodb(folder))
            async with world(rabbitmq, dynamodb, self._arguments.logs or folder) as built:
                for number in self._numbers:
                    verdicts = [await self._judge(built, number, name) for name in self._arguments.only or FAULTS]
                    self._keep(verdicts)

    async def _judge(self, built: World, number: int, name: str) -> Verdict:
        length = BRIEF if self._arguments.brief else WHOLE
        verdict = await judge(built, name, FAULTS[name], length, seed=time.time_ns())
        print(number, report.line(verdict), *(f"\n    {sentence}" for sentence in verdict.details), flush=True)
        return verdict

    def _keep(self, verdicts: list[Verdict]) -> None:
        self._ended += 1
        self.verdicts += verdicts
        if self._arguments.write:
            seconds = time.monotonic() - self._began
            report.write(self.verdicts, runs=self._ended, at_once=self._arguments.at_once, seconds=seconds)


async def _main(arguments: argparse.Namespace) -> int:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    series = _Series(arguments)
    await series.run()
    print(report.table(series.verdicts))
    return 1 if any(verdict.details for verdict in series.verdicts) else 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(_main(_arguments())))
