"""Loading and composing: what several files become together, and that no text breaks the loader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.policy import DEFAULT, Policy, PolicyError, decide, load
from stockade.policy.format.document import Findings, compose
from stockade.policy.format.schema import Reader
from stockade.types import Binary, Request

Read = Callable[[str], Policy]

RULE = """\
  - name: {name}
    binary: {{allow: [{binary}]}}
    destination: {{allow: [{host}]}}
    method: {{allow: [GET]}}
    path: {{allow: [/**]}}
"""


def rule(name: str, binary: str = "curl", host: str = "a.example.com") -> str:
    return RULE.format(name=name, binary=binary, host=host)


def codes(error: PolicyError) -> list[str]:
    return [problem.code for problem in error.problems]


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., list[Path]]:
    def write(**texts: str) -> list[Path]:
        for name, text in texts.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        return [tmp_path / f"{name}.yaml" for name in texts]

    return write


def test_a_bare_list_means_its_rules_and_their_binaries(policy: Read) -> None:
    loaded = policy(rule("one") + rule("two", "wget"))
    assert (loaded.name, loaded.exec.allow, loaded.exec.unlisted, loaded.mode) == ("policy", ("curl", "wget"), "refuse", "enforce")


def test_a_whole_policy(policy: Read) -> None:
    loaded = policy(
        """\
        version: 1
        name: whole
        labels: {team: research}
        mode: observe
        best_effort: [lsm]
        exec: {allow: [bash], deny: [nc], unlisted: no-network, writable: true, env: [PYTHONPATH]}
        filesystem: {read: [/opt/data/], write: [/srv], hide: [/etc/ssl/private], count: [/usr/lib/, /srv]}
        process: {user: agent, env: {TERM: inherit, LANG: C.UTF-8}}
        on_audit_failure: continue
        """
    )
    assert (loaded.name, loaded.labels, loaded.mode, sorted(loaded.best_effort)) == ("whole", {"team": "research"}, "observe", ["lsm"])
    assert (loaded.exec.allow, loaded.exec.deny, loaded.exec.unlisted) == (("bash",), ("nc",), "no-network")
    assert (loaded.exec.writable, loaded.exec.env) == (True, ("PYTHONPATH",))
    assert (loaded.filesystem.read, loaded.filesystem.write, loaded.filesystem.hide) == (("/opt/data",), ("/srv",), ("/etc/ssl/private",))
    assert loaded.filesystem.count == ("/usr/lib", "/srv")
    assert (loaded.process.user, dict(loaded.process.env)) == ("agent", {"TERM": None, "LANG": "C.UTF-8"})
    assert loaded.on_audit_failure == "continue"


@pytest.mark.parametrize(("written", "user"), [("agent", "agent"), ("1000", "1000"), ('"1000"', "1000")])
def test_a_user_is_a_name_or_a_number(written: str, user: str, policy: Read) -> None:
    assert policy(f"version: 1\nprocess: {{user: {written}}}\n").process.user == user


def test_files_and_presets_are_joined(files: Callable[..., list[Path]]) -> None:
    paths = files(a="version: 1\nexec: {allow: [bash]}\n", b=rule("fetch"))
    loaded = load(paths, presets=["pypi", "presets/npm"], generation=4)
    assert [rule.name for rule in loaded.rules] == ["fetch", "pypi-index", "pypi-files", "npm-registry"]
    assert loaded.exec.allow[:4] == ("bash", "curl", "pip", "uv")
    assert (loaded.name, loaded.generation, len(loaded.sources)) == ("pypi", 4, 4)


def test_the_stricter_of_two_stated_scalars_holds(files: Callable[..., list[Path]]) -> None:
    lax = "version: 1\nmode: observe\nexec: {unlisted: no-network, writable: true}\non_audit_failure: continue\n"
    strict = "version: 1\nmode: enforce\nexec: {unlisted: refuse, writable: false}\non_audit_failure: deny\n"
    for paths in (files(a=lax, b=strict), files(a=strict, b=lax)):
        loaded = load(paths)
        stated = (loaded.mode, loaded.exec.unlisted, loaded.exec.writable, loaded.on_audit_failure)
        assert stated == ("enforce", "refuse", False, "deny")


def test_rules_of_what_is_extended_come_first_and_count_once(files: Callable[..., list[Path]]) -> None:
    paths = files(
        a="version: 1\nextends: [./base.yaml, presets/pypi]\nnetwork:\n" + rule("own"),
        b="version: 1\nextends: [./base.yaml]\n",
        base="version: 1\nname: base\nlabels: {team: x}\nnetwork:\n" + rule("base-rule"),
    )[:2]
    loaded = load(paths, presets=["pypi"])
    assert [rule.name for rule in loaded.rules] == ["base-rule", "pypi-index", "pypi-files", "own"]
    assert [rule.position for rule in loaded.rules] == [0, 1, 2, 3]
    assert (loaded.name, loaded.labels) == ("base", {"team": "x"})


def test_override_replaces_keys_and_remove_takes_rules_away(files: Callable[..., list[Path]]) -> None:
    paths = files(
        a="version: 1\nextends: [./base.yaml]\noverride: {one: {method: {allow: [GET, POST]}}}\nremove: [two]\n",
        base="version: 1\nnetwork:\n" + rule("one") + rule("two", "wget"),
    )[:1]
    loaded = load(paths)
    assert [rule.name for rule in loaded.rules] == ["one"]
    assert decide(Request(Binary.named("curl"), "a.example.com", 443, "POST", "/"), loaded).allowed
    assert loaded.exec.allow == ("curl",)


def test_a_deny_list_is_not_lost_to_an_override_that_does_not_speak_of_it(files: Callable[..., list[Path]]) -> None:
    base = "version: 1\nnetwork:\n" + rule("one").replace("path: {", "path: {deny: [/secret/*], ")
    for stated, allowed in (("", False), (", deny: [/other]", True)):
        changed = f"version: 1\nextends: [./base.yaml]\noverride: {{one: {{path: {{allow: [/secret/x, /y]{stated}}}}}}}\n"
        loaded = load(files(a=changed, base=base)[:1])
        assert decide(Request(Binary.named("curl"), "a.example.com", 443, "GET", "/secret/x"), loaded).allowed is allowed


def test_a_cycle_is_an_error_at_the_line_that_closes_it(files: Callable[..., list[Path]]) -> None:
    paths = files(a="version: 1\nextends: [./b.yaml]\n", b="version: 1\nextends: [./a.yaml]\n")
    with pytest.raises(PolicyError) as error:
        load(paths[:1])
    assert [(problem.code, Path(problem.path).name, problem.line) for problem in error.value.problems] == [("extends_cycle", "b.yaml", 2)]


@pytest.mark.parametrize(
    ("paths", "presets", "code"),
    [(["/nonexistent.yaml"], [], "unreadable"), (["/"], [], "unreadable"), ([], ["pipy"], "unknown_preset"), ([], [], "no_policy")],
)
def test_what_is_not_there(paths: list[str], presets: list[str], code: str) -> None:
    with pytest.raises(PolicyError) as error:
        load(paths, presets=presets)
    assert codes(error.value) == [code]


def test_a_preset_is_a_name_and_no_path() -> None:
    for name in ("../openclaw-sandbox", "/etc/passwd", "presets/../examples/slack", ""):
        with pytest.raises(PolicyError):
            load([], presets=[name])


def test_rego_of_the_same_name_in_two_directories_is_read_twice(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    for directory, host in ((tmp_path / "base", "a.example.com"), (tmp_path, "b.example.com")):
        (directory / "more.rego").write_text(f'allow {{ input.binary == "curl"; input.host == "{host}" }}\n')
        extends = "" if directory.name == "base" else "extends: [./base/policy.yaml]\n"
        (directory / "policy.yaml").write_text(f"version: 1\n{extends}rego: [more.rego]\n")
    loaded = load([tmp_path / "policy.yaml"])
    assert loaded.rego is not None and loaded.rego.hosts() == {"a.example.com", "b.example.com"}
    assert len(loaded.sources) == 4


def test_an_engine_that_does_not_start_is_an_error(files: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = files(a="version: 1\nrego: [more.rego]\n")
    path.with_name("more.rego").write_text("allow { true }\n")
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(PolicyError) as error:
        load([path])
    assert [(problem.code, problem.line) for problem in error.value.problems] == [("rego_engine", 2)]


def test_two_rules_of_one_name_are_an_error(files: Callable[..., list[Path]]) -> None:
    with pytest.raises(PolicyError) as error:
        load(files(a=rule("same"), b=rule("same")))
    assert codes(error.value) == ["duplicate_rule"]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_findings(data: bytes) -> None:
    findings = Findings()
    root = compose(data, "fuzz.yaml", findings)
    if root is not None:
        Reader(findings).document(root)
    assert root is not None or findings.failed


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_spoilt_policy_loads_or_is_a_policy_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    text = (DEFAULT.parent / "examples" / "slack.yaml").read_text()
    at = data.draw(st.integers(0, len(text)))
    spoilt = text[:at] + data.draw(st.text(max_size=8)) + text[at + data.draw(st.integers(0, 40)) :]
    file = tmp_path_factory.getbasetemp() / "spoilt.yaml"
    file.write_bytes(spoilt.encode("utf-8", "surrogatepass"))
    try:
        load([file])
    except PolicyError as error:
        assert error.problems and all(problem.line >= 1 for problem in error.problems)


BASE = """\
version: 1
name: base
best_effort: [lsm]
network:
  - name: web
    binary: {allow: [curl]}
    destination: {allow: [a.example.com]}
    method: {allow: [GET]}
    path: {allow: [/**], deny: [/secret/*]}
"""


@pytest.mark.parametrize("change", ["remove: [web]", "override: {web: {path: {allow: [/**], deny: [/other]}}}"])
@pytest.mark.parametrize("order", [("base", "mine"), ("mine", "base"), ("mine", "also"), ("also", "mine")])
def test_what_is_in_force_without_a_file_is_not_its_own_to_change(change: str, order: tuple[str, str], tmp_path: Path) -> None:
    """Two policies given together are never looser than one of them: a veto of the one is not taken away by the other."""
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "also.yaml").write_text("version: 1\nname: also\nextends: [./base.yaml]\n")
    (tmp_path / "mine.yaml").write_text(f"version: 1\nname: mine\nexec: {{allow: [curl]}}\nextends: [./base.yaml]\n{change}\n")
    assert load([tmp_path / "mine.yaml"])
    with pytest.raises(PolicyError) as error:
        load([tmp_path / f"{name}.yaml" for name in order])
    (problem,) = error.value.problems
    assert (problem.code, Path(problem.path).name, problem.line) == ("shared_rule", "mine.yaml", 5)


def test_best_effort_is_what_all_that_speak_of_it_have(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "mine.yaml").write_text("version: 1\nname: mine\nextends: [./base.yaml]\nbest_effort: [lsm, limits]\n")
    assert load([tmp_path / "base.yaml"]).best_effort == load([tmp_path / "mine.yaml"]).best_effort == {"lsm"}


def test_what_has_no_end_is_too_large() -> None:
    with pytest.raises(PolicyError) as raised:
        load([Path("/dev/zero")])
    assert [problem.code for problem in raised.value.problems] == ["too_large"]
