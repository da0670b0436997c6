"""Every fault: what is done to the world, and until when it lasts."""

from __future__ import annotations

import signal
from asyncio import gather, sleep, to_thread
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.faults.load import Load
from tests.faults.moment import now_ms
from tests.faults.target import quick, silent
from tests.faults.world import World
from tests.stack import Member

Inject = Callable[[World, Load, float], Awaitable[float]]
"""Does it for so many seconds, where it has a length; returns when it was over, in epoch milliseconds."""


@dataclass(frozen=True, slots=True)
class Fault:
    """``seconds`` is its length in the whole run, ``briefly`` in the checks; ``aftermath`` how long it may echo."""

    does: str
    inject: Inject
    seconds: float = 0
    briefly: float = 0
    aftermath: float = 8


async def nothing(_: World, __: Load, ___: float) -> float:
    return now_ms()


async def _kill(member: Member) -> float:
    """Kill -9 and start again a little later; the fault is over once it is dead, for others must take over."""
    await to_thread(member.kill)
    killed_ms = now_ms()
    await sleep(2)
    await to_thread(member.start)
    return killed_ms


async def api_killed(world: World, _: Load, __: float) -> float:
    return await _kill(world.apis[0])


async def consumer_killed(world: World, _: Load, __: float) -> float:
    return await _kill(world.consumers[0])


async def keeper_killed(world: World, _: Load, __: float) -> float:
    return await _kill(await world.keeper())


async def broker_stopped(world: World, _: Load, seconds: float) -> float:
    await to_thread(world.rabbitmq.stop)
    await sleep(seconds)
    await to_thread(world.rabbitmq.start)
    return now_ms()


async def broker_killed(world: World, _: Load, __: float) -> float:
    await to_thread(world.rabbitmq.kill)
    await to_thread(world.rabbitmq.start)
    return now_ms()


async def broker_wiped(world: World, _: Load, __: float) -> float:
    await to_thread(world.rabbitmq.wipe)
    return now_ms()


async def table_stopped(world: World, _: Load, seconds: float) -> float:
    await to_thread(world.dynamodb.stop)
    await sleep(seconds)
    await to_thread(world.dynamodb.start)
    return now_ms()


async def table_killed(world: World, _: Load, __: float) -> float:
    await to_thread(world.dynamodb.kill)
    await to_thread(world.dynamodb.start)
    return now_ms()


async def table_frozen(world: World, _: Load, seconds: float) -> float:
    await to_thread(world.dynamodb.pause)
    await sleep(seconds)
    await to_thread(world.dynamodb.resume)
    return now_ms()


async def connections_cut(world: World, _: Load, seconds: float) -> float:
    """Reset every connection to broker and table, several times."""
    for _second in range(round(seconds)):
        world.table.cut()
        world.broker.cut()
        await sleep(1)
    return now_ms()


async def connections_dead(world: World, _: Load, seconds: float) -> float:
    """Nothing arrives and nothing closes; then every connection is reset."""
    for side in (world.table, world.broker):
        side.hold()
    await sleep(seconds)
    for side in (world.table, world.broker):
        side.cut()
        side.release()
    return now_ms()


async def target_slow(_: World, load: Load, seconds: float) -> float:
    await load.flood(round(50 * seconds))
    return now_ms()


async def target_silent(world: World, load: Load, seconds: float) -> float:
    world.target.scripts["silent"] = silent
    await load.flood(round(20 * seconds), to_silent=True)
    await sleep(seconds)
    world.target.scripts["silent"] = quick
    return now_ms()


async def rolled(world: World, _: Load, __: float) -> float:
    """Stop and start every process, one after the other."""
    for member in world.members:
        code = await to_thread(member.stop)
        assert code in {0, -signal.SIGTERM}, f"ended with {code}:\n{member.log()[-2000:]}"
        await to_thread(member.start)
    return now_ms()


async def consumer_frozen(world: World, _: Load, seconds: float) -> float:
    """Freeze a consumer for longer than the lease of any of its timers, and let it go on."""
    world.consumers[0].signal(signal.SIGSTOP)
    await sleep(seconds)
    world.consumers[0].signal(signal.SIGCONT)
    return now_ms()


async def all_killed(world: World, _: Load, __: float) -> float:
    """Kill every process of the service at once, as a power cut would, and start them again."""
    await gather(*(to_thread(member.kill) for member in world.members))
    await gather(*(to_thread(member.start) for member in world.members))
    return now_ms()


FAULTS: Final[Mapping[str, Fault]] = {
    "none": Fault("Nothing; for comparison.", nothing, aftermath=8),
    "api killed": Fault("`kill -9` of one api of two.", api_killed),
    "consumer killed": Fault("`kill -9` of one consumer of three.", consumer_killed, aftermath=14),
    "keeper killed": Fault("`kill -9` of the consumer that keeps the most shards.", keeper_killed, aftermath=14),
    "all killed": Fault("`kill -9` of every api and consumer at once, restarted.", all_killed, aftermath=14),
    "broker stopped": Fault("RabbitMQ stopped and started again.", broker_stopped, seconds=10, briefly=10),
    "broker killed": Fault("`kill -9` of RabbitMQ, started again.", broker_killed),
    "broker wiped": Fault("RabbitMQ killed and started empty: every queue is gone.", broker_wiped),
    "table stopped": Fault("The table server stopped and started again.", table_stopped, seconds=10, briefly=10),
    "table killed": Fault("`kill -9` of the table server, started again.", table_killed),
    "table frozen": Fault("The table server frozen: it accepts and never answers.", table_frozen, 12, 6),
    "connections cut": Fault("All connections to broker and table reset, once a second.", connections_cut, 5, 3),
    "connections dead": Fault(
        "All connections to broker and table carry nothing, then are reset.", connections_dead, 10, 6
    ),
    "target slow": Fault("A flood of timers on a target that takes a second.", target_slow, 10, 4),
    "target silent": Fault("A flood of timers on a target that never answers; then it does.", target_silent, 10, 4),
    "rolled": Fault("SIGTERM and start of every process in turn.", rolled),
    "consumer frozen": Fault(
        "One consumer frozen for longer than its leases last, then let go on.", consumer_frozen, 25, 15
    ),
}
