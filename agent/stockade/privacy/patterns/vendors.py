"""The rules of rules/gitleaks.toml: what keys and tokens of several hundred vendors look like.

Read as gitleaks reads them: a rule is tried where one of its keywords occurs, its secret must have the entropy it asks for, and its allow
lists and the global one take findings back. Paths play no part, since a text in a call has none: the one rule of only a path is left out.
"""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stockade.privacy.finding import Finding
from stockade.privacy.patterns.subject import Match, Regex, Subject, compiled

_FILE = Path(__file__).parent / "rules" / "gitleaks.toml"
GENERIC = "generic-api-key"  # left to assigned.py, which reads more forms with fewer mistakes


@dataclass(frozen=True, slots=True)
class Allow:
    """What is no secret though a rule matched. target: what the expressions are tried on: secret, match or line."""

    regexes: tuple[Regex, ...]
    stopwords: tuple[str, ...]
    target: str  # secret, match or line

    def allows(self, secret: bytes, match: bytes, line: bytes) -> bool:
        text = {"match": match, "line": line}.get(self.target, secret)
        if any(regex.search(text) for regex in self.regexes):
            return True
        folded = secret.decode(errors="replace").lower()
        return any(word in folded for word in self.stopwords)


@dataclass(frozen=True, slots=True)
class Vendor:
    id: str
    category: str
    regex: Regex
    keywords: tuple[bytes, ...]
    entropy: float
    group: int
    allows: tuple[Allow, ...]

    def find(self, subject: Subject, everywhere: Allow) -> Iterator[Finding]:
        data = subject.data
        for start, end, match in subject.matches(self.regex):
            first, last = self._secret(match, start, end)
            secret = data[first:last]
            if not secret or (self.entropy and entropy(secret) < self.entropy):
                continue
            line = data[data.rfind(b"\n", 0, start) + 1 : _line_end(data, end)]
            if any(allow.allows(secret, data[start:end], line) for allow in (everywhere, *self.allows)):
                continue
            yield subject.finding(first, last, self.category, f"vendor:{self.id}", 0.98)

    def _secret(self, match: Match, start: int, end: int) -> tuple[int, int]:
        for group in [self.group] if self.group else range(1, self.regex.groups + 1):
            first, last = match.span(group)
            if first >= 0 and last > first:
                return first, last
        return start, end


def _line_end(data: bytes, at: int) -> int:
    end = data.find(b"\n", at)
    return len(data) if end < 0 else end


def entropy(data: bytes) -> float:
    """Shannon's, in bits per byte."""
    size = len(data)
    return -sum(count / size * math.log2(count / size) for count in Counter(data).values()) if size else 0.0


def _category(rule: str) -> str:
    if "private-key" in rule or rule in ("age-secret-key", "pkcs12-file"):
        return "credential.private_key"
    if "password" in rule or rule in ("curl-auth-user",):
        return "credential.password"
    if any(word in rule for word in ("token", "jwt", "-pat", "oauth", "session", "webhook", "auth-header")):
        return "credential.token"
    return "credential.key"


def _allow(entry: dict[str, Any]) -> Allow | None:
    regexes = tuple(compiled(text) for text in entry.get("regexes", ()))
    stopwords = tuple(word.lower() for word in entry.get("stopwords", ()))
    if entry.get("condition") == "AND" and entry.get("paths"):
        return None  # holds for some paths only
    return Allow(regexes, stopwords, entry.get("regexTarget", "secret")) if regexes or stopwords else None


@cache
def load() -> tuple[tuple[Vendor, ...], Allow]:
    """All rules with a pattern, and the allow list of all. Raises ValueError where RE2 refuses one: none is passed over."""
    document = tomllib.loads(_FILE.read_text())
    rules = []
    for entry in document["rules"]:
        if "regex" not in entry:
            continue
        allows = tuple(allow for one in entry.get("allowlists", ()) if (allow := _allow(one)))
        keywords = tuple(word.lower().encode() for word in entry.get("keywords", ()))
        rules.append(
            Vendor(
                entry["id"], _category(entry["id"]), compiled(entry["regex"]), keywords, entry.get("entropy", 0.0),
                entry.get("secretGroup", 0), allows,
            )
        )  # fmt: skip
    everywhere = _allow(document["allowlist"]) or Allow((), (), "secret")
    return tuple(rules), everywhere


@cache
def _keywords() -> tuple[tuple[bytes, tuple[int, ...]], ...]:
    """Each keyword once, with the rules that it wakes."""
    by_word: dict[bytes, list[int]] = {}
    for number, rule in enumerate(load()[0]):
        for word in rule.keywords or (b"",):
            by_word.setdefault(word, []).append(number)
    return tuple((word, tuple(numbers)) for word, numbers in by_word.items())


def find(subject: Subject) -> Iterator[Finding]:
    rules, everywhere = load()
    folded = subject.folded
    awake = {number for word, numbers in _keywords() if word in folded for number in numbers}
    for number in sorted(awake):
        if rules[number].id != GENERIC:
            yield from rules[number].find(subject, everywhere)
