"""
``python -m tests.compose``: docker-compose.yml for real.

Builds and starts the whole service under a project name and on ports of its own, has timers delivered and
cancelled, has the contract of the timer store tested against its table server, restarts the broker, scales out, and
removes everything again.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2

from tests.services.port import free_port
from tests.stack import API_KEY

ROOT = Path(__file__).parents[2]
START_TIMEOUT = 120.0
STORE = tuple(f"tests/contract/test_{name}.py" for name in ("timer_store", "dynamo_timer_store", "queue_store"))
OTHER_STORES = "not memory and not ministack"
FILES = ("docker-compose.yml", "tests/compose/receiver.yml")


class Failure(Exception):
    """The service did not do what it should."""


class Stack:
    """The composed service of this run."""

    def __init__(self) -> None:
        self._project = f"timers-smoke-{os.getpid()}"
        api, receiver, self._table = free_port(), free_port(), free_port()
        self._environment = os.environ | {
            "TIMERS_API_PORT": str(api),
            "RECEIVER_PORT": str(receiver),
            "RABBITMQ_NODE_PORT": str(free_port()),
            "DYNAMODB_PORT": str(self._table),
            "TIMERS_API_KEY": API_KEY,
        }
        authorization = {"authorization": f"Bearer {API_KEY}"}
        self._api = httpx2.Client(base_url=f"http://127.0.0.1:{api}", headers=authorization, timeout=10)
        self._receiver = httpx2.Client(base_url=f"http://127.0.0.1:{receiver}", timeout=10)

    def compose(self, *arguments: str) -> str:
        files = [word for name in FILES for word in ("--file", name)]
        command = ["docker", "compose", "--project-directory", ".", "--project-name", self._project, *files, *arguments]
        result = subprocess.run(command, cwd=ROOT, env=self._environment, stdout=subprocess.PIPE, text=True, check=True)
        return result.stdout

    def ready(self) -> bool:
        with suppress(httpx2.TransportError):
            return self._api.get("/readyz").status_code == 200
        return False

    def schedule(self, timer_id: str, *, delay: float) -> None:
        target = {"url": f"http://receiver:8080/{timer_id}", "body": {}}
        self._expect(201, self._api.post("/v1/timers", json={"id": timer_id, "delay": delay, "target": target}))

    def cancel(self, timer_id: str) -> None:
        self._expect(200, self._api.delete(f"/v1/timers/{timer_id}"))

    def state(self, timer_id: str) -> str:
        timer: dict[str, Any] = self._expect(200, self._api.get(f"/v1/timers/{timer_id}")).json()
        return str(timer["state"])

    def received(self, timer_id: str) -> bool:
        return f"/{timer_id}" in self._receiver.get("/").json()

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Return what the engine knows of a service's containers, running or not."""
        ids = self.compose("ps", "--all", "--quiet", service).split()
        inspected = subprocess.run(["docker", "inspect", *ids], stdout=subprocess.PIPE, text=True, check=True)
        found: list[dict[str, Any]] = json.loads(inspected.stdout)
        return found

    def consumers(self) -> int:
        return len(self.compose("ps", "--quiet", "--status", "running", "consumer").split())

    def test_store(self) -> None:
        """Run the timer store's tests in tables of their own, beside the service's."""
        command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-k", OTHER_STORES, *STORE]
        environment = os.environ | {"TEST_DYNAMODB_PORT": str(self._table)}
        subprocess.run(command, cwd=ROOT, env=environment, check=True)

    @staticmethod
    def _expect(status: int, response: httpx2.Response) -> httpx2.Response:
        if response.status_code != status:
            raise Failure(f"{response.request.url}: {response.status_code} {response.text}")
        return response


def await_(what: str, condition: Callable[[], bool], *, timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"not within {timeout:g} s: {what}")
        time.sleep(0.2)
    print(f"compose: {what}", flush=True)


def check_confinement(stack: Stack) -> None:
    """What an attacker would find who got to run code in a container of ours."""
    for service in ("provision", "api", "consumer"):
        for container in stack.containers(service):
            config, host = container["Config"], container["HostConfig"]
            confined = (
                config["User"] == "timers"
                and host["ReadonlyRootfs"]
                and host["CapDrop"] == ["ALL"]
                and not host["CapAdd"]
                and not host["Privileged"]
                and "no-new-privileges:true" in host["SecurityOpt"]
                and host["Memory"] > 0
            )
            if not confined:
                raise Failure(f"{service} is not confined: {config['User']!r} {host}")
    tried = stack.compose("exec", "--no-TTY", "api", "sh", "-c", "id -u; touch /app/x 2>/dev/null || echo read-only")
    if tried.split() != ["10001", "read-only"]:
        raise Failure(f"the api's container can do more than it should: {tried!r}")
    print("compose: no root, no capabilities, nothing to write to", flush=True)


def check(stack: Stack) -> None:
    stack.compose("up", "--detach", "--build", "--quiet-pull", "--scale", "consumer=2")
    await_("the api is ready", stack.ready, timeout=START_TIMEOUT)
    check_confinement(stack)

    stack.schedule("cancelled", delay=4)
    stack.schedule("delivered", delay=2)
    stack.cancel("cancelled")
    await_("a timer is delivered", lambda: stack.received("delivered"))
    await_("and says so", lambda: stack.state("delivered") == "delivered")

    stack.test_store()
    print("compose: the table keeps to the contract of the timer store", flush=True)

    stack.schedule("waiting", delay=20)
    stack.compose("restart", "--timeout", "20", "rabbitmq")
    await_("the api is ready after a restart of RabbitMQ", stack.ready, timeout=START_TIMEOUT)
    await_("a timer that waited in RabbitMQ is delivered", lambda: stack.received("waiting"), timeout=60)

    stack.compose("up", "--detach", "--scale", "consumer=4")
    await_("four consumers run", lambda: stack.consumers() == 4)
    stack.schedule("scaled", delay=1)
    await_("a timer is delivered by the four", lambda: stack.received("scaled"))

    if stack.received("cancelled") or stack.state("cancelled") != "cancelled":
        raise Failure("a cancelled timer was delivered")
    print("compose: a cancelled timer was not delivered", flush=True)


def main() -> int:
    stack = Stack()
    try:
        check(stack)
    except (Failure, httpx2.HTTPError, subprocess.CalledProcessError) as error:
        print(stack.compose("logs", "--tail", "40"), file=sys.stderr)
        print(f"compose: failed: {error}", file=sys.stderr)
        return 1
    finally:
        stack.compose("down", "--volumes", "--timeout", "5")
    return 0


if __name__ == "__main__":
    sys.exit(main())
