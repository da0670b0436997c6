"""What a fuzzer makes of the OpenAPI document; ``python -m tests.hostile`` makes thousands of it."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.fuzzing import fuzz
from tests.services import DynamoDB, RabbitMQ


def test_the_api_keeps_to_its_document_whatever_it_is_sent(
    rabbitmq: RabbitMQ, dynamodb: DynamoDB, tmp_path: Path
) -> None:
    result = fuzz(rabbitmq, dynamodb, tmp_path, cases=2_000, seed=1)
    assert result.returncode == 0, result.stdout
