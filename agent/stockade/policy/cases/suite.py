"""Suites: the tests that stand beside a policy, read strictly. Owns their format and its mistakes; puts no question.

    pypi.yaml  ·  pypi_test.yaml    policy: [files] (default: the one beside)  ·  cases: [case]

A case names the decision and the rule that must have made it: refused for another reason than the author thinks is a failure.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stockade.policy.format.document import Findings, Listing, Mapping, Node, Place, compose
from stockade.policy.format.problems import PolicyError, meant
from stockade.policy.format.schema import Reader
from stockade.policy.load import load
from stockade.policy.model import Policy
from stockade.policy.presets import preset_names, preset_path
from stockade.policy.privacy import DEFAULT_ROUTES, Privacy
from stockade.policy.question import Target, parse_target
from stockade.policy.rego.module import RULE as REGO_RULE
from stockade.privacy.finding import CATEGORIES
from stockade.types import Decision, Effect, Level, Outcome, Reason

SUFFIX = "_test"
MOST = 100_000  # cases of one file: three lists of a thousand entries make more than memory holds
ASKED = ("url", "connect", "dns", "exec", "call")
NO_RULE = "none"

_SUITE_KEYS = {"policy": True, "cases": True}
_CASE_KEYS = dict.fromkeys(
    ("name", "binary", "method", *ASKED, "ancestors", "sha256", "holds", "model", "sandbox", "expect", "rule", "level", "reason"), True
)
_CASE_LEVELS = tuple(level.value for level in (Level.BINARY, Level.DESTINATION, Level.METHOD, Level.PATH, Level.EXEC))
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")
_CATEGORY = re.compile(r"[a-z]+\.[a-z][a-z0-9_-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CALL_KEYS = ("holds", "model", "sandbox")
_MEANINGLESS = {
    "url": _CALL_KEYS,
    "connect": ("method", *_CALL_KEYS),
    "dns": ("method", *_CALL_KEYS),
    "exec": ("binary", "method", "ancestors", "sha256", *_CALL_KEYS),
    "call": ("binary", "method", "ancestors", "sha256", "level"),
}
_EFFECTS = {"pass": Effect.PASS, "redact": Effect.REDACT, "local": Effect.LOCAL, "deny": Effect.REFUSE}
_FORMS = {
    "url": "https://HOST/PATH; http, ws and wss too",
    "connect": '"HOST:PORT"',
    "dns": "HOST",
    "exec": "/usr/bin/curl, or a base name",
    "call": "HOST, the endpoint of a language model",
}


def said(outcome: Outcome, effect: Effect | None) -> str:
    """The word of a test file for it; effect: of a call."""
    return next((word for word, each in _EFFECTS.items() if each is effect), outcome.value)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a case says must come. rule: None when no rule may have spoken. level and reason: None when the case leaves them open.

    effect: of a call of a language model, which may be allowed in several ways.
    """

    outcome: Outcome
    rule: str | None
    level: Level | None = None
    reason: Reason | None = None
    effect: Effect | None = None

    def met_by(self, decision: Decision) -> bool:
        """Outcome and rule always; level, reason and effect where they are stated."""
        return (
            decision.outcome is self.outcome
            and decision.rule == self.rule
            and self.level in (None, decision.level)
            and self.reason in (None, decision.reason)
            and self.effect in (None, decision.effect)
        )

    def __str__(self) -> str:
        parts = [
            next((word for word, effect in _EFFECTS.items() if effect is self.effect), self.outcome.value),
            f"rule {self.rule or NO_RULE}",
        ]
        parts += [f"level {self.level.value}"] if self.level else []
        parts += [f"reason {self.reason.value}"] if self.reason else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a language model in which these categories were found."""

    host: str
    holds: tuple[str, ...]
    model: str | None = None
    sandbox: str = ""
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One question with its expectation. target None: may `binary` be executed? Or, with a call, what becomes of that? asked: the question
    as its author wrote it.
    """

    name: str
    place: Place
    asked: str
    binary: str
    target: Target | None
    method: str | None
    expected: Expected
    ancestors: tuple[str, ...] | None = None
    sha256: str = ""
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class Suite:
    """The cases of one file and the policy they are put to. files: the policy's own files, whose entries the cases should reach."""

    path: Path
    policy: Policy
    files: tuple[Path, ...]
    cases: tuple[Case, ...]


