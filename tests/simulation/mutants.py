"""The guards, each removed on purpose: what the simulation must notice."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from consumer import handler, keeper, shards, worker
from consumer.gate import Gate
from infra import batching
from infra.dynamodb import statements, store
from timers import leasing, retry, service, settle, state, timer
from timers.errors import Conflict
from timers.state import Event, State

Removed = AbstractContextManager[object]
MUTANTS: dict[str, Callable[[], Removed]] = {}


def _mutant(make: Callable[[], Removed]) -> Callable[[], Removed]:
    MUTANTS[make.__name__.replace("_", " ")] = make
    return make


async def _nothing(*_: object, **__: object) -> None: ...


# The table's conditions


def _dropping(names: Sequence[str], *, of_claims: bool) -> Removed:
    def update(table: str, item_id: str, changed: Any, expected: Any, *, returning: bool = False) -> Any:
        if returning is of_claims:
            expected = {name: value for name, value in expected.items() if name not in names}
        return statements.update(table, item_id, changed, expected, returning=returning)

    return patch.object(store, "update", update)


@_mutant
def save_without_the_version() -> Removed:
    return _dropping(["version"], of_claims=False)


@_mutant
def claim_without_the_version() -> Removed:
    return _dropping(["version"], of_claims=True)


@_mutant
def claim_without_any_condition() -> Removed:
    return _dropping(["version", "state"], of_claims=True)


@_mutant
def settle_whatever_the_table_says() -> Removed:
    real = store.DynamoTimerStore.save

    async def save(self: Any, before: Any, after: Any) -> None:
        if before.state is State.FIRING:
            before = await self.get(before.id)
            after = replace(after, version=before.version + 1)
        await real(self, before, after)

    return patch.object(store.DynamoTimerStore, "save", save)


@_mutant
def a_lost_answer_taken_for_a_conflict() -> Removed:
    async def recognise(self: Any, item_id: str, *_: object) -> None:
        raise Conflict(item_id)

    return patch.object(store.DynamoTimerStore, "_recognise", recognise)


@_mutant
def a_lost_answer_taken_for_success() -> Removed:
    async def recognise(self: Any, item_id: str, *_: object) -> Any:
        return await self._read(item_id)

    return patch.object(store.DynamoTimerStore, "_recognise", recognise)


@_mutant
def answers_of_a_batch_mixed_up() -> Removed:
    real = statements.Statements._execute

    async def execute(self: Any, batch: Any) -> Any:
        return list(reversed(await real(self, batch)))

    return patch.object(statements.Statements, "_execute", execute)


@_mutant
def answered_before_the_batch_has_landed() -> Removed:
    real = batching.Batcher.submit

    async def submit(self: Any, request: Any) -> Any:
        if isinstance(request, statements.Statement) and "RETURNING" not in request.text:
            asyncio.ensure_future(real(self, request)).add_done_callback(lambda done: done.exception())
            return None
        return await real(self, request)

    return patch.object(batching.Batcher, "submit", submit)


# The api


@_mutant
def an_edit_that_lost_the_race_is_acknowledged() -> Removed:
    real = service.Timers._save

    async def save(self: Any, before: Any, after: Any) -> Any:
        with suppress(Conflict):
            return await real(self, before, after)
        return after

    return patch.object(service.Timers, "_save", save)


@_mutant
def acknowledged_from_memory() -> Removed:
    async def save(self: Any, before: Any, after: Any) -> Any:
        self._announce(after)
        return after

    return patch.object(service.Timers, "_save", save)


@_mutant
def if_match_ignored() -> Removed:
    return patch.object(service.Precondition, "check", lambda *_: None)


@_mutant
def a_firing_timer_can_be_cancelled() -> Removed:
    return patch.dict(state.TRANSITIONS[State.FIRING], {Event.CANCEL: State.CANCELLED})


@_mutant
def a_delivered_timer_can_be_replayed() -> Removed:
    return patch.dict(state.TRANSITIONS[State.DELIVERED], {Event.REPLAY: State.SCHEDULED})


@_mutant
def the_api_does_not_publish() -> Removed:
    return patch.object(service.Timers, "_announce", lambda *_: None)


# The consumer


@_mutant
def acknowledged_before_it_is_settled() -> Removed:
    async def acknowledge(self: Any, delivery: Any, work: Any) -> None:
        delivery.ack()
        with suppress(Exception):
            await work

    return patch.object(worker.Worker, "_acknowledge", acknowledge)


@_mutant
def acknowledged_between_call_and_settle() -> Removed:
    """Settles in a task of its own, while the message is acknowledged."""
    real = handler.Handler._settle

    async def settle_later(self: Any, before: Any, after: Any) -> None:
        tasks.append(asyncio.ensure_future(real(self, before, after)))

    tasks: list[object] = []
    return patch.object(handler.Handler, "_settle", settle_later)


@_mutant
def started_early() -> Removed:
    return patch.object(handler.Handler, "_wait_until", _nothing)


@_mutant
def called_though_the_lease_is_nearly_over() -> Removed:
    return patch.object(handler, "_lease_covers_call", lambda *_: True)


@_mutant
def the_lease_without_the_clocks_skew() -> Removed:
    def lease_over(self: Any, now_ms: int) -> bool:
        return self.state is State.FIRING and now_ms > self.lease_until_ms

    return patch.object(timer.Timer, "lease_over", lease_over)


@_mutant
def the_lease_ignored() -> Removed:
    return patch.object(timer.Timer, "lease_over", lambda self, now_ms: self.state is State.FIRING)


@_mutant
def the_next_attempt_is_not_published() -> Removed:
    return patch.object(handler.Handler, "_publish_next", _nothing)


@_mutant
def the_policy_ignored() -> Removed:
    return patch.object(settle, "decide", _decide_forever)


def _decide_forever(policy: Any, made: int, answer: Any, **options: Any) -> Any:
    return retry.decide(replace(policy, max_attempts=1_000), made, answer, **options)


@_mutant
def a_lost_attempt_is_not_counted() -> Removed:
    def lost_attempt(self: Any) -> Any:
        return replace(real(self), number=self.attempts_made)

    real = timer.Timer.lost_attempt
    return patch.object(timer.Timer, "lost_attempt", lost_attempt)


@_mutant
def no_bound_on_lost_attempts() -> Removed:
    return patch.object(settle, "_LOST_ALLOWED", 1_000)


@_mutant
def the_gate_stands_open() -> Removed:
    return patch.object(Gate, "_admits", lambda *_: True)


@_mutant
def a_call_never_leaves_the_gate() -> Removed:
    return patch.object(Gate, "leave", lambda *_: None)


@_mutant
def a_shut_target_stays_shut() -> Removed:
    def learn(self: Any, key: str, target: Any, called: Any) -> None:
        real(self, key, target, called)
        if target.shut:
            target.shut_until = math.inf

    real = Gate._learn
    return patch.object(Gate, "_learn", learn)


@_mutant
def held_hints_forgotten() -> Removed:
    return patch.object(worker.Worker, "_set_alarm", lambda *_: None)


# The keeper


@_mutant
def the_keeper_does_not_load() -> Removed:
    return patch.object(keeper.Keeper, "_load", _nothing)


@_mutant
def the_keeper_does_not_re_drive() -> Removed:
    return patch.object(keeper.Keeper, "_redrive", _nothing)


@_mutant
def the_keeper_does_not_take_over() -> Removed:
    return patch.object(keeper.Keeper, "_take_over", _nothing)


@_mutant
def the_keeper_does_not_end_leases() -> Removed:
    return patch.object(keeper.Keeper, "_end_leases", _nothing)


# The pull queues


@_mutant
def any_token_settles_a_lease() -> Removed:
    return patch.object(timer.Timer, "leased_as", lambda self, _: self.lease is not None)


@_mutant
def a_lease_that_was_lost_to_another_is_handed_out() -> Removed:
    async def take(self: Any, taken: Any, lease_ms: int) -> Any:
        now_ms = self._clock.now_ms()
        leased = taken.leased(timer.Lease(f"{self._random.getrandbits(128):032x}", now_ms), now_ms + lease_ms)
        with suppress(Conflict):
            await self._store.save(taken, leased)
        return leased

    return patch.object(leasing.Taker, "take", take)


@_mutant
def a_dead_keeper_keeps_its_shards() -> Removed:
    return patch.object(shards.Shards, "_alive", lambda self, lease: lease.owner != "")


@contextmanager
def broken_by(name: str) -> Iterator[None]:
    """Remove a guard for the duration."""
    with MUTANTS[name]():
        yield
