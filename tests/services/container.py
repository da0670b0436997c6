"""Runs a service as a container, by testcontainers."""

from collections.abc import Mapping
from pathlib import Path

from docker.models.containers import Container as DockerContainer
from testcontainers.core.container import DockerContainer as Testcontainer

LOG_LINES = 20


class Container:
    """A container that keeps its port on the host, and its data until it is erased."""

    def __init__(
        self,
        image: str,
        *,
        ports: tuple[int, int],
        environment: Mapping[str, str] | None = None,
        files: Mapping[Path, str] | None = None,
    ) -> None:
        inside, host = ports
        self._made = False
        self._definition = Testcontainer(image).with_bind_ports(inside, host)
        for name, value in (environment or {}).items():
            self._definition.with_env(name, value)
        for path, target in (files or {}).items():
            self._definition.with_volume_mapping(str(path), target, "ro")

    def start(self) -> None:
        if self._made:
            self._container().start()
        else:
            self._definition.start()
            self._made = True

    def stop(self) -> None:
        if self.running():
            self._container().stop(timeout=30)

    def kill(self) -> None:
        if self.running():
            self._container().kill()
            self._container().wait()

    def pause(self) -> None:
        self._container().pause()

    def resume(self) -> None:
        self._container().unpause()

    def erase(self) -> None:
        if self._made:
            self._definition.stop()
            self._made = False

    def running(self) -> bool:
        if not self._made:
            return False
        container = self._container()
        container.reload()
        return str(container.status) in {"created", "running", "paused"}

    def log(self) -> str:
        return bytes(self._container().logs(tail=LOG_LINES)).decode(errors="replace")

    def _container(self) -> DockerContainer:
        return self._definition.get_wrapped_container()
