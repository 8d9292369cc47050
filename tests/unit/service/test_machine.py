"""What `stockade doctor` makes of a probe: three answers, a hint, an exit status. tests/e2e/test_doctor.py tries the probes themselves."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stockade.cli import doctor, main
from stockade.kernel.probe import Answer, Finding
from stockade.service import machine
from stockade.service.machine import CHECKS, Check, Untold, existing, findings, within
from stockade.types import StockadeError


def there() -> str:
    return "seen"


def raising(error: Exception) -> Check:
    def probe() -> str:
        raise error

    return Check("it", probe, "do that")


def test_a_probe_that_returns_is_available_and_needs_no_hint() -> None:
    assert Check("it", there, "do that").run() == Finding("it", Answer.AVAILABLE, "seen")


@pytest.mark.parametrize(
    ("error", "answer", "detail", "hint"),
    [
        (StockadeError("no such thing", hint="install it"), Answer.MISSING, "no such thing", "install it"),
        (StockadeError("no such thing"), Answer.MISSING, "no such thing", "do that"),
        (OSError(errno.ENOSYS, "Function not implemented"), Answer.MISSING, "Function not implemented", "do that"),
        (OSError("too old"), Answer.MISSING, "too old", "do that"),
        (Untold("who knows"), Answer.UNKNOWN, "who knows", "do that"),
        (ZeroDivisionError("a bug"), Answer.UNKNOWN, "the probe failed: ZeroDivisionError('a bug')", "do that"),
    ],
)
def test_a_probe_that_raises(error: Exception, answer: Answer, detail: str, hint: str) -> None:
    assert raising(error).run() == Finding("it", answer, detail, hint)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
@pytest.mark.parametrize(("user", "answer"), [(0, Answer.MISSING), (1000, Answer.UNKNOWN)])
def test_what_is_forbidden_is_missing_to_root_alone(monkeypatch: pytest.MonkeyPatch, number: int, user: int, answer: Answer) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert raising(OSError(number, "no")).run().answer is answer


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ([], 0),
        ([(Answer.AVAILABLE, True), (Answer.MISSING, False), (Answer.UNKNOWN, False)], 0),
        ([(Answer.AVAILABLE, True), (Answer.UNKNOWN, True)], 2),
        ([(Answer.UNKNOWN, True), (Answer.MISSING, True)], 1),
    ],
)
def test_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answers: list[tuple[Answer, bool]], status: int
) -> None:
    """1 when something needed is missing, 2 when it could not be told; what is not needed says so and changes nothing."""
    monkeypatch.setattr(machine, "CHECKS", ())
    monkeypatch.setattr(doctor, "kernel_findings", lambda: [Finding("it", answer, "d", "h", fatal) for answer, fatal in answers])
    assert main(["doctor", "-o", "json"]) == status
    printed = json.loads(capsys.readouterr().out)
    assert [(each["answer"], each["fatal"]) for each in printed] == [(answer.value, fatal) for answer, fatal in answers]
    assert all(each.keys() == {"name", "answer", "detail", "hint", "fatal"} for each in printed)
    assert main(["doctor"]) == status
    assert capsys.readouterr().out.count("hint: h") == sum(answer is not Answer.AVAILABLE for answer, _ in answers)


def test_every_check_has_a_name_of_its_own_and_a_hint() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.hint for check in CHECKS)
    assert [finding.name for finding in findings((CHECKS[0], raising(ValueError())))] == [CHECKS[0].name, "it"]


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("12.2.3", "mitmproxy<13,>=12.2.3", True),
        ("12.10", "mitmproxy>=12.2.3,<13", True),
        ("12.2.2", "mitmproxy>=12.2.3,<13", False),
        ("13.0.0", "mitmproxy>=12.2.3,<13", False),
        ("3.13.0", ">=3.12", True),
        ("3.9.18", ">=3.12", False),
    ],
)
def test_ranges(version: str, wanted: str, fits: bool) -> None:
    assert within(version, wanted) is fits


def test_a_range_without_bounds_is_no_range() -> None:
    with pytest.raises(ValueError, match="no range"):
        within("1", "mitmproxy")


def test_the_nearest_directory_that_is_there(tmp_path: Path) -> None:
    assert existing(tmp_path) == existing(tmp_path / "a/b/c") == tmp_path


def no_such_directory() -> None:
    Path("/nowhere").rmdir()


def bug() -> None:
    raise ValueError("x")


def death() -> None:
    os.kill(os.getpid(), 9)


@pytest.mark.parametrize(("work", "number"), [(no_such_directory, errno.ENOENT), (bug, errno.EIO), (death, errno.EIO)])
def test_a_child_tells_what_it_met_also_when_it_dies(work: Callable[[], None], number: int) -> None:
    machine._in_child(lambda: None)
    with pytest.raises(OSError) as met:
        machine._in_child(work)
    assert met.value.errno == number
