"""The dashboards against what Grafana publishes of its own: every key, in its place, with a value of its type.

No Grafana server runs in the tests: none is packaged where they get what they need. Its types are what `@grafana/schema` says; that every
query returns data from a real Prometheus is in tests/e2e/test_metrics.py.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

SCHEMAS = json.loads(Path(__file__).with_name("grafana.schema.json").read_text())
FOLDER = Path(__file__).parents[3] / "deploy/grafana/dashboards"
DASHBOARDS = {file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))}
Json = dict[str, Any]


def demand(what: str, value: object) -> None:
    jsonschema.Draft7Validator(SCHEMAS[what]).validate(value)


def demand_dashboard(board: Json) -> None:
    """As a whole, and then what the whole leaves open: a panel's options, its own field settings, its queries."""
    demand("dashboard", board)
    for panel in board["panels"]:
        demand(panel["type"], panel["options"])
        if panel["type"] != "stat":  # it has none of its own
            demand(f"{panel['type']}.custom", panel["fieldConfig"]["defaults"]["custom"])
        for target in panel["targets"]:
            demand("query", target)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_what_grafana_says_one_is(name: str) -> None:
    board = DASHBOARDS[name]
    demand_dashboard(board)
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids) > 3 and {panel["type"] for panel in board["panels"]} <= {"stat", "timeseries", "table"}
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in board["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24, "no panel lies on another"
    assert all(len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) for panel in board["panels"])


def test_provisioning_names_what_the_dashboards_ask() -> None:
    text = (FOLDER.parent / "provisioning/datasources").glob("*.yaml")
    (uid,) = {line.split(":")[1].strip() for file in text for line in file.read_text().splitlines() if line.strip().startswith("uid:")}
    asked = {panel["datasource"]["uid"] for board in DASHBOARDS.values() for panel in board["panels"]}
    assert (
        asked
        == {target["datasource"]["uid"] for board in DASHBOARDS.values() for one in board["panels"] for target in one["targets"]}
        == {uid}
    )


@pytest.mark.parametrize(
    "breaks",
    [
        lambda board: board.update(panel=[]),
        lambda board: board["panels"][0]["gridPos"].update(w="4"),
        lambda board: board["panels"][0].update(titel="x"),
        lambda board: board["panels"][0]["options"].update(colorMode="loud"),
        lambda board: board["panels"][0]["targets"][0].pop("expr"),
        lambda board: board["panels"][0]["fieldConfig"]["defaults"]["thresholds"].update(mode="relative"),
        lambda board: board["time"].update(since="now-1h"),
        lambda board: next(one for one in board["panels"] if one["type"] == "timeseries")["fieldConfig"]["defaults"]["custom"].update(
            showPoints="seldom"
        ),
    ],
    ids=range(8),
)
def test_what_grafana_would_not_take_fails_here(breaks: Callable[[Json], object]) -> None:
    board = copy.deepcopy(DASHBOARDS["overview"])
    breaks(board)
    with pytest.raises(jsonschema.ValidationError):
        demand_dashboard(board)
