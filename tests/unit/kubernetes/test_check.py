"""`stockade kubernetes check`: what a node would say of a manifest, said before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from stockade.cli import main
from stockade.policy.format.crd import GROUP, VERSION

RULE = """\
    - name: read
      binary: {allow: [curl]}
      destination: {allow: [api.example.com]}
      port: [443]
      method: {allow: [GET]}
      path: {allow: [/v1/**]}
"""
GOOD = f"""\
apiVersion: {GROUP}/{VERSION}
kind: StockadePolicy
metadata: {{name: good, namespace: team}}
spec:
  selector: {{}}
  exec: {{writable: true}}
  rollout: {{stages: [{{percent: 10, for: 10m}}], rollback: false}}
  network:
{RULE}"""
BAD = GOOD.replace("good", "bad").replace("port: [443]", "port: [0]").replace("kind: Stock", "kind: ClusterStock")
OTHER = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"


def said(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    status = main(["kubernetes", "check", *map(str, words)])
    found = capsys.readouterr()
    return status, found.out, found.err


def test_each_policy_of_a_file_is_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "all.yaml"
    file.write_text("---\n".join([GOOD, OTHER, BAD]))
    status, out, _ = said(capsys, file)
    first, second = out.splitlines()
    assert status == 1 and first == f"{file}: StockadePolicy team/good: loads"
    lines = file.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "port: [0]" in text)
    place = f"{file}:{line}:{lines[line - 1].index('[0]') + 2}"
    assert second.startswith(f"{place}: ClusterStockadePolicy bad: spec.network[0].port[0]: ") and second.endswith("[bad_port]")


def test_a_list_as_kubectl_prints_it_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "list.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [yaml.safe_load(GOOD), yaml.safe_load(OTHER)]}))
    assert said(capsys, file)[:2] == (0, f"{file}: StockadePolicy team/good: loads\n")


def test_a_line_is_counted_in_what_is_printed_whatever_the_authors_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "policy.json"
    item = yaml.safe_load(BAD)
    lines = []
    for spec in (item["spec"], dict(reversed(item["spec"].items()))):
        file.write_text(json.dumps(item | {"spec": spec}))
        problem = said(capsys, file, "--print")[1].splitlines()[-1]
        lines.append(int(problem.partition(", line ")[2].partition(":")[0]))
    printed = said(capsys, file, "--print")[1].splitlines()
    assert lines[0] == lines[1] and printed[lines[0]].strip() == "- 0"  # the first of them says which policy it is


def test_what_is_wrong_is_told_where_its_author_wrote_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also in a list, and below a label with dots in its name; what is not there is told of the nearest that is."""
    specs = (
        "{selector: {matchLabels: {app.kubernetes.io/name: [x]}}, priority: 5000}",
        "{selector: {}, network: [{name: a, prt: 1}]}",
    )
    item = f"  - apiVersion: {GROUP}/v9\n    kind: StockadePolicy\n    metadata: {{name: a}}\n    spec: "
    file = tmp_path / "list.yaml"
    file.write_text("apiVersion: v1\nkind: List\nitems:\n" + "".join(f"{item}{spec}\n" for spec in specs))
    lines = file.read_text().splitlines()
    told = {}
    for each in said(capsys, file)[1].splitlines():
        place, _, rest = each.removeprefix(f"{file}:").partition(": StockadePolicy default/a: ")
        line, column = map(int, place.split(":"))
        told[rest.partition(": ")[0]] = lines[line - 1][column - 1 :]
    assert told["apiVersion"] == f"{GROUP}/v9"
    assert told["spec.selector.matchLabels.app.kubernetes.io/name"].startswith("[x]")
    assert told["spec.priority"].startswith("5000")
    assert told["spec.network[0].prt"].startswith("prt: 1")
    assert told["spec.network[0].name"].startswith("a, prt")  # its rule has no binary


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (OTHER, "holds no policy"),
        ("", "holds no policy"),
        ("a: &b 1", ":1:4: "),
        (GOOD + "---\nx: [", ":17:"),
        ("\x00", ": "),
    ],
)
def test_what_is_no_manifest_is_said_without_a_traceback(text: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    status, _, err = said(capsys, file)
    assert status == 2 and what in err and "Traceback" not in err


def test_another_version_of_the_api_is_not_taken_for_this_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(GOOD.replace(VERSION, "v9"))
    assert "[unknown_version]" in said(capsys, file)[1]
