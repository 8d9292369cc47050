"""`stockade policy check`: every problem of each file, and whether what one claims about it is so."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from stockade.cli.choice import policy_file
from stockade.policy import Policy, PolicyError, Problem, load, load_families
from stockade.policy.cases.suite import is_test_file, read_suite
from stockade.policy.format.absent import absent

SUMMARY = (
    "Print every problem of each file. With --prove, say whether a claim holds for every request there can be. "
    "Exit status: 0 fine, 1 a file does not load or a claim is false, 2 a file cannot be read or a claim cannot be decided."
)
EXAMPLES = """\
  stockade policy check my-policy.yaml
  stockade policy check -o json *.yaml
  stockade policy check presets/pypi --prove "no request can reach pypi.org with POST or PUT"
  stockade policy check my-policy.yaml --prove "no request from curl can reach *.example.com on /admin/**"
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="a policy of its own each, or the tests of one; presets/NAME for one that ships"
    )
    claim = "no request [from BINARY] can reach HOST[:PORT] [with METHOD[ or METHOD…]] [on PATHGLOB]"
    parser.add_argument("--prove", action="append", default=[], metavar="CLAIM", help=f"{claim}; several times for several claims")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")


def run(args: argparse.Namespace) -> int:
    problems: list[Problem] = []
    loaded: list[tuple[str, Policy]] = []
    for file in args.files:
        path = policy_file(file)
        tests = is_test_file(path) and path.is_file()
        try:
            policy = read_suite(path).policy if tests else load([path])
        except PolicyError as error:
            problems += error.problems
        else:
            loaded.append((file, policy))
            missing = () if args.prove or tests else absent(policy, str(path), load_families())
            problems += sorted((*policy.warnings, *missing), key=lambda problem: (problem.path, problem.line, problem.column))
    if args.prove:
        return _prove(args, loaded, problems)
    if args.output == "json":
        print(json.dumps([problem.as_json() for problem in problems], indent=2))
    else:
        _print(problems, len(args.files))
    return _status(args, loaded, problems)


def _print(problems: list[Problem], files: int) -> None:
    for problem in problems:
        print(problem)
    errors = sum(problem.severity == "error" for problem in problems)
    print(f"{files} checked, {errors} errors, {len(problems) - errors} warnings", file=sys.stderr)


def _status(args: argparse.Namespace, loaded: list[tuple[str, Policy]], problems: list[Problem]) -> int:
    if any(problem.code == "unreadable" and not problem.line for problem in problems):
        return 2
    return 0 if len(loaded) == len(args.files) else 1


def _prove(args: argparse.Namespace, loaded: list[tuple[str, Policy]], problems: list[Problem]) -> int:
    """Every claim on every file. What does not load proves nothing."""
    from stockade.policy.proof.prove import parse_claim, prove

    claims = [parse_claim(text) for text in args.prove]
    proofs = [(file, claim, prove(claim, policy)) for file, policy in loaded for claim in claims]
    if args.output == "json":
        shown = [{"path": file, "claim": claim.text, **_proof_fields(proof)} for file, claim, proof in proofs]
        print(json.dumps({"problems": [problem.as_json() for problem in problems], "proofs": shown}, indent=2))
    else:
        _print(problems, len(args.files))
        for file, claim, proof in proofs:
            print(f"{file}: {proof.answer}: {claim.text}")
            for line in _proof_lines(proof):
                print(f"    {line}")
    answers = {proof.answer for _, _, proof in proofs}
    if len(loaded) < len(args.files) or "could not tell" in answers:
        return 2
    return 1 if "false" in answers else 0


def _proof_lines(proof: Any) -> list[str]:
    found, lines = proof.counterexample, []
    if found is not None:
        what = found.method or "anything, unseen,"
        lines.append(f"{found.who} may ask {what} {found.url}")
        decision = found.decision
        how = "not enforced" if not decision.allowed else "relayed" if decision.effect == "relay" else "allowed"
        lines.append(f"{how} by rule {decision.rule or 'none'}, level {decision.level.value}, reason {decision.reason.value}")
    if proof.reason:
        lines.append(proof.reason)
    if proof.answer == "proved":
        lines.append(f"considered: rules {proof.rules}, binaries {proof.binaries}, hosts and ports {proof.places}; every canonical path")
    return [*lines, *(f"note: {note}" for note in proof.notes)]


def _proof_fields(proof: Any) -> dict[str, Any]:
    found = proof.counterexample
    return {
        "answer": proof.answer,
        "counterexample": None
        if found is None
        else {
            "binary": found.who.spelling,
            "sha256": found.who.binary.sha256 or None,
            "ancestors": list(found.who.ancestors),
            "method": found.method,
            "url": found.url,
            "rule": found.decision.rule,
            "effect": found.decision.effect.value,
            "level": found.decision.level.value,
            "reason": found.decision.reason.value,
            "enforced": found.decision.enforced,
        },
        "reason": proof.reason,
        "considered": {"rules": proof.rules, "binaries": proof.binaries, "places": proof.places},
        "notes": list(proof.notes),
    }
