"""`stockade privacy explain`: what is found in a text, where, by what, and how surely."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stockade.policy import Policy
    from stockade.privacy.classify import Settings
    from stockade.privacy.finding import Finding
    from stockade.privacy.route import Routing

SUMMARY = (
    "Show what is sensitive in a text and which detector says so; with --to, what would become of a call that says it. "
    "Exit status 1 when something is."
)
EXAMPLES = """\
  stockade privacy explain letter.txt
  git diff | stockade privacy explain - -o json
  stockade privacy explain --policy my-policy.yaml prompt.txt
  stockade privacy explain --policy my-policy.yaml --to api.openai.com --model gpt-5 prompt.txt
"""

_COLOURS = {"phi": "1;35", "pii": "33", "financial": "36", "credential": "1;31", "ip": "34"}


def arguments(parser: argparse.ArgumentParser) -> None:
    from stockade.cli.privacy.detectors import add_registry

    parser.add_argument("file", metavar="FILE", help="the text; - for standard input")
    parser.add_argument(
        "--policy", action="append", default=[], metavar="P", help="policy file whose thresholds, dictionaries and patterns to use"
    )
    parser.add_argument("--to", metavar="HOST", help="the endpoint of a call with this text, to be decided by the policy")
    parser.add_argument("--model", metavar="M", help="the model that the call asks for")
    parser.add_argument("--sandbox", default="", metavar="NAME", help="the sandbox that it comes from, for routes with `sandbox`")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")
    add_registry(parser)


def run(args: argparse.Namespace) -> int:
    from stockade.cli.privacy.detectors import classifier, read_text

    text = read_text(args.file)
    policy = _policy(args.policy, needed=args.to is not None)
    known, missing = classifier(args.registry)
    found = known.classify([text], settings_of(policy))[0] if policy is not None else known.classify([text])[0]
    routing = None
    if policy is not None and args.to is not None:
        routing = decided(policy, Spoken(args.model, (text,)), found, args.to, args.sandbox, whole=not missing)
    if args.output == "json":
        told: dict[str, object] = {
            "findings": [_entry(text, finding) for finding in found],
            "detectors": known.versions,
            "missing": missing,
        }
        if routing is not None:
            told["call"] = as_json(routing)
        print(json.dumps(told, indent=2))
    else:
        if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):  # https://no-color.org
            print(highlighted(text, found), end="\n\n")
        for finding in found:
            line, column = place(text, finding.start)
            print(
                f"{line}:{column}\t{finding.category}\t{finding.score:.2f}\t{finding.detector}\t{_short(text[finding.start : finding.end])}"
            )
        if not found:
            print("nothing sensitive found", file=sys.stderr)
        if routing is not None:
            print(_sentence(routing, args.to))
    return 1 if found else 0


def _policy(policies: Sequence[str], *, needed: bool) -> Policy | None:
    """Raises StockadeError where one is needed and none is given."""
    from stockade.policy import load
    from stockade.types import StockadeError

    if not policies:
        if needed:
            raise StockadeError("--to asks what a policy makes of a call, and none is given", hint="--policy FILE", code="no_policy")
        return None
    return load(list(policies))


@dataclass(frozen=True, slots=True)
class Spoken:
    """A call that says nothing but the text."""

    model: str | None
    texts: tuple[str, ...]


def decided(policy: Policy, call: Spoken, found: Sequence[Finding], host: str, sandbox: str, *, whole: bool) -> Routing:
    """As the proxy decides. whole: no layer of the classifier is missing; otherwise the stricter of what was found and of `on_failure`."""
    from stockade.policy import normalise_host
    from stockade.privacy.route import STRICT, NotRead, route
    from stockade.types import Effect, StockadeError

    assert policy.privacy is not None
    try:
        host = normalise_host(host)
    except ValueError as error:
        raise StockadeError(f"{host!r} is no host: {error}", hint="--to api.openai.com", code="bad_target") from None
    answers = [route(call, [found], host, policy.privacy, sandbox=sandbox)]
    if not whole:
        answers.append(route(NotRead("missing_layer", unreadable=False), [found], host, policy.privacy, sandbox=sandbox))
    order = {Effect.PASS: "pass", Effect.REDACT: "redact", Effect.LOCAL: "local", Effect.REFUSE: "deny"}
    strictest = max(answers, key=lambda answer: STRICT.index(order[answer.effect]))
    return replace(strictest, enforced=strictest.enforced and policy.enforced)


def as_json(routing: Routing) -> dict[str, object]:
    return {
        "effect": routing.effect.value,
        "reason": routing.reason.value,
        "rule": routing.rule,
        "residency": routing.residency,
        "redacted": sorted(routing.redact),
        "why": routing.detail or None,
        "enforced": routing.enforced,
    }


def _sentence(routing: Routing, host: str) -> str:
    where = f", processed in {routing.residency}" if routing.residency and routing.effect.value != "refuse" else ""
    lines = [
        f"{routing.effect.value.upper()} a call with this text to {host}{where}",
        f"  rule    {routing.rule or 'none'}",
        f"  reason  {routing.reason.value}{f': {routing.detail}' if routing.detail else ''}",
    ]
    if routing.redact:
        lines.append(f"  redacts {', '.join(sorted(routing.redact))}")
    if not routing.enforced:
        lines.append("  and is only recorded: privacy.mode is audit, or mode observe")
    return "\n".join(lines)


def settings_of(policy: Policy) -> Settings:
    """What the proxy tells the classifier of a policy. Raises StockadeError for one without a privacy section."""
    from stockade.proxy.inference import detection_of
    from stockade.types import StockadeError

    if policy.privacy is None:
        raise StockadeError(
            "this policy says nothing of what to detect", hint="give it a `privacy:` section, or leave --policy out", code="no_privacy"
        )
    return detection_of(policy.privacy)


def place(text: str, at: int) -> tuple[int, int]:
    """Line and column, from 1."""
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def _entry(text: str, finding: Finding) -> dict[str, object]:
    line, column = place(text, finding.start)
    return {
        "start": finding.start, "end": finding.end, "line": line, "column": column, "category": finding.category,
        "detector": finding.detector,
        "score": round(finding.score, 4), "text": text[finding.start : finding.end],
    }  # fmt: skip


def _short(text: str) -> str:
    visible = "".join(character if character.isprintable() else "·" for character in text)
    return visible if len(visible) <= 60 else f"{visible[:40]}…{visible[-15:]}"


def highlighted(text: str, found: Sequence[Finding]) -> str:
    """The text with its findings in colour. What would steer a terminal is shown, not sent."""
    colour = [""] * len(text)
    for finding in sorted(found, key=lambda one: one.start - one.end):
        family = finding.category.partition(".")[0]
        colour[finding.start : finding.end] = [_COLOURS.get(family, "32")] * (finding.end - finding.start)
    parts = []
    current = ""
    for character, wanted in zip(text, colour, strict=True):
        if wanted != current:
            parts.append(("\x1b[0m" if current else "") + (f"\x1b[{wanted}m" if wanted else ""))
            current = wanted
        parts.append(character if character.isprintable() or character in "\n\t" else "·")
    return "".join(parts) + ("\x1b[0m" if current else "")
