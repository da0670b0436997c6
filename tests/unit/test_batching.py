"""Group commit."""

import asyncio
from collections.abc import Sequence

import pytest

from infra.batching import Batcher
from tests.builders import turns
from timers.errors import Conflict, Overloaded, Unavailable

Outcome = str | Exception


class Airport:
    """Batches that land when they are told to, each request with the outcome that is set for it."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.outcomes: dict[str, Outcome] = {}
        self._landings: list[asyncio.Future[None]] = []
        self._took_off = asyncio.Event()

    async def flush(self, batch: Sequence[str]) -> Sequence[Outcome]:
        self.batches.append(list(batch))
        self._took_off.set()
        landing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._landings.append(landing)
        await landing
        return [self.outcomes.get(request, request.upper()) for request in batch]

    async def take_off(self) -> None:
        async with asyncio.timeout(10):
            await self._took_off.wait()

    async def land(self, number: int, error: Exception | None = None) -> None:
        if error is None:
            self._landings[number].set_result(None)
        else:
            self._landings[number].set_exception(error)
        await turns()


@pytest.fixture
def airport() -> Airport:
    return Airport()


def batcher_of(
    airport: Airport, *, size: int = 3, in_flight: int = 2, waiting: int = 100, pace: float = 0.0
) -> Batcher[str, str]:
    return Batcher(
        airport.flush, key=lambda request: request[0], size=size, in_flight=in_flight, waiting=waiting, pace=pace
    )


async def submitted(batcher: Batcher[str, str], *requests: str) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(batcher.submit(request)) for request in requests]
    await turns()
    return tasks


async def test_a_lone_request_takes_off_at_once(airport: Airport) -> None:
    (task,) = await submitted(batcher_of(airport), "a")
    assert airport.batches == [["a"]]
    await airport.land(0)
    assert await task == "A"


async def test_after_a_flight_a_part_of_a_batch_waits_its_pace_and_gathers_others(airport: Airport) -> None:
    batcher = batcher_of(airport, pace=1e6)
    first = await submitted(batcher, "a")
    await airport.land(0)
    assert await first[0] == "A"
    waiting = await submitted(batcher, "b")
    waiting += await submitted(batcher, "c")
    assert airport.batches == [["a"]]

    waiting += await submitted(batcher, "d")
    assert airport.batches == [["a"], ["b", "c", "d"]]
    await airport.land(1)
    assert [await task for task in waiting] == ["B", "C", "D"]


async def test_who_lingers_goes_with_the_next_that_does_not(airport: Airport) -> None:
    batcher = batcher_of(airport)
    patient = asyncio.create_task(batcher.submit("a", linger=1e6))
    await turns()
    assert not airport.batches

    hurried = await submitted(batcher, "b")
    assert airport.batches == [["a", "b"]]
    await airport.land(0)
    assert [await task for task in (patient, *hurried)] == ["A", "B"]


async def test_who_lingers_alone_takes_off_in_the_end(airport: Airport) -> None:
    patient = asyncio.create_task(batcher_of(airport).submit("a", linger=0.001))
    await airport.take_off()
    await airport.land(0)
    assert await patient == "A"


async def test_a_full_batch_of_those_who_linger_takes_off_at_once(airport: Airport) -> None:
    batcher = batcher_of(airport, size=2)
    patient = [asyncio.create_task(batcher.submit(request, linger=1e6)) for request in "ab"]
    await turns()
    assert airport.batches == [["a", "b"]]
    await airport.land(0)
    assert [await task for task in patient] == ["A", "B"]


async def test_who_came_to_linger_while_a_batch_flies_lingers_on_when_it_lands(airport: Airport) -> None:
    batcher = batcher_of(airport)
    first = await submitted(batcher, "a")
    patient = asyncio.create_task(batcher.submit("b", linger=1e6))
    await turns()
    await airport.land(0)
    assert await first[0] == "A"
    assert airport.batches == [["a"]]

    hurried = await submitted(batcher, "c")
    assert airport.batches == [["a"], ["b", "c"]]
    await airport.land(1)
    assert [await task for task in (patient, *hurried)] == ["B", "C"]


async def test_what_waits_for_its_pace_takes_off_by_itself(airport: Airport) -> None:
    batcher = batcher_of(airport, pace=2.0)
    await submitted(batcher, "a")
    await airport.land(0)
    (task,) = await submitted(batcher, "b")
    async with asyncio.timeout(10):
        while len(airport.batches) < 2:
            await turns()
    await airport.land(1)
    assert await task == "B"


async def test_requests_of_one_turn_travel_together(airport: Airport) -> None:
    await submitted(batcher_of(airport), "a", "b")
    assert airport.batches == [["a", "b"]]
    await airport.land(0)


async def test_requests_that_come_while_one_batch_is_in_flight_share_the_next(airport: Airport) -> None:
    batcher = batcher_of(airport)
    tasks = await submitted(batcher, "a")
    tasks += await submitted(batcher, "b")
    tasks += await submitted(batcher, "c")
    assert airport.batches == [["a"]]
    await airport.land(0)
    assert airport.batches == [["a"], ["b", "c"]]
    await airport.land(1)
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]


async def test_a_full_batch_takes_off_beside_the_one_in_flight(airport: Airport) -> None:
    batcher = batcher_of(airport)
    await submitted(batcher, "a")
    await submitted(batcher, "b", "c", "d", "e")
    assert airport.batches == [["a"], ["b", "c", "d"]]
    await airport.land(1)
    assert airport.batches == [["a"], ["b", "c", "d"]], "what is left is not full and waits for the first"
    await airport.land(0)
    assert airport.batches[2:] == [["e"]]
    await airport.land(2)


async def test_no_more_batches_are_in_flight_than_allowed(airport: Airport) -> None:
    tasks = await submitted(batcher_of(airport, size=1), "a", "b", "c")
    assert airport.batches == [["a"], ["b"]]
    await airport.land(0)
    assert airport.batches[2:] == [["c"]]
    await airport.land(1)
    await airport.land(2)
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]


async def test_two_requests_for_one_key_never_share_a_batch_and_keep_their_order(airport: Airport) -> None:
    tasks = await submitted(batcher_of(airport), "a1", "a2", "b", "a3")
    assert airport.batches == [["a1", "b"]]
    for number in range(3):
        await airport.land(number)
    assert airport.batches == [["a1", "b"], ["a2"], ["a3"]]
    assert await asyncio.gather(*tasks) == ["A1", "A2", "B", "A3"]


async def test_each_request_gets_its_own_outcome(airport: Airport) -> None:
    airport.outcomes["b"] = Conflict("b")
    one, two, three = await submitted(batcher_of(airport), "a", "b", "c")
    await airport.land(0)
    assert (await one, await three) == ("A", "C")
    with pytest.raises(Conflict):
        await two


async def test_a_flight_that_fails_fails_all_its_requests_and_no_others(airport: Airport) -> None:
    batcher = batcher_of(airport)
    failing = await submitted(batcher, "a", "b")
    (later,) = await submitted(batcher, "c")
    await airport.land(0, Unavailable("dynamodb"))
    for task in failing:
        with pytest.raises(Unavailable):
            await task
    await airport.land(1)
    assert await later == "C"


async def test_a_request_given_up_while_it_waits_does_not_travel(airport: Airport) -> None:
    batcher = batcher_of(airport)
    await submitted(batcher, "a")
    given_up, other = await submitted(batcher, "b", "c")
    given_up.cancel()
    await airport.land(0)
    assert airport.batches[1:] == [["c"]]
    await airport.land(1)
    assert await other == "C"


@pytest.mark.parametrize("outcome", ["fine", Conflict("a")], ids=["fine", "failing"])
async def test_a_request_given_up_in_flight_harms_nobody(airport: Airport, outcome: Outcome) -> None:
    airport.outcomes["a"] = outcome
    batcher = batcher_of(airport)
    given_up, other = await submitted(batcher, "a", "b")
    given_up.cancel()
    await turns()
    await airport.land(0)
    assert await other == "B"
    (later,) = await submitted(batcher, "c")
    await airport.land(1)
    assert await later == "C"


async def test_when_all_who_wait_have_given_up_the_next_one_still_travels(airport: Airport) -> None:
    batcher = batcher_of(airport)
    await submitted(batcher, "a")
    for task in await submitted(batcher, "b", "c"):
        task.cancel()
    await airport.land(0)
    (later,) = await submitted(batcher, "d")
    await airport.land(1)
    assert airport.batches[1:] == [["d"]]
    assert await later == "D"


async def test_one_more_than_may_wait_is_refused_and_the_rest_are_not(airport: Airport) -> None:
    batcher = batcher_of(airport, waiting=2)
    tasks = await submitted(batcher, "a")
    tasks += await submitted(batcher, "b", "c")
    with pytest.raises(Overloaded):
        await batcher.submit("d")
    await airport.land(0)
    await airport.land(1)
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]


async def test_a_thousand_requests_take_forty_batches(airport: Airport) -> None:
    batches: list[int] = []

    async def flush(batch: Sequence[int]) -> Sequence[int]:
        batches.append(len(batch))
        await asyncio.sleep(0)
        return batch

    batcher: Batcher[int, int] = Batcher(flush, key=int, size=25, in_flight=4, waiting=1_000)
    assert await asyncio.gather(*(batcher.submit(number) for number in range(1_000))) == list(range(1_000))
    assert batches == [25] * 40
