"""The guides for those who come from somewhere else: one for each seed, and what they print is taken as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from api.schemas import NewTimerIn
from tests.docs.markdown import ROOT, code_blocks, read

GUIDES = sorted((ROOT / "docs/how-to").glob("coming-from-*.md"))
NOW_MS = 1_800_000_000_000


def wishes(guide: Path) -> list[Any]:
    """Return every timer that a guide asks for."""
    text = read(str(guide.relative_to(ROOT)))
    commands = "\n".join(code_blocks(text, "sh"))
    return [json.loads(body) for body in [*re.findall(r"-d '([^']+)'", commands), *code_blocks(text, "json")]]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_what_a_guide_asks_for_is_a_timer(guide: Path) -> None:
    assert wishes(guide)
    for wish in wishes(guide):
        NewTimerIn.model_validate(wish).spec(NOW_MS, None)


def test_there_is_a_guide_and_a_file_of_tests_for_each_seed() -> None:
    def names(paths: list[Path], start: str) -> list[str]:
        return sorted(path.stem.removeprefix(start).removeprefix("a-").replace("-", "_") for path in paths)

    assert names(GUIDES, "coming-from-") == names(list((ROOT / "tests/seeds").glob("test_*.py")), "test_")
