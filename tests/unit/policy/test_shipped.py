"""What ships under policies/: every preset has all four levels and decides as its comment says; families and loader variables are whole."""

from __future__ import annotations

import pytest

from stockade import resources
from stockade.policy import DEFAULT, decide, load, load_families, loader_variables, presets
from stockade.types import Binary, Request

EXAMPLES = sorted(path for path in (resources.POLICIES / "examples").glob("*.yaml") if not path.stem.endswith("_test"))
WHEEL = "/packages/a1/b2/0123456789abcdef/six-1.17.0-py2.py3-none-any.whl"


@pytest.mark.parametrize("name", [preset.name for preset in presets()])
def test_a_preset_has_four_levels_a_summary_and_no_warning(name: str) -> None:
    policy = load([], presets=[name])
    assert policy.rules and not policy.warnings
    for rule in policy.rules:
        assert rule.why and rule.binary.allow and rule.destination.allow and rule.ports == (443,)
        assert rule.method and rule.method.allow and rule.path and rule.path.allow.globs
    assert next(preset for preset in presets() if preset.name == name).summary


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_loads(path: object) -> None:
    assert load([str(path)]).rules


@pytest.mark.parametrize(
    ("preset", "binary", "method", "host", "path", "expected"),
    [
        ("pypi", "pip", "GET", "pypi.org", "/simple/six/", "allow path pypi-index"),
        ("pypi", "uv", "GET", "pypi.org", "/pypi/six/json", "allow path pypi-index"),
        ("pypi", "pip", "GET", "files.pythonhosted.org", WHEEL, "allow path pypi-files"),
        ("pypi", "uv", "HEAD", "files.pythonhosted.org", WHEEL + ".metadata", "allow path pypi-files"),
        ("pypi", "pip", "POST", "pypi.org", "/legacy/", "deny method pypi-index"),
        ("pypi", "pip", "POST", "upload.pypi.org", "/legacy/", "deny destination pypi-index"),
        ("pypi", "pip", "PUT", "files.pythonhosted.org", WHEEL, "deny method pypi-files"),
        ("pypi", "pip", "GET", "pypi.org", "/manage/account/", "deny path pypi-index"),
        ("pypi", "pip", "GET", "pypi.org", "/_/oidc/audience", "deny path pypi-index"),
        ("pypi", "curl", "GET", "pypi.org", "/simple/six/", "deny binary None"),
        ("pypi", "python3", "GET", "pypi.org", "/simple/six/", "deny binary None"),
        ("npm", "npm", "GET", "registry.npmjs.org", "/left-pad", "allow path npm-registry"),
        ("npm", "pnpm", "GET", "registry.npmjs.org", "/left-pad/-/left-pad-1.3.0.tgz", "allow path npm-registry"),
        ("npm", "yarn", "GET", "registry.yarnpkg.com", "/@types%2Fnode", "allow path npm-registry"),
        ("npm", "npm", "GET", "registry.npmjs.org", "/@types/node/-/node-22.0.0.tgz", "allow path npm-registry"),
        ("npm", "corepack", "GET", "registry.npmjs.org", "/pnpm/latest", "allow path npm-registry"),
        ("npm", "npm", "PUT", "registry.npmjs.org", "/left-pad", "deny method npm-registry"),
        ("npm", "npm", "POST", "registry.npmjs.org", "/-/npm/v1/security/advisories/bulk", "deny method npm-registry"),
        ("npm", "npm", "GET", "registry.npmjs.org", "/-/npm/v1/tokens", "deny path npm-registry"),
        ("npm", "npm", "GET", "registry.npmjs.org", "/-/whoami", "deny path npm-registry"),
        ("npm", "npm", "DELETE", "registry.npmjs.org", "/-/npm/v1/tokens/token/x", "deny method npm-registry"),
        ("npm", "node", "GET", "registry.npmjs.org", "/left-pad", "deny binary None"),
    ],
)
def test_presets_install_and_nothing_else(preset: str, binary: str, method: str, host: str, path: str, expected: str) -> None:
    decision = decide(Request(Binary.named(binary), host, 443, method, path), load([], presets=[preset]))
    assert f"{decision.outcome} {decision.level} {decision.rule}" == expected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/octocat/Hello-World/info/refs", "allow path"),
        ("POST", "/octocat/Hello-World.git/git-upload-pack", "allow path"),
        ("POST", "/octocat/Hello-World.git/git-receive-pack", "deny path"),
        ("GET", "/octocat/Hello-World", "deny path"),
        ("DELETE", "/octocat/Hello-World", "deny method"),
    ],
)
def test_git_clones_and_does_not_push(method: str, path: str, expected: str) -> None:
    policy = load([resources.POLICIES / "examples" / "git-https.yaml"])
    decision = decide(Request(Binary.named("git"), "github.com", 443, method, path), policy)
    assert f"{decision.outcome} {decision.level}" == expected


def test_the_default_gives_a_shell_a_network_only_for_package_managers() -> None:
    policy = load([DEFAULT])
    assert not policy.warnings
    assert policy.network_names() == {"pip", "uv", "npm", "npx", "pnpm", "yarn", "corepack"}
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
