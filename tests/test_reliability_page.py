"""The page of reliability names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.hold import table

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", PAGE)))


def test_it_names_some() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_what_it_names_is_there(path: str, name: str) -> None:
    place = ROOT / path
    assert place.exists()
    if name:
        assert re.search(rf"^(async )?def {name}\(", place.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_row_of_the_measured_table_has_its_cells() -> None:
    inside = PAGE[PAGE.index(table.BEGIN) : PAGE.index(table.END)]
    lines = [line for line in inside.splitlines() if line.startswith("| ")]
    assert len(table.read(PAGE)) == len(lines) - 2
