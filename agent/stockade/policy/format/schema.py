"""The schema: one document's nodes held to spec.py and sorted into parts, every mistake found and located. Composing files is load.py's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from stockade.policy.format.document import Findings, Listing, Mapping, Node, Place, Refused, Scalar, kind_of, short
from stockade.policy.format.problems import closest, meant
from stockade.policy.format.shapes import Anything, Choice, Key, Many, Named, Number, Record, Text, Type
from stockade.policy.format.spec import ANY, DOORS, POLICY, PRIVACY, RULES


@dataclass(slots=True)
class RuleDraft:
    """A rule as written, before overrides: its keys and where it stands. states_exec: its document lists under exec.allow what may run."""

    name: str
    keys: dict[str, tuple[Scalar, Node]]
    place: Place
    states_exec: bool = False


@dataclass(frozen=True, slots=True)
class Part[T]:
    """A value somebody stated, with its place."""

    value: T
    place: Place


@dataclass(slots=True)
class Document:
    """One file's content by dotted key (`exec.allow`); a key that is not here is one that the file does not state.

    words: keys with one value. lists: keys with several. pairs: keys with named values.
    """

    words: dict[str, Part[str]] = field(default_factory=dict)
    lists: dict[str, list[Part[str]]] = field(default_factory=dict)
    pairs: dict[str, dict[str, Part[str]]] = field(default_factory=dict)
    override: dict[str, RuleDraft] = field(default_factory=dict)
    rules: list[RuleDraft] = field(default_factory=list)
    inbound: list[Node] = field(default_factory=list)
    privacy: Node | None = None


class Reader:
    """Holds nodes to the specification. What does not fit becomes a finding; the rest is read on."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self._readers: dict[type, Callable[[Node, Any, str], Node]] = {
            Text: self._text,
            Choice: self._choice,
            Anything: lambda node, wanted, owner: node,
            Number: self._number,
            Many: self._many,
            Named: self._named,
            Record: self._record,
        }

    def document(self, root: Node) -> Document:
        """A bare list is network rules; a mapping is a whole policy."""
        document = Document()
        if isinstance(root, Listing):
            document.rules = _drafts(self.read(root, RULES, "network"))
        elif isinstance(root, Mapping):
            _sort(self.read(root, POLICY, ""), POLICY, "", document)
        else:
            self._wrong(root, "a policy", "a list of rules, or a mapping with `version: 1`")
        for rule in document.rules:
            rule.states_exec = "exec.allow" in document.lists
        return document

    def read(self, node: Node, wanted: Type, owner: str) -> Node:
        """The node as far as it is as wanted: without unknown keys and unfit entries, and Refused in place of an unfit value."""
        return self._readers[type(wanted)](node, wanted, owner)

    # For documents that are no policies: the same words for the same mistakes.

    def keys(self, node: Node, known: Iterable[str], owner: str) -> dict[str, tuple[Scalar, Node]]:
        """The known keys of a mapping."""
        read = self._record(node, Record(owner, owner, "", tuple(Key(name, Anything(), "") for name in known)), "")
        return {key.text: (key, value) for key, value in read} if isinstance(read, Mapping) else {}

    def text(self, node: Node, owner: str) -> str | None:
        read = self._text(node, ANY, owner)
        return read.text if isinstance(read, Scalar) else None

    def texts(self, node: Node, owner: str) -> list[tuple[str, Place]]:
        """A list of text that is not empty and repeats nothing."""
        read = self._many(node, Many(ANY), owner)
        return [(item.text, item.place) for item in read.items if isinstance(item, Scalar)] if isinstance(read, Listing) else []

    def choice(self, node: Node, owner: str, values: tuple[str, ...]) -> str | None:
        read = self._choice(node, Choice(values), owner)
        return read.text if isinstance(read, Scalar) else None

    # For policies.

    def _text(self, node: Node, wanted: Text, owner: str) -> Node:
        if not (isinstance(node, Scalar) and (node.kind == "text" or (wanted.or_number and node.kind == "number"))):
            quoted = f'"{node.text}", in quotes' if isinstance(node, Scalar) and node.text else wanted.means
            return self._wrong(node, owner, quoted)
        if wanted.fits.fullmatch(node.text):
            return node
        form = next(form for form in wanted.forms if not form.holds(node.text))
        words = {"text": node.text, "upper": node.text.upper()}
        self.findings.add(node.place, form.code, form.message.format(**words), accepted=form.accepted.format(**words))
        return Refused(node.place)

    def _choice(self, node: Node, wanted: Choice, owner: str) -> Node:
        if isinstance(node, Scalar) and node.kind == wanted.kind and node.text in wanted.values:
            return node
        return self._unfit(node, wanted.code, owner, ", ".join(wanted.values))

    def _number(self, node: Node, wanted: Number, owner: str) -> Node:
        if isinstance(node, Scalar):
            digits = "0|[1-9][0-9]*" if wanted.whole else r"(0|[1-9][0-9]*)(\.[0-9]+)?"
            kinds = ("number",) if wanted.whole else ("number", "other")
            if node.kind in kinds and re.fullmatch(digits, node.text) and wanted.least <= float(node.text) <= wanted.most:
                return node
        return self._unfit(node, wanted.code, owner, f"{wanted.least} to {wanted.most}")

    def _many(self, node: Node, wanted: Many, owner: str) -> Node:
        if not isinstance(node, Listing):
            if wanted.or_one and isinstance(node, Scalar):
                read = self.read(node, wanted.of, owner)
                return read if isinstance(read, Refused) else Listing((read,), node.place)
            return self._wrong(node, owner, _listed(wanted.of))
        if not node.items:
            self.findings.add(node.place, "empty_list", f"{owner} is an empty list", accepted="at least one entry, or no such key")
        elif isinstance(wanted.of, Text) and _all_fit(node.items, wanted.of.fits):
            return node
        entry = "" if isinstance(wanted.of, Record) else f"an entry of {owner}"
        read_entry = self._readers[type(wanted.of)]
        seen: dict[str, Scalar] = {}
        kept = []
        for item in node.items:
            read = read_entry(item, wanted.of, entry)
            if isinstance(read, Refused):
                continue
            if isinstance(read, Scalar):
                if read.text in seen:
                    message = f"`{read.text}` is already listed on line {seen[read.text].line}"
                    self.findings.add(read.place, "repeated", message, severity="warning")
                    continue
                seen[read.text] = read
            kept.append(read)
        return Listing(tuple(kept), node.place)

    def _named(self, node: Node, wanted: Named, owner: str) -> Node:
        if not isinstance(node, Mapping):
            return self._wrong(node, owner, wanted.shape)
        inner = "" if isinstance(wanted.value, Record) else f"{owner}."
        kept = []
        for key, value in node:
            fits = self._text(key, wanted.key, owner)
            read = self.read(value, wanted.value, inner and inner + key.text)
            if not isinstance(fits, Refused) and not isinstance(read, Refused):
                kept.append((key, read))
        return Mapping(tuple(kept), node.place)

    def _record(self, node: Node, wanted: Record, owner: str) -> Node:
        if not isinstance(node, Mapping):
            return self._wrong(node, wanted.name, "a mapping with " + ", ".join(wanted.carried_out()))
        kept: dict[str, tuple[Scalar, Node]] = {}
        for entry in node.entries:
            key, value = entry
            name = key.text if key.text in wanted.by_name else self._unknown(key, node, wanted)
            if name is None:
                continue
            known = wanted.by_name[name]
            read = self._readers[type(known.type)](value, known.type, f"{owner}.{name}" if owner else name)
            if known.carried_out:
                kept[name] = entry if read is value and name == key.text else (key._replace(text=name), read)
            else:
                message = f"`{name}` is not supported by this version: nothing would enforce it"
                self.findings.add(key.place, "not_supported", message, accepted="the policy without it")
        for known in wanted.required:
            if known.name not in kept and known.missing:
                self.findings.add(node.place, known.missing.code, known.missing.message, accepted=known.missing.accepted)
        return Mapping(tuple(kept.values()), node.place)

    def _unknown(self, key: Scalar, node: Mapping, wanted: Record) -> str | None:
        """Reports a key, and answers which one was meant: one slip is one problem, and what stands below it is read as it was meant."""
        accepted = wanted.carried_out()
        if key.text == "apiVersion":
            message = f"{wanted.name} has no key `apiVersion`: a resource of Kubernetes is for `stockade kubernetes check`"
            self.findings.add(key.place, "unknown_key", message, accepted=", ".join(accepted))
            return None
        message = f"{wanted.name} has no key `{key.text}`{meant(key.text, wanted.by_name)}"
        self.findings.add(key.place, "unknown_key", message, accepted=", ".join(accepted))
        close = closest(key.text, wanted.by_name)
        return close if close in accepted and not any(other.text == close for other, _ in node) else None

    def _unfit(self, node: Node, code: str, owner: str, accepted: str) -> Node:
        if not isinstance(node, Refused):
            what = f"`{short(node.text)}`" if isinstance(node, Scalar) and node.text else kind_of(node)
            self.findings.add(node.place, code, f"{owner} cannot be {what}", accepted=accepted)
        return Refused(node.place)

    def _wrong(self, node: Node, owner: str, accepted: str) -> Node:
        if not isinstance(node, Refused):
            what = f"`{short(node.text)}` ({node.kind})" if isinstance(node, Scalar) and node.text else kind_of(node)
            self.findings.add(node.place, "wrong_type", f"{owner} cannot be {what}", accepted=accepted)
        return Refused(node.place)


