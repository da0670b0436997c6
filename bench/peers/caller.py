"""The call that a peer's job makes: on a connection that is kept, with nothing but the standard library."""

from __future__ import annotations

import json
from collections import deque
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit


class Caller:
    """Makes calls from any thread."""

    def __init__(self) -> None:
        self._free: deque[HTTPConnection] = deque()

    def __call__(self, url: str, job_id: str, body: dict[str, Any]) -> None:
        parts = urlsplit(url)
        try:
            connection = self._free.pop()
        except IndexError:
            connection = HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        headers = {"content-type": "application/json", "webhook-id": job_id}
        connection.request("POST", parts.path, json.dumps(body), headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise ValueError(f"{answer.status} from the sink")
        self._free.append(connection)
