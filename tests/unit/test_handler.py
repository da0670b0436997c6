"""One hint, from due to done."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from consumer.gate import Called
from consumer.handler import Handler
from infra.memory import MemoryTimerStore
from infra.vault import AesVault, LocalKeys
from tests.builders import NOW_MS, Answers, FakeClock, RecordingQueue, Unobserving, make_target, make_timer
from timers.errors import BrokenTimer, Unavailable
from timers.ports import Action, Call
from timers.retry import Answer, RetryPolicy
from timers.sealing import seal
from timers.secret import Sealed
from timers.signing import FixedSigners
from timers.state import State
from timers.target import HttpTarget
from timers.timer import Hint, Timer

HOUR_MS = 3_600_000
STEADY = RetryPolicy(max_attempts=3, jitter=0)


class PatchyStore(MemoryTimerStore):
    """A store whose next calls of a kind fail; a write that is ``lost`` happens and is not confirmed."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: dict[str, int] = {}
        self.lost: dict[str, int] = {}

    async def get(self, timer_id: str) -> Timer:
        self._fail("get")
        return await super().get(timer_id)

    async def save(self, before: Timer, after: Timer) -> None:
        self._fail("save")
        await super().save(before, after)
        self._lose("save")

    async def claim(self, timer_id: str, version: int, *, now_ms: int, lease_until_ms: int) -> Timer | None:
        self._fail("claim")
        claimed = await super().claim(timer_id, version, now_ms=now_ms, lease_until_ms=lease_until_ms)
        self._lose("claim")
        return claimed

    def _fail(self, kind: str) -> None:
        if self.failures.get(kind, 0):
            self.failures[kind] -= 1
            raise Unavailable("dynamodb")

    def _lose(self, kind: str) -> None:
        if self.lost.get(kind, 0):
            self.lost[kind] -= 1
            raise Unavailable("dynamodb")


class Scene:
    """A handler over one timer that is due now."""

    def __init__(self, *script: Answer | int, seconds: float = 0.0) -> None:
        self.clock = FakeClock()
        self.store = PatchyStore()
        self.queue = RecordingQueue()
        self.callbacks = Answers(script or [200], clock=self.clock, seconds=seconds)
        self.observer = Unobserving()
        self.handler = Handler(self.store, self.queue, self.callbacks, self.clock, Random(1), HOUR_MS, self.observer)

    async def given(self, timer: Timer) -> Hint:
        await self.store.create(timer)
        return timer.hint

    async def handle(self, hint: Hint, *, redelivered: bool) -> Called | None:
        """Handle a hint and return how its call went."""
        left: list[Called | None] = []
        await self.handler.handle(hint, redelivered=redelivered, leave=left.append)
        assert len(left) == 1
        return left[0]

    async def stored(self) -> Timer:
        self.store.failures.clear()
        return await self.store.get("timer-1")

    @property
    def calls(self) -> list[Call]:
        return [call for _, call in self.callbacks.calls]


async def test_a_timer_that_is_due_is_called_once_and_delivered() -> None:
    scene = Scene(200)
    hint = await scene.given(make_timer())
    await scene.handle(hint, redelivered=False)
    stored = await scene.stored()
    assert (stored.state, stored.version, stored.attempts_made, stored.lease_until_ms) == (State.DELIVERED, 3, 1, 0)
    assert [call.headers["webhook-id"] for call in scene.calls] == ["timer-1"]
    assert not scene.queue.taken


async def test_the_call_starts_when_it_is_due_and_not_before() -> None:
    scene = Scene(200)
    hint = await scene.given(make_timer(due_at_ms=NOW_MS + 10))
    await scene.handle(hint, redelivered=False)
    assert [at_ms for at_ms, _ in scene.callbacks.calls] == [NOW_MS + 10]
    assert (await scene.stored()).attempts[0].lateness_ms == 0


async def test_how_the_call_went_is_told_for_the_gate() -> None:
    called = await Scene(200).handle(make_timer("nobody").hint, redelivered=False)
    assert called is None
    for answer, well in [(Answer(200), True), (Answer(404), True), (Answer(500), False), (Answer(error="dns"), False)]:
        scene = Scene(answer, seconds=2.0)
        called = await scene.handle(await scene.given(make_timer()), redelivered=False)
        assert called is not None
        assert (called.seconds, called.well) == (2.0, well)


