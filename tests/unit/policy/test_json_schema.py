"""The JSON Schema and the loader give one verdict, wherever a mistake is one of shape.

What JSON Schema cannot say, and the loader alone refuses:

- what YAML offers beyond plain data, and what makes a line look other than it is: a validator sees the data, not the text;
- how a number is written: 0x50 is 80 to a validator, and no port to the loader;
- what a host, CIDR or path glob may be in detail: public suffixes, address ranges, characters of a canonical path;
- entries, rules and files at odds with each other: the same name twice, a deny beside its allow, what is extended and not there;
- what this version does not carry out: the schema describes it, since it is the format, and says that it is refused.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from stockade import resources
from stockade.cli import main
from stockade.policy.format.document import Findings, Listing, Mapping, Node, Scalar, compose
from stockade.policy.format.json_schema import as_text, schema
from stockade.policy.format.rules import parse_rule
from stockade.policy.format.schema import Reader
from stockade.policy.format.spec import HOST, PATH
from stockade.policy.hosts import HostError, parse_pattern
from stockade.policy.inbound import parse_inbound
from stockade.policy.paths import PathError, check_glob
from stockade.policy.router import parse_privacy

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "policy"
FILES = [
    *sorted(GOLDEN.glob("*.yaml")),
    *sorted(path for path in resources.POLICIES.rglob("*.yaml") if not path.stem.endswith("_test")),
]
NO_POLICIES = {"binaries.yaml", "loader_variables.yaml"}

NO_PLAIN_DATA = {"syntax", "not_utf8", "empty", "too_large", "anchor", "alias", "tag", "duplicate_key", "hidden_character"}
BEYOND_SHAPE = {
    *("bad_host", "host_has_url", "host_has_path", "bad_wildcard", "host_too_broad", "address_refused", "bad_path", "bad_network"),
    *("contradiction", "missing_port", "not_supported", "bad_pattern", "bad_url"),
}

VALIDATOR = Draft202012Validator(schema())

LEVELS: dict[str, Any] = {
    "binary": {"allow": ["curl", "/opt/tool/bin/*"], "deny": ["nc"]},
    "destination": {"allow": ["api.example.com", "*.example.org:8443", "10.1.2.0/24"], "deny": ["*"], "addresses": ["10.0.0.0/8"]},
    "method": {"allow": ["GET"], "deny": ["DELETE"]},
    "path": {"allow": ["/v1/**"], "deny": ["/v1/admin/*"]},
}
SMALL: dict[str, Any] = {level: {"allow": LEVELS[level]["allow"][:1]} for level in LEVELS}
EVERYTHING: dict[str, Any] = {
    "version": 1,
    "name": "everything",
    "labels": {"team": "research"},
    "extends": ["presets/pypi"],
    "override": {"pypi-index": {"method": {"allow": ["GET"]}, "why": "less"}},
    "remove": ["pypi-files"],
    "mode": "observe",
    "best_effort": ["lsm", "landlock"],
    "exec": {"allow": ["bash"], "deny": ["nc"], "unlisted": "no-network", "writable": True, "env": ["PYTHONPATH"]},
    "filesystem": {"read": ["/opt"], "write": ["/srv"], "hide": ["/etc/ssl/private"], "count": ["/usr/lib"]},
    "process": {
        "user": "agent",
        "env": {"LANG": "C", "TERM": "inherit"},
        "pids": 100,
        "memory": "512M",
        "cpu": 1.5,
        "devices": ["nvidia"],
        "seccomp": {"allow": ["mq_open"], "deny": ["keyctl"]},
    },
    "network": [
        {"name": "inspected", "why": "x", **LEVELS, "port": [443, 80], "tls": "inspect", "protocol": "http"},
        {"name": "one-port", **SMALL, "port": 443, "ancestors": ["bash"], "sha256": ["a" * 64], "engine": "auto", "scan": ["phi.*"]},
        {"name": "relayed", "binary": SMALL["binary"], "destination": SMALL["destination"], "tls": "passthrough", "sha256": "b" * 64},
    ],
    "rego": ["./more.rego"],
    "on_audit_failure": "continue",
    "inbound": [{"port": 8080, "protocol": "tcp", "from": ["10.0.0.0/8"]}],
    "privacy": {
        "mode": "audit",
        "endpoints": ["llm.example.com"],
        "detect": {
            "thresholds": {"pii.person": 0.5},
            "dictionaries": [{"name": "wards", "category": "phi.ward", "file": "./wards.txt"}],
            "custom": [{"name": "ward", "pattern": "W-[0-9]+", "category": "phi.identifier"}],
        },
        "routes": [
            {"name": "patients", "when": ["phi.*", "*"], "model": "gpt-*", "endpoint": "*.example.com", "sandbox": "a*", "then": "local"}
        ],
        "redact": {"style": "mask", "ttl": 60},
        "local": {
            "url": "http://localhost:11434",
            "api": "ollama",
            "model": "llama3",
            "models": {"gpt-*": "llama3-large"},
            "context": 8192,
            "timeout": 30,
            "parallel": 1,
            "queue": 0,
            "api_key_env": "LOCAL_KEY",
        },
        "residency": {"api.example.com": "us"},
        "require_residency": {"phi.identifier": ["eu"]},
        "unreadable": "deny",
        "on_failure": "local",
        "on_local_failure": "redact",
    },
}
WRONG: list[Any] = ["nonsense", "x\n", "../up", "**", "a" * 65, 0, -1, 70000, 0.5, True, None, [], {}, ["x"], [1], {"x": 1}]


def loader(text: str) -> set[str]:
    """The codes of what is wrong with one document alone; not of the files it names, which are not there."""
    findings = Findings()
    root = compose(text.encode(), "policy.yaml", findings)
    if root is not None:
        document = Reader(findings).document(root)
        for position, draft in enumerate(document.rules):
            parse_rule(draft, position, findings)
        parse_inbound(document.inbound, findings)
        parse_privacy([document.privacy] if document.privacy is not None else [], document.words.get, findings)
    return {problem.code for problem in findings.problems if problem.severity == "error" and problem.code != "unreadable"}


def data(node: Node) -> Any:
    match node:
        case Mapping():
            return {key.text: data(value) for key, value in node}
        case Listing():
            return [data(item) for item in node.items]
        case Scalar(kind="text"):
            return node.text
        case Scalar():
            value = yaml.safe_load(node.text)
            return value if isinstance(value, int | float | None) else node.text
    raise AssertionError(node)


def agree(value: Any, codes: set[str], what: object) -> None:
    valid = VALIDATOR.is_valid(value)
    if valid:
        assert not codes - BEYOND_SHAPE, what
    else:
        assert codes, (what, [error.message for error in VALIDATOR.iter_errors(value)])


@pytest.mark.parametrize("path", [path for path in FILES if path.name not in NO_POLICIES], ids=lambda path: path.name)
def test_every_policy_here_gets_one_verdict(path: Path) -> None:
    text = path.read_text(encoding="utf-8", errors="replace")
    codes = loader(text)
    root = compose(text.encode(), path.name, Findings())
    if not codes & NO_PLAIN_DATA and root is not None:
        agree(data(root), codes, codes)


def test_the_whole_format_is_well_formed() -> None:
    VALIDATOR.validate(EVERYTHING)
    assert loader(json.dumps(EVERYTHING)) == set()


def mutations(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every copy of EVERYTHING in which one thing is other: replaced, left out, or added."""

    def changed(change: Any) -> Any:
        whole = copy.deepcopy(EVERYTHING)
        parent = whole
        for step in at[:-1]:
            parent = parent[step]
        change(parent)
        return whole

    def put(wrong: Any) -> Any:
        return changed(lambda parent: parent.__setitem__(at[-1], wrong)) if at else wrong

    for wrong in WRONG:
        yield (*at, "=", repr(wrong)), put(wrong)
    if at:
        yield (*at, "left out"), changed(lambda parent: parent.__delitem__(at[-1]))
    if isinstance(value, dict):
        yield (*at, "unknown key"), put({**value, "nonsense": 1})
        for key, below in value.items():
            yield from mutations(below, (*at, key))
    elif isinstance(value, list):
        yield (*at, "more"), put([*value, 7])
        for index, below in enumerate(value):
            yield from mutations(below, (*at, index))


