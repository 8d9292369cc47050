"""Policies as resources in files, as they would be applied: tried as a node would. Asks nobody."""

from __future__ import annotations

import re
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
from stockade.policy.format.document import Findings, Listing, Mapping, Node, Place, Scalar, compose
from stockade.policy.format.problems import Problem
from stockade.types import StockadeError

_KINDS = ("StockadePolicy", "ClusterStockadePolicy")
_POSITION = re.compile(r"\[([0-9]+)\]")
_ACCEPTED = f"apiVersion: {GROUP}/{VERSION}, kind: {' or '.join(_KINDS)}, or a List of them"


@dataclass(frozen=True, slots=True)
class Wrong:
    """place: of the manifest. field: as spec.network[0].port. made: the line of the policy file that a node makes of it; 0: none."""

    place: Place
    field: str
    said: str
    made: int = 0


@dataclass(frozen=True, slots=True)
class Checked:
    """called: KIND NAMESPACE/NAME. text: the policy file that a node makes of it."""

    called: str
    text: str
    problems: tuple[Wrong, ...]


def checked(file: Path) -> Iterator[Checked]:
    """Every policy of a file; other resources in it are passed over. Raises StockadeError: it cannot be read, or holds none."""
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        parts = [part for part in _documents(data.decode("utf-8-sig")) if part.strip()]
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise StockadeError(f"cannot read {file}: {why}", hint=_ACCEPTED, code="manifest") from None
    found = [pair for part in parts for pair in _items(*_read(part, file))]
    policies = [(item, node) for item, node in found if item.get("kind") in _KINDS]
    if not policies:
        raise StockadeError(f"{file} holds no policy", hint=_ACCEPTED, code="manifest")
    for item, node in policies:
        yield _checked(item, node)


def _checked(item: dict[str, Any], node: Node) -> Checked:
    resource = resources.policy(item)
    namespace = (resource.key.namespace or "default") if item["kind"] == "StockadePolicy" else ""
    resource = Resource(Key(namespace, resource.key.name), "", 1, "", resource.spec)
    with tempfile.TemporaryDirectory() as directory:
        verdict = tried(resource, Path(directory))
    faults = verdict.faults if isinstance(verdict, Broken) else ()
    problems = [
        Wrong(_place(node, fault.field, fault.code), fault.field, f"{fault.message} [{fault.code}]", fault.line) for fault in faults
    ]
    if item.get("apiVersion") != f"{GROUP}/{VERSION}":
        said = f"`{item.get('apiVersion')}` is not known [unknown_version]; accepted: {GROUP}/{VERSION}"
        problems.insert(0, Wrong(_place(node, "apiVersion"), "apiVersion", said))
    return Checked(f"{item['kind']} {resource.key}", render(resource.key, resource.spec).text, tuple(problems))


def _place(node: Node, field: str, code: str = "") -> Place:
    """Where a field stands in the manifest, or as much of it as there is: its key where it should not be there, else its value."""
    place, rest = node.place, f".{field}"
    while rest:
        if isinstance(node, Listing) and (at := _POSITION.match(rest)) and int(at[1]) < len(node.items):
            node, rest = node.items[int(at[1])], rest[at.end() :]
            place = node.place
            continue
        entries = node.entries if isinstance(node, Mapping) else ()
        keys = [entry for entry in entries if re.match(rf"\.{re.escape(entry[0].text)}(?=[.\[]|$)", rest)]
        if not keys:
            break
        key, node = max(keys, key=lambda pair: len(pair[0].text))  # a label's name has dots of its own
        rest = rest[len(key.text) + 1 :]
        place = key.place if code == "unknown_key" and not rest else node.place
    return place


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


def _read(text: str, file: Path) -> tuple[Any, Node | None]:
    """What it says, and where. Raises StockadeError with everything that is wrong, located."""
    findings = Findings()
    root = compose(text.encode(), str(file), findings, holds="resource", accepted=_ACCEPTED)
    errors = [problem for problem in findings.problems if problem.severity == "error" and problem.code != "empty"]
    if errors:
        raise StockadeError("\n".join(map(str, errors)), hint=_ACCEPTED, code="manifest")
    return None if root is None else _value(root, file), root


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


def _items(value: Any, node: Node | None) -> list[tuple[dict[str, Any], Node]]:
    if not isinstance(value, dict) or not isinstance(node, Mapping):
        return []
    if str(value.get("kind", "")).endswith("List") and isinstance(value.get("items"), list):
        listed = next(each for key, each in node if key.text == "items")
        assert isinstance(listed, Listing)
        return [pair for each, at in zip(value["items"], listed.items, strict=True) for pair in _items(each, at)]
    return [(value, node)]
