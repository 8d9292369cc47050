"""Every test here drives the real command on the live kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

INSIDE = Path(__file__).parent / "inside"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session")
def inside() -> dict[str, str]:
    """The programs that run in the sandbox, by file name: what to put into a run's workdir."""
    return {path.name: path.read_text() for path in INSIDE.glob("*.py")}
