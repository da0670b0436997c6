"""
Celery on RabbitMQ, with publisher confirms and persistent messages.

With BENCH_QUEUES=classic a worker holds jobs until their eta; with quorum RabbitMQ holds them ("native delayed
delivery", which asks for quorum queues, a topic exchange and, by Celery's guide to quorum queues, for confirms).
As a script it is the producer.
"""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from celery import Celery
from celery.signals import worker_ready

from bench.peers.caller import Caller
from bench.peers.producer import now_ms, serve

_call = Caller()
app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    broker_transport_options={"confirm_publish": True},
    task_ignore_result=True,
    worker_send_task_events=False,
    worker_prefetch_multiplier=64,  # of the optimizing guide, for many short tasks: 50 to 150
    broker_connection_retry_on_startup=True,
)
NATIVE: Final = os.environ.get("BENCH_QUEUES") == "quorum"
if NATIVE:
    app.conf.update(
        task_default_queue="quorum",
        task_default_exchange="quorum",
        task_default_routing_key="quorum",
        task_default_queue_type="quorum",
        task_default_exchange_type="topic",
    )


def call(url: str, job_id: str, body: dict[str, Any]) -> None:
    _call(url, job_id, body)


task = app.task(name="bench.call")(call)


def tell(**_: object) -> None:
    """Say that the worker has declared what a producer needs."""
    Path(os.environ["BENCH_READY"]).touch()


worker_ready.connect(tell, weak=False)


def send(url: str, job_id: str, due_ms: int, body: dict[str, Any]) -> None:
    if NATIVE:  # it knows whole seconds only
        task.apply_async((url, job_id, body), countdown=max(1, math.ceil((due_ms - now_ms()) / 1000)))
    else:
        task.apply_async((url, job_id, body), eta=datetime.fromtimestamp(due_ms / 1000, UTC))


if __name__ == "__main__":
    serve(send)
