"""`stockade privacy explain`: what is found in a text, where, by what, and how surely."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stockade.policy import Policy
    from stockade.privacy.classify import Settings
    from stockade.privacy.finding import Finding

SUMMARY = "Show what is sensitive in a text and which detector says so. Exit status 1 when something is."
EXAMPLES = """\
  stockade privacy explain letter.txt
  git diff | stockade privacy explain - -o json
  stockade privacy explain --policy my-policy.yaml prompt.txt
"""

_COLOURS = {"phi": "1;35", "pii": "33", "financial": "36", "credential": "1;31", "ip": "34"}


def arguments(parser: argparse.ArgumentParser) -> None:
    from stockade.cli.privacy.detectors import add_registry

    parser.add_argument("file", metavar="FILE", help="the text; - for standard input")
    parser.add_argument(
        "--policy", action="append", default=[], metavar="P", help="policy file whose thresholds, dictionaries and patterns to use"
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")
    add_registry(parser)


def run(args: argparse.Namespace) -> int:
    from stockade.cli.privacy.detectors import classifier, read_text

    text = read_text(args.file)
    settings = _settings(args.policy)
    known, missing = classifier(args.registry)
    found = known.classify([text], settings)[0]
    if args.output == "json":
        print(
            json.dumps(
                {"findings": [_entry(text, finding) for finding in found], "detectors": known.versions, "missing": missing}, indent=2
            )
        )
    else:
        if sys.stdout.isatty():
            print(highlighted(text, found), end="\n\n")
        for finding in found:
            line, column = place(text, finding.start)
            print(
                f"{line}:{column}\t{finding.category}\t{finding.score:.2f}\t{finding.detector}\t{_short(text[finding.start : finding.end])}"
            )
        if not found:
            print("nothing sensitive found", file=sys.stderr)
    return 1 if found else 0


def _settings(policies: Sequence[str]) -> Settings:
    from stockade.privacy.classify import Settings

    if not policies:
        return Settings()
    from stockade.policy import load

    return settings_of(load(list(policies)))


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
            parts.append(f"\x1b[{wanted or '0'}m" if not current else f"\x1b[0m\x1b[{wanted or '0'}m")
            current = wanted
        parts.append(character if character.isprintable() or character in "\n\t" else "·")
    return "".join(parts) + ("\x1b[0m" if current else "")
