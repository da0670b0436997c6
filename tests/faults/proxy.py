"""A TCP proxy before a service: sees the traffic in order, cuts it, swallows it, or strikes at a chosen byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

_CHUNK: Final = 1 << 18
_CLOSE_S: Final = 5.0


@dataclass(slots=True)
class Connection:
    """One client's connection; ``asked`` is what was sent since the service last answered."""

    asked: bytes = b""
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def abort(self) -> None:
        """Reset both halves at once."""
        for writer in self.writers:
            writer.transport.abort()


class Tap(Protocol):
    """Sees each chunk before it passes; False swallows it."""

    def sent(self, connection: Connection, chunk: bytes) -> bool: ...

    def answered(self, connection: Connection, chunk: bytes) -> bool: ...


class PassAll:
    """Lets everything through."""

    def sent(self, connection: Connection, chunk: bytes) -> bool:
        return True

    def answered(self, connection: Connection, chunk: bytes) -> bool:
        return True


class Proxy:
    """Stands before ``target``, a port of this machine."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.tap: Tap = PassAll()
        self._target = target
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._connections: dict[int, Connection] = {}
        self.idle = asyncio.Event()
        self.idle.set()

    def cut(self) -> None:
        """Reset every connection; new ones are welcome."""
        for connection in list(self._connections.values()):
            connection.abort()

    def hold(self) -> None:
        """Carry nothing from now on, in either direction, without closing anything."""
        self._flowing.clear()

    def release(self) -> None:
        """Carry again."""
        self._flowing.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(writers=[writer])
        self._connections[id(connection)] = connection
        self.idle.clear()
        try:
            await self._flowing.wait()
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._target)
            connection.writers.append(onward_writer)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(connection, reader, onward_writer, self._sent))
                pumps.create_task(self._pump(connection, onward_reader, writer, self._answered))
        except (OSError, ExceptionGroup):
            pass
        finally:
            connection.abort()
            del self._connections[id(connection)]
            if not self._connections:
                self.idle.set()

    def _sent(self, connection: Connection, chunk: bytes) -> bool:
        connection.asked += chunk
        return self.tap.sent(connection, chunk)

    def _answered(self, connection: Connection, chunk: bytes) -> bool:
        passes = self.tap.answered(connection, chunk)
        connection.asked = b""
        return passes

    async def _pump(
        self,
        connection: Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        see: Callable[[Connection, bytes], bool],
    ) -> None:
        """Carry one direction until its end, which ends the other as well."""
        while chunk := await reader.read(_CHUNK):
            await self._flowing.wait()
            if see(connection, chunk):
                writer.write(chunk)
                await writer.drain()
        raise ConnectionResetError


@asynccontextmanager
async def proxy(target: int) -> AsyncIterator[Proxy]:
    """Serve on a free port of the loopback interface."""
    built = Proxy(target)
    server = await asyncio.start_server(built.serve, "127.0.0.1", 0)
    built.port = server.sockets[0].getsockname()[1]
    try:
        yield built
    finally:
        server.close()
        built.release()
        built.cut()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await built.idle.wait()
