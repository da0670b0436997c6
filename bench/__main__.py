"""``python -m bench``: measures the running native stack; ``./setup.sh bench`` sees to it that one runs."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from bench import page
from bench.calls import Calls
from bench.http import Pool, connected
from bench.machine import taken
from bench.peers import catalogue
from bench.plan import FULL, KINDS, QUICK, Plan
from bench.processes import ROOT, free_port, listening, running
from bench.results import Outcome, Report
from bench.service import Installation, NotRunning, service
from bench.table import line, table
from bench.workloads import Bench

RESULTS = ROOT / "bench" / "results"
_SINK_S = 10.0


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./setup.sh bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="everything small, once: about a minute")
    parser.add_argument("--rounds", type=int, help="how often everything is done")
    parser.add_argument("--only", default="", help="of " + ",".join(KINDS))
    parser.add_argument(
        "--peers",
        nargs="?",
        const=",".join(catalogue.NAMES),
        default="",
        help="the same work through others, all of them or of " + ",".join(catalogue.NAMES),
    )
    parser.add_argument(
        "--million", nargs="?", const=1_000_000, type=int, metavar="N", help="instead: with a million timers pending"
    )
    parser.add_argument(
        "--publish", nargs="?", const="", metavar="FILE", help="instead: write the documents from a run's file"
    )
    chosen = parser.parse_args(words)
    for given, known in ((chosen.only, KINDS), (chosen.peers, catalogue.NAMES)):
        unknown = set(filter(None, given.split(","))) - set(known)
        if unknown:
            parser.error(f"{', '.join(sorted(unknown))}: there is only {', '.join(known)}")
    return chosen


async def run(chosen: argparse.Namespace, installation: Installation, outcomes: list[Outcome]) -> None:
    """Measure, and say so as it goes; SIGINT and SIGTERM cut it short, all cleaned up."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    sizes = QUICK if chosen.quick else FULL
    if chosen.rounds:
        sizes = replace(sizes, rounds=chosen.rounds)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="timers-bench-")))
        calls = Calls(await stack.enter_async_context(_sink(folder)))
        ours = await stack.enter_async_context(service(installation))
        names = list(filter(None, chosen.peers.split(",")))
        peers = await stack.enter_async_context(catalogue.peers(names, folder))
        bench = Bench(f"bench-{datetime.now(UTC):%H%M%S}", calls, {})
        only = set(filter(None, chosen.only.split(","))) or set(KINDS)
        plan = Plan(sizes, only, ours, peers, bench, lambda done: print(line(done), flush=True), outcomes)
        await (plan.pending(chosen.million) if chosen.million else plan.run())


@asynccontextmanager
async def _sink(folder: Path) -> AsyncIterator[Pool]:
    """Run the sink and connect to it."""
    port = free_port()
    with running([sys.executable, "-m", "bench.sink", str(port)], log=folder / "sink.log"):
        async with asyncio.timeout(_SINK_S):
            while not listening(port):  # noqa: ASYNC110 - a process tells nobody that it listens
                await asyncio.sleep(0.05)
        async with connected(port, 1) as pool:
            yield pool


def main() -> int:
    chosen = arguments(sys.argv[1:])
    if chosen.publish is not None:
        page.publish(Path(chosen.publish) if chosen.publish else max(RESULTS.glob("2*.json")))
        return 0
    outcomes: list[Outcome] = []
    try:
        installation = Installation()
        about = taken(installation.settings, " ".join(sys.argv[1:]))
        uvloop.run(run(chosen, installation, outcomes))
    except NotRunning as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("cut short", file=sys.stderr)
        return 1
    report = Report(about, outcomes)
    print(*table(report), sep="\n")
    path = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    report.save(path)
    print(f"\nkept in {path.relative_to(ROOT)}; ./setup.sh bench --publish writes the documents from it")
    return 1 if report.voids() else 0


if __name__ == "__main__":
    sys.exit(main())
