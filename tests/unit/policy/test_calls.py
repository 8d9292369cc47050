"""System calls that a policy names, from the file to the value, to what is shown, compared, and fixed at start."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockade.policy import Policy, PolicyError, load
from stockade.policy.format.show import as_text
from stockade.policy.model import Seccomp
from stockade.policy.proof.diff import diff
from stockade.sandbox.syscalls import KNOWN, NEEDED, NEVER, names
from stockade.service.static import demand_same


def policy(directory: Path, text: str, name: str = "policy.yaml") -> Policy:
    path = directory / name
    path.write_text(f"version: 1\nexec: {{allow: [sh]}}\nprocess:\n  seccomp: {text}\n")
    return load([path])


def codes(directory: Path, text: str) -> list[tuple[str, int, int]]:
    with pytest.raises(PolicyError) as caught:
        policy(directory, text)
    return [(problem.code, problem.line, problem.column) for problem in caught.value.problems]


def test_what_is_stated_is_in_the_policy_and_shown(tmp_path: Path) -> None:
    found = policy(tmp_path, "{allow: [mq_open, io_setup], deny: [socketpair]}")
    assert found.process.seccomp == Seccomp(("mq_open", "io_setup"), ("socketpair",))
    again = tmp_path / "shown.yaml"
    again.write_text(as_text(found))
    assert load([again]).process == found.process


def test_documents_that_extend_each_other_are_joined(tmp_path: Path) -> None:
    policy(tmp_path, "{allow: [mq_open], deny: [socketpair]}", "base.yaml")
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\nextends: [./base.yaml]\nprocess: {seccomp: {deny: [mq_open, mknod]}}\n")
    assert load([path]).process.seccomp == Seccomp(("mq_open",), ("mq_open", "mknod", "socketpair"))


@pytest.mark.parametrize("call", sorted(names(NEVER)))
def test_what_breaks_the_boundary_cannot_be_allowed(tmp_path: Path, call: str) -> None:
    assert codes(tmp_path, f"{{allow: [{call}]}}") == [("syscall_never", 4, 21)]


@pytest.mark.parametrize("call", sorted(NEEDED))
def test_what_every_start_needs_cannot_be_denied(tmp_path: Path, call: str) -> None:
    assert codes(tmp_path, f"{{deny: [{call}]}}") == [("syscall_needed", 4, 20)]


def test_everything_else_can_be_denied(tmp_path: Path) -> None:
    rest = sorted(KNOWN - NEEDED)
    assert policy(tmp_path, f"{{deny: [{', '.join(rest)}]}}").process.seccomp.deny == tuple(rest)


def test_a_difference_says_which_calls(tmp_path: Path) -> None:
    before, after = policy(tmp_path, "{deny: [mknod]}"), policy(tmp_path, "{allow: [io_setup], deny: [socketpair]}")
    said = {(change.effect, change.area, change.text) for change in diff(before, after)}
    assert said == {("possible", "process", "may be called: io_setup, mknod"), ("impossible", "process", "may be called: socketpair")}
    assert diff(after, after) == ()


def test_a_running_sandbox_keeps_its_calls(tmp_path: Path) -> None:
    started, new = policy(tmp_path, "{deny: [mknod]}"), policy(tmp_path, "{allow: [io_setup], deny: [mknod]}")
    demand_same(started, started, ["sh"])
    with pytest.raises(PolicyError) as caught:
        demand_same(started, new, ["sh"])
    (problem,) = caught.value.problems
    assert (problem.code, problem.line) == ("static_changed", 3)
    assert "`process.seccomp.allow` cannot change while the sandbox runs: it would gain `io_setup`" in problem.message