@pytest.mark.parametrize(
    "timer",
    [
        make_timer(version=2),
        make_timer(version=2, state=State.CANCELLED),
        make_timer(version=3, state=State.DELIVERED),
        make_timer(version=2, state=State.FIRING, lease_until_ms=NOW_MS + 1_000),
    ],
    ids=lambda timer: timer.state,
)
async def test_a_stale_hint_calls_nobody_and_changes_nothing(timer: Timer) -> None:
    scene = Scene()
    await scene.given(timer)
    await scene.handle(make_timer().hint, redelivered=False)
    assert (await scene.stored(), scene.calls, scene.queue.taken) == (timer, [], [])


@pytest.mark.parametrize("redelivered", [False, True])
async def test_a_hint_for_a_timer_that_is_gone_is_forgotten(redelivered: bool) -> None:
    scene = Scene()
    await scene.handle(make_timer().hint, redelivered=redelivered)
    assert (scene.calls, scene.queue.taken) == ([], [])
    assert scene.observer.drops == ["stale"]


@pytest.mark.parametrize("state", [State.CANCELLED, State.DELIVERED, State.SCHEDULED])
async def test_a_redelivered_stale_hint_is_forgotten_too(state: State) -> None:
    scene = Scene()
    timer = make_timer(version=2, state=state)
    await scene.given(timer)
    await scene.handle(make_timer().hint, redelivered=True)
    assert (await scene.stored(), scene.calls, scene.queue.taken) == (timer, [], [])


async def test_a_redelivered_hint_waits_for_the_lease_of_who_claimed_it() -> None:
    scene = Scene()
    await scene.given(make_timer(version=2, state=State.FIRING, lease_until_ms=NOW_MS + 1_000))
    await scene.handle(make_timer().hint, redelivered=True)
    ((hint, at_ms),) = scene.queue.taken
    assert (hint.version, hint.bounces) == (1, 1)
    assert at_ms > NOW_MS + 1_000 + 5_000
    assert not scene.calls


async def test_when_the_lease_is_over_the_timer_is_scheduled_again() -> None:
    scene = Scene()
    await scene.given(make_timer(version=2, state=State.FIRING, lease_until_ms=NOW_MS - 5_001))
    await scene.handle(make_timer().hint, redelivered=True)
    stored = await scene.stored()
    assert (stored.state, stored.version, stored.attempts_made) == (State.SCHEDULED, 3, 1)
    assert scene.queue.hints == [stored.hint]
    assert not scene.calls


async def test_a_hint_that_waited_for_a_lease_comes_back_when_it_is_over() -> None:
    scene = Scene()
    await scene.given(make_timer(version=2, state=State.FIRING, lease_until_ms=NOW_MS + 1_000))
    await scene.handle(make_timer().hint, redelivered=True)
    ((hint, at_ms),) = scene.queue.taken
    scene.clock.advance((at_ms - NOW_MS) / 1000)
    await scene.handle(hint, redelivered=False)
    assert (await scene.stored()).state is State.SCHEDULED


@pytest.mark.parametrize("failing", ["claim", "get"])
async def test_while_the_table_is_away_a_hint_goes_round_again(failing: str) -> None:
    scene = Scene()
    hint = await scene.given(make_timer())
    if failing == "get":
        await scene.store.save(make_timer(), make_timer().claimed(NOW_MS + 1_000, NOW_MS))
    scene.store.failures[failing] = 1
    await scene.handle(hint, redelivered=True)
    ((again, at_ms),) = scene.queue.taken
    assert (again.version, again.at_ms, again.bounces, at_ms) == (1, hint.at_ms, 1, NOW_MS + 2_000)
    assert not scene.calls


async def test_a_claim_whose_answer_was_lost_is_not_lost_for_ever() -> None:
    scene = Scene()
    hint = await scene.given(make_timer())
    scene.store.lost["claim"] = 1
    handled = 0
    while (await scene.stored()).state is not State.DELIVERED:
        await scene.handle(hint, redelivered=False)
        hint, at_ms = scene.queue.taken.pop() if scene.queue.taken else (hint, NOW_MS)
        scene.clock.advance(max(0, at_ms - scene.clock.now_ms()) / 1000)
        handled += 1
        assert handled < 10
    assert len(scene.calls) == 1


async def test_an_outcome_whose_answer_was_lost_is_known_as_stored_and_the_next_attempt_published() -> None:
    scene = Scene(500)
    hint = await scene.given(make_timer(retry=STEADY))
    scene.store.lost["save"] = 1
    await scene.handle(hint, redelivered=False)
    stored = await scene.stored()
    assert stored.state is State.SCHEDULED
    assert scene.queue.hints == [stored.hint]


