"""The schema: one document's nodes turned into typed parts, every mistake found and located. Knows keys and types; composing files is
load.py's.

Keys that the design names but this version does not carry out are errors, never ignored: a policy must not promise what is not enforced.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from difflib import get_close_matches

from stockade.policy.document import Findings, Listing, Mapping, Node, Place, Scalar, kind_of
from stockade.policy.hosts import Network

BEST_EFFORT = ("landlock", "seccomp", "lsm", "limits")

# key -> whether this version carries it out
POLICY_KEYS = {
    "version": True,
    "name": True,
    "labels": True,
    "extends": True,
    "override": True,
    "remove": True,
    "mode": True,
    "best_effort": True,
    "exec": True,
    "filesystem": True,
    "process": True,
    "network": True,
    "on_audit_failure": True,
    "inbound": False,
    "rego": False,
    "privacy": False,
}
RULE_KEYS = {
    "name": True,
    "why": True,
    "binary": True,
    "destination": True,
    "port": True,
    "method": True,
    "path": True,
    "tls": True,
    "protocol": True,
    "ancestors": False,
    "sha256": False,
    "scan": False,
    "engine": False,
}
EXEC_KEYS = {"allow": True, "deny": True, "unlisted": True, "writable": True, "env": True}
FILESYSTEM_KEYS = {"read": True, "write": True, "hide": True}
PROCESS_KEYS = {"user": True, "env": True, "pids": False, "memory": False, "cpu": False, "devices": False, "seccomp": False}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}")


@dataclass(slots=True)
class RuleDraft:
    """A rule as written, before overrides: its keys and where it stands. states_exec: its document lists under exec.allow what may run."""

    name: str
    keys: dict[str, tuple[Scalar, Node]]
    place: Place
    states_exec: bool = False


@dataclass(slots=True)
class Part[T]:
    """A value somebody stated, with its place."""

    value: T
    place: Place


@dataclass(slots=True)
class Document:
    """One file's content. None: the file says nothing about it."""

    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    extends: list[Part[str]] = field(default_factory=list)
    override: dict[str, RuleDraft] = field(default_factory=dict)
    remove: list[Part[str]] = field(default_factory=list)
    mode: str | None = None
    best_effort: list[str] = field(default_factory=list)
    exec_allow: list[str] | None = None
    exec_deny: list[str] = field(default_factory=list)
    exec_unlisted: str | None = None
    exec_writable: bool | None = None
    exec_env: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    write: list[str] = field(default_factory=list)
    hide: list[str] = field(default_factory=list)
    user: str | None = None
    env: dict[str, str | None] = field(default_factory=dict)
    on_audit_failure: str | None = None
    rules: list[RuleDraft] = field(default_factory=list)


