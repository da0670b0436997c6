"""A key management service of the test run's own, which is another table server as well."""

import os
import shutil
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.services.container import Container
from tests.services.dynamodb import IMAGE
from tests.services.port import free_port
from tests.services.process import Process
from tests.services.runner import Runner
from tests.services.service import Service, ServiceError

INSTALLED = Path(__file__).parents[2] / ".venv-ministack" / "bin" / "ministack"


class Kms(Service):
    name = "KMS"

    def __init__(self, runner: Runner, *, port: int) -> None:
        super().__init__(runner)
        self.endpoint = f"http://127.0.0.1:{port}"

    def answers(self) -> bool:
        try:
            with urlopen(f"{self.endpoint}/_localstack/health", timeout=1):
                return True
        except HTTPError as error:
            error.close()
            return True
        except OSError:
            return False


def native_kms(folder: Path) -> Kms:
    port = free_port()
    command = str(INSTALLED) if INSTALLED.exists() else shutil.which("ministack")
    if command is None:
        raise ServiceError("MiniStack is not installed: run ./setup.sh test")
    environment = {**os.environ, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "kms,dynamodb"}
    return Kms(Process([command], data=folder / "kms", environment=environment), port=port)


def docker_kms() -> Kms:
    port = free_port()
    return Kms(Container(IMAGE, ports=(4566, port), environment={"SERVICES": "kms,dynamodb"}), port=port)
