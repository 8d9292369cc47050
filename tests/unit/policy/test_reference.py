"""The pages that are made from code are fresh, and every code of a problem has its test.

`STOCKADE_GOLDEN=write pytest tests/unit/policy/test_reference.py` renews the pages.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from stockade.policy.format.codes import CODES
from stockade.policy.format.document import NOWHERE, Findings
from stockade.policy.format.reference import codes, keys, renewed
from stockade.policy.format.spec import POLICY, RULE

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden" / "policy"


@pytest.mark.parametrize("name", ["policy.md", "policy-errors.md"])
def test_a_page_is_fresh(name: str) -> None:
    page = ROOT / "docs" / name
    text = page.read_text(encoding="utf-8")
    if os.environ.get("STOCKADE_GOLDEN") == "write":
        page.write_text(renewed(text), encoding="utf-8")
        text = page.read_text(encoding="utf-8")
    assert ", generated -->" in text and text == renewed(text)


def test_the_tables_hold_every_key_and_every_code() -> None:
    for record in (POLICY, RULE):
        for key in record.keys:
            assert f"\n| `{key.name}`" in keys()
    for code in CODES:
        assert f"\n| `{code}` | " in codes()


def test_every_code_is_in_a_golden_file_or_named_by_a_test() -> None:
    golden = "".join(path.read_text(encoding="utf-8") for path in GOLDEN.glob("*.txt"))
    named = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "unit").rglob("test_*.py") if path != Path(__file__))
    missing = [code for code in CODES if f"[{code}]" not in golden and not re.search(rf"[\"' \[]{code}[\"' ,\]]", named)]
    assert not missing


def test_a_finding_has_a_code_that_stands_in_the_table() -> None:
    with pytest.raises(AssertionError, match=r"codes\.py"):
        Findings().add(NOWHERE, "no_such_code", "x")
    with pytest.raises(AssertionError, match=r"codes\.py"):
        Findings().add(NOWHERE, "syntax", "x", severity="warning")