def test_one_mistake_anywhere_gets_one_verdict() -> None:
    seen = 0
    for what, mutated in mutations(EVERYTHING):
        agree(mutated, loader(json.dumps(mutated)), what)
        seen += 1
    assert seen > 1500


@pytest.mark.parametrize(
    ("rule", "codes"),
    [
        ({"tls": "passthrough", **LEVELS}, {"contradiction"}),
        ({"protocol": "tcp", "port": 22, **LEVELS}, {"contradiction"}),
        ({key: LEVELS[key] for key in ("binary", "destination", "method")}, {"missing_level"}),
        ({key: LEVELS[key] for key in ("binary", "destination")}, {"missing_level"}),
        ({key: LEVELS[key] for key in ("binary", "method", "path")}, {"missing_key"}),
        ({**LEVELS, "binary": {"deny": ["nc"]}}, {"missing_key"}),
    ],
)
def test_the_levels_of_a_rule_get_one_verdict(rule: dict[str, Any], codes: set[str]) -> None:
    rules = [{"name": "rule", **rule}]
    assert loader(json.dumps(rules)) == codes
    assert not VALIDATOR.is_valid(rules)


WORDS = st.text(st.sampled_from("ab*.:/[]-_%?#@ é0189"), max_size=12)


@settings(max_examples=500, deadline=None)
@given(WORDS)
def test_the_outline_of_a_host_refuses_none_that_the_loader_takes(text: str) -> None:
    try:
        parse_pattern(text)
    except HostError:
        return
    assert Draft202012Validator({"pattern": f"^(?:{HOST.outline})$"}).is_valid(text)


@settings(max_examples=500, deadline=None)
@given(WORDS)
def test_the_outline_of_a_path_refuses_none_that_the_loader_takes(text: str) -> None:
    try:
        check_glob(text)
    except PathError:
        return
    assert Draft202012Validator({"pattern": f"^(?:{PATH.outline})$"}).is_valid(text)


def test_the_file_that_ships_is_fresh() -> None:
    """`stockade policy schema > policies/schema.json` makes it anew."""
    Draft202012Validator.check_schema(schema())
    assert (resources.POLICIES / "schema.json").read_text(encoding="utf-8") == as_text()


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()
