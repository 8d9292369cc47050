"""`stockade explain`: one request, the decision, and at which level and rule it fell.

Decides by the same function as the kernel and the proxy.
"""

from __future__ import annotations

import argparse
import json

from stockade.cli.choice import add_policies, chosen
from stockade.policy.question import Target, ask, named_binary, parse_target
from stockade.types import Decision, Effect, Outcome, Request, StockadeError

SUMMARY = (
    "Say how the policy decides one request, and why. With a URL it is an HTTP request, with HOST[:PORT] a connect, with HOST a DNS query."
)

EXAMPLES = """\
  stockade explain --policy policies/examples/slack.yaml --binary curl --method POST https://api.slack.com/api/chat.postMessage
  stockade explain --policy policies/examples/slack.yaml --binary curl --method POST https://api.slack.com/api/admin.users
  stockade explain --policy slack.yaml --binary curl api.slack.com:443 -o json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="URL|HOST[:PORT]", help="where the request goes")
    add_policies(parser)
    parser.add_argument("--binary", required=True, metavar="B", help="family, base name or path of the binary that asks")
    parser.add_argument("--method", metavar="M", help="HTTP method; GET when a URL is given")
    parser.add_argument("--ancestor", action="append", metavar="PATH", help="who started it, nearest first, for rules with `ancestors`")
    parser.add_argument("--sha256", default="", metavar="HEX", help="the hash of its file, for rules with `sha256`")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print the decision")


def run(args: argparse.Namespace) -> int:
    """Exit status 0 for allowed, 1 for denied."""
    policy = chosen(args)
    target = _target(args.target)
    method = args.method or ("GET" if target.path is not None else None)
    binary = named_binary(args.binary, policy, sha256=args.sha256.lower())
    ancestors = tuple(args.ancestor) if args.ancestor else None
    decision = ask(Request(binary, target.host, target.port, method, target.path, ancestors), policy).decision
    if args.output == "json":
        print(json.dumps(as_json(decision)))
    else:
        print(_sentence(decision, args.binary, target, method))
    return 0 if decision.allowed else 1


def _target(text: str) -> Target:
    try:
        return parse_target(text)
    except ValueError as error:
        hint = "https://HOST/PATH, HOST:PORT or HOST"
        raise StockadeError(f"{text!r} is no destination: {error}", hint=hint, code="bad_target") from None


def as_json(decision: Decision) -> dict[str, str | int | None]:
    """The keys that scripts rely on."""
    return {
        "decision": decision.outcome.value,
        "level": decision.level.value,
        "rule": decision.rule,
        "reason": decision.reason.value,
        "generation": decision.generation,
    }


def _sentence(decision: Decision, binary: str, target: Target, method: str | None) -> str:
    what = " ".join(filter(None, (method, str(target))))
    how = {Effect.PASS: "inspected", Effect.RELAY: "relayed without looking inside"}.get(decision.effect, "refused")
    if decision.outcome is Outcome.DENY and decision.passes:
        how = "would be refused; the policy only observes"
    lines = [
        f"{decision.outcome.value.upper()} {binary} -> {what}",
        f"  level   {decision.level.value}",
        f"  rule    {decision.rule or 'none'}",
        f"  reason  {decision.reason.value}",
        f"  effect  {how}",
    ]
    return "\n".join(lines)
