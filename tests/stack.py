"""The service's own processes, as a test's user would run them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import httpx2

from tests.services import DynamoDB, RabbitMQ
from tests.services.port import free_port

ROOT = Path(__file__).parents[1]
PATIENCE_S = 120.0
API_KEY = f"timers_{0:016x}_{'of-the-tests':x<43}"
SIGNING_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENCRYPTION_KEYS = "k1:" + b64encode(bytes(range(32))).decode()
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TIMERS_")}


def open_client(api: Member, key: str = API_KEY, *, timeout: float = 30) -> httpx2.AsyncClient:
    """Return a client of an api that shows a key."""
    headers = {"authorization": f"Bearer {key}"}
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", headers=headers, timeout=timeout)


class Member:
    """One process of the service; its log is a file."""

    def __init__(self, module: str, environment: dict[str, str], folder: Path, port: int) -> None:
        self.port = port
        self._command = [sys.executable, "-m", module]
        self._environment = ENVIRONMENT | environment
        self._log = folder / f"{module}-{port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        assert self._process is not None
        return self._process.poll()

    def log(self) -> str:
        return self._log.read_text()

    def start(self, *, ready: bool = True) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)
        if ready:
            self.await_page("/readyz")

    def await_page(self, page: str) -> None:
        """Wait until a page of its answers 200."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert self.returncode is None, f"ended with {self.returncode}:\n{self.log()}"
            assert time.monotonic() < deadline, f"not ready:\n{self.log()}"
            try:
                if httpx2.get(f"http://127.0.0.1:{self.port}{page}", timeout=3).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def pause(self) -> None:
        """Freeze it: its connections stay open, and it does nothing until ``resume``."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Ask it to stop and return its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=60)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def start_together(*members: Member) -> None:
    """Start several processes and wait until all of them are ready."""
    for member in members:
        member.start(ready=False)
    for member in members:
        member.await_page("/readyz")


class Stack:
    """Apis and consumers over one table and one broker."""

    def __init__(self, rabbitmq: RabbitMQ, dynamodb: DynamoDB, folder: Path, **settings: str) -> None:
        self.settings = {
            "TIMERS_RABBITMQ_URL": rabbitmq.url,
            "TIMERS_DYNAMODB_ENDPOINT": dynamodb.endpoint,
            "TIMERS_TABLE": f"timers-{uuid4().hex[:12]}",
            "TIMERS_ALLOW_ADDRESSES": "loopback",
            "TIMERS_ALLOW_HTTP": "true",
            "TIMERS_ALLOW_AMQP": "*",
            "TIMERS_API_KEY": API_KEY,
            "TIMERS_SIGNING_SECRET": SIGNING_SECRET,
            "TIMERS_TABLE_TRANSACTIONS": "true",  # as ./setup.sh has it natively
            "TIMERS_ENCRYPTION_KEYS": ENCRYPTION_KEYS,
            "TIMERS_LOG_LEVEL": "info",
        } | settings
        self._folder = folder
        self._closing = ExitStack()

    def provision(self) -> None:
        self._run("infra.provision")

    def key(self, *arguments: str) -> str:
        """Have a command about api keys, and return what it prints."""
        return self._run("infra.keys", *arguments).strip()

    def secret(self, *arguments: str) -> str:
        """Have a command about signing secrets, and return what it prints."""
        return self._run("infra.secret", *arguments).strip()

    def api(self, **settings: str) -> Member:
        """Return an api that is not started yet."""
        port = free_port()
        return self._member("api", {"TIMERS_API_PORT": str(port), **settings}, port)

    def consumer(self, **settings: str) -> Member:
        """Return a consumer that is not started yet."""
        port = free_port()
        return self._member("consumer", {"TIMERS_CONSUMER_PORT": str(port), **settings}, port)

    def close(self) -> None:
        self._closing.close()

    def _run(self, module: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=ENVIRONMENT | self.settings,
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        return done.stdout

    def _member(self, module: str, environment: dict[str, str], port: int) -> Member:
        member = Member(module, self.settings | environment, self._folder, port)
        self._closing.callback(member.close)
        return member


@contextmanager
def stack(rabbitmq: RabbitMQ, dynamodb: DynamoDB, folder: Path, **settings: str) -> Iterator[Stack]:
    """Give a provisioned stack whose processes end with the context."""
    built = Stack(rabbitmq, dynamodb, folder, **settings)
    try:
        built.provision()
        yield built
    finally:
        built.close()
