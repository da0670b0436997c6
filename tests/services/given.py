"""A service that somebody else runs."""

from tests.services.service import ServiceError


class Given:
    """Runs already, and is not the tests' to stop."""

    def start(self) -> None:
        """It has been started."""

    def stop(self) -> None:
        raise ServiceError("a service that is given is not stopped")

    def kill(self) -> None:
        """It is left running."""

    def pause(self) -> None:
        raise ServiceError("a service that is given is not stopped")

    def resume(self) -> None:
        raise ServiceError("a service that is given is not stopped")

    def erase(self) -> None:
        """Its data is left alone."""

    def running(self) -> bool:
        return True

    def log(self) -> str:
        return "its log is elsewhere"
