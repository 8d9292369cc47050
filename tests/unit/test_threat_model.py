"""docs/threat-model.md claims nothing without a test: each that it names is there, by its file and its function."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/threat-model.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[^`]+)`", TEXT)))


@pytest.mark.parametrize("named", NAMED)
def test_a_named_test_is_there(named: str) -> None:
    path, _, function = named.partition("::")
    assert (ROOT / path).exists()
    if function:
        assert re.search(rf"^(?:async )?def {function}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_boundary_names_one() -> None:
    boundaries = re.split(r"^### ", TEXT.partition("## Out of scope")[0], flags=re.MULTILINE)[1:]
    assert len(boundaries) >= 9
    for each in boundaries:
        assert "`tests/" in each, each.splitlines()[0]


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
