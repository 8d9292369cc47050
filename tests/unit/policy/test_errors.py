"""Every bad policy, or file of policy tests, under tests/golden/policy says what is in the .txt beside it.

`STOCKADE_GOLDEN=write pytest tests/unit/policy/test_errors.py` writes these anew, to be read before they are committed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stockade.policy import PolicyError, load
from stockade.policy.cases.suite import is_test_file, read_suite
from stockade.policy.format.problems import Problem

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "policy"


def problems(name: str) -> tuple[Problem, ...]:
    try:
        return read_suite(Path(name)).policy.warnings if is_test_file(Path(name)) else load([name]).warnings
    except PolicyError as error:
        assert str(error) == "\n".join(map(str, error.problems))
        return error.problems


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("*.yaml")))
def test_a_bad_policy_says_what_is_wrong_with_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    text = "".join(f"{problem}\n" for problem in problems(name))
    golden = GOLDEN / name.replace(".yaml", ".txt")
    if os.environ.get("STOCKADE_GOLDEN") == "write":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_ten_mistakes_are_ten_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    assert [problem.severity for problem in problems("ten-mistakes.yaml")] == ["error"] * 10


def test_every_problem_in_a_file_has_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    for name in sorted(path.name for path in GOLDEN.glob("*.yaml")):
        for problem in problems(name):
            assert problem.line >= 1, problem


def test_what_a_stranger_wrote_cannot_move_the_cursor(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text('version: 1\n"\\e[2Jmode": x\n')
    with pytest.raises(PolicyError) as error:
        load([file])
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("content", ["version: 1\nmode: x\n", None], ids=["bad", "absent"])
def test_nor_can_the_name_that_he_gave_his_file(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "po\x1b[2Jlicy.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(PolicyError) as error:
        load([file])
    assert "\x1b" not in str(error.value)
