"""The page of the detectors is fresh. `STOCKADE_GOLDEN=write pytest tests/unit/privacy/test_detector_page.py` renews it."""

from __future__ import annotations

import os
from pathlib import Path

from stockade.privacy.patterns import PATTERNS
from stockade.privacy.patterns.reference import page

PAGE = Path(__file__).resolve().parents[3] / "docs" / "privacy-detectors.md"


def test_the_page_is_fresh() -> None:
    if os.environ.get("STOCKADE_GOLDEN") == "write":
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()


def test_it_names_every_detector() -> None:
    for pattern in PATTERNS:
        assert f"\n| `{pattern.name}` | `{pattern.category}` | {pattern.says}" in page()
