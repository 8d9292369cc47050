"""Documents: one YAML text turned into nodes that know their place. The only importer of PyYAML.

Refused here, with their place: broken syntax, undecodable bytes, duplicate keys, anchors, aliases and tags. A policy is read by people who
sign it off; what stands in one place must not change its meaning from another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from stockade.policy.format.codes import CODES, Severity
from stockade.policy.format.problems import Problem

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
        assert code in CODES and severity in CODES[code].severities, f"{severity} {code} does not stand in codes.py"
        self.problems.append(Problem(place.path, place.line, place.column, code, message, accepted, severity, place.source))

    @property
    def failed(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)


# Place and Scalar are named tuples: a frozen dataclass takes four times as long to make, and 1,000 rules have 40,000 nodes.


class Place(NamedTuple):
    """Where something was written; line and column count from 1. source: the text of the line."""

    path: str
    line: int = 0
    column: int = 0
    source: str = ""


NOWHERE = Place("")


class Lines(NamedTuple):
    """A file's text, by line."""

    path: str
    lines: list[str]

    def place(self, line: int, column: int) -> Place:
        """line and column count from 1."""
        return Place(self.path, line, column, self.lines[line - 1] if line <= len(self.lines) else "")


class Scalar(NamedTuple):
    """text is what was written; kind is what YAML takes it for: text, number, true or false, nothing, other."""

    text: str
    kind: str
    line: int
    column: int
    file: Lines

    @property
    def place(self) -> Place:
        return self.file.place(self.line, self.column)


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


@dataclass(frozen=True, slots=True)
class Refused:
    """Stands for what is a finding already, so that the rest is still read."""

    place: Place


Node = Scalar | Listing | Mapping | Refused


def short(text: str) -> str:
    """A value as a message shows it: a whole file may be one, which is a text to YAML when it is no mapping."""
    return text if len(text) <= 60 else f"{text[:57]}…"


def kind_of(node: Node) -> str:
    """What a person would call it."""
    match node:
        case Mapping():
            return "a mapping"
        case Listing():
            return "a list"
        case Scalar(kind=kind):
            return kind
    return "what was refused"


def compose(
    data: bytes,
    path: str,
    findings: Findings,
    *,
    holds: str = "policy",
    accepted: str = "a list of rules, or a mapping with `version: 1`",
) -> Node | None:
    """The document in data, or None when there is none to speak of; findings says why. holds: what it is about, for its messages."""
    if len(data) > MAX_BYTES:
        findings.add(Place(path), "too_large", f"a {holds} file has at most {MAX_BYTES} bytes, this one has more")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        line = data.decode("utf-8", "replace").split("\n")[before.count("\n")]
        place = Place(path, before.count("\n") + 1, len(before) - before.rfind("\n"), line)
        findings.add(place, "not_utf8", f"byte 0x{data[error.start]:02x} is not UTF-8", accepted="a YAML file in UTF-8")
        return None
    composition = _Composition(Lines(path, text.splitlines()), findings, holds, accepted)
    if not composition.printable(text):
        return None
    composition.hidden(text)
    return composition.read(text.replace("\ufeff", " "))  # libyaml ends at it; it is a finding by now


