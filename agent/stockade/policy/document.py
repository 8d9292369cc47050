"""Documents: one YAML text turned into nodes that know their place. The only importer of PyYAML.

Refused here, with their place: broken syntax, undecodable bytes, duplicate keys, anchors, aliases and tags. A policy is read by people who
sign it off; what stands in one place must not change its meaning from another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from stockade.policy.problems import Problem, Severity

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32  # a policy needs 6; PyYAML recurses

_HIDDEN = re.compile("[\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")  # bidirectional controls, and what has no width

_ALIAS = "alias"  # stands where a refused alias stood, so that the rest of the file is still read

_KINDS = {
    "tag:yaml.org,2002:str": "text",
    "tag:yaml.org,2002:int": "number",
    "tag:yaml.org,2002:bool": "true or false",
    "tag:yaml.org,2002:null": "nothing",
    _ALIAS: "alias",
}


@dataclass(slots=True)
class Findings:
    """Collects problems: a policy is checked to its end, so that all mistakes are shown at once."""

    problems: list[Problem] = field(default_factory=list)

    def add(self, place: Place, code: str, message: str, *, accepted: str = "", severity: Severity = "error") -> None:
        self.problems.append(Problem(place.path, place.line, place.column, code, message, accepted, severity, place.source))

    @property
    def failed(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written; line and column count from 1. source: the text of the line."""

    path: str
    line: int = 0
    column: int = 0
    source: str = ""


NOWHERE = Place("")


@dataclass(frozen=True, slots=True)
class Scalar:
    """text is what was written; kind is what YAML takes it for: text, number, true or false, nothing, other, alias."""

    text: str
    kind: str
    place: Place


@dataclass(frozen=True, slots=True)
class Listing:
    items: tuple[Node, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys are text and unique."""

    entries: tuple[tuple[Scalar, Node], ...]
    place: Place

    def __iter__(self) -> Iterator[tuple[Scalar, Node]]:
        return iter(self.entries)


Node = Scalar | Listing | Mapping


def kind_of(node: Node) -> str:
    """What a person would call it."""
    match node:
        case Mapping():
            return "a mapping"
        case Listing():
            return "a list"
        case Scalar(kind="text"):
            return "text"
    return node.kind


def compose(data: bytes, path: str, findings: Findings) -> Node | None:
    """The document in data, or None when there is none to speak of; findings says why."""
    if len(data) > MAX_BYTES:
        findings.add(Place(path), "too_large", f"a policy file has at most {MAX_BYTES} bytes, this one has {len(data)}")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        line = data.decode("utf-8", "replace").split("\n")[before.count("\n")]
        place = Place(path, before.count("\n") + 1, len(before) - before.rfind("\n"), line)
        findings.add(place, "not_utf8", f"byte 0x{data[error.start]:02x} is not UTF-8", accepted="a YAML file in UTF-8")
        return None
    composition = _Composition(path, text.splitlines(), findings)
    composition.hidden()
    return composition.read(text)


class _Composition:
    """One reading of one text."""

    def __init__(self, path: str, lines: list[str], findings: Findings) -> None:
        self.path, self.lines, self.findings = path, lines, findings

    def read(self, text: str) -> Node | None:
        try:
            loader = _Loader(text, self)
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            place = self._at(before.count("\n"), len(before) - before.rfind("\n") - 1)
            self.findings.add(place, "syntax", f"character #x{ord(text[error.position]):04x} is not allowed in YAML")
            return None
        try:
            root = loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self._at(mark.line, mark.column) if mark else Place(self.path)
            self.findings.add(place, "syntax", "not valid YAML: " + ", ".join(filter(None, (error.context, error.problem))))
            return None
        finally:
            loader.dispose()
        if root is None:
            self.findings.add(
                self._at(0, 0), "empty", "the file holds no policy", accepted="a list of rules, or a mapping with `version: 1`"
            )
            return None
        return self._node(root)

    def hidden(self) -> None:
        """Characters that make a line look other than it is (CVE-2021-42574): a policy that is signed off must be what was seen."""
        for number, line in enumerate(self.lines):
            for found in _HIDDEN.finditer(line):
                self.findings.add(
                    self._at(number, found.start()), "hidden_character", f"U+{ord(found[0]):04X} shows the line other than it is"
                )

    def _at(self, line: int, column: int) -> Place:
        return Place(self.path, line + 1, column + 1, self.lines[line] if line < len(self.lines) else "")

    def place(self, mark: Any) -> Place:
        return self._at(mark.line, mark.column)

    def _node(self, node: yaml.Node) -> Node:
        place = self.place(node.start_mark)
        if isinstance(node, yaml.SequenceNode):
            return Listing(tuple(self._node(item) for item in node.value), place)
        if isinstance(node, yaml.MappingNode):
            return Mapping(tuple(self._entries(node)), place)
        return Scalar(node.value, _KINDS.get(node.tag, "other"), place)

    def _entries(self, node: yaml.MappingNode) -> Iterator[tuple[Scalar, Node]]:
        seen: dict[str, int] = {}
        for key, value in node.value:
            place = self.place(key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                self.findings.add(place, "wrong_type", "a key is text")
                continue
            name = key.value
            if name in seen:
                self.findings.add(place, "duplicate_key", f"`{name}` is already given on line {seen[name]}")
                continue
            seen[name] = place.line
            yield Scalar(name, "text", place), self._node(value)


class _Loader(yaml.SafeLoader):
    """Composes only, and reports what YAML offers beyond plain data."""

    def __init__(self, text: str, composition: _Composition) -> None:
        super().__init__(text)
        self.composition, self.depth = composition, 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        place = self.composition.place(event.start_mark)
        add = self.composition.findings.add
        if isinstance(event, yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]
            add(place, "alias", f"aliases are refused: write out what *{event.anchor} stands for")
            return yaml.ScalarNode(_ALIAS, "", event.start_mark, event.end_mark)  # type: ignore[arg-type]
        if event.anchor is not None:
            add(place, "anchor", f"anchors are refused: &{event.anchor}")
            event.anchor = None
        if event.tag is not None:
            add(place, "tag", f"tags are refused: {event.tag}")
            event.tag = None
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node