def _all_fit(items: tuple[Node, ...], fits: re.Pattern[str]) -> bool:
    """Whether nothing has to be said of a list of texts, which is so for almost every one."""
    texts = {item.text for item in items if isinstance(item, Scalar) and item.kind == "text" and fits.fullmatch(item.text)}
    return len(texts) == len(items)


def _listed(entry: Type) -> str:
    match entry:
        case Record():
            return "a list of mappings with " + ", ".join(entry.carried_out())
        case Choice():
            return "a list of " + ", ".join(entry.values)
    return "a list, each entry on a line after `- `"


def _sort(node: Node, record: Record, prefix: str, document: Document) -> None:
    """Puts what a record holds into the document, by dotted key."""
    for key, value in node if isinstance(node, Mapping) else ():
        name, wanted = prefix + key.text, record.by_name[key.text].type
        if isinstance(value, Listing):
            if wanted is RULES:
                document.rules = _drafts(value)
            elif wanted is DOORS:
                document.inbound = list(value.items)
            else:
                document.lists[name] = [Part(item.text, item.place) for item in value.items if isinstance(item, Scalar)]
        elif isinstance(value, Mapping):
            if wanted is PRIVACY:
                document.privacy = value
            if isinstance(wanted, Record):
                _sort(value, wanted, f"{name}.", document)
            elif name == "override":
                document.override = {rule.text: _draft(rule.text, below, rule.place) for rule, below in value}
            else:
                document.pairs[name] = {part.text: Part(below.text, below.place) for part, below in value if isinstance(below, Scalar)}
        elif isinstance(value, Scalar):
            document.words[name] = Part(value.text, value.place)


def _drafts(rules: Node) -> list[RuleDraft]:
    drafts = []
    for rule in rules.items if isinstance(rules, Listing) else ():
        draft = _draft("", rule, rule.place)
        name = draft.keys.get("name")
        draft.name = name[1].text if name and isinstance(name[1], Scalar) else ""
        drafts.append(draft)
    return drafts


def _draft(name: str, node: Node, place: Place) -> RuleDraft:
    return RuleDraft(name, {key.text: (key, value) for key, value in node} if isinstance(node, Mapping) else {}, place)
