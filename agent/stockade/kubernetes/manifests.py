"""Policies as resources in files, as they would be applied: tried as a node would. Asks nobody."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockade.kubernetes import resources
from stockade.kubernetes.loading import Broken, tried
from stockade.kubernetes.rendering import render
from stockade.kubernetes.resources import Key, Resource
from stockade.policy.format.crd import GROUP, VERSION
from stockade.policy.format.document import Findings, Listing, Mapping, Node, Scalar, compose
from stockade.policy.format.problems import Problem
from stockade.types import StockadeError

_KINDS = ("StockadePolicy", "ClusterStockadePolicy")
_ACCEPTED = f"apiVersion: {GROUP}/{VERSION}, kind: {' or '.join(_KINDS)}, or a List of them"


@dataclass(frozen=True, slots=True)
class Checked:
    """called: KIND NAMESPACE/NAME. text: the policy file that a node makes of it. problems: a line for each."""

    called: str
    text: str
    problems: tuple[str, ...]


def checked(file: Path) -> Iterator[Checked]:
    """Every policy of a file; other resources in it are passed over. Raises StockadeError: it cannot be read, or holds none."""
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        parts = [part for part in _documents(data.decode("utf-8-sig")) if part.strip()]
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise StockadeError(f"cannot read {file}: {why}", hint=_ACCEPTED, code="manifest") from None
    found = [item for part in parts for item in _items(_read(part, file))]
    policies = [item for item in found if item.get("kind") in _KINDS]
    if not policies:
        raise StockadeError(f"{file} holds no policy", hint=_ACCEPTED, code="manifest")
    for item in policies:
        yield _checked(item)


def _checked(item: dict[str, Any]) -> Checked:
    resource = resources.policy(item)
    namespace = (resource.key.namespace or "default") if item["kind"] == "StockadePolicy" else ""
    resource = Resource(Key(namespace, resource.key.name), "", 1, "", resource.spec)
    with tempfile.TemporaryDirectory() as directory:
        verdict = tried(resource, Path(directory))
    faults = verdict.faults if isinstance(verdict, Broken) else ()
    problems = [f"{fault.field}{f', line {fault.line}' if fault.line else ''}: {fault.message} [{fault.code}]" for fault in faults]
    if item.get("apiVersion") != f"{GROUP}/{VERSION}":
        problems.insert(0, f"apiVersion: `{item.get('apiVersion')}` is not known [unknown_version]; accepted: {GROUP}/{VERSION}")
    return Checked(f"{item['kind']} {resource.key}", render(resource.key, resource.spec).text, tuple(problems))


def _documents(text: str) -> Iterator[str]:
    """A file of several, each with lines before it for those that came before: so that what is wrong is said of its own line."""
    lines: list[str] = []
    for number, line in enumerate(text.splitlines()):
        if line == "---" or line.startswith("--- "):
            yield "\n".join(lines)
            lines = [""] * (number + 1)
        else:
            lines.append(line)
    yield "\n".join(lines)


def _read(text: str, file: Path) -> Any:
    """Raises StockadeError with everything that is wrong, located."""
    findings = Findings()
    root = compose(text.encode(), str(file), findings, holds="resource", accepted=_ACCEPTED)
    errors = [problem for problem in findings.problems if problem.severity == "error" and problem.code != "empty"]
    if errors:
        raise StockadeError("\n".join(map(str, errors)), hint=_ACCEPTED, code="manifest")
    return None if root is None else _value(root, file)


def _value(node: Node, file: Path) -> Any:
    """As kubectl takes it: YAML's scalars as JSON's."""
    match node:
        case Mapping():
            return {key.text: _value(value, file) for key, value in node}
        case Listing():
            return [_value(item, file) for item in node.items]
        case Scalar(kind="number"):
            return _number(node, file)
        case Scalar(kind="true or false"):
            return node.text.lower() in ("true", "yes", "on", "y")
        case Scalar(kind="nothing"):
            return None
        case Scalar():
            return node.text
    raise StockadeError(f"{file} cannot be read", code="manifest")


def _number(node: Scalar, file: Path) -> int | float | str:
    try:
        return int(node.text)
    except ValueError:
        try:
            return float(node.text)
        except ValueError:
            place = node.place
            problem = Problem(str(file), place.line, place.column, "wrong_type", f"`{node.text}` is no number of JSON", source=place.source)
            raise StockadeError(str(problem), code="manifest") from None


def _items(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, dict):
        return []
    if str(value.get("kind", "")).endswith("List") and isinstance(value.get("items"), list):
        return [item for each in value["items"] for item in _items(each)]
    return [value]
