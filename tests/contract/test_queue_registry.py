"""What every registry of pull queues keeps to."""

from __future__ import annotations

import asyncio

from timers.ports import KnownQueues, QueueRegistry
from timers.timer import QueueName

JOBS = QueueName("default", "jobs")
MAIL = QueueName("default", "mail")


async def test_of_a_new_tenant_nothing_is_known(registry: QueueRegistry) -> None:
    assert await registry.read("acme") == KnownQueues()


async def test_a_queue_is_known_once_it_was_added_and_to_its_tenant_only(registry: QueueRegistry) -> None:
    assert await registry.add(JOBS, most=10)
    assert await registry.add(JOBS, most=10)
    assert (await registry.read("default")).names == {"jobs"}
    assert (await registry.read("acme")).names == frozenset()


async def test_many_queues_added_at_once_are_all_known(registry: QueueRegistry) -> None:
    names = {f"queue-{number}" for number in range(20)}
    assert all(await asyncio.gather(*(registry.add(QueueName("default", name), most=20) for name in names)))
    assert (await registry.read("default")).names == names


async def test_past_the_bound_no_queue_is_added_and_known_ones_stay(registry: QueueRegistry) -> None:
    assert await registry.add(JOBS, most=1)
    assert not await registry.add(MAIL, most=1)
    assert await registry.add(JOBS, most=1)
    assert (await registry.read("default")).names == {"jobs"}


async def test_a_pause_is_remembered_until_it_is_undone(registry: QueueRegistry) -> None:
    await registry.add(JOBS, most=10)
    await registry.pause(JOBS)
    assert (await registry.read("default")).paused == {"jobs"}
    await registry.resume(JOBS)
    assert (await registry.read("default")).paused == frozenset()


async def test_a_removed_queue_is_forgotten_with_its_pause(registry: QueueRegistry) -> None:
    await registry.add(JOBS, most=10)
    await registry.pause(JOBS)
    await registry.add(MAIL, most=10)
    await registry.remove(JOBS)
    assert await registry.read("default") == KnownQueues(frozenset({"mail"}))
