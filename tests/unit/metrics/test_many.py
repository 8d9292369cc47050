"""Two hundred sandboxes whose records are in one trail: each is counted alone, and all are on one page and one screen."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stockade.audit import Trail
from stockade.audit.record import Json
from stockade.cli.top.board import Board, Sample
from stockade.cli.top.screen import Choice, draw
from stockade.metrics.collector import Page
from stockade.metrics.ledger import Ledger
from stockade.metrics.samples import samples
from stockade.metrics.snapshot import Snapshot
from stockade.types import Sandbox
from unit.audit.samples import connect, request

COUNT = 200


def name(number: int) -> str:
    return f"research-agents-of-team-{number % 3}-{number:03}"


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ledger]:
    """Sandbox n has n records that allow and one that refuses, interleaved with those of the others."""
    found = {name(number): Ledger() for number in range(COUNT)}

    def written(record: Json) -> None:
        found[record["sandbox"]["name"]].record(record)

    trail = Trail.open(Path(tmp_path_factory.mktemp("many")) / "audit.jsonl")
    trail.subscribers.append(written)
    for turn in range(20):
        for number in range(COUNT):
            box = Sandbox(f"id-{number}", name(number), "p", 1)
            if turn < number % 20:
                trail.append(box, request(f"/{turn}"))
            elif turn == 19:
                trail.append(box, connect(f"evil-{number}.example"))
    trail.close()
    return found


def snapshots(ledgers: dict[str, Ledger], *idle: str) -> list[Snapshot]:
    return [Snapshot(each, each, 1, "p", 1, "enforce", "lsm", ledger, workers=each not in idle) for each, ledger in ledgers.items()]


def board(ledgers: dict[str, Ledger], *idle: str) -> Board:
    return Board(None, Sample(1.0, {one.id: one.statistics() | {"asked": time.time()} for one in snapshots(ledgers, *idle)}))


def test_each_has_its_own_series(ledgers: dict[str, Ledger]) -> None:
    page, _ = Page().render(samples(snapshots(ledgers), {}), "")
    [decisions] = [family for family in text_string_to_metric_families(page.decode()) if family.name == "stockade_decisions"]
    counted: dict[tuple[str, str], float] = {}
    for one in decisions.samples:
        if one.name.endswith("_total"):
            counted[one.labels["sandbox"], one.labels["decision"]] = one.value
    for number in range(COUNT):
        assert counted.get((name(number), "allow"), 0) == number % 20 and counted[name(number), "deny"] == 1


def test_a_filter_finds_one_of_them_by_the_end_of_its_name(ledgers: dict[str, Ledger]) -> None:
    for columns in (80, 160):
        for view in ("activity", "refusals"):
            shown = [row.text for row in draw(board(ledgers), Choice(view=view, filter="-117"), "12:00:00", columns, 30)]
            assert shown[0].startswith("stockade top  12:00:00  200 sandboxes")
            assert any("evil-117." in line for line in shown) and not any("evil-118." in line for line in shown), shown
        named = [row.text for row in draw(board(ledgers), Choice(filter="-117"), "12:00:00", 160, 30)]
        assert any(line.startswith(name(117)) for line in named)


def test_those_that_nobody_serves_come_first_however_quiet_they_are(ledgers: dict[str, Ledger]) -> None:
    idle = [name(number) for number in range(0, COUNT, 20)]  # the quietest
    rows = draw(board(ledgers, *idle), Choice(), "12:00:00", 120, 30)
    assert sum("NO WORKER" in row.text for row in rows) == 5
    assert ("and 195 more, 5 of them without a worker", "bad") in [(row.text, row.style) for row in rows]
    assert not any("NO WORKER" in row.text or "without" in row.text for row in draw(board(ledgers), Choice(), "12:00:00", 120, 30))


def test_the_answer_as_json_has_all_of_them(ledgers: dict[str, Ledger]) -> None:
    said = board(ledgers).json()
    assert len(said["sandboxes"]) == COUNT == len({one["sandbox"] for one in said["refusals"]})
    assert [line["sandbox"] for line in said["activity"] if line["destination"] == "evil-42.example:443"] == [name(42)]
