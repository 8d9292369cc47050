"""Why, in words: what each reason means, and what a person can do about it.

Owns one sentence and one hint for every Reason. Says nothing that the record does not hold: the rule and its place come from the record in
which the sandbox said what its policy is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from stockade.audit.record import Json
from stockade.types import Level, Reason

_RULE = "change the rule, or leave it: it does what it says"
_PERSON = "a person may let it pass: stockade approvals list; or add a rule for it to the policy"
_OPERATOR = "look at the log of the agent: something is wrong with Stockade or its machine"

WHY: Mapping[Reason, tuple[str, str]] = {
    Reason.RULE_ALLOW: ("a rule of the policy allows it", ""),
    Reason.RULE_DENY: ("a deny list of a rule names it, and a deny counts more than any allow", _RULE),
    Reason.NO_RULE: ("no rule of the policy allows it, and what no rule allows is refused", _PERSON),
    Reason.REGO_ALLOW: ("the policy's Rego allows it", ""),
    Reason.REGO_DENY: ("the policy's Rego denies it", "change the Rego, or leave it: it does what it says"),
    Reason.REGO_ERROR: ("the policy's Rego could not be evaluated, which counts as a denial", "stockade policy check FILE"),
    Reason.REGO_PENDING: ("Rego may allow it, and speaks once method and path are known", ""),
    Reason.LOCAL_LISTENER: ("it is the sandbox's own loopback", ""),
    Reason.EXEC_ALLOWED: ("the policy lets this program run", ""),
    Reason.EXEC_UNLISTED: ("this program is not in exec.allow", "add it to exec.allow when it is meant to run"),
    Reason.EXEC_DENIED: ("exec.deny names this program", _RULE),
    Reason.EXEC_CHANGED: (
        "the file of this program was changed after the sandbox had started",
        "start the sandbox anew, once you know why",
    ),
    Reason.EXEC_ANONYMOUS: ("it is a program without a file: from memory, deleted, or run through the loader", "nothing has to do this"),
    Reason.MAPPING_WRITABLE: (
        "code was to be loaded from a file that the sandbox may have written",
        "exec.writable: true allows it, and makes every identity weak",
    ),
    Reason.LOADER_VARIABLE: (
        "the program was started with a variable that puts other code into it, so no rule holds for it",
        "exec.env: [NAME] allows the variable",
    ),
    Reason.ENV_UNREADABLE: ("the environment of the program was too large to be read", "start it with fewer variables"),
    Reason.IDENTITY_UNKNOWN: ("it is not known which program asks", "a program that was not started inside the sandbox has no identity"),
    Reason.IDENTITY_MISMATCH: ("the process is not the program that it was started as", "look at what it did before"),
    Reason.SOCKET_TAINTED: (
        "another program than the one that connected speaks on the connection",
        "each program has to open its own connection",
    ),
    Reason.AGENT_ADDRESS: ("it is one of the agent's own listeners", "nothing inside has to reach it by its address"),
    Reason.UNKNOWN_SYNTHETIC: ("no name that was asked for has this address", "ask for the name, and connect to the answer"),
    Reason.ADDRESS_REFUSED: (
        "the host lies at an address that is refused: private, loopback, link-local or a cloud's metadata",
        "the rule must allow the range under destination.addresses",
    ),
    Reason.PROTOCOL_REFUSED: ("only TCP leaves the sandbox, and DNS through the agent", "use TCP; for QUIC, clients fall back to it"),
    Reason.PORT_REFUSED: ("no rule opens this port", _PERSON),
    Reason.BIND_REFUSED: ("this port of the loopback belongs to the host or to the agent", "listen on another port"),
    Reason.SOURCE_REFUSED: ("`inbound` of the policy does not let this source in", "add it under `inbound`"),
    Reason.RECORD_TYPE: ("only addresses are answered: other types of DNS records carry data out", ""),
    Reason.PACKET_DROPPED: ("a packet reached the last net, which drops whatever was not decided before", ""),
    Reason.SNI_MISMATCH: (
        "the TLS handshake names another host than the one that was connected to",
        "send the request to the host it is for",
    ),
    Reason.HOST_MISMATCH: ("the request names another host than the one that was connected to", "send the request to the host it is for"),
    Reason.PATH_INVALID: ("servers would read the path in different ways", "send it in its plain form"),
    Reason.METHOD_INVALID: ("it is no method that is served here", ""),
    Reason.HEADER_REFUSED: ("a header, or a parameter, would change the request for the server", "say it in the request line"),
    Reason.PROTOCOL_ERROR: ("it is not well-formed", ""),
    Reason.HEADER_TIMEOUT: ("no request came in time", ""),
    Reason.RESOLVE_FAILED: ("the host has no address", "check its spelling, and the resolver of the machine"),
    Reason.UPSTREAM_TLS: ("the certificate of the server is not valid for this host", "check the trust store of the machine"),
    Reason.UPSTREAM_UNREACHABLE: ("no address of the host accepts connections", "try again later"),
    Reason.UPSTREAM_ERROR: ("the server broke off", "try again later"),
    Reason.NO_ORIGIN: ("the kernel does not know who opened the connection", _OPERATOR),
    Reason.AUDIT_UNAVAILABLE: ("the audit trail could not be written, and what is not recorded is not allowed", "make room on its disk"),
    Reason.KERNEL_MAP_FULL: ("a table of the kernel is full", "a policy with fewer names and ports, or fewer processes"),
    Reason.QUOTA: ("the sandbox has asked for more names than it may", ""),
    Reason.POLICY_CHANGED: ("a newer policy denies what an older one had allowed", ""),
    Reason.STARTED: ("the sandbox was started", ""),
    Reason.ADOPTED: ("another agent took the sandbox over, after its own had died", ""),
    Reason.STOPPED: ("the sandbox has ended", ""),
    Reason.RELOADED: ("the policy was read again, and is in force", ""),
    Reason.RELOAD_REFUSED: ("the policy was read again and not taken: the one before stays in force", "stockade policy check FILE"),
    Reason.APPROVED: ("a person let it pass", ""),
    Reason.APPROVAL_DENIED: ("a person did not let it pass", ""),
    Reason.APPROVAL_CONSUMED: ("the one request that was approved has been", ""),
    Reason.APPROVAL_EXPIRED: ("the time of an approval is over", ""),
    Reason.EVENTS_LOST: ("something was not recorded: the kernel had no room for an event, or the agent died in the middle", _OPERATOR),
    Reason.SINK_LOST: ("a sink gave up records; the trail has them", "stockade audit export sends them again"),
    Reason.KEY_REPLACED: ("the key that signs the trail was replaced", ""),
    Reason.PARTS_REMOVED: ("the oldest files of the trail were removed, as its settings say", ""),
    Reason.INTERRUPTED: ("it was under way when the connection, the worker or the agent ended", ""),
    Reason.WORKER_LOST: ("a worker died; another took its place", _OPERATOR),
    Reason.AUTHORITY_RENEWED: ("another key signs the certificates that the sandbox is shown, under the same root", ""),
    Reason.AUTHORITY_NOT_RENEWED: (
        "no other key could be had to sign the sandbox's certificates: the one before goes on for as long as it is valid",
        "stockade ca rotate NAME, once the CA can be reached",
    ),
    Reason.AUTHORITY_EXPIRED: (
        "the key that signs the sandbox's certificates has expired, and no client would believe one",
        "stockade ca rotate NAME",
    ),
    Reason.ENFORCEMENT_LOST: ("something that held the sandbox was taken away, so it was killed", "somebody with root's rights did that"),
    Reason.SCAN_FOUND: ("the request carries what the rule's `scan` does not let out", "leave it out of the request"),
    Reason.SCAN_UNREADABLE: ("the rule wants the request read, and nobody can read it", "send it uncompressed, or as text or JSON"),
    Reason.PRIVACY_FAILURE: ("the classifier did not answer", "look at the log of the agent; on_failure says what happens then"),
    Reason.PRIVACY_PASS: ("nothing was found in it that a route holds back", ""),
    Reason.PRIVACY_ROUTE: ("a route of the policy says what becomes of what was found in it", "privacy.routes of the policy"),
    Reason.PRIVACY_DEFAULT: ("a built-in route says what becomes of what was found in it", "a route of one's own goes before it"),
    Reason.PRIVACY_UNREADABLE: ("the call cannot be read, and what is not read may hold anything", "privacy.unreadable says what happens"),
    Reason.PRIVACY_RESIDENCY: ("what was found in it may not be processed where the endpoint is", "privacy.require_residency"),
    Reason.PRIVACY_CONTEXT: ("it is more than the local model takes, and it is not cut", "a local model with a longer context"),
    Reason.PRIVACY_LOCAL_FAILURE: ("there is no local model that answers", "privacy.local of the policy"),
    Reason.PRIVACY_VAULT_FULL: ("more values were taken out than can be put back", ""),
    Reason.DEVICE_REFUSED: ("the policy gives the sandbox no such device", "process.devices of the policy"),
    Reason.EXEC_REFUSED: ("a mount, Landlock or the file's mode does not let it run", ""),
    Reason.FILE_REFUSED: ("a mount, Landlock or the file's mode does not let it be opened so", "filesystem of the policy"),
    Reason.LANDLOCK_REFUSED: (
        "the machine's audit says that Landlock refused it: the ruleset of the sandbox, or one that a program inside put on itself",
        "filesystem of the policy",
    ),
    Reason.OPENS_COUNTED: ("files below a directory that the policy counts", ""),
    Reason.OPENS_UNKNOWN: ("files that were opened, below which directory cannot be told", ""),
    Reason.SYSCALL_REFUSED: ("the filter of system calls, or a missing capability, refuses it", "process.seccomp.allow of the policy"),
    Reason.LIMIT_REACHED: ("a limit of the policy on processes, memory or time was reached", "process of the policy"),
}

_AT: Mapping[str, str] = {
    Level.BINARY: "at the binary: no rule names this program for this host",
    Level.DESTINATION: "at the destination: no rule of this program names this host and port",
    Level.METHOD: "at the method: a rule allows this host, with other methods",
    Level.PATH: "at the path: a rule allows this host and method, on other paths",
    Level.PRIVACY: "by what is in the request",
    Level.EXEC: "at exec",
}
_VERBS = {"exec": "run", "dns": "look up", "connect": "connect to", "websocket": "open a WebSocket at", "inference": "ask the model at"}


@dataclass(frozen=True, slots=True)
class Explanation:
    """asked: what was attempted. outcome: what became of it. why, level, hint: words, empty where there is nothing to say.

    rule: the rule as its policy says it, with file and line. policy: which was in force.
    """

    asked: str
    outcome: str
    why: str
    level: str
    hint: str
    rule: str
    policy: str


def why(reason: str) -> tuple[str, str]:
    """What a reason means, and what can be done; its own name for one of a newer Stockade."""
    try:
        return WHY[Reason(reason)]
    except (ValueError, KeyError):
        return reason, ""


def explain(record: Json, policy: Json | None) -> Explanation:
    """policy: the last record before it in which its sandbox said what its policy is."""
    sentence, hint = why(record["reason"])
    denied, level = record["decision"] == "deny", ""
    if denied and record["reason"] in (Reason.NO_RULE, Reason.RULE_DENY):
        level = _AT.get(record["level"], "") if record["reason"] == Reason.NO_RULE else f"at the {record['level']}"
    if approval := record["detail"].get("approval"):
        hint = f"a person may let it pass: stockade approvals approve {approval}"
    return Explanation(
        asked(record), outcome(record), sentence, level, hint if denied else "", rule_text(record, policy), _policy(record, policy)
    )


def asked(record: Json) -> str:
    """`curl asked for DELETE api.example.com:443/x`."""
    binary, http, action, detail = record["binary"], record["http"], record["action"], record["detail"]
    who = binary["name"] if binary is not None else record["sandbox"]["name"]
    if action == "exec":
        return f"{record['ancestry'][0] if record['ancestry'] else 'a process'} wanted to run {_program(binary)}"
    if http is not None:
        return f"{who} asked for {http['method']} {target(record)}{http['path']}"
    if action in ("file", "device", "syscall"):
        what = detail.get("path") or detail.get("prefix") or detail.get("device") or ""
        called = detail.get("call") or {"device": "open", "file": "open"}.get(action, "")
        times = f", {detail['times']} times" if detail.get("times", 1) != 1 else ""
        return f"{who} called {called} {what}".rstrip() + times
    if action == "inbound":
        source = detail.get("source")
        return f"{source} wanted in at port {record['destination']['port']}" if source else f"{who} wanted to listen at {target(record)}"
    if action in ("policy", "lifecycle"):
        return why(record["reason"])[0]
    return f"{who} wanted to {_VERBS.get(action, action)} {target(record)}"


def outcome(record: Json) -> str:
    """One or two words, for people."""
    if record["decision"] == "deny":
        return {"cut": "cut off"}.get(record["effect"], "refused") if record["enforced"] else "denied, let through (observed)"
    return {"redact": "allowed, redacted", "local": "led to the local model", "cut": "cut off", "refuse": "not sent"}.get(
        record["effect"], "allowed"
    )


def target(record: Json) -> str:
    destination = record["destination"]
    if destination is None:
        return "?"
    host = f"[{destination['host']}]" if ":" in destination["host"] else destination["host"]
    return host if destination["port"] is None else f"{host}:{destination['port']}"


def rule_text(record: Json, policy: Json | None) -> str:
    """The rule with its place, as the policy said it at its start or reload; its name alone when that is not known."""
    name = record["rule"]
    if name is None:
        return ""
    rules = policy["detail"].get("rules", []) if policy is not None else []
    return next((text for text in rules if isinstance(text, str) and text.startswith(f"{name}: ")), name)


def place_of(rule: str) -> str:
    """`/etc/stockade/policy.yaml:5` of a rule's text; empty when it is not said."""
    found = re.search(r" \(([^()]+:\d+)\)$", rule)
    return found[1] if found else ""


def _program(binary: Json | None) -> str:
    return (binary["script"] or binary["path"]) if binary is not None else "?"


def _policy(record: Json, policy: Json | None) -> str:
    sandbox = record["sandbox"]
    text = f"{sandbox['policy'] or '-'}, generation {sandbox['generation']}"
    if policy is None:
        return text
    detail = policy["detail"]
    sources = detail.get("sources", [])
    text += f", in force since {policy['time']}" if policy["sandbox"]["generation"] == sandbox["generation"] else f", read {policy['time']}"
    return text + (f", from {', '.join(map(str, sources))}" if sources else "")
