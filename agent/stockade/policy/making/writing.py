"""Writing: a policy that a program made, as YAML that people read and sign off.

Owns the text: the order of keys, which scalars need quotes, where comments stand. Knows nothing of where a policy comes from, and does not
check it: who writes one loads it before anybody sees it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stockade.policy.format.document import quoted

_WIDTH = 140
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9._/@+-]*")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})  # YAML 1.1 takes these for something else


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of a list, with the comment behind it."""

    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class RuleText:
    """A rule to be written. relayed: how, when nobody looks inside; methods and paths are then empty. notes: comments above it."""

    name: str
    binaries: tuple[str, ...]
    hosts: tuple[str, ...]
    ports: tuple[int, ...]
    methods: tuple[str, ...] = ()
    methods_denied: tuple[str, ...] = ()
    paths: tuple[Line, ...] = ()
    paths_denied: tuple[Line, ...] = ()
    addresses: tuple[str, ...] = ()
    relayed: Literal["", "passthrough", "tcp"] = ""
    ancestors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A whole policy to be written. execs: None leaves it to the rules' binaries. notes: comments at the top."""

    name: str
    rules: tuple[RuleText, ...]
    execs: tuple[Line, ...] | None = None
    best_effort: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    user: str | None = None
    notes: tuple[str, ...] = ()


def as_yaml(policy: PolicyText) -> str:
    """The text of a policy file, with a newline at its end."""
    return "\n".join(_policy(policy)) + "\n"


def as_json(policy: PolicyText) -> dict[str, Any]:
    """The same policy without its comments."""
    written: dict[str, Any] = {"version": 1, "name": policy.name}
    if policy.best_effort:
        written["best_effort"] = list(policy.best_effort)
    if policy.execs is not None:
        written["exec"] = {"allow": [line.text for line in policy.execs]}
    files = {"read": list(policy.read), "write": list(policy.write)}
    if kept := {key: paths for key, paths in files.items() if paths}:
        written["filesystem"] = kept
    if policy.user is not None:
        written["process"] = {"user": policy.user}
    if policy.rules:
        written["network"] = [_rule_json(rule) for rule in policy.rules]
    return written


def unique(name: str, taken: Iterable[str]) -> str:
    """A name that a policy or rule may have and that is not taken: letters, digits, `.`, `_`, `-`, at most 64."""
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:58] or "rule"
    known = set(taken)
    found, count = base, 1
    while found in known:
        count += 1
        found = f"{base}-{count}"
    return found


def _rule_json(rule: RuleText) -> dict[str, Any]:
    written: dict[str, Any] = {"name": rule.name, "binary": {"allow": list(rule.binaries)}, "destination": {"allow": list(rule.hosts)}}
    if rule.addresses:
        written["destination"]["addresses"] = list(rule.addresses)
    if rule.ancestors:
        written["ancestors"] = list(rule.ancestors)
    if rule.ports:
        written["port"] = list(rule.ports)
    if rule.relayed:
        return written | ({"tls": "passthrough"} if rule.relayed == "passthrough" else {"protocol": "tcp"})
    written["method"] = {"allow": list(rule.methods)} | ({"deny": list(rule.methods_denied)} if rule.methods_denied else {})
    written["path"] = {"allow": [line.text for line in rule.paths]}
    if rule.paths_denied:
        written["path"]["deny"] = [line.text for line in rule.paths_denied]
    return written


def _policy(policy: PolicyText) -> Iterator[str]:
    yield from (_comment(note) for note in policy.notes)
    yield from ("", "version: 1", f"name: {_scalar(policy.name)}")
    if policy.best_effort:
        yield f"best_effort: {_flow(policy.best_effort)}"
    if policy.execs is not None:
        yield from ("", "exec:", "  allow:" if policy.execs else "  allow: []")
        yield from _block(policy.execs, "    ")
    if policy.read or policy.write:
        yield from ("", "filesystem:")
        for key, paths in (("read", policy.read), ("write", policy.write)):
            if paths:
                yield f"  {key}:"
                yield from _block([Line(path) for path in paths], "    ")
    if policy.user is not None:
        yield from ("", "process:", f"  user: {_scalar(policy.user)}")
    if policy.rules:
        yield from ("", "network:")
        for position, rule in enumerate(policy.rules):
            if position:
                yield ""
            yield from _rule(rule)


def _rule(rule: RuleText) -> Iterator[str]:
    yield from (f"  {_comment(note)}" for note in rule.notes)
    yield f"  - name: {_scalar(rule.name)}"
    yield from _list("    binary:", "allow", rule.binaries)
    if rule.ancestors:
        yield f"    ancestors: {_flow(rule.ancestors)}"
    yield from _list("    destination:", "allow", rule.hosts)
    if rule.addresses:
        yield f"      addresses: {_flow(rule.addresses)}"
    if rule.ports:
        yield f"    port: [{', '.join(map(str, rule.ports))}]"
    if rule.relayed:
        yield "    tls: passthrough" if rule.relayed == "passthrough" else "    protocol: tcp"
        return
    yield from _list("    method:", "allow", rule.methods)
    if rule.methods_denied:
        yield f"      deny: {_flow(rule.methods_denied)}"
    yield "    path:"
    for key, lines in (("allow", rule.paths), ("deny", rule.paths_denied)):
        if lines:
            yield f"      {key}:"
            yield from _block(lines, "        ")


def _list(owner: str, key: str, items: Sequence[str]) -> Iterator[str]:
    yield owner
    line = f"      {key}: {_flow(items)}"
    if len(line) <= _WIDTH:
        yield line
    else:
        yield f"      {key}:"
        yield from _block([Line(item) for item in items], "        ")


def _block(lines: Sequence[Line], indent: str) -> Iterator[str]:
    """One entry a line, the comments below each other where that fits."""
    texts = [f"{indent}- {_scalar(line.text)}" for line in lines]
    column = min(max((len(text) for text, line in zip(texts, lines, strict=True) if line.note), default=0), 80)
    for text, line in zip(texts, lines, strict=True):
        yield f"{text:<{column}}  {_comment(line.note)}" if line.note else text


def _flow(items: Sequence[str]) -> str:
    return "[" + ", ".join(map(_scalar, items)) + "]"


def _scalar(text: str) -> str:
    """Plain where YAML reads it as the same text, else in double quotes."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return quoted(text)


def _comment(text: str) -> str:
    """A comment never ends early: what would break the line or look like another one is shown as `?`."""
    return ("# " + "".join(character if character.isprintable() else "?" for character in text)).rstrip()
