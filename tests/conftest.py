"""Services shared by the whole run, started when the first test asks for them."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.services import DynamoDB, Kms, RabbitMQ, new_dynamodb, new_kms, new_rabbitmq


@pytest.fixture(scope="session")
def services_folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="timers-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def rabbitmq(services_folder: Path) -> Iterator[RabbitMQ]:
    """A running RabbitMQ; a test that stops it starts it again."""
    with new_rabbitmq(services_folder) as service:
        yield service


@pytest.fixture(scope="session")
def dynamodb(services_folder: Path) -> Iterator[DynamoDB]:
    """A running table server; a test that stops it starts it again."""
    with new_dynamodb(services_folder) as service:
        yield service


@pytest.fixture(scope="session")
def kms(services_folder: Path) -> Iterator[Kms]:
    """A running key management service; a test that stops it starts it again."""
    with new_kms(services_folder) as service:
        yield service
