"""What is claimed about attacks is tested, by tests that exist."""

from __future__ import annotations

import re

import pytest

from tests.docs.markdown import ROOT, read, rows, section

SECURITY = "docs/reference/security.md"


def _attacks() -> list[list[str]]:
    return rows(section(read(SECURITY), "Attacks and tests"))


def _named() -> list[tuple[str, str]]:
    return [pair for row in _attacks() for pair in re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", row[1])]


@pytest.mark.parametrize("attack", _attacks(), ids=lambda row: row[0][:40])
def test_every_attack_names_a_test(attack: list[str]) -> None:
    assert re.search(r"\[`test_\w+`\]", attack[1])
    assert attack[2]


@pytest.mark.parametrize(("test", "path"), _named())
def test_a_test_against_an_attack_exists(test: str, path: str) -> None:
    source = (ROOT / "docs/reference" / path).resolve().read_text(encoding="utf-8")
    assert re.search(rf"def {test}\(", source)
