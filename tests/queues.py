"""Queues of a test's own on a real broker, as a worker would read them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import pika

from tests.services import RabbitMQ

_PATIENCE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that was taken from a queue."""

    properties: pika.BasicProperties
    headers: dict[str, Any]
    body: bytes


class Queues:
    """Made and read on one connection; deleted at the end."""

    def __init__(self, rabbitmq: RabbitMQ) -> None:
        parameters = pika.URLParameters(rabbitmq.url)
        parameters.heartbeat = 0  # nobody answers one while a test waits for something else
        self._connection = pika.BlockingConnection(parameters)
        self._channel = self._connection.channel()
        self._names: list[str] = []

    def new(self) -> str:
        """Make a queue and return its name."""
        return self.declare(f"test.{uuid4().hex[:12]}")

    def declare(self, name: str) -> str:
        self._channel.queue_declare(name, durable=True)
        self._names.append(name)
        return name

    def depth(self, name: str) -> int:
        return int(self._channel.queue_declare(name, passive=True).method.message_count)

    async def take(self, name: str) -> Taken:
        """Wait for a queue's next message and take it."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            method, properties, body = self._channel.basic_get(name, auto_ack=True)
            if method is not None:
                assert properties is not None
                assert body is not None
                return Taken(properties, dict(properties.headers or {}), body)
            assert time.monotonic() < deadline, f"nothing arrived in {name}"
            await asyncio.sleep(0.02)

    def close(self) -> None:
        for name in self._names:
            self._channel.queue_delete(name)
        self._connection.close()
