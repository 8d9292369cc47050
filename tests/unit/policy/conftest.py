"""Policies from text, so that a test shows the policy it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from stockade.policy import Policy, load
from stockade.policy.rego import judge


@pytest.fixture
def policy(tmp_path: Path) -> Callable[[str], Policy]:
    """Loads the text of a policy; indentation that all its lines share does not count."""

    def read(text: str) -> Policy:
        file = tmp_path / "policy.yaml"
        file.write_text(dedent(text), encoding="utf-8")
        return load([file])

    return read


@pytest.fixture
def own_judge() -> Iterator[None]:
    """Each test starts without a judge, and leaves none behind."""
    judge.reset()
    yield
    judge.reset()
