"""How a service is run: the part in which a native process and a container differ."""

from typing import Protocol


class Runner(Protocol):
    """One run of a service after another, over the same data and on the same port."""

    def start(self) -> None:
        """Start it, without waiting until it answers."""

    def stop(self) -> None:
        """Ask it to end and wait until it has."""

    def kill(self) -> None:
        """End it without a chance to save anything."""

    def pause(self) -> None:
        """Stop its clock: connections stay open and nothing answers."""

    def resume(self) -> None: ...

    def erase(self) -> None:
        """Delete its data; it does not run."""

    def running(self) -> bool: ...

    def log(self) -> str:
        """Return the end of what it printed."""
