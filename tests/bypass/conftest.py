"""Fixtures of the attacks, and the account that the run prints: tried, held, limits, skipped, and what got out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from bypass import table
from framework.internet import Internet
from framework.machine import Machine
from framework.outside import Outside
from framework.policy import whole

_account: dict[str, list[tuple[str, str]]] = defaultdict(list)
_conceded: dict[str, str] = {}  # not held on this kernel, and SECURITY.md says so
_lacking: dict[str, set[str]] = defaultdict(set)  # what this kernel has not, so that no control could get out


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "attack(id, ...): tries these rows of tests/bypass/attacks")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and item.path.name != "test_table.py":
            item.add_marker(pytest.mark.root)


@pytest.fixture(autouse=True)
def _attacks(request: pytest.FixtureRequest, record_property) -> None:  # type: ignore[no-untyped-def]
    for marker in request.node.iter_markers("attack"):
        for identifier in marker.args:
            record_property("attack", identifier)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when != "call" and report.outcome == "passed":
        return
    for name, value in report.user_properties:
        if name == "conceded" and report.passed:
            _conceded[next(str(value) for name, value in report.user_properties if name == "attack")] = str(value)
        if name == "lacking":
            _lacking[str(value)].add(next(str(value) for name, value in report.user_properties if name == "attack"))
    why = report.longrepr[2].removeprefix("Skipped: ") if report.skipped and isinstance(report.longrepr, tuple) else ""
    outcome = "unproved" if report.failed and "where_nothing_is_enforced" in report.nodeid else report.outcome
    for name, value in report.user_properties:
        if name == "attack":
            _account[str(value)].append((outcome, why))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The account. A limit is never counted as held, nor is what was skipped."""
    if not _account:
        return
    rows = {row.id: row for row in table.rows()}
    limits = {identifier: row.limit for identifier, row in rows.items() if row.limit} | _conceded
    said = {identifier: {outcome for outcome, _ in outcomes} for identifier, outcomes in _account.items() if identifier not in limits}
    out = sorted(identifier for identifier, outcomes in said.items() if "failed" in outcomes)
    unproved = sorted(identifier for identifier, outcomes in said.items() if "unproved" in outcomes and identifier not in out)
    held = {identifier for identifier, outcomes in said.items() if "passed" in outcomes} - {*out, *unproved}
    elsewhere = {row.id for row in rows.values() if row.id not in said and (row.shown_by or row.vectors) and not row.limit}
    skipped = {identifier: why for identifier, outcomes in _account.items() for outcome, why in outcomes if outcome == "skipped"}
    only = {identifier: why for identifier, why in skipped.items() if said.get(identifier) == {"skipped"}}
    counted = len(held) + len(out) + len(unproved)
    terminalreporter.section("attacks")
    write = terminalreporter.write_line
    write(f"{len(rows)} ids: {counted} tried here: {len(held)} held, {len(out)} not held, {len(unproved)} not proved;")
    write(f"{len(elsewhere)} tried by tests elsewhere, {len(limits)} documented limits, {len(only)} skipped")
    for word, identifiers in (("NOT HELD ", out), ("unproved ", unproved)):
        for identifier in identifiers:
            write(f"{word} {identifier}: {rows[identifier].attack if identifier in rows else 'no row'}")
    for identifier, limit in sorted(limits.items()):
        write(f"limit     {identifier}: {limit}")
    for error, identifiers in sorted(_lacking.items()):
        write(f"lacking   {', '.join(sorted(identifiers))}: not in this kernel ({error}): held, and no control got out")
    for identifier, why in sorted(only.items()):
        write(f"skipped   {identifier}: {why}")
    for why in sorted({why for identifier, why in skipped.items() if identifier in held}):
        ids = sorted(identifier for identifier, said_why in skipped.items() if said_why == why and identifier in held)
        write(f"partly    {', '.join(ids) if len(ids) < 5 else f'{len(ids)} ids'}: {why}")


@pytest.fixture(scope="session")
def outside(internet: Internet) -> Iterator[Outside]:
    with Outside(internet) as up:
        yield up


@pytest.fixture(scope="session")
def root_inside(machine: Machine) -> str | None:
    """What keeps uid 0 inside from being tried, or None. A sandbox is asked for it."""
    result = machine.run("id -u", policy=whole(allow=["id"], process={"user": "root"}))
    return None if result.stdout.strip() == "0" else "uid 0 inside: " + (result.stderr.strip().splitlines() or ["not available"])[0]
