"""A trail with known lines, to read and to damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockade.audit import Trail
from unit.audit.samples import BOX, connect


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def written(path: Path) -> Path:
    """Lines 1–4 are records 1–4, line 5 a checkpoint, lines 6–8 records 5–7, line 9 a checkpoint."""
    for count in (4, 3):
        trail = Trail.open(path)
        for number in range(count):
            trail.append(BOX, connect(f"host{number}.example"))
        trail.close()
    return path
