"""What the commands for operators share."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from infra import wiring
from infra.dynamodb.client import Table
from infra.settings import Settings
from timers.errors import TimerError

Value = TypeVar("Value")


async def run(act: Callable[[Table, Settings], Awaitable[str]]) -> None:
    """Do something to the table and print what it returns, or end the process with one clear line."""
    settings = wiring.settings_or_exit()
    try:
        async with wiring.table(settings) as table:
            output = await act(table, settings)
    except TimerError as error:
        wiring.give_up(str(error))
    if output:
        print(output)


def checked(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """Let argparse show what is wrong with an argument."""

    def parsed(text: str) -> Value:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def in_columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows of a table below its head."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    texts = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(text.rstrip() for text in texts)


def time(at_ms: int | None) -> str:
    """Return a time as tables show it, nothing where there is none."""
    return "" if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
