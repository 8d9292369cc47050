"""Documents: one YAML text turned into nodes that know their place. The only importer of PyYAML.

Refused here, with their place: broken syntax, undecodable bytes, duplicate keys, anchors, aliases and tags. A policy is read by people who
sign it off; what stands in one place must not change its meaning from another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from stockade.policy.problems import Problem, Severity

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32  # a policy needs 6

# libyaml, where PyYAML was built with it: twenty times faster. Both parsers speak in the same events.
PARSER: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader

# Bidirectional controls, what has no width, and what ends a line for YAML but for few editors: all make a line look other than it is.
_HIDDEN = re.compile("[\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f\x85]|\r(?!\n)")
_UNPRINTABLE: re.Pattern[str] = yaml.SafeLoader.NON_PRINTABLE

_KINDS = {
    "tag:yaml.org,2002:int": "number",
    "tag:yaml.org,2002:bool": "true or false",
    "tag:yaml.org,2002:null": "nothing",
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


# Place and Scalar are named tuples, not dataclasses: a policy of 1,000 rules has 40,000 of them, and a frozen dataclass takes four times as
# long to make.


class Place(NamedTuple):
    """Where something was written; line and column count from 1. source: the text of the line."""

    path: str
    line: int = 0
    column: int = 0
    source: str = ""


NOWHERE = Place("")

REFUSED = "refused"  # the kind of a scalar that stands for what is a finding already, so that the rest is still read


class Scalar(NamedTuple):
    """text is what was written; kind is what YAML takes it for: text, number, true or false, nothing, other; or REFUSED."""

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
    if not composition.printable(text):
        return None
    composition.hidden(text)
    return composition.read(text.replace("\ufeff", " "))  # libyaml ends at it; it is a finding by now


class _Composition:
    """One reading of one text."""

    def __init__(self, path: str, lines: list[str], findings: Findings) -> None:
        self.path, self.lines, self.findings = path, lines, findings

    def printable(self, text: str) -> bool:
        found = _UNPRINTABLE.search(text)
        if found:
            before = (text[: found.start()] + "x").splitlines()
            place = self._at(len(before) - 1, len(before[-1]) - 1)
            self.findings.add(place, "syntax", f"character #x{ord(found[0]):04x} is not allowed in YAML")
        return not found

    def hidden(self, text: str) -> None:
        """A policy that is signed off must be what was seen (CVE-2021-42574)."""
        if text.isascii() and "\r" not in text:
            return
        for number, line in enumerate(text.splitlines(keepends=True)):
            for found in _HIDDEN.finditer(line):
                message = f"U+{ord(found[0]):04X} shows the line other than it is"
                self.findings.add(self._at(number, found.start()), "hidden_character", message)

    def read(self, text: str) -> Node | None:
        try:
            root = self._build(yaml.parse(text, Loader=PARSER))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self._at(mark.line, mark.column) if mark else Place(self.path)
            begun = f" that begins on line {error.context_mark.line + 1}" if error.context_mark else ""
            context = f", {error.context}{begun}" if error.context else ""
            self.findings.add(place, "syntax", f"not valid YAML: {error.problem}{context}")
            return None
        if root is None:
            accepted = "a list of rules, or a mapping with `version: 1`"
            self.findings.add(self._at(0, 0), "empty", "the file holds no policy", accepted=accepted)
        return root

    def _at(self, line: int, column: int) -> Place:
        return Place(self.path, line + 1, column + 1, self.lines[line] if line < len(self.lines) else "")

    def _build(self, events: Iterable[Any]) -> Node | None:
        """The tree that the events spell. Not recursive: how deep a text nests is up to its writer."""
        root: Node | None = None
        documents = 0
        open_: list[tuple[Place, list[Node]]] = []  # collections that have not ended, with what they hold so far
        kinds: dict[str, str] = {}
        for event in events:
            kind = type(event)
            if kind in _UNSEEN:
                continue
            mark = event.start_mark
            if kind is yaml.DocumentStartEvent:
                documents += 1
                if documents > 1:
                    raise yaml.MarkedYAMLError(problem="a second document begins here, and a policy is one", problem_mark=mark)
                continue
            place = self._at(mark.line, mark.column)
            if kind is yaml.ScalarEvent:
                text = event.value
                if event.anchor is not None or event.tag is not None:
                    self._refuse(event, place)
                written = kinds.get(text) or kinds.setdefault(text, _kind(text)) if event.implicit[0] else "text"
                node: Node = Scalar(text, written, place)
            elif kind is yaml.SequenceStartEvent or kind is yaml.MappingStartEvent:
                self._refuse(event, place)
                if len(open_) == MAX_DEPTH:
                    raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=mark)
                open_.append((place, []))
                continue
            elif kind is yaml.AliasEvent:
                self.findings.add(place, "alias", f"aliases are refused: write out what *{event.anchor} stands for")
                node = Scalar("", REFUSED, place)
            else:
                start, items = open_.pop()
                node = Listing(tuple(items), start) if kind is yaml.SequenceEndEvent else Mapping(tuple(self._entries(items)), start)
            if open_:
                open_[-1][1].append(node)
            else:
                root = node
        return root

    def _refuse(self, event: Any, place: Place) -> None:
        """What YAML offers beyond plain data."""
        if event.anchor is not None:
            self.findings.add(place, "anchor", f"anchors are refused: &{event.anchor}")
        if event.tag is not None:
            self.findings.add(place, "tag", f"tags are refused: {event.tag}")

    def _entries(self, items: list[Node]) -> Iterator[tuple[Scalar, Node]]:
        """Keys and values come in turns."""
        seen: dict[str, int] = {}
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, Scalar):
                self.findings.add(key.place, "wrong_type", "a key is text")
            elif key.text in seen:
                self.findings.add(key.place, "duplicate_key", f"`{key.text}` is already given on line {seen[key.text]}")
            elif key.kind != REFUSED:
                seen[key.text] = key.place.line
                yield Scalar(key.text, "text", key.place), value


_UNSEEN = frozenset({yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentEndEvent})


def _kind(text: str) -> str:
    """What YAML 1.1 takes a plain scalar for."""
    for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], ()):
        if pattern.match(text):
            return _KINDS.get(tag, "other")
    return "text"
