"""Charts as SVG, written by hand: bars with their ranges, and lateness curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from bench.results import Spread
from bench.table import number

_WIDTH: Final = 900
_LABELS: Final = 290
_VALUES: Final = 90
_BAR: Final = 18
_STEP: Final = 26
_TITLE: Final = 34
_PLOT: Final = (60, 40, 520, 300)  #: left, top, width, height of a curve chart
_FROM_MS: Final = 0.1
_COLOURS: Final = ("#d9480f", "#1864ab", "#2b8a3e", "#862e9c", "#5c940d", "#495057", "#0b7285", "#a61e4d")
_INK: Final = "#212529"
_FAINT: Final = "#dee2e6"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; ``ours`` is drawn to be seen."""

    label: str
    value: Spread
    ours: bool


def bars(panels: Mapping[str, Sequence[Bar]]) -> str:
    """Return bar charts below each other, each on a scale of its own."""
    drawn: list[str] = []
    top = 10
    for title, panel in panels.items():
        drawn += _panel(title, panel, top)
        top += _TITLE + _STEP * len(panel) + 14
    return _svg(_WIDTH, top, drawn)


def curves(title: str, lines: Mapping[str, Sequence[float]]) -> str:
    """Return the share of calls that were at most so late, on a logarithmic scale of milliseconds."""
    left, top, width, height = _PLOT
    most = max((values[-1] for values in lines.values()), default=1.0)
    decades = max(1, math.ceil(math.log10(max(most, 1.0) / _FROM_MS)))
    drawn = [_text(left, 24, title, size=15, bold=True)]
    for decade in range(decades + 1):
        x = left + width * decade / decades
        drawn.append(_line((x, top), (x, top + height), _FAINT))
        drawn.append(_text(x, top + height + 18, f"{_FROM_MS * 10**decade:,g} ms", anchor="middle"))
    for share in (0, 0.25, 0.5, 0.75, 0.99, 1):
        y = top + height * (1 - share)
        drawn.append(_line((left, y), (left + width, y), _FAINT))
        if share != 1:
            drawn.append(_text(left - 8, y + 4, f"{share:.0%}", anchor="end"))
    for n, (label, values) in enumerate(lines.items()):
        colour = _COLOURS[n % len(_COLOURS)]
        drawn.append(_curve(values, decades, colour, 3.0 if n == 0 else 1.6))
        y = top + 16 + 24 * n
        drawn.append(_line((left + width + 20, y - 4), (left + width + 44, y - 4), colour, 3))
        drawn.append(_text(left + width + 50, y, label))
    drawn.append(_text(left + width / 2, top + height + 40, "late by at most", anchor="middle"))
    return _svg(_WIDTH, top + height + 54, drawn)


def _panel(title: str, panel: Sequence[Bar], top: int) -> Iterator[str]:
    yield _text(10, top + 18, title, size=15, bold=True)
    most = max((bar.value.most for bar in panel), default=1.0) or 1.0
    room = _WIDTH - _LABELS - _VALUES - 10
    for n, bar in enumerate(panel):
        y = top + _TITLE + _STEP * n
        length = room * bar.value.median / most
        colour = _COLOURS[0] if bar.ours else "#74a0c8"
        yield _text(_LABELS - 8, y + 13, bar.label, anchor="end", bold=bar.ours)
        yield f'<rect x="{_LABELS}" y="{y}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>'
        least, greatest = (_LABELS + room * value / most for value in (bar.value.least, bar.value.most))
        yield _line((least, y + _BAR / 2), (greatest, y + _BAR / 2), _INK, 1.5)
        yield _text(max(greatest, _LABELS + length) + 8, y + 13, number(bar.value.median), bold=bar.ours)


def _curve(values: Sequence[float], decades: int, colour: str, thick: float) -> str:
    left, top, width, height = _PLOT
    points = []
    for n, value in enumerate(values):
        x = left + width * math.log10(max(value, _FROM_MS) / _FROM_MS) / decades
        y = top + height * (1 - (n + 1) / len(values))
        points.append(f"{x:.1f},{y:.1f}")
    return f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="{thick}"/>'


def _line(begin: tuple[float, float], end: tuple[float, float], colour: str, thick: float = 1) -> str:
    (x1, y1), (x2, y2) = begin, end
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{thick:g}"/>'


def _text(x: float, y: float, words: str, *, size: int = 13, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{weight} fill="{_INK}">'
        f"{escape(words)}</text>"
    )


def _svg(width: int, height: int, drawn: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif">'
    )
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="#fff"/>', *drawn, "</svg>", ""])