class _Composition:
    """One reading of one text."""

    def __init__(self, file: Lines, findings: Findings, holds: str, accepted: str) -> None:
        self.file, self.findings, self.holds, self.accepted = file, findings, holds, accepted

    def printable(self, text: str) -> bool:
        found = _UNPRINTABLE.search(text)
        if found:
            before = (text[: found.start()] + "x").splitlines()
            place = self.file.place(len(before), len(before[-1]))
            self.findings.add(place, "syntax", f"character #x{ord(found[0]):04x} is not allowed in YAML")
        return not found

    def hidden(self, text: str) -> None:
        """A policy that is signed off must be what was seen (CVE-2021-42574)."""
        if text.isascii() and "\r" not in text:
            return
        for number, line in enumerate(text.splitlines(keepends=True), start=1):
            for found in _HIDDEN.finditer(line):
                message = f"U+{ord(found[0]):04X} shows the line other than it is"
                self.findings.add(self.file.place(number, found.start() + 1), "hidden_character", message)

    def read(self, text: str) -> Node | None:
        try:
            root = self._build(PARSER(text).get_event)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self.file.place(mark.line + 1, mark.column + 1) if mark else Place(self.file.path)
            begun = f" that begins on line {error.context_mark.line + 1}" if error.context_mark else ""
            context = f", {error.context}{begun}" if error.context else ""
            at = place.source[place.column - 1 :] if mark else ""
            if at.startswith("\t"):
                self.findings.add(place, "syntax", "not valid YAML: a tab, where a line is indented", accepted="spaces")
            else:
                self.findings.add(place, "syntax", f"not valid YAML: {error.problem}{context}")
            return None
        if root is None:
            self.findings.add(self.file.place(1, 1), "empty", f"the file holds no {self.holds}", accepted=self.accepted)
        return root

    def _build(self, get_event: Callable[[], Any]) -> Node | None:
        """The tree that the events spell. Not recursive: how deep a text nests is up to its writer.

        Half the time of a load is spent here, hence the names made local and the tuples made without their constructors.
        """
        file, make = self.file, tuple.__new__
        kinds: dict[str, str] = {}
        documents = 0
        held: list[Node] = []  # what the innermost open collection holds so far; at the top, the document
        above: list[tuple[Place, list[Node]]] = []  # where each open collection begins, and what the one around it holds
        while (event := get_event()) is not None:
            kind = type(event)
            if kind in _UNSEEN:
                continue
            if kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                items, (start, held) = held, above.pop()
                held.append(Listing(tuple(items), start) if kind is yaml.SequenceEndEvent else Mapping(self._entries(items), start))
                continue
            mark = event.start_mark
            line, column = mark.line + 1, mark.column + 1
            if kind is yaml.ScalarEvent:
                if event.anchor is not None or event.tag is not None:
                    self._refuse(event, file.place(line, column))
                text, written = event.value, "text"
                if event.implicit[0] and (written := kinds.get(text, "")) == "":
                    written = kinds[text] = plain_kind(text)
                held.append(make(Scalar, (text, written, line, column, file)))
                continue
            place = file.place(line, column)
            if kind is yaml.AliasEvent:
                self.findings.add(place, "alias", f"aliases are refused: write out what *{event.anchor} stands for")
                held.append(Refused(place))
            elif kind is yaml.DocumentStartEvent:
                documents += 1
                if documents > 1:
                    raise yaml.MarkedYAMLError(problem=f"a second document begins here, and a {self.holds} is one", problem_mark=mark)
            else:
                self._refuse(event, place)
                if len(above) == MAX_DEPTH:
                    raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=mark)
                above.append((place, held))
                held = []
        return held[0] if held else None

    def _refuse(self, event: Any, place: Place) -> None:
        """What YAML offers beyond plain data."""
        if event.anchor is not None:
            self.findings.add(place, "anchor", f"anchors are refused: &{event.anchor}")
        if event.tag is not None:
            self.findings.add(place, "tag", f"tags are refused: {event.tag}")

    def _entries(self, items: list[Node]) -> tuple[tuple[Scalar, Node], ...]:
        """Keys and values come in turns."""
        seen: dict[str, tuple[Scalar, Node]] = {}
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, Scalar):
                if not isinstance(key, Refused):
                    self.findings.add(key.place, "wrong_type", "a key is text")
            elif key.text in seen:
                line = seen[key.text][0].line
                self.findings.add(key.place, "duplicate_key", f"`{key.text}` is already given on line {line}")
            else:
                seen[key.text] = (key if key.kind == "text" else key._replace(kind="text"), value)
        return tuple(seen.values())


_UNSEEN = frozenset({yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentEndEvent})


_PAIR = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})")  # one character, as JSON escapes what lies beyond 16 bits


def quoted(text: str) -> str:
    """A text in double quotes, as YAML reads it: JSON's escapes are YAML's too, but for its pairs of surrogates."""
    if text.isprintable():
        return json.dumps(text, ensure_ascii=False)
    return _PAIR.sub(lambda pair: f"\\U{0x10000 + (int(pair[1], 16) - 0xD800 << 10) + int(pair[2], 16) - 0xDC00:08x}", json.dumps(text))


def plain_kind(text: str) -> str:
    """What YAML 1.1 takes a plain scalar for."""
    for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], ()):
        if pattern.match(text):
            return _KINDS.get(tag, "other")
    return "text"