def tests_of(policy: Path) -> Path:
    """Where the tests of a policy file stand."""
    return policy.with_name(f"{policy.stem}{SUFFIX}{policy.suffix}")


def is_test_file(path: Path) -> bool:
    return path.stem.endswith(SUFFIX)


def read_suite(path: Path) -> Suite:
    """The suite in a test file. Raises PolicyError with every mistake of the file, or of the policy it names; OSError when unreadable."""
    findings = Findings()
    root = compose(path.read_bytes(), str(path), findings)
    reader = _SuiteReader(path, findings)
    files, nodes = reader.head(root) if root is not None else ((), ())
    if findings.failed:
        raise PolicyError(findings.problems)
    policy = load(files)
    cases = tuple(reader.cases(nodes, policy))
    if findings.failed:
        raise PolicyError(findings.problems)
    return Suite(path, policy, files, cases)


class _SuiteReader:
    def __init__(self, path: Path, findings: Findings) -> None:
        self.path, self.findings, self.reader = path, findings, Reader(findings)
        self.rules: frozenset[str] = frozenset()
        self.privacy: Privacy | None = None
        self.left = MOST

    def head(self, root: Node) -> tuple[tuple[Path, ...], tuple[Node, ...]]:
        """The files of the policy, and the nodes of the cases."""
        keys = self.reader.keys(root, _SUITE_KEYS, "a test file")
        files: list[Path] = []
        if "policy" in keys:
            for text, place in self._several(keys["policy"][1], "policy"):
                files += self._file(text, place)
        else:
            own = self.path.with_name(self.path.stem.removesuffix(SUFFIX) + self.path.suffix)
            if not is_test_file(self.path) or not own.is_file():
                self._add(root.place, "no_policy", f"there is no {own} to test", "policy: [FILE, presets/NAME]")
            files.append(own)
        if "cases" not in keys:
            if isinstance(root, Mapping):
                self._add(root.place, "missing_key", "a test file has no `cases`", "cases: [{binary: …, url: …, expect: …, rule: …}]")
            return tuple(files), ()
        cases = keys["cases"][1]
        if not isinstance(cases, Listing):
            self._add(cases.place, "wrong_type", "cases are a list", "- {binary: …, url: …, expect: …, rule: …}")
            return tuple(files), ()
        return tuple(files), cases.items

    def _file(self, text: str, place: Place) -> list[Path]:
        if text.startswith("presets/"):
            found = preset_path(text)
            if found is None:
                self._add(place, "unknown_preset", f"there is no preset `{text}`", ", ".join(f"presets/{name}" for name in preset_names()))
            return [] if found is None else [found]
        file = self.path.parent / text
        if not file.is_file():
            self._add(place, "unreadable", f"there is no file {file}", "a policy file, relative to this one, or presets/NAME")
            return []
        return [file]

    def cases(self, nodes: tuple[Node, ...], policy: Policy) -> Iterator[Case]:
        self.rules = frozenset(rule.name for rule in policy.rules) | ({REGO_RULE} if policy.rego is not None else set())
        self.privacy = policy.privacy
        for node in nodes:
            yield from self._case(node)

    def _case(self, node: Node) -> Iterator[Case]:
        """One case per combination of what it lists."""
        keys = {key: value for key, (_, value) in self.reader.keys(node, _CASE_KEYS, "a case").items()}
        if not isinstance(node, Mapping):
            return
        expected = self._expected(keys, node.place)
        asked = [key for key in ASKED if key in keys]
        if len(asked) != 1:
            what = f"asks {' and '.join(asked)} at once" if asked else "asks nothing"
            self._add(node.place, "bad_case", f"a case {what}", "exactly one of " + ", ".join(ASKED))
            return
        kind = asked[0]
        for key in _MEANINGLESS[kind]:
            if key in keys:
                self._add(keys[key].place, "bad_case", f"`{key}` has no meaning beside `{kind}`", f"{kind} without {key}")
        if kind not in ("exec", "call") and "binary" not in keys:
            self._add(node.place, "missing_key", "a case has no `binary`", "binary: curl")
        name = self.reader.text(keys["name"], "a case's name") if "name" in keys else ""
        if name and not name.isprintable():
            self._add(keys["name"].place, "bad_name", "a case's name is one printable line", "name: pip reads the index")
        if kind == "call":
            yield from self._calls(name or "", keys, node.place, expected)
            return
        targets = [(text, place, target) for text, place in self._several(keys[kind], kind) for target in self._target(kind, text, place)]
        binaries = (
            [text for text, place in self._several(keys["binary"], "binary") if self._binary(text, place)] if "binary" in keys else [""]
        )
        methods: list[str | None] = [None]
        if kind == "url":
            methods = [*self._methods(keys["method"], targets)] if "method" in keys else ["GET"]
        ancestors = tuple(text for text, _ in self._several(keys["ancestors"], "ancestors")) if "ancestors" in keys else None
        sha256 = self._sha256(keys["sha256"]) if "sha256" in keys else ""
        if expected is None:
            return
        self.left -= len(binaries) * len(methods) * len(targets)
        if self.left < 0:
            self._add(node.place, "bad_case", f"with this one the file has more than {MOST} cases", "fewer entries in its lists")
            return
        for binary, method, (text, _, target) in itertools.product(binaries, methods, targets):
            who = text if target is None else binary
            words = [binary, method, None if kind == "url" else kind, text]
            yield Case(name or "", node.place, " ".join(filter(None, words)), who, target, method, expected, ancestors, sha256)

    def _calls(self, name: str, keys: dict[str, Node], place: Place, expected: Expected | None) -> Iterator[Case]:
        """One for each host. What it holds is given, not looked for: a policy decides on categories."""
        if self.privacy is None:
            self._add(keys["call"].place, "bad_case", "the policy has no `privacy`, so it decides on no call", "a policy with privacy: {…}")
            return
        holds = [text for text, at in self._several(keys["holds"], "holds") if self._category(text, at)] if "holds" in keys else []
        model = self.reader.text(keys["model"], "model") if "model" in keys else None
        sandbox = self.reader.text(keys["sandbox"], "sandbox") if "sandbox" in keys else None
        for text, at in self._several(keys["call"], "call"):
            for target in self._target("call", text, at):
                if target is not None and expected is not None:
                    asked = f"call {text} holding {', '.join(holds) or 'nothing'}" + (f" for {model}" if model else "")
                    call = Call(target.host, tuple(holds), model, sandbox or "")
                    yield Case(name, place, asked, "", None, None, expected, call=call)

    def _category(self, text: str, place: Place) -> bool:
        if _CATEGORY.fullmatch(text):
            return True
        self._add(place, "bad_category", f"`{text}` is no category", "phi.identifier, pii.person")
        return False

    def _routes(self) -> frozenset[str]:
        privacy = self.privacy
        if privacy is None:
            return frozenset()
        required = (f"require_residency:{category}" for category in (*CATEGORIES, *(each.category for each in privacy.custom)))
        return frozenset([*(each.name for each in (*privacy.routes, *DEFAULT_ROUTES)), *required])

    def _expected(self, keys: dict[str, Node], place: Place) -> Expected | None:
        of_call = "call" in keys
        known = self._routes() if of_call else self.rules
        outcomes = tuple(_EFFECTS) if of_call else tuple(Outcome)
        for key, accepted in (("expect", " or ".join(f"expect: {word}" for word in outcomes)), ("rule", f"rule: NAME, or rule: {NO_RULE}")):
            if key not in keys:
                self._add(place, "missing_key", f"a case has no `{key}`: it states the decision and the rule that made it", accepted)
        outcome = self.reader.choice(keys["expect"], "expect", outcomes) if "expect" in keys else None
        rule = self.reader.text(keys["rule"], "rule") if "rule" in keys else None
        if rule is not None and rule != NO_RULE and rule not in known:
            what = "route" if of_call else "rule"
            accepted = ", ".join([*sorted(name for name in known if ":" not in name or name.startswith("default:")), NO_RULE])
            self._add(keys["rule"].place, "unknown_rule", f"the policy has no {what} `{rule}`{meant(rule, known)}", accepted)
            return None
        level = self.reader.choice(keys["level"], "level", _CASE_LEVELS) if "level" in keys else None
        reason = self.reader.choice(keys["reason"], "reason", tuple(Reason)) if "reason" in keys else None
        if outcome is None or rule is None:
            return None
        effect = _EFFECTS[outcome] if of_call else None
        decided = Outcome(outcome) if effect is None else Outcome.DENY if effect is Effect.REFUSE else Outcome.ALLOW
        spoken = None if rule == NO_RULE else rule
        return Expected(decided, spoken, Level(level) if level else None, Reason(reason) if reason else None, effect)

    def _target(self, kind: str, text: str, place: Place) -> Iterator[Target | None]:
        """The target, or nothing when the text is none; None for exec."""
        if kind == "exec":
            if self._binary(text, place):
                yield None
            return
        try:
            target = parse_target(text)
            shape = "url" if target.path is not None else "connect" if target.port is not None else "dns"
            if shape != ("dns" if kind == "call" else kind):
                raise ValueError({"url": "it is a URL", "connect": "it has a port", "dns": "it has no port"}[shape])
        except ValueError as error:
            self._add(place, "bad_target", f"`{text}` is nothing to {kind}: {error}", _FORMS[kind])
            return
        yield target

    def _methods(self, node: Node, targets: list[tuple[str, Place, Target | None]]) -> Iterator[str]:
        for text, place in self._several(node, "method"):
            if not _METHOD.fullmatch(text):
                self._add(place, "bad_method", f"`{text}` is no method; methods are compared as written, in upper case", "GET, POST, …")
            elif text != "GET" and any(target is not None and target.socket for _, _, target in targets):
                self._add(place, "bad_case", "a WebSocket opens with GET", "method: GET, or no method")
            else:
                yield text

    def _sha256(self, node: Node) -> str:
        text = self.reader.text(node, "sha256") or ""
        if text and not _SHA256.fullmatch(text):
            self._add(node.place, "bad_value", f"`{text}` is no SHA-256", "64 hex digits in lower case, in quotes")
        return text

    def _binary(self, text: str, place: Place) -> bool:
        if text and text.isprintable() and " " not in text and "*" not in text and ("/" not in text or text.startswith("/")):
            return True
        self._add(place, "bad_binary", f"`{text}` is no binary", "a family or base name such as curl, or an absolute path")
        return False

    def _several(self, node: Node, owner: str) -> list[tuple[str, Place]]:
        """One text or a list of them."""
        if isinstance(node, Listing):
            found = self.reader.texts(node, owner)
        else:
            text = self.reader.text(node, owner)
            found = [] if text is None else [(text, node.place)]
        for text, place in found:
            if not text.isprintable():
                self._add(place, "bad_value", f"{owner} holds a character that is not printable", "printable text")
        return found

    def _add(self, place: Place, code: str, message: str, accepted: str) -> None:
        self.findings.add(place, code, message, accepted=accepted)
