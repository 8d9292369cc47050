"""The body of a 403: JSON that the agent's model can act on, and that echoes no secret."""

from __future__ import annotations

import json

from stockade.audit.mask import mask_path
from stockade.policy.own import APPROVALS
from stockade.proxy.ladder import Refusal
from stockade.proxy.spine import Caller
from stockade.types import Level, Reason

_HINTS = {
    Level.BINARY: "no rule lets this binary reach this host: use a binary that a rule names, or ask for a rule",
    Level.DESTINATION: "no rule names this host and port for this binary",
    Level.METHOD: "a rule allows this host with other methods",
    Level.PATH: "a rule allows this host and method on other paths",
}

_VETOED = "a deny list of the rule names it, and no approval lifts that"
_VETOES = {
    Reason.REGO_DENY: "the policy's Rego denies it, and no approval lifts that",
    Reason.REGO_ERROR: "the policy's Rego could not be evaluated, and then it denies: ask its author",
}

_REASONS = {
    Reason.UPSTREAM_TLS: "the server's certificate is not valid for this host in the trust store of the machine Stockade runs on",
    Reason.UPSTREAM_UNREACHABLE: "no address of the host accepts connections: try again later",
    Reason.UPSTREAM_ERROR: "the server broke off: try again later",
    Reason.RESOLVE_FAILED: "the host has no address: check its spelling",
    Reason.SOURCE_REFUSED: "the policy of the other sandbox must name this one under `inbound`",
    Reason.ADDRESS_REFUSED: "the rule must allow this range under destination.addresses",
    Reason.HOST_MISMATCH: "send the request to the host it is for",
}


def body(refusal: Refusal, caller: Caller, method: str) -> bytes:
    """The JSON of one refusal, one line and a newline."""
    hint = refusal.hint or _REASONS.get(refusal.reason, "")
    if not hint and refusal.decision is not None:
        hint = _HINTS.get(refusal.level, "") if refusal.reason is Reason.NO_RULE else _VETOES.get(refusal.reason, _VETOED)
    if refusal.approval is not None:
        hint = f"{hint}; a person may approve this one: poll {APPROVALS}{refusal.approval}".removeprefix("; ")
    fields = {
        "error": refusal.error,
        "level": refusal.level.value,
        "rule": refusal.rule,
        "reason": refusal.reason.value,
        "host": caller.host,
        "method": method[:64],
        "path": mask_path(refusal.path),
        "binary": caller.binary.name,
        "hint": hint,
    }
    if refusal.approval is not None:
        fields["approval"] = refusal.approval
    return json.dumps(fields | _record(refusal)).encode() + b"\n"


def named(answer: bytes, refusal: Refusal) -> bytes:
    """A refusal in the words of another API, with the name of its record beside them."""
    told = json.loads(answer)
    told["stockade"] |= _record(refusal)
    return json.dumps(told).encode() + b"\n"


def _record(refusal: Refusal) -> dict[str, str]:
    """Under which name a person finds why, and the command that says it."""
    return {} if not refusal.record else {"record": refusal.record, "explain": f"stockade audit show {refusal.record}"}
