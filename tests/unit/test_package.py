"""What a wheel would lack and a checkout does not: packages nobody lists, and libraries that are installed here by chance."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
AGENT = ROOT / "agent"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FROM_DEBIAN = {"bcc"}  # python3-bpfcc: no package of PyPI
OPTIONAL = {"onnxruntime"}
LATER = {"compression"}  # of the standard library from 3.14
OF_MITMPROXY = {"h2", "h11", "wsproto", "OpenSSL"}  # in the versions that it asks for: its layers are theirs


def test_every_package_is_listed() -> None:
    found = {str(init.parent.relative_to(AGENT)).replace("/", ".") for init in (AGENT / "stockade").rglob("__init__.py")}
    assert found | {"stockade.bpf", "stockade.policies"} == set(PROJECT["tool"]["setuptools"]["packages"])


def test_every_library_that_is_imported_is_declared() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    entries = PROJECT["project"]["dependencies"] + [entry for name in extras if name != "dev" for entry in extras[name]]
    declared = {_normal(re.split(r"[\[<>=!~; ]", entry)[0]) for entry in entries}
    providers = importlib.metadata.packages_distributions()
    missing = {}
    for module, file in _imported():
        if module in sys.stdlib_module_names | FROM_DEBIAN | OPTIONAL | OF_MITMPROXY | LATER | {"stockade"}:
            continue
        if not declared & {_normal(name) for name in providers.get(module, ())}:
            missing[module] = str(file.relative_to(ROOT))
    assert not missing


def _imported() -> Iterator[tuple[str, Path]]:
    for file in AGENT.joinpath("stockade").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from ((alias.name.partition(".")[0], file) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                yield node.module.partition(".")[0], file


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
