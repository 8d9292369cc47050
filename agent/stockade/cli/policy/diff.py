"""`stockade policy diff`: what becomes possible and what stops being possible when B takes the place of A."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from stockade.cli.choice import policy_file
from stockade.policy import Policy, load

if TYPE_CHECKING:
    from stockade.policy.proof.diff import Change
    from stockade.policy.proof.reach import Example
    from stockade.types import Decision

SUMMARY = (
    "Say in words what becomes possible and what stops being possible when B takes the place of A, decided on what they mean. "
    "Exit status: 0 no difference, 1 some, 2 a policy does not load or the comparison is too large."
)
EXAMPLES = """\
  stockade policy diff old.yaml new.yaml
  stockade policy diff presets/github presets/github-push
  stockade policy diff -o json old.yaml new.yaml
"""

_HEADINGS = {"possible": "becomes possible:", "impossible": "stops being possible:", "changed": "changes:"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="a policy file, or presets/NAME")
    parser.add_argument("b", metavar="B", help="what it is compared with")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")


def run(args: argparse.Namespace) -> int:
    from stockade.policy.proof.diff import diff
    from stockade.policy.proof.language import TooComplexError

    try:
        changes = diff(_load(args.a), _load(args.b))
    except TooComplexError as error:
        print(f"could not tell: {error}", file=sys.stderr)
        return 2
    if args.output == "json":
        print(json.dumps({"differs": bool(changes), "changes": [_fields(change) for change in changes]}, indent=2))
    else:
        _text(changes)
    return 1 if changes else 0


def _load(text: str) -> Policy:
    return load([policy_file(text)])


def _text(changes: tuple[Change, ...]) -> None:
    for effect, heading in _HEADINGS.items():
        those = [change for change in changes if change.effect == effect]
        if those:
            print(heading)
        for change in those:
            print(f"  {change.text}")
            if change.example is not None:
                example = change.example
                print(f"      {example.who} {example.method} {example.url}")
                without, with_ = ("before", "after") if effect == "possible" else ("after", "before")
                said = {without: _said(example.without), with_: _said(example.with_)}
                print(f"      before {said['before']}; after {said['after']}")
    if not changes:
        print("no difference")


def _said(decision: Decision) -> str:
    by = f"rule {decision.rule}" if decision.rule else "no rule"
    return f"{decision.outcome.value} ({by}, level {decision.level.value})"


def _fields(change: Change) -> dict[str, Any]:
    gain = change.gain
    fields: dict[str, Any] = {"effect": change.effect, "area": change.area, "text": change.text}
    if gain is not None:
        fields |= {
            "binaries": list(gain.who),
            "hosts": list(gain.hosts),
            "ports": list(gain.ports),
            "methods": list(gain.methods),
            "on": list(gain.on),
            "but_not": list(gain.but),
            "example": None if gain.example is None else _example(gain.example, change.effect == "possible"),
        }
    return fields


def _example(example: Example, gained: bool) -> dict[str, Any]:
    before, after = (example.without, example.with_) if gained else (example.with_, example.without)
    return {"binary": example.who, "method": example.method, "url": example.url, "before": _decided(before), "after": _decided(after)}


def _decided(decision: Decision) -> dict[str, str | None]:
    return {"decision": decision.outcome.value, "rule": decision.rule, "level": decision.level.value, "reason": decision.reason.value}
