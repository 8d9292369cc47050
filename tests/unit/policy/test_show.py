"""`policy show`: one file that loads to the same policy, and the origin of every line of it."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stockade import resources
from stockade.cli import main
from stockade.policy import DEFAULT, Policy, load, presets
from stockade.policy.format.document import NOWHERE, plain_kind
from stockade.policy.format.origins import Origins
from stockade.policy.format.show import _scalar, as_json, as_text

EXAMPLES = sorted(path for path in (resources.POLICIES / "examples").glob("*.yaml") if not path.stem.endswith("_test"))

BASE = """\
version: 1
name: base
labels: {team: "1", 'odd key: #': x}
exec: {deny: [nc]}
network:
  - name: one
    binary: {allow: [curl]}
    destination: {allow: ["*.example.com", "host.example.org:8443"], deny: [x.example.com], addresses: [10.1.2.3, "fd00::/64"]}
    port: 8443
    method: {allow: [GET]}
    path: {allow: [/**, "/a: b/#"], deny: [/admin/*]}
  - name: two
    binary: {allow: [wget]}
    destination: {allow: [b.example.com]}
    tls: passthrough
""".replace('"/a: b/#"', '"/a:b/*"')
OWN = """\
version: 1
name: own
extends: [./base.yaml]
override:
  one:
    why: "yes"
    method: {allow: [GET, POST], deny: [DELETE]}
mode: observe
best_effort: [lsm]
exec: {allow: [curl, /opt/t*/tool, "true"], writable: true, env: [PYTHONPATH]}
filesystem: {read: [/opt/data/], write: [/srv/x], hide: [/etc/x], count: [/usr/lib/, /srv/x]}
process: {user: agent, env: {LANG: "C.UTF-8", TERM: inherit, N: "1", E: ""}}
on_audit_failure: continue
rego: [more.rego]
network:
  - name: three
    binary: {allow: [git, curl], deny: [nc]}
    ancestors: [bash, /bin/sh]
    sha256: %s
    destination: {allow: [10.9.0.0/16]}
    port: [22, 443]
    protocol: tcp
"""


@pytest.fixture
def both(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "more.rego").write_text('allow { input.host == "r.example.com"; input.binary == "curl" }\n')
    (tmp_path / "own.yaml").write_text(OWN % ("0a" * 32))
    return tmp_path / "own.yaml"


def bare(policy: Policy) -> Policy:
    """Without what says where it was written."""
    rules = tuple(dataclasses.replace(rule, place=NOWHERE) for rule in policy.rules)
    return dataclasses.replace(policy, rules=rules, sources=(), warnings=())


def again(policy: Policy, directory: Path) -> Policy:
    file = directory / "shown.yaml"
    file.write_text(as_text(policy), encoding="utf-8")
    return load([file])


@pytest.mark.parametrize("path", [DEFAULT, *EXAMPLES], ids=lambda path: path.stem)
def test_what_is_shown_loads_to_the_same(path: Path, tmp_path: Path) -> None:
    policy = load([path])
    shown = again(policy, tmp_path)
    assert bare(dataclasses.replace(shown, rego=None)) == bare(dataclasses.replace(policy, rego=None))
    assert (shown.rego and shown.rego.scopes) == (policy.rego and policy.rego.scopes)


@pytest.mark.parametrize("name", [preset.name for preset in presets()])
def test_a_preset_that_is_shown_loads_to_the_same(name: str, tmp_path: Path) -> None:
    policy = load([], presets=[name])
    assert bare(again(policy, tmp_path)) == bare(policy)


def test_every_part_is_shown_and_loads_to_the_same(both: Path, tmp_path: Path) -> None:
    policy = load([both])
    assert bare(again(policy, tmp_path)) == bare(policy)


def test_every_line_has_its_origin(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(both.parent)
    lines = as_text(load(["own.yaml"])).splitlines()
    shown = {line.split("  # ")[0].strip(): line.rpartition("  # ")[2] if "  # " in line else "" for line in lines}
    for text, origin in {
        "name: own": "own.yaml:2",
        'team: "1"': "base.yaml:3",
        '"odd key: #": x': "base.yaml:3",
        "mode: observe": "own.yaml:8",
        "- lsm": "own.yaml:9",
        "- nc": "own.yaml:17",
        '- "true"': "own.yaml:10",
        "unlisted: refuse": "default",
        "writable: true": "own.yaml:10",
        "- /opt/data": "own.yaml:11",
        'N: "1"': "own.yaml:12",
        f"- {both.parent}/more.rego": "own.yaml:14",
        "- name: one": "base.yaml:6",
        'why: "yes"': "own.yaml:6",
        "- POST": "own.yaml:7",
        "- DELETE": "own.yaml:7",
        "- /admin/*": "base.yaml:11",
        "- 10.1.2.3/32": "base.yaml:8",
        "tls: passthrough": "base.yaml:15",
        "- /bin/sh": "own.yaml:18",
        "protocol: tcp": "own.yaml:22",
    }.items():
        assert shown[text] == origin, text
    without = [line for line in lines if not re.search(r"  # (own|base)\.yaml:[0-9]+$|  # default$|:$|^version: 1$", line)]
    assert not without


def test_a_shipped_file_is_called_by_its_name() -> None:
    assert "presets/npm.yaml:" in as_text(load([], presets=["npm"]))


def test_the_origins_as_json(both: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "show", "--policy", str(both), "-o", "json"]) == 0
    named = capsys.readouterr().out
    assert main(["policy", "show", str(both), "-o", "json"]) == 0
    assert capsys.readouterr().out == named
    assert main(["policy", "show", "--policy", str(both), "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["exec"]["unlisted"] == {"value": "refuse", "from": None}
    assert shown["network"][0]["name"] == {"value": "one", "from": f"{both.parent}/base.yaml:6"}
    assert shown["network"][0]["method"]["allow"][1] == {"value": "POST", "from": f"{both}:7"}
    assert sorted(Path(source).name for source in shown["sources"]) == ["base.yaml", "more.rego", "own.yaml"]
    assert as_json(load([both])) == shown


def test_the_worker_gets_no_origins(both: Path) -> None:
    policy = load([both])
    travelled = pickle.loads(pickle.dumps(policy))  # noqa: S301 (our own)
    assert policy.origins.rules and travelled.origins == Origins()
    assert b"base.yaml" not in pickle.dumps(policy)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=12))
@example("\x1f\U00010000")  # JSON escapes it as a pair of surrogates, which YAML does not know
def test_any_text_is_written_as_that_text(text: str) -> None:
    written = _scalar(text)
    assert written[0] == '"' or plain_kind(written) == "text"
    assert yaml.safe_load(written) == text
