"""Every fault: what is done to the world, and for how long."""

from __future__ import annotations

import signal
from asyncio import gather, sleep, to_thread
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.faults.load import Load
from tests.faults.target import quick, silent
from tests.faults.world import World

Inject = Callable[[World, Load, float], Awaitable[object]]
"""Does it for so many seconds, where it has a length; it is over when this returns."""


@dataclass(frozen=True, slots=True)
class Fault:
    """``seconds`` is its length in the whole run, ``briefly`` in the checks; ``aftermath`` how long it may echo."""

    does: str
    inject: Inject
    seconds: float = 0
    briefly: float = 0
    aftermath: float = 8


async def lasting(seconds: float, begin: Callable[[], None], end: Callable[[], None]) -> None:
    await to_thread(begin)
    await sleep(seconds)
    await to_thread(end)


async def keeper_killed(world: World, _: Load, __: float) -> None:
    keeper = await world.keeper()
    await to_thread(keeper.kill)


async def all_killed(world: World, _: Load, __: float) -> None:
    await gather(*(to_thread(member.kill) for member in world.members))
    await gather(*(to_thread(member.start) for member in world.members))


async def connections_cut(world: World, _: Load, seconds: float) -> None:
    for _second in range(round(seconds)):
        world.table.cut()
        world.broker.cut()
        await sleep(1)


async def connections_dead(world: World, _: Load, seconds: float) -> None:
    for side in (world.table, world.broker):
        side.hold()
    await sleep(seconds)
    for side in (world.table, world.broker):
        side.cut()
        side.release()


async def target_silent(world: World, load: Load, seconds: float) -> None:
    world.target.scripts["silent"] = silent
    await load.flood(round(20 * seconds), to_silent=True)
    await sleep(seconds)
    world.target.scripts["silent"] = quick


async def rolled(world: World, _: Load, __: float) -> None:
    for member in world.members:
        code = await to_thread(member.stop)
        assert code in {0, -signal.SIGTERM}, f"ended with {code}:\n{member.log()[-2000:]}"
        await to_thread(member.start)


FAULTS: Final[Mapping[str, Fault]] = {
    "none": Fault("Nothing; for comparison.", lambda *_: sleep(0)),
    "api killed": Fault("`kill -9` of one api of two.", lambda world, *_: to_thread(world.apis[0].kill)),
    "consumer killed": Fault(
        "`kill -9` of one consumer of three.",
        lambda world, *_: to_thread(world.consumers[0].kill),
        aftermath=14,
    ),
    "keeper killed": Fault("`kill -9` of the consumer that keeps the most shards.", keeper_killed, aftermath=14),
    "all killed": Fault("`kill -9` of every api and consumer at once, restarted.", all_killed, aftermath=14),
    "broker stopped": Fault(
        "RabbitMQ stopped and started again.",
        lambda world, _, seconds: lasting(seconds, world.rabbitmq.stop, world.rabbitmq.start),
        seconds=10,
        briefly=10,
    ),
    "broker killed": Fault(
        "`kill -9` of RabbitMQ, started again.",
        lambda world, _, seconds: lasting(seconds, world.rabbitmq.kill, world.rabbitmq.start),
    ),
    "broker wiped": Fault(
        "RabbitMQ killed and started empty: every queue is gone.",
        lambda world, *_: to_thread(world.rabbitmq.wipe),
    ),
    "table stopped": Fault(
        "The table server stopped and started again.",
        lambda world, _, seconds: lasting(seconds, world.dynamodb.stop, world.dynamodb.start),
        seconds=10,
        briefly=10,
    ),
    "table killed": Fault(
        "`kill -9` of the table server, started again.",
        lambda world, _, seconds: lasting(seconds, world.dynamodb.kill, world.dynamodb.start),
    ),
    "table frozen": Fault(
        "The table server frozen: it accepts and never answers.",
        lambda world, _, seconds: lasting(seconds, world.dynamodb.pause, world.dynamodb.resume),
        seconds=12,
        briefly=6,
    ),
    "connections cut": Fault(
        "All connections to broker and table reset, once a second.", connections_cut, seconds=5, briefly=3
    ),
    "connections dead": Fault(
        "All connections to broker and table carry nothing, then are reset.", connections_dead, seconds=10, briefly=6
    ),
    "target slow": Fault(
        "A flood of timers on a target that takes a second.",
        lambda _, load, seconds: load.flood(round(50 * seconds)),
        seconds=10,
        briefly=4,
    ),
    "target silent": Fault(
        "A flood of timers on a target that never answers; then it does.", target_silent, seconds=10, briefly=4
    ),
    "rolled": Fault("SIGTERM and start of every process in turn.", rolled),
    "consumer frozen": Fault(
        "One consumer frozen for longer than its leases last, then let go on.",
        lambda world, _, seconds: lasting(seconds, world.consumers[0].pause, world.consumers[0].resume),
        seconds=25,
        briefly=15,
    ),
}
