"""Dramatiq on RabbitMQ, with publisher confirms; a worker holds jobs until their time. As a script: the producer."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from bench.peers.caller import Caller
from bench.peers.producer import now_ms, serve

_call = Caller()
broker = RabbitmqBroker(url=os.environ["BENCH_BROKER"], confirm_delivery=True)
dramatiq.set_broker(broker)


def call(url: str, job_id: str, body: dict[str, Any]) -> None:
    _call(url, job_id, body)


actor = dramatiq.actor(call, queue_name="bench")


def send(url: str, job_id: str, due_ms: int, body: dict[str, Any]) -> None:
    actor.send_with_options(args=(url, job_id, body), delay=max(1, due_ms - now_ms()))


if __name__ == "__main__":
    serve(send)
