"""
What a connection may do outside of its requests, which uvicorn does not bound.

A client that opens connections and says nothing, sends the head of a request a byte a second, or does not read its
answer is cut off. Where there are too many connections, those that have been idle for the longest make room.
"""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 64 * 1024
_LEAST_READ: Final = 64 * 1024
_OTHER_FILES: Final = 256


@dataclass(frozen=True, slots=True)
class Patience:
    """How many ``connections`` there may be, and how many ``seconds`` each may keep us waiting."""

    connections: int
    seconds: float


class Connection(HttpToolsProtocol):
    """A connection of bounded patience."""

    def __init__(self, *arguments: Any, patience: Patience, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._patience = patience
        self._in_head = False
        self._head_bytes = 0
        self.idle_since = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether no request is in progress."""
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._patience.connections:
            self._make_room()
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        if self._reader is not None:
            self._reader.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.abort()
        if self._deadline is None and (self._in_head or self.idle):
            self._set_deadline()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what comes behind a body is not wanted
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._clear_deadline()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.idle_since = self.loop.time()
        unread = self.transport.get_write_buffer_size()
        if unread and self._reader is None:
            self._reader = self.loop.call_later(self._patience.seconds, self._look_at_reader, unread)

    def _look_at_reader(self, before: int) -> None:
        """Cut off a client that takes its answers in too slowly."""
        unread = self.transport.get_write_buffer_size()
        if unread and before - unread < _LEAST_READ:
            self.transport.abort()
        elif unread:
            self._reader = self.loop.call_later(self._patience.seconds, self._look_at_reader, unread)
        else:
            self._reader = None

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(self._patience.seconds, self.transport.abort)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _make_room(self) -> None:
        """Cut off some of those that have been idle for the longest, or this one where nobody is."""
        others = [other for other in self.connections if isinstance(other, Connection) and other is not self]
        idle = sorted((other for other in others if other.idle), key=lambda other: other.idle_since)
        for connection in idle[: 1 + self._patience.connections // 20] or [self]:
            connection.transport.abort()


def room_for(connections: int) -> int:
    """Return how many connections this process can have: as many as are wanted, or as the system lets it open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(connections, soft - _OTHER_FILES))
