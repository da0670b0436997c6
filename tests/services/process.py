"""Runs a service as a native process."""

import atexit
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

STOP_TIMEOUT = 30.0
LOG_LINES = 20


class Process:
    """A command in a process group of its own, which ends with the test run at the latest."""

    def __init__(self, command: Sequence[str], *, data: Path, environment: Mapping[str, str] | None = None) -> None:
        self._command = [*command]
        self._data = data
        self._environment = {**os.environ, **(environment or {})}
        self._log = data.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _tell_reaper("watch", self._process.pid)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def erase(self) -> None:
        shutil.rmtree(self._data, ignore_errors=True)

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES:])

    def _end(self, with_signal: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(with_signal)
        self._process.wait(STOP_TIMEOUT)
        _tell_reaper("forget", self._process.pid)
        self._process = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.running():
            os.killpg(self._process.pid, number)


@cache
def _reaper() -> subprocess.Popen[str]:
    reaper = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("reaper.py"))],
        stdin=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    atexit.register(reaper.communicate)
    return reaper


def _tell_reaper(verb: str, group: int) -> None:
    pipe = _reaper().stdin
    assert pipe is not None
    pipe.write(f"{verb} {group}\n")
    pipe.flush()
