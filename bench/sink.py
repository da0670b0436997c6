"""
``python -m bench.sink PORT``: takes HTTP calls as cheaply as it can, and remembers when each arrived.

A process of its own, so that neither its work nor its CPU time mixes with what is measured. nginx with an access
log would do too, but it writes the time at which an answer was sent, to the millisecond; this one takes the time
at which a call's last byte was read, to the microsecond, and needs no package. It takes about 20 µs of CPU a call
(measured over 12,000), so one core of it has room for several times what anything here was seen to send.

    POST /r/ROUND    a call, by its ``webhook-id`` header; answers 200
    GET /n/ROUND     how many calls that round has had
    GET /r/ROUND     its calls, one a line: arrival in microseconds since 1970, a space, the id; forgets them
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import defaultdict
from typing import Final, cast

import uvloop

_END: Final = b"\r\n\r\n"
_ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_ID: Final = re.compile(rb"\r\nwebhook-id: *([^\r]+)\r\n", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CHUNKED: Final = b"transfer-encoding: chunked"

Calls = dict[bytes, list[tuple[int, bytes]]]


class Sink(asyncio.Protocol):
    """One connection."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._buffer = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's are not derived from it

    def data_received(self, data: bytes) -> None:
        now_us = time.time_ns() // 1000
        self._buffer = self._buffer + data if self._buffer else data
        while (end := self._buffer.find(_END)) >= 0:
            head = self._buffer[: end + 2]
            if _CHUNKED in head.lower():
                raise ValueError("a chunked request")
            length = _LENGTH.search(head)
            rest = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < rest:
                return
            self._buffer = self._buffer[rest:]
            self._answer(head, now_us)

    def _answer(self, head: bytes, now_us: int) -> None:
        assert self._transport is not None
        method, path, _ = head.split(b" ", 2)
        kind, key = path[:3], path[3:]
        if method == b"POST":
            found = _ID.search(head)
            self._calls[key].append((now_us, found[1] if found else b"?"))
            self._transport.write(_ANSWER)
            return
        if kind == b"/n/":
            body = b"%d" % len(self._calls.get(key, ()))
        else:
            body = b"".join(b"%d %s\n" % call for call in self._calls.pop(key, ()))
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)


async def main(port: int) -> None:
    calls: Calls = defaultdict(list)
    server = await asyncio.get_running_loop().create_server(lambda: Sink(calls), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
