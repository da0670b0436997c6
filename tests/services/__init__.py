"""
The real services that tests run against.

``TEST_SERVICES=native`` (the default) starts them as processes, ``docker`` as containers.
``TEST_DYNAMODB_PORT`` names a table server of this machine to take as it runs, with tables of the tests' own in it;
what stops the table server cannot be tested with that.
Several test runs and the stack itself live side by side: ports and data are each run's own.
"""

import os
from pathlib import Path

from tests.services.dynamodb import DynamoDB, docker_dynamodb, given_dynamodb, native_dynamodb
from tests.services.kms import Kms, docker_kms, native_kms
from tests.services.rabbitmq import RabbitMQ, docker_rabbitmq, native_rabbitmq
from tests.services.service import ServiceError

__all__ = ["DynamoDB", "Kms", "RabbitMQ", "ServiceError", "new_dynamodb", "new_kms", "new_rabbitmq"]


def new_rabbitmq(folder: Path) -> RabbitMQ:
    """Return a RabbitMQ, not started yet, that keeps its data in the folder."""
    return docker_rabbitmq() if _in_docker() else native_rabbitmq(folder)


def new_dynamodb(folder: Path) -> DynamoDB:
    """Return a table server, not started yet, that keeps its data in the folder; or the one that is given."""
    if port := os.environ.get("TEST_DYNAMODB_PORT"):
        return given_dynamodb(int(port))
    return docker_dynamodb() if _in_docker() else native_dynamodb(folder)


def new_kms(folder: Path) -> Kms:
    """Return a key management service, not started yet."""
    return docker_kms() if _in_docker() else native_kms(folder)


def _in_docker() -> bool:
    kind = os.environ.get("TEST_SERVICES", "native")
    if kind not in {"native", "docker"}:
        raise ServiceError(f"TEST_SERVICES is native or docker, not {kind!r}")
    return kind == "docker"
