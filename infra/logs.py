"""Logs: one line an event, a constant sentence and fields; JSON in production, text for people."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

ECHO: Final = "timers.echo"
"""The logger of what timers with a ``log`` target say: theirs is a delivery, whatever the level of the log."""

_KNOWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _KNOWN}


class JsonFormatter(logging.Formatter):
    """A JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """A line for people: ``12:00:00.123 info  timer delivered timer_id=…``."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        fields = "".join(f" {key}={_in_one_line(value)}" for key, value in _fields(record).items())
        text = f"{at} {record.levelname.lower():7} {record.getMessage()}{fields}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _in_one_line(value: object) -> str:
    """Return a value as it is, unless it could be taken for another line or turn the terminal's colours."""
    text = str(value)
    return text if text.isprintable() else json.dumps(text)


def configure(level: str, style: str) -> None:
    """Send every log line to standard error; libraries speak from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger(ECHO).setLevel(logging.INFO)
    for library in ("pika", "botocore", "boto3", "urllib3", "aiohttp", "asyncio", "uvicorn.access"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # each of its errors reaches us as an exception or a reason
