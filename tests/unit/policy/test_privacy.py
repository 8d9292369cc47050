"""The privacy section: what is read of it, what several files make of it together, how it is shown, and what a change of it opens."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.sections import calls, sections
from stockade.policy import Policy, PolicyError, load
from stockade.policy.format.document import Findings, compose
from stockade.policy.format.schema import Reader
from stockade.policy.format.shapes import Key, Record, Text
from stockade.policy.format.show import as_text
from stockade.policy.model import MODEL_PORTS
from stockade.policy.privacy import MOST_TERMS, Custom, Local, Privacy, Route
from stockade.policy.proof.diff import diff
from stockade.policy.proof.routing import routing
from stockade.privacy.finding import Finding
from stockade.privacy.route import route
from stockade.privacy.serve.terms import TERMS
from stockade.proxy.parcel import pack

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(privacy: Any, name: str = "policy.yaml", **more: Any) -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump({"version": 1, "privacy": privacy} | more, sort_keys=False))
        return path

    return written


def section(path: Path, *more: Path) -> Privacy:
    found = load([path, *more]).privacy
    assert found is not None
    return found


def codes(*paths: Path) -> list[str]:
    with pytest.raises(PolicyError) as error:
        load(list(paths))
    return [problem.code for problem in error.value.problems if problem.severity == "error"]


def test_nothing_said_switches_the_router_on_with_its_defaults_and_no_section_is_none(write: Write, tmp_path: Path) -> None:
    assert section(write({})) == Privacy()
    (tmp_path / "none.yaml").write_text("version: 1\n")
    assert load([tmp_path / "none.yaml"]).privacy is None


def test_every_key_arrives(write: Write, tmp_path: Path) -> None:
    (tmp_path / "wards.txt").write_text("\ufeffWard 7\n\n  Ward 9 \r\nWard 7\n", encoding="utf-8")
    local = {"url": "https://llm.example.com:8443/v1", "api": "ollama", "model": "m", "models": {"gpt-*": "big"}}
    local |= {"context": 9, "timeout": 8, "parallel": 6, "queue": 7, "api_key_env": "KEY"}
    found = section(
        write(
            {
                "mode": "audit",
                "endpoints": ["LLM.Example.com.", "*.corp.example", "sandbox:models"],
                "detect": {
                    "thresholds": {"pii.person": 0.9, "*": 1},
                    "dictionaries": [{"name": "wards", "category": "phi.ward", "file": "./wards.txt"}],
                    "custom": [{"name": "code", "pattern": "W-([0-9]+)", "category": "phi.identifier"}],
                },
                "routes": [
                    {"when": ["phi.*", "*"], "model": "gpt-*", "endpoint": "*.Example.com", "sandbox": "a*", "then": "deny"},
                    {"name": "named", "when": ["pii.age"], "then": "redact"},
                ],
                "redact": {"style": "hash", "ttl": 60},
                "local": local,
                "residency": {"*.example.com": "US", "eu.example.com": "EU"},
                "require_residency": {"phi.*": ["EU", "local"]},
                "unreadable": "local",
                "on_failure": "pass",
                "on_local_failure": "redact",
            }
        )
    )
    (wards,) = found.dictionaries
    assert (wards.name, wards.category, wards.terms) == ("wards", "phi.ward", ("Ward 7", "Ward 9"))
    assert replace(found, dictionaries=()) == Privacy(
        mode="audit",
        endpoints=("llm.example.com", "*.corp.example", "models.sandbox.stockade.internal"),
        thresholds=(("pii.person", 0.9), ("*", 1.0)),
        custom=(Custom("code", "W-([0-9]+)", "phi.identifier"),),
        routes=(Route("route-1", ("phi.*", "*"), "deny", "*.example.com", "gpt-*", "a*"), Route("named", ("pii.age",), "redact")),
        style="hash",
        ttl=60,
        local=Local("https://llm.example.com:8443/v1", "m", "ollama", 9, (("gpt-*", "big"),), 8, 6, 7, "KEY"),
        residency=(("eu.example.com", "EU"), ("*.example.com", "US")),  # the most exact first
        require_residency=(("phi.*", ("EU", "local")),),
        unreadable="local",
        on_failure="pass",
        on_local_failure="redact",
    )


def test_a_dictionary_is_a_file_of_the_policy(write: Write, tmp_path: Path) -> None:
    """Hidden from the sandbox and watched, also while it is not there."""
    policy = write({"detect": {"dictionaries": [{"name": "wards", "category": "phi.ward", "file": "wards.txt"}]}})
    named: list[Path] = []
    with pytest.raises(PolicyError, match=r"policy\.yaml:\d+:\d+: cannot read .*wards\.txt"):
        load([policy], named=named)
    assert tmp_path / "wards.txt" in named
    (tmp_path / "wards.txt").write_text("Ward 7\n")
    assert tmp_path / "wards.txt" in load([policy]).sources
    (tmp_path / "wards.txt").write_bytes(b"Ward 7\nCaf\xe9\n")
    with pytest.raises(PolicyError, match=r"wards\.txt:2:1: byte 0xe9"):
        load([policy])
    assert MOST_TERMS == TERMS  # what the classifier takes


def test_a_file_that_is_extended_can_be_tightened_and_not_loosened(write: Write) -> None:
    base = {"mode": "enforce", "unreadable": "local", "on_failure": "deny", "on_local_failure": "deny", "redact": {"ttl": 50}}
    base |= {"detect": {"thresholds": {"pii.person": 0.9, "phi.*": 0.4}}, "endpoints": ["a.example.com"]}
    base |= {"require_residency": {"phi.*": ["EU", "local"]}, "residency": {"a.example.com": "EU"}}
    write(base, "base.yaml")
    own = {"mode": "audit", "unreadable": "pass", "on_failure": "pass", "on_local_failure": "redact", "redact": {"ttl": 70}}
    own |= {"detect": {"thresholds": {"pii.person": 0.8, "phi.clinical": 0.9}}, "endpoints": ["b.example.com"]}
    own |= {"require_residency": {"phi.*": ["EU", "US"]}, "residency": {"b.example.com": "US"}}
    found = section(write(own, extends=["./base.yaml"]))
    assert (found.mode, found.unreadable, found.on_failure, found.on_local_failure, found.ttl) == ("enforce", "local", "deny", "deny", 50)
    assert dict(found.thresholds) == {"pii.person": 0.8, "phi.clinical": 0.4, "phi.*": 0.4}
    assert found.endpoints == ("b.example.com", "a.example.com")
    assert dict(found.residency) == {"a.example.com": "EU", "b.example.com": "US"}
    assert found.require_residency == (("phi.*", ("EU",)),)


def test_the_local_model_is_one_files_and_whole(write: Write) -> None:
    write({"local": {"url": "http://localhost:1", "model": "base", "context": 5}}, "base.yaml")
    found = section(write({"local": {"url": "http://localhost:2", "model": "own"}}, extends=["./base.yaml"]))
    assert found.local == Local("http://localhost:2", "own")


@pytest.mark.parametrize(
    ("own", "base", "looser"),
    [
        ({"when": ["phi.*"], "then": "pass"}, {"when": ["phi.*"], "then": "local"}, True),
        ({"when": ["*"], "then": "redact"}, {"when": ["phi.clinical"], "then": "local"}, True),
        ({"when": ["phi.*"], "then": "deny"}, {"when": ["phi.*"], "then": "local"}, False),
        ({"when": ["phi.*"], "then": "local"}, {"when": ["phi.*"], "then": "local"}, False),
        ({"when": ["pii.*"], "then": "pass"}, {"when": ["phi.*"], "then": "local"}, False),
        ({"when": ["phi.*"], "then": "pass", "model": "gpt-*"}, {"when": ["phi.*"], "then": "local"}, True),
        ({"when": ["phi.*"], "then": "pass", "model": "gpt-*"}, {"when": ["phi.*"], "then": "local", "model": "gpt-5"}, True),
        ({"when": ["phi.*"], "then": "pass", "model": "gpt-*"}, {"when": ["phi.*"], "then": "local", "model": "claude"}, False),
        ({"when": ["phi.*"], "then": "pass", "endpoint": "a.example.com"}, {"when": ["*"], "then": "deny", "sandbox": "a"}, True),
    ],
)
def test_a_route_loosens_nothing_that_another_file_says(write: Write, own: Any, base: Any, looser: bool) -> None:
    first, second = write({"routes": [own | {"name": "own"}]}), write({"routes": [base | {"name": "base"}]}, "base.yaml")
    if looser:
        assert codes(first, second) == ["looser_route"]
    else:
        assert [each.name for each in section(first, second).routes] == ["own", "base"]


def test_what_an_earlier_route_settled_is_not_loosened_by_a_later_one(write: Write) -> None:
    routes = [{"name": "strict", "when": ["phi.*"], "then": "deny"}, {"name": "rest", "when": ["*"], "then": "redact"}]
    base = write({"routes": [{"name": "base", "when": ["phi.*"], "then": "local"}]}, "base.yaml")
    assert len(section(write({"routes": routes}), base).routes) == 3


def test_localhost_without_a_port_means_the_port_of_the_local_model_too(write: Write) -> None:
    rule = {"name": "models", "binary": {"allow": ["curl"]}, "destination": {"allow": ["localhost"]}}
    rule |= {"method": {"allow": ["POST"]}, "path": {"allow": ["/v1/chat/completions"]}}

    def ports(url: str, **more: Any) -> tuple[int, ...]:
        return load([write({"local": {"url": url, "model": "m"}}, network=[rule | more])]).host_services()

    assert ports("http://localhost:9000") == (8000, 9000, 11434)
    assert ports("http://127.0.0.1") == (80, 8000, 11434)
    assert ports("https://[::1]/v1") == (443, 8000, 11434)
    assert ports("https://llm.example.com") == tuple(sorted(MODEL_PORTS))
    assert ports("http://localhost:9000", port=11434) == (11434,)


def test_a_key_that_nothing_carries_out_is_refused() -> None:
    record = Record("a thing", "thing", "", (Key("later", Text("text"), "", carried_out=False), Key("now", Text("text"), "")))
    findings = Findings()
    node = compose(b"now: x\nlater: y\n", "thing.yaml", findings)
    assert node is not None
    Reader(findings).read(node, record, "")
    assert [(problem.code, problem.line) for problem in findings.problems] == [("not_supported", 2)]


def test_it_travels_to_the_worker(write: Write, tmp_path: Path) -> None:
    (tmp_path / "wards.txt").write_text("Ward 7\n")
    dictionaries = [{"name": "wards", "category": "phi.ward", "file": "wards.txt"}]
    policy = load([write({"detect": {"dictionaries": dictionaries}, "routes": [{"when": ["*"], "then": "deny"}]})])
    arrived = pickle.loads(pack(policy))  # noqa: S301 - our own bytes
    assert arrived.privacy == policy.privacy


def loaded(privacy: Any, directory: Path) -> Policy | None:
    """None for a section that does not hold together, which the strategy may make."""
    path = directory / "section.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "privacy": privacy}))
    try:
        return load([path])
    except PolicyError as error:
        assert all(problem.line for problem in error.problems)
        return None


@settings(max_examples=60, deadline=None)
@given(sections)
def test_what_is_shown_loads_to_the_same(tmp_path_factory: pytest.TempPathFactory, privacy: Any) -> None:
    directory = tmp_path_factory.getbasetemp()
    policy = loaded(privacy, directory)
    assert policy is not None
    (directory / "shown.yaml").write_text(as_text(policy))
    shown = load([directory / "shown.yaml"])
    assert shown.privacy == policy.privacy
    assert diff(policy, shown) == ()


@dataclass(frozen=True)
class Asked:
    model: str | None
    texts: tuple[str, ...] = ()


@settings(max_examples=80, deadline=None)
@given(sections, sections, st.lists(calls, min_size=30, max_size=30))
def test_no_change_of_a_call_goes_unsaid(tmp_path_factory: pytest.TempPathFactory, a: Any, b: Any, tried: Any) -> None:
    """Whatever a call may do after a change and could not before is in the list, in the right half of it."""
    both = [loaded(each, tmp_path_factory.getbasetemp()) for each in (a, b)]
    before, after = (each.privacy for each in both if each is not None)
    assert before is not None and after is not None
    said = list(routing(before, after))
    assert not list(routing(before, replace(before, routes=before.routes)))
    order = ["pass", "redact", "local", "refuse"]
    for categories, model, host, sandbox in tried:
        findings = [[Finding(0, 1, category, "test", 1.0) for category in categories]]
        old, new = (
            route(Asked(model), findings, host, each if each.local is None else replace(each, local=replace(each.local, context=9**9)),
                  sandbox=sandbox).effect.value
            for each in (before, after)
        )  # fmt: skip
        if old != new:
            sign = "possible" if order.index(new) < order.index(old) else "impossible"
            words = f"{new if new != 'refuse' else 'deny'}, instead of {old if old != 'refuse' else 'deny'}"
            family = categories[0].partition(".")[0] + ".*"
            assert any(
                effect == sign and text.startswith("a call with ") and words in text and (categories[0] in text or family in text)
                for effect, text in said
            ), (old, new, model, host, sandbox, said)


def test_a_policy_without_the_section_lets_everything_leave() -> None:
    assert list(routing(Privacy(), None)) == [("possible", "calls of language models leave unread: there is no `privacy`")]
    assert [effect for effect, _ in routing(None, Privacy())] == ["impossible"]
    assert not list(routing(None, None))


def test_what_is_looked_for_is_compared(write: Write, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.txt").write_text("two\nthree\nfour\n")

    def terms(name: str) -> list[dict[str, str]]:
        return [{"name": "d", "category": "ip.project", "file": name}]

    custom = [{"name": "code", "pattern": "W-[0-9]", "category": "phi.ward"}]
    old = section(write({"detect": {"dictionaries": terms("a.txt"), "custom": custom}}, "a.yaml"))
    new = section(write({"detect": {"dictionaries": terms("b.txt"), "thresholds": {"pii.*": 0.9}}}, "b.yaml"))
    assert set(routing(old, new)) >= {
        ("possible", "what the pattern `code` finds as phi.ward is not looked for"),
        ("possible", "1 terms of dictionaries are not looked for as ip.project"),
        ("impossible", "2 terms of dictionaries are not looked for as ip.project"),
        ("possible", "pii.* counts from a score of 0.9 on, instead of 0.5"),
    }


def test_the_example_of_the_page_loads_without_a_warning(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/privacy-router.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(privacy:\n.*?)```", page, re.DOTALL)
    (tmp_path / "policy.yaml").write_text("version: 1\n" + example)
    (tmp_path / "projects.txt").write_text("Amaranth\n")
    policy = load([tmp_path / "policy.yaml"])
    assert policy.privacy is not None and not policy.warnings
    assert len(policy.privacy.routes) == 3