class BrokenStore(PatchyStore):
    """A store in which the timer is something else."""

    async def claim(self, timer_id: str, version: int, *, now_ms: int, lease_until_ms: int) -> Timer | None:
        raise BrokenTimer(timer_id)


async def test_what_is_no_timer_is_passed_over() -> None:
    scene = Scene()
    scene.handler = replace(scene.handler, store=BrokenStore())
    assert await scene.handle(make_timer().hint, redelivered=False) is None
    assert not scene.calls
    assert not scene.queue.hints


async def test_an_outcome_is_written_again_until_the_table_takes_it() -> None:
    scene = Scene(200)
    hint = await scene.given(make_timer())
    scene.store.failures["save"] = 7
    await scene.handle(hint, redelivered=False)
    assert (await scene.stored()).state is State.DELIVERED
    assert len(scene.calls) == 1


async def test_an_outcome_that_cannot_be_written_is_let_go_when_its_lease_is_over() -> None:
    scene = Scene(200)
    hint = await scene.given(make_timer())
    scene.store.failures["save"] = 1_000
    await scene.handle(hint, redelivered=False)
    stored = await scene.stored()
    assert stored.state is State.FIRING
    assert stored.lease_over(scene.clock.now_ms())


async def test_a_failed_call_is_put_on_the_wheel_again() -> None:
    scene = Scene(500)
    hint = await scene.given(make_timer(retry=STEADY))
    await scene.handle(hint, redelivered=False)
    stored = await scene.stored()
    assert (stored.state, stored.next_attempt_at_ms) == (State.SCHEDULED, NOW_MS + 1_000)
    assert scene.queue.hints == [stored.hint]


async def test_a_retry_beyond_the_horizon_is_left_to_the_keeper() -> None:
    scene = Scene(500)
    hint = await scene.given(make_timer(retry=RetryPolicy(min_backoff=3_601, max_backoff=9_999, jitter=0)))
    await scene.handle(hint, redelivered=False)
    assert (await scene.stored()).next_attempt_at_ms == NOW_MS + 3_601_000
    assert not scene.queue.taken


async def test_a_target_that_fails_is_called_until_its_last_attempt_with_growing_gaps() -> None:
    scene = Scene(500, Answer(error="timeout"), 503)
    hint = await scene.given(make_timer(retry=STEADY))
    while (await scene.stored()).state is State.SCHEDULED:
        await scene.handle(hint, redelivered=False)
        hint = (await scene.stored()).hint
    assert [at_ms - NOW_MS for at_ms, _ in scene.callbacks.calls] == [0, 1_000, 3_000]
    assert [call.headers["timer-attempt"] for call in scene.calls] == ["1", "2", "3"]
    stored = await scene.stored()
    assert stored.state is State.DEAD
    assert [attempt.status for attempt in stored.attempts] == [500, None, 503]


@pytest.mark.parametrize("answer", [Answer(410), Answer(500, stop=True)])
async def test_a_target_that_wants_no_more_is_called_once(answer: Answer) -> None:
    scene = Scene(answer)
    await scene.handle(await scene.given(make_timer()), redelivered=False)
    assert ((await scene.stored()).state, len(scene.calls), scene.queue.taken) == (State.DEAD, 1, [])


async def test_a_busy_target_is_called_when_it_said() -> None:
    scene = Scene(Answer(429, retry_after_ms=7_000))
    await scene.handle(await scene.given(make_timer()), redelivered=False)
    assert (await scene.stored()).next_attempt_at_ms == NOW_MS + 7_000


async def test_the_lease_covers_the_call_from_its_planned_start() -> None:
    scene = Scene(200, seconds=1.0)
    timer = make_timer(due_at_ms=NOW_MS + 10, target=make_target(timeout=30.0))
    hint = await scene.given(timer)
    claimed: list[Timer] = []
    save = scene.store.save

    async def spy(before: Timer, after: Timer) -> None:
        claimed.append(before)
        await save(before, after)

    scene.store.save = spy  # type: ignore[method-assign]
    await scene.handle(hint, redelivered=False)
    assert claimed[0].lease_until_ms == NOW_MS + 10 + 30_000 + 5_000


