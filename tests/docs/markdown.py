"""Just enough Markdown to read our own documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_NOT_IN_A_SLUG = re.compile(r"[^\w\- ]")


def read(path: str) -> str:
    """Return a document by its path in the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


def documents() -> list[Path]:
    """Return every document, by path."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def section(text: str, heading: str) -> str:
    """Return what stands under a heading, up to the next one of its rank or above."""
    headings = list(_HEADING.finditer(_without_code(text)))
    for number, match in enumerate(headings):
        if match[2] == heading:
            rest = headings[number + 1 :]
            end = next((later.start() for later in rest if len(later[1]) <= len(match[1])), len(text))
            return text[match.end() : end]
    raise AssertionError(f"no heading {heading!r}")


def code_blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return [match[2] for match in _FENCE.finditer(text) if match[1] == language]


def rows(text: str) -> list[list[str]]:
    """Return the cells of every table row below a head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    heads = [number for number, row in enumerate(cells) if set("".join(row)) <= set("-:")]
    return [row for number, row in enumerate(cells) if number not in heads and number + 1 not in heads]


def links(text: str) -> Iterator[str]:
    """Yield the targets of all links."""
    for match in _LINK.finditer(_without_code(text)):
        yield match[1]


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to a document's headings."""
    titles = (match[2].replace("`", "") for match in _HEADING.finditer(_without_code(text)))
    return {_NOT_IN_A_SLUG.sub("", title.lower()).replace(" ", "-") for title in titles}


def _without_code(text: str) -> str:
    """Blank out fenced blocks, all offsets kept."""
    return _FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
