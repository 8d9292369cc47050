"""`stockade explain`: one request, the decision, and at which level and rule it fell.

Decides by the same function as the kernel and the proxy.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

from stockade.cli.choice import add_policies, chosen
from stockade.policy import Policy, decide, load_families, normalise_host
from stockade.types import Binary, Decision, Effect, Level, Outcome, Reason, Request, StockadeError

SUMMARY = (
    "Say how the policy decides one request, and why. With a URL it is an HTTP request, with HOST[:PORT] a connect, with HOST a DNS query."
)

EXAMPLES = """\
  stockade explain --policy policies/examples/slack.yaml --binary curl --method POST https://api.slack.com/api/chat.postMessage
  stockade explain --policy policies/examples/slack.yaml --binary curl --method POST https://api.slack.com/api/admin.users
  stockade explain --policy slack.yaml --binary curl api.slack.com:443 -o json
"""

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """What was asked about. path: as written, None without a URL."""

    host: str
    port: int | None
    path: str | None


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="URL|HOST[:PORT]", help="where the request goes")
    add_policies(parser)
    parser.add_argument("--binary", required=True, metavar="B", help="family, base name or path of the binary that asks")
    parser.add_argument("--method", metavar="M", help="HTTP method; GET when a URL is given")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print the decision")


def run(args: argparse.Namespace) -> int:
    """Exit status 0 for allowed, 1 for denied."""
    policy = chosen(args)
    target = parse_target(args.target)
    method = args.method or ("GET" if target.path is not None else None)
    decision = _explain(policy, _binary(args.binary, policy), target, method)
    if args.output == "json":
        print(json.dumps(as_json(decision)))
    else:
        print(_sentence(decision, args.binary, target, method))
    return 0 if decision.allowed else 1


def parse_target(text: str) -> Target:
    """A URL, HOST:PORT or HOST. Raises StockadeError for what is neither."""
    try:
        if "://" not in text:
            parts = urlsplit(f"//{text}")
            path = None
        else:
            parts = urlsplit(text)
            if parts.scheme not in _DEFAULT_PORTS:
                raise ValueError(f"the scheme {parts.scheme} is not one of {', '.join(_DEFAULT_PORTS)}")
            path = parts.path or "/"
        if text.count(":") > 1 and "[" not in text and path is None:
            return Target(normalise_host(text), None, None)
        if path is None and parts.path:
            raise ValueError("a host has no path; write https:// before it")
        return Target(normalise_host(parts.hostname or ""), parts.port or _DEFAULT_PORTS.get(parts.scheme), path)
    except ValueError as error:
        raise StockadeError(
            f"{text!r} is no destination: {error}", hint="https://HOST/PATH, HOST:PORT or HOST", code="bad_target"
        ) from None


def as_json(decision: Decision) -> dict[str, str | int | None]:
    """The keys that scripts rely on."""
    return {
        "decision": decision.outcome.value,
        "level": decision.level.value,
        "rule": decision.rule,
        "reason": decision.reason.value,
        "generation": decision.generation,
    }


def _binary(name: str, policy: Policy) -> Binary:
    families = load_families().of(name, policy.binary_names())
    return Binary(name=name.rpartition("/")[2], names=families | {name}, path=name)


def _explain(policy: Policy, binary: Binary, target: Target, method: str | None) -> Decision:
    path = target.path
    if path is not None:
        from stockade.proxy.canonical import canonical_path

        try:
            path = canonical_path(path)
        except ValueError:
            effect, enforced = Effect.REFUSE, policy.enforced
            return Decision(Outcome.DENY, effect, Level.PATH, Reason.PATH_INVALID, None, policy.generation, enforced)
    return decide(Request(binary, target.host, target.port, method, path), policy)


def _sentence(decision: Decision, binary: str, target: Target, method: str | None) -> str:
    where = target.host if target.port is None else f"{target.host}:{target.port}"
    what = " ".join(filter(None, (method, where + (target.path or ""))))
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
