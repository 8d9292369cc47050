"""Policies from text, so that a test shows the policy it is about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from stockade.policy import Policy, load


@pytest.fixture
def policy(tmp_path: Path) -> Callable[[str], Policy]:
    """Loads the text of a policy; indentation that all its lines share does not count."""

    def read(text: str) -> Policy:
        file = tmp_path / "policy.yaml"
        file.write_text(dedent(text), encoding="utf-8")
        return load([file])

    return read
