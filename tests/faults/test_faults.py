"""Every fault on real processes under load: nothing lost, nothing too early, too late to be true, or twice at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio

from tests.faults import report
from tests.faults.faults import FAULTS
from tests.faults.run import BRIEF, judge
from tests.faults.world import World, world
from tests.services import DynamoDB, RabbitMQ, new_dynamodb, new_rabbitmq

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[RabbitMQ, DynamoDB]]:
    """A broker and a table of this module's own, to be broken at will."""
    with ExitStack() as closing:
        folder = Path(closing.enter_context(TemporaryDirectory(prefix="timers-")))
        yield closing.enter_context(new_rabbitmq(folder)), closing.enter_context(new_dynamodb(folder))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    services: tuple[RabbitMQ, DynamoDB], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    async with world(*services, tmp_path_factory.mktemp("faults")) as built:
        yield built


@pytest.mark.parametrize("name", [name for name in FAULTS if name != "none"])
async def test_nothing_promised_is_broken_by(running: World, name: str) -> None:
    verdict = await judge(running, name, FAULTS[name], BRIEF, seed=1)
    print(report.line(verdict))
    assert verdict.acknowledged > 0
    assert verdict.details == ()
