"""Ends a process at an exact point of its work: when a chosen piece of its traffic passes."""

from __future__ import annotations

from asyncio import Event
from collections.abc import Callable, Sequence

from tests.faults.proxy import Connection, PassAll


class OnRequest(PassAll):
    """Strikes when a request with all these words is sent; it never gets there."""

    def __init__(self, words: Sequence[str], strike: Callable[[], None]) -> None:
        self.struck = Event()
        self._words = [word.encode() for word in words]
        self._strike = strike

    def sent(self, connection: Connection, chunk: bytes) -> bool:
        return not self._asks(connection) or self._struck()

    def _asks(self, connection: Connection) -> bool:
        return not self.struck.is_set() and all(word in connection.asked for word in self._words)

    def _struck(self) -> bool:
        """Strike, and swallow what was seen."""
        self.struck.set()
        self._strike()
        return False


class OnAnswer(OnRequest):
    """Strikes when such a request is answered; it was carried out, and nobody hears of it."""

    def sent(self, connection: Connection, chunk: bytes) -> bool:
        return True

    def answered(self, connection: Connection, chunk: bytes) -> bool:
        return not self._asks(connection) or self._struck()