class Reader:
    """Reads nodes as what the schema wants; what does not fit becomes a finding and an empty value."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings

    def document(self, root: Node) -> Document:
        """A bare list is network rules; a mapping is a whole policy."""
        document = Document()
        if isinstance(root, Listing):
            document.rules = self._rules(root)
            return document
        if not isinstance(root, Mapping):
            self._wrong(root, "a policy", "a list of rules, or a mapping with `version: 1`")
            return document
        keys = self.keys(root, POLICY_KEYS, "a policy")
        self._version(keys, root.place)
        for name, (_, node) in keys.items():
            self._section(document, name, node)
        for rule in document.rules:
            rule.states_exec = document.exec_allow is not None
        return document

    def _version(self, keys: dict[str, tuple[Scalar, Node]], place: Place) -> None:
        if "version" not in keys:
            self.findings.add(place, "version", "a policy says which version of the format it is written in", accepted="version: 1")
            return
        node = keys["version"][1]
        if not (isinstance(node, Scalar) and node.kind == "number" and node.text == "1"):
            self.findings.add(node.place, "version", "this version of the format is not known", accepted="1")

    def _section(self, document: Document, name: str, node: Node) -> None:
        match name:
            case "name":
                document.name = self.name(node, "a policy's name")
            case "labels":
                document.labels = self._labels(node)
            case "extends":
                document.extends = [Part(text, place) for text, place in self.texts(node, "extends")]
            case "override":
                document.override = self._overrides(node)
            case "remove":
                document.remove = [Part(text, place) for text, place in self.texts(node, "remove")]
            case "mode":
                document.mode = self.choice(node, "mode", ("enforce", "observe"))
            case "best_effort":
                document.best_effort = [text for text, _ in self.texts(node, "best_effort", one_of=BEST_EFFORT)]
            case "exec":
                self._exec(document, node)
            case "filesystem":
                for key, (_, value) in self.keys(node, FILESYSTEM_KEYS, "filesystem").items():
                    setattr(document, key, self._file_paths(value, key))
            case "process":
                self._process(document, node)
            case "network":
                document.rules = self._rules(node)
            case "on_audit_failure":
                document.on_audit_failure = self.choice(node, "on_audit_failure", ("deny", "continue"))

    def _exec(self, document: Document, node: Node) -> None:
        for key, (_, value) in self.keys(node, EXEC_KEYS, "exec").items():
            match key:
                case "allow":
                    document.exec_allow = self.binaries(value, "exec.allow")
                case "deny":
                    document.exec_deny = self.binaries(value, "exec.deny")
                case "unlisted":
                    document.exec_unlisted = self.choice(value, "exec.unlisted", ("refuse", "no-network"))
                case "writable":
                    document.exec_writable = self.choice(value, "exec.writable", ("true", "false"), kind="true or false") == "true"
                case "env":
                    document.exec_env = [text for text, place in self.texts(value, "exec.env") if self._variable(text, place)]

    def _process(self, document: Document, node: Node) -> None:
        for key, (_, value) in self.keys(node, PROCESS_KEYS, "process").items():
            if key == "user" and isinstance(value, Scalar):
                if _USER.fullmatch(value.text):
                    document.user = value.text
                else:
                    self.findings.add(value.place, "bad_user", f"`{value.text}` is no user", accepted="a user's name or number")
            elif key == "user":
                self._wrong(value, "process.user", "a user's name or number")
            elif isinstance(value, Mapping):
                for name, setting in value:
                    if self._variable(name.text, name.place):
                        text = self.text(setting, f"process.env.{name.text}")
                        document.env[name.text] = None if text == "inherit" else text or ""
            else:
                self._wrong(value, "process.env", "NAME: value, or NAME: inherit")

    def _labels(self, node: Node) -> dict[str, str]:
        if not isinstance(node, Mapping):
            self._wrong(node, "labels", "key: value")
            return {}
        return {key.text: self.text(value, f"labels.{key.text}") or "" for key, value in node}

    def _rules(self, node: Node) -> list[RuleDraft]:
        if not isinstance(node, Listing):
            self._wrong(node, "network", "a list of rules")
            return []
        if not node.items:
            self.findings.add(
                node.place, "empty_list", "the list of rules is empty: leave it out to allow no network", accepted="- name: …"
            )
        return [draft for item in node.items if (draft := self._rule(item)) is not None]

    def _rule(self, node: Node) -> RuleDraft | None:
        if not isinstance(node, Mapping):
            self._wrong(node, "a rule", "a mapping with name, binary, destination, method, path")
            return None
        keys = self.keys(node, RULE_KEYS, "a rule")
        if "name" not in keys:
            self.findings.add(
                node.place, "missing_key", "a rule has no `name`: records and `explain` point to rules by it", accepted="name: my-rule"
            )
            return RuleDraft("", keys, node.place)
        return RuleDraft(self.name(keys["name"][1], "a rule's name") or "", keys, node.place)

    def _overrides(self, node: Node) -> dict[str, RuleDraft]:
        if not isinstance(node, Mapping):
            self._wrong(node, "override", "rule-name: {method: …}")
            return {}
        allowed = {key: known for key, known in RULE_KEYS.items() if key != "name"}
        return {name.text: RuleDraft(name.text, self.keys(value, allowed, "an override"), name.place) for name, value in node}

    # What the parts are made of.

    def keys(self, node: Node, known: dict[str, bool], owner: str) -> dict[str, tuple[Scalar, Node]]:
        """The keys of a mapping that this version carries out; the others are findings."""
        if not isinstance(node, Mapping):
            self._wrong(node, owner, "a mapping with " + ", ".join(key for key, built in known.items() if built))
            return {}
        kept: dict[str, tuple[Scalar, Node]] = {}
        for key, value in node:
            if key.text not in known:
                close = get_close_matches(key.text, known, n=1)
                meant = f"; did you mean `{close[0]}`?" if close else ""
                accepted = ", ".join(name for name, built in known.items() if built)
                self.findings.add(key.place, "unknown_key", f"{owner} has no key `{key.text}`{meant}", accepted=accepted)
                if close and known[close[0]] and not any(close[0] == other.text for other, _ in node):
                    kept[close[0]] = (key, value)  # one slip is one problem, and what stands below it is read as it was meant
            elif not known[key.text]:
                self.findings.add(key.place, "not_supported", f"`{key.text}` is not supported by this version: nothing would enforce it")
            else:
                kept[key.text] = (key, value)
        return kept

    def text(self, node: Node, owner: str) -> str | None:
        if isinstance(node, Scalar) and node.kind == "text":
            return node.text
        quoted = f'"{node.text}", in quotes' if isinstance(node, Scalar) and node.text else "text"
        self._wrong(node, owner, quoted)
        return None

    def texts(self, node: Node, owner: str, *, one_of: tuple[str, ...] = ()) -> list[tuple[str, Place]]:
        """A list of text that is not empty and repeats nothing."""
        if not isinstance(node, Listing):
            self._wrong(node, owner, "a list" + (f" of {', '.join(one_of)}" if one_of else ", each entry on a line after `- `"))
            return []
        if not node.items:
            self.findings.add(node.place, "empty_list", f"{owner} is an empty list")
        seen: dict[str, int] = {}
        found = []
        for item in node.items:
            text = self.text(item, f"an entry of {owner}")
            if text is None:
                continue
            if one_of and text not in one_of:
                self.findings.add(item.place, "bad_value", f"`{text}` is not known to {owner}", accepted=", ".join(one_of))
            elif text in seen:
                self.findings.add(item.place, "repeated", f"`{text}` is already listed on line {seen[text]}", severity="warning")
            else:
                seen[text] = item.place.line
                found.append((text, item.place))
        return found

    def choice(self, node: Node, owner: str, values: tuple[str, ...], *, kind: str = "text") -> str | None:
        if isinstance(node, Scalar) and node.kind == kind and node.text in values:
            return node.text
        what = f"`{node.text}`" if isinstance(node, Scalar) else kind_of(node)
        self.findings.add(node.place, "bad_value", f"{owner} cannot be {what}", accepted=", ".join(values))
        return None

    def name(self, node: Node, owner: str) -> str | None:
        text = self.text(node, owner)
        if text is not None and not _NAME.fullmatch(text):
            self.findings.add(node.place, "bad_name", f"{owner} cannot be `{text}`", accepted="letters, digits, `.`, `_`, `-`; at most 64")
            return None
        return text

    def binaries(self, node: Node, owner: str) -> list[str]:
        """Family names, base names, or absolute paths, which may have a glob."""
        return [text for text, place in self.texts(node, owner) if self._binary(text, place)]

    def _binary(self, text: str, place: Place) -> bool:
        broad = "**" in text or text.startswith(("*", "/*")) or ("/" not in text and "*" in text)
        if broad:
            self.findings.add(
                place, "binary_too_broad", f"`{text}` stands for any program", accepted="curl, /usr/bin/curl, /opt/tool/bin/*"
            )
        elif not text or (("/" in text) and not text.startswith("/")) or ".." in text.split("/") or not text.isprintable() or " " in text:
            self.findings.add(
                place, "bad_binary", f"`{text}` is no binary", accepted="a family or base name such as curl, or an absolute path"
            )
        else:
            return True
        return False

    def networks(self, node: Node, owner: str) -> list[Network]:
        found: list[Network] = []
        for text, place in self.texts(node, owner):
            try:
                found.append(ipaddress.ip_network(text))
            except ValueError as error:
                self.findings.add(place, "bad_network", f"`{text}` is no network: {error}", accepted="10.1.2.0/24, fd00:1::/64, 10.1.2.3")
        return found

    def ports(self, node: Node) -> list[int]:
        """One port or a list of ports."""
        items = node.items if isinstance(node, Listing) else (node,)
        if not items:
            self.findings.add(node.place, "empty_list", "port is an empty list", accepted="443, or [443, 80]")
        found = []
        for item in items:
            if (
                isinstance(item, Scalar)
                and item.kind == "number"
                and re.fullmatch("[1-9][0-9]{0,4}", item.text)
                and int(item.text) <= 65535
            ):
                found.append(int(item.text))
            else:
                what = f"`{item.text}`" if isinstance(item, Scalar) else kind_of(item)
                self.findings.add(item.place, "bad_port", f"{what} is no port", accepted="1 to 65535")
        return found

    def _file_paths(self, node: Node, owner: str) -> list[str]:
        found = []
        for text, place in self.texts(node, f"filesystem.{owner}"):
            if not text.startswith("/") or ".." in text.split("/") or "\0" in text:
                self.findings.add(place, "bad_file_path", f"`{text}` is no absolute path", accepted="/srv/data, without `..`")
            else:
                found.append(text.rstrip("/") or "/")
        return found

    def _variable(self, text: str, place: Place) -> bool:
        if _VARIABLE.fullmatch(text):
            return True
        self.findings.add(place, "bad_variable", f"`{text}` is no name of a variable", accepted="letters, digits and `_`")
        return False

    def _wrong(self, node: Node, owner: str, accepted: str) -> None:
        if isinstance(node, Scalar) and node.kind == "alias":
            return  # already a finding
        what = f"`{node.text}` ({node.kind})" if isinstance(node, Scalar) and node.text else kind_of(node)
        self.findings.add(node.place, "wrong_type", f"{owner} cannot be {what}", accepted=accepted)
