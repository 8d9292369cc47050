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
    why = report.longrepr[2].removeprefix("Skipped: ") if report.skipped and isinstance(report.longrepr, tuple) else ""
    for name, value in report.user_properties:
        if name == "attack":
            _account[str(value)].append((report.outcome, why))
        elif name == "limit":
            _account[str(value)].append(("limit", ""))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _account:
        return
    rows = {row.id: row for row in table.rows()}
    said = {identifier: [outcome for outcome, _ in outcomes] for identifier, outcomes in _account.items()}
    limits = sorted(identifier for identifier, outcomes in said.items() if "limit" in outcomes)
    out = sorted(identifier for identifier, outcomes in said.items() if "failed" in outcomes)
    held = sorted(identifier for identifier, outcomes in said.items() if "passed" in outcomes and identifier not in (*limits, *out))
    elsewhere = [row for row in rows.values() if row.id not in said and (row.shown_by or row.vectors)]
    skipped = {identifier: why for identifier, outcomes in _account.items() for outcome, why in outcomes if outcome == "skipped"}
    only = {identifier: why for identifier, why in skipped.items() if identifier not in (*held, *limits, *out)}
    part = {identifier: why for identifier, why in skipped.items() if identifier in held}
    terminalreporter.section("attacks")
    write = terminalreporter.write_line
    write(f"{len(rows)} ids: {len(held) + len(out) + len(limits)} tried here, {len(held)} held, {len(limits)} documented limits, {len(out)} not held;")
    write(f"{len(elsewhere)} shown by tests elsewhere ({sum(row.vectors for row in elsewhere)} of them by the vector tables), {len(only)} skipped")
    for identifier in out:
        write(f"NOT HELD  {identifier}: {rows[identifier].attack if identifier in rows else ''}")
    for identifier in limits:
        write(f"limit     {identifier}: {rows[identifier].limit}")
    for identifier, why in sorted(only.items()):
        write(f"skipped   {identifier}: {why}")
    for why in sorted(set(part.values())):
        write(f"partly    {sum(said == why for said in part.values())} ids were tried, but not in every way: {why}")


@pytest.fixture(scope="session")
def outside(internet: Internet) -> Iterator[Outside]:
    with Outside(internet) as up:
        yield up


@pytest.fixture(scope="session")
def root_inside(machine: Machine) -> str | None:
    """What keeps uid 0 inside from being tried, or None. A sandbox is asked for it."""
    result = machine.run("id -u", policy=whole(allow=["id"], process={"user": "root"}))
    return None if result.stdout.strip() == "0" else "uid 0 inside: " + (result.stderr.strip().splitlines() or ["not available"])[0]
