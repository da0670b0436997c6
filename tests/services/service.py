"""A real service under test."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

from tests.services.runner import Runner

START_TIMEOUT = 60.0
POLL_INTERVAL = 0.05


class ServiceError(Exception):
    """A service could not be had; the message says why."""


class Service(ABC):
    """Started and stopped at a test's will; a call returns once its effect can be seen."""

    name: str

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether it can serve a client now."""

    def start(self) -> None:
        self._runner.start()
        try:
            self._await(self.answers)
        except ServiceError:
            self._runner.kill()
            raise

    def stop(self) -> None:
        self._runner.stop()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._runner.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open, nothing answers until ``resume``."""
        self._runner.pause()

    def resume(self) -> None:
        self._runner.resume()
        self._await(self.answers)

    def wipe(self) -> None:
        """Kill it, lose its data, and start it empty."""
        self.kill()
        self._runner.erase()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.kill()
        self._runner.erase()

    def _await(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not condition():
            if not self._runner.running():
                raise ServiceError(f"{self.name} ended early:\n{self._runner.log()}")
            if time.monotonic() > deadline:
                raise ServiceError(f"{self.name} does not answer:\n{self._runner.log()}")
            time.sleep(POLL_INTERVAL)