async def test_who_was_held_up_after_the_claim_makes_no_call_and_gives_the_timer_back() -> None:
    scene = Scene(200)
    hint = await scene.given(make_timer())
    claim = scene.store.claim

    async def held_up(timer_id: str, version: int, *, now_ms: int, lease_until_ms: int) -> Timer | None:
        claimed = await claim(timer_id, version, now_ms=now_ms, lease_until_ms=lease_until_ms)
        scene.clock.advance(4.0)
        return claimed

    scene.store.claim = held_up  # type: ignore[method-assign]
    assert await scene.handle(hint, redelivered=False) is None
    stored = await scene.stored()
    assert (stored.state, stored.attempts_made, scene.calls) == (State.SCHEDULED, 0, [])
    assert scene.queue.hints == [stored.hint]


async def test_an_outcome_that_somebody_else_has_overtaken_is_dropped() -> None:
    scene = Scene(200)
    hint = await scene.given(make_timer())
    invoke = scene.callbacks.invoke

    async def overtaken(action: Action) -> Answer:
        claimed = await scene.stored()
        await scene.store.save(claimed, claimed.lapsed(claimed.lost_attempt(), NOW_MS, NOW_MS))
        return await invoke(action)

    scene.callbacks.invoke = overtaken  # type: ignore[method-assign]
    await scene.handle(hint, redelivered=False)
    assert ((await scene.stored()).state, (await scene.stored()).version) == (State.SCHEDULED, 3)


async def test_a_hint_that_came_long_before_its_time_is_sent_on_unchanged() -> None:
    scene = Scene()
    hint = make_timer(due_at_ms=NOW_MS + 60_000).hint
    await scene.handler.forward(hint)
    assert scene.queue.taken == [(hint, NOW_MS + 60_000)]


VAULT = AesVault([LocalKeys({"k1": bytes(32)})])
SECRET = make_target(headers={"x-team": "billing"}, secrets={"authorization": "Bearer hunter2"})


async def test_a_call_has_its_secrets_and_the_store_never() -> None:
    scene = Scene(503, 200)
    scene.handler = replace(scene.handler, vault=VAULT)
    hint = await scene.given(await seal(make_timer(target=SECRET), VAULT))
    await scene.handle(hint, redelivered=False)
    assert scene.calls[0].headers.items() >= {"x-team": "billing", "authorization": "Bearer hunter2"}.items()
    stored = await scene.stored()
    assert isinstance(stored.target, HttpTarget)
    assert (stored.state, dict(stored.target.headers)) == (State.SCHEDULED, {"x-team": "billing"})
    assert isinstance(stored.target.secrets["authorization"], Sealed)


@pytest.mark.parametrize(
    ("vault", "error"),
    [
        (AesVault([LocalKeys({"k2": bytes(32)})]), "secret: the key 'k1' is not in TIMERS_ENCRYPTION_KEYS"),
        (AesVault([LocalKeys({"k1": bytes(31) + b"1"})]), "secret: it is not what was stored here"),
        (None, "secret: TIMERS_ENCRYPTION_KEYS is not set here"),
    ],
    ids=["key gone", "other key", "no keys"],
)
async def test_a_secret_that_cannot_be_read_ends_the_attempt_without_a_call(vault: AesVault | None, error: str) -> None:
    scene = Scene(200)
    scene.handler = replace(scene.handler, vault=vault)
    hint = await scene.given(await seal(make_timer(target=SECRET, retry=STEADY), VAULT))
    assert await scene.handle(hint, redelivered=False) is None
    stored = await scene.stored()
    assert (stored.state, stored.attempts[0].error, stored.attempts[0].status) == (State.SCHEDULED, error, None)
    assert scene.queue.hints == [stored.hint]
    assert not scene.calls


class NoSigners(FixedSigners):
    """What signs cannot be known."""

    async def secrets(self, tenant: str, secret_id: str | None) -> Sequence[bytes]:
        raise Unavailable("dynamodb")


@pytest.mark.parametrize(
    ("signers", "error"),
    [
        (FixedSigners(), "signature: no signing secret in force has the id 'k'"),
        (NoSigners(), "signature: dynamodb is not available"),
    ],
    ids=["retired", "table away"],
)
async def test_a_call_that_cannot_be_signed_is_not_made(signers: FixedSigners, error: str) -> None:
    scene = Scene(200)
    scene.handler = replace(scene.handler, signers=signers)
    hint = await scene.given(make_timer(target=make_target(signing_key="k"), retry=STEADY))
    assert await scene.handle(hint, redelivered=False) is None
    stored = await scene.stored()
    assert (stored.state, stored.attempts[0].error) == (State.SCHEDULED, error)
    assert not scene.calls
