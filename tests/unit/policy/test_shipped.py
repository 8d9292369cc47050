"""What ships under policies/: every preset has all four levels, and tests beside it that reach all of it; families and loader variables are
whole. What a preset allows and refuses stands in its own tests, policies/presets/NAME_test.yaml.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stockade import resources
from stockade.cli import main
from stockade.policy import DEFAULT, Policy, load, load_families, loader_variables, presets
from stockade.policy.cases.suite import Suite, read_suite
from stockade.policy.cases.testing import coverage
from stockade.policy.cases.testing import run as put
from stockade.policy.question import ask, named_binary
from stockade.types import Binary, Request

PRESETS = [preset.name for preset in presets()]
EXAMPLES = sorted(path.stem for path in (resources.POLICIES / "examples").glob("*.yaml") if not path.stem.endswith("_test"))
SHIPPED = [*(f"presets/{name}" for name in PRESETS), *(f"examples/{name}" for name in EXAMPLES)]
PROMISED = {"slack", "jira", "discord", "npm", "pypi", "docker", "telegram", "huggingface", "outlook"}
PROMISED |= {
    "github",
    "github-push",
    "github-api-write",
    "gitlab",
    "anthropic",
    "openai",
    "gemini",
    "ollama-local",
    "vllm-local",
    "otlp-local",
}
PROMISED |= {"apt", "cargo", "go-modules", "conda", "brew"}


def missing_levels(policy: Policy) -> list[str]:
    """What each rule lacks of the four levels, and of what a reader needs besides."""
    missing = []
    for rule in policy.rules:
        lists = {
            "binary": rule.binary.allow,
            "destination": rule.destination.allow,
            "port": rule.ports,
            "method": rule.method and rule.method.allow,
            "path": rule.path and rule.path.allow.globs,
            "why": rule.why,
        }
        missing += [f"{rule.name}: {level}" for level, entries in lists.items() if not entries]
    return missing


def suite_of(shipped: str) -> Suite:
    return read_suite(resources.POLICIES / f"{shipped}_test.yaml")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_four_levels_a_summary_and_no_warning(name: str) -> None:
    policy = load([], presets=[name])
    assert policy.rules and not policy.warnings
    assert missing_levels(policy) == []
    summary = next(preset for preset in presets() if preset.name == name).summary
    assert summary and len(summary) < 140


@pytest.mark.parametrize("level", ["method", "path", "port", "why"])
def test_a_preset_without_a_level_would_not_pass(level: str, tmp_path: Path) -> None:
    rule: dict[str, object] = {"name": "r", "why": "w", "binary": {"allow": ["curl"]}, "destination": {"allow": ["a.test"]}, "port": [443]}
    rule |= {"method": {"allow": ["GET"]}, "path": {"allow": ["/x"]}}
    if level in ("method", "path"):  # half an HTTP rule does not load at all: without both it is a relay
        del rule["method"], rule["path"]
        rule["tls"] = "passthrough"
    else:
        del rule[level]
    file = tmp_path / "preset.yaml"
    file.write_text(json.dumps({"version": 1, "network": [rule]}))
    assert f"r: {level}" in missing_levels(load([file]))


@pytest.mark.parametrize("shipped", SHIPPED)
def test_the_tests_beside_a_policy_pass_and_reach_every_entry(shipped: str) -> None:
    suite = suite_of(shipped)
    results = put(suite)
    assert [f"{result.case.place.line}: {result.case.name}: {result.decision}" for result in results if not result.passed] == []
    reached = coverage([(suite, results)])
    assert [str(missing) for missing in reached.unreached] == []
    assert reached.total >= 5 * len(suite.policy.rules)  # each rule, and an entry of it on each level


@pytest.mark.parametrize("name", PRESETS)
def test_every_rule_of_a_preset_refuses_something_in_its_tests(name: str) -> None:
    """What is allowed proves little: `/**` would allow it too."""
    suite = suite_of(f"presets/{name}")
    refused = {result.decision.rule for result in put(suite) if not result.decision.allowed}
    assert {rule.name for rule in suite.policy.rules} | {None} <= refused  # None: a program that no rule names


def test_the_presets_that_were_promised_are_there_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(PRESETS) >= PROMISED
    assert main(["presets"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == sorted(PRESETS)


def test_presets_compose_without_taking_from_each_other() -> None:
    """What one preset allows, no other one vetoes: whoever names them all can do what each of them promises."""
    together = load([], presets=PRESETS)
    taken = []
    for name in PRESETS:
        for case in (result.case for result in put(suite_of(f"presets/{name}")) if result.decision.allowed):
            assert case.target is not None
            binary = named_binary(case.binary, together)
            request = Request(binary, case.target.host, case.target.port, case.method, case.target.path)
            if not ask(request, together).decision.allowed:
                taken.append(f"{name}: {case.asked}")
    assert taken == []


def test_the_default_gives_a_shell_a_network_only_for_package_managers() -> None:
    policy = load([DEFAULT])
    assert not policy.warnings
    assert policy.network_names() == {"pip", "uv", "poetry", "npm", "npx", "pnpm", "yarn", "corepack"}
    for name in ("bash", "coreutils", "python3", "node", "git", "pip", "npm"):
        assert policy.may_exec(Binary.named(name)).allowed
    for name in ("curl", "wget", "ssh", "nc", "busybox"):
        assert not policy.may_exec(Binary.named(name)).allowed


def test_families() -> None:
    families = load_families()
    assert "/usr/lib/git-core/git-remote-https" in families.expand("git").executables
    assert families.expand("pip").executables == () and "pip3" in families.expand("pip").scripts
    assert families.expand("python3").interpreter and families.expand("node").interpreter and not families.expand("curl").interpreter
    assert "ls" in families.expand("coreutils").executables and "true" in families.expand("coreutils").executables
    unknown = families.expand("/opt/tool/bin/tool")
    assert (unknown.executables, unknown.scripts) == (("/opt/tool/bin/tool",), ())
    for name in families.names():
        family = families.expand(name)
        assert all("/" not in entry or entry.startswith("/") for entry in family.executables + family.scripts), name


@pytest.mark.parametrize(
    ("binary", "names"),
    [
        ("curl", {"curl"}),
        ("/usr/bin/curl", {"curl"}),
        ("/home/me/curl", set()),
        ("/usr/bin/pip3.11", {"pip"}),
        ("python3.12", {"python3"}),
        ("python3.12-config", set()),
        ("/usr/libexec/git-core/git-remote-https", {"git"}),
        ("/opt/tool/bin/x", {"/opt/tool/bin/*"}),
        ("ls", {"coreutils"}),
    ],
)
def test_which_families_a_spelling_belongs_to(binary: str, names: set[str]) -> None:
    assert load_families().of(binary, ["/opt/tool/bin/*"]) == names


def test_every_loader_variable_of_the_design_is_listed_and_fits_the_kernels_32_bytes() -> None:
    design = "LD_* GCONV_PATH OPENSSL_CONF OPENSSL_MODULES OPENSSL_ENGINES NODE_OPTIONS NODE_PATH PYTHONPATH PYTHONHOME PYTHONSTARTUP"
    design += " BUN_OPTIONS PERL5OPT BASH_ENV GIT_SSH_COMMAND GIT_CONFIG_* GIO_MODULE_DIR SASL_PATH"
    assert set(design.split()) <= set(loader_variables())
    assert all(len(name) <= 31 and "*" not in name[:-1] for name in loader_variables())
    assert len(set(loader_variables())) == len(loader_variables())
