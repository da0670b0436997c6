"""Where and when a run was taken."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.processes import ROOT


def taken(settings: Mapping[str, str], command: str) -> dict[str, Any]:
    """Return what a reader must know of a run to judge it."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "commit": _output("git", "describe", "--always", "--dirty"),
        "cpu": _line("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory_gb": round(int(_line("/proc/meminfo", "MemTotal").split()[0]) / 2**20, 1),
        "system": f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}",
        "python": platform.python_version(),
        "rabbitmq": _version("rabbitmq-server"),
        "load_before": os.getloadavg()[0],
        "settings": {name: value for name, value in settings.items() if name in _TOLD},
    }


_TOLD = {
    "SETUP_CONSUMERS",
    "TIMERS_API_WORKERS",
    "TIMERS_CONCURRENCY",
    "TIMERS_TARGET_CONCURRENCY",
    "TIMERS_PREFETCH",
    "TIMERS_LANES",
    "TIMERS_QUEUE_TYPE",
    "TIMERS_SHARDS",
}


def _version(package: str) -> str:
    return _output("dpkg-query", "--show", "--showformat", "${Version}", package)


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _line(path: str, name: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "unknown")
