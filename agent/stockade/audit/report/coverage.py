"""How the policy and the sandbox that were in force meet OWASP's Top 10 for Agentic Applications (2026), risk by risk.

Each row is derived: what holds it is named by the setting that the trail says was in force, what this policy leaves open too, and what no
sandbox can hold is said beside it. No row is better than what the records show; where they do not say what the policy was, none claims
anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from stockade.audit.report.gather import Case

SOURCE = "OWASP Top 10 for Agentic Applications (2026)"
_INTERPRETERS = ("python3", "node", "sh", "bash", "dash", "perl", "ruby", "deno", "bun", "java", "php", "npm", "npx", "pip", "uv")


class Status(StrEnum):
    HELD = "held"
    PART = "in part"
    RECORDED = "recorded only"
    OPEN = "not held"
    UNKNOWN = "not known"


@dataclass(slots=True)
class Row:
    """holds: what holds it, with the setting. open: what this policy leaves open. beyond: what no sandbox sees. best: at most."""

    id: str
    name: str
    best: Status
    holds: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    beyond: str = ""
    status: Status = Status.UNKNOWN


@dataclass(frozen=True, slots=True)
class _Facts:
    """terms: of the policy. started: details of the start record."""

    case: Case
    terms: Mapping[str, str]
    started: Mapping[str, object]

    def count(self, key: str) -> int:
        text = self.terms.get(key, "")
        return int(text) if text.isdigit() else 0

    def says(self, key: str) -> str:
        return self.terms.get(key, "")

    def listed(self, key: str) -> list[str]:
        return [each for each in self.says(key).split(", ") if each]

    def start(self, key: str) -> str:
        value = self.started.get(key, "")
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def coverage(case: Case) -> list[Row]:
    """Ten rows, in OWASP's order."""
    terms = case.terms()
    facts = _Facts(case, terms, case.started["detail"] if case.started is not None else {})
    rows = []
    for identifier, (name, best, fill) in _ROWS.items():
        row = Row(identifier, name, best)
        if terms:
            fill(row, facts)
            if terms.get("mode") == "observe":
                row.open.insert(0, "mode=observe: what the policy denies is recorded and let through")
                row.best = Status.RECORDED
            row.status = _status(row)
        rows.append(row)
    return rows


def _status(row: Row) -> Status:
    if row.best in (Status.RECORDED, Status.OPEN):
        return row.best
    if not row.holds:
        return Status.OPEN
    return Status.PART if row.open else row.best


def _goal(row: Row, facts: _Facts) -> None:
    said = f"whatever the agent was talked into, it reaches what the policy names ({facts.says('rules')} rules), and nothing else"
    row.holds.append(f"mode={facts.says('mode')}: {said}")
    row.holds.append("the policy is decided outside of the sandbox: nothing inside can read or change it")
    _any_path(row, facts)
    row.beyond = "Whether a goal was hijacked is not seen: no prompt is judged. Within what the rules allow, a hijacked agent acts freely."


def _tools(row: Row, facts: _Facts) -> None:
    row.holds.append(f"{facts.count('rules.inspected')} of {facts.count('rules')} rules look at method and path of every request")
    if facts.says("exec.unlisted") == "refuse":
        row.holds.append(f"exec.unlisted=refuse: only {len(facts.listed('exec.allow'))} listed families of programs run")
    else:
        row.open.append(f"exec.unlisted={facts.says('exec.unlisted')}: unlisted programs may run, without network")
    if relayed := facts.count("rules.relayed"):
        row.open.append(f"{_rules(relayed)} passed on without being looked into")
    _any_path(row, facts)
    row.beyond = "A permitted request may still be a wrong one."


def _identity(row: Row, facts: _Facts) -> None:
    row.holds.append(
        f"who asks is the file that the kernel executed, by its SHA-256 (held by: {facts.start('exec_backend') or 'the kernel'})"
    )
    if landlock := facts.start("landlock"):
        row.holds.append(f"Landlock: {landlock}")
    row.holds.append("a user of its own, without capabilities, in namespaces without a network device")
    if facts.says("exec.writable") == "true":
        row.open.append("exec.writable=true: code from writable files runs under the name of a program, identity is weak")
    if inherited := [each for each in facts.listed("process.env") if each.endswith("(inherited)")]:
        row.open.append(f"process.env: {', '.join(inherited)}: a credential in one of these is the agent's to use")
    if facts.start("senders").startswith("unknown"):
        row.open.append("this kernel does not tell who sends on a connection: a socket speaks for whoever connected it")
    row.beyond = "What a credential is good for at the other side is decided there."


def _supply(row: Row, facts: _Facts) -> None:
    row.holds.append(f"exec.allow: every program file that ran is on record with its SHA-256 ({len(facts.case.programs)} in this period)")
    if pinned := facts.count("rules.pinned"):
        row.holds.append(f"{_rules(pinned)} bound to files of a stated SHA-256")
    else:
        row.open.append("no rule pins a SHA-256: an upgraded program keeps its rules")
    if facts.says("exec.writable") == "true":
        row.open.append("exec.writable=true: what was downloaded may be loaded as code")
    else:
        row.holds.append("exec.writable=false: no native code is loaded from where the sandbox can write")
    row.beyond = "What is in a package that a rule lets in is not examined; scripts of a listed interpreter run."


def _code(row: Row, facts: _Facts) -> None:
    if facts.says("exec.unlisted") == "refuse":
        row.holds.append("exec.unlisted=refuse: a program that is not listed does not start")
    if facts.says("exec.writable") != "true":
        row.holds.append("exec.writable=false: nothing that the sandbox wrote is mapped as code")
    else:
        row.open.append("exec.writable=true: what the sandbox wrote may run as code")
    row.holds.append("a filter of system calls, no capabilities, no way to trace another process")
    if allowed := facts.says("process.seccomp.allow"):
        row.open.append(f"process.seccomp.allow: {allowed}")
    if found := [each for each in facts.listed("exec.allow") if each in _INTERPRETERS]:
        row.open.append(f"exec.allow has interpreters ({', '.join(found)}): what they are given to run is not judged, only what it does")
    _best_effort(row, facts)
    row.beyond = "A flaw of the kernel itself."


def _memory(row: Row, facts: _Facts) -> None:
    row.holds.append(
        f"filesystem.write: what is kept lies in {facts.says('filesystem.write') or 'the workdir and /tmp'}, and in no other sandbox"
    )
    if facts.says("privacy") not in ("", "none"):
        row.holds.append("privacy: each call to a model is on record with the hashes of prompt and answer")
    else:
        row.open.append("privacy=none: calls to models are not told from other requests")
    row.beyond = "What is true of a context or a memory is not judged."


def _agents(row: Row, facts: _Facts) -> None:
    row.holds.append("another sandbox is reached only where both policies name it; none sees another's files or processes")
    if inbound := facts.says("inbound"):
        row.open.append(f"inbound: {inbound}; what is said there is not judged")
    else:
        row.holds.append("inbound: empty, so nobody comes in")
    if relayed := facts.count("rules.relayed"):
        row.open.append(f"{_rules(relayed)} passed on unread, also to other agents")
    row.beyond = "Whether a message of another agent is to be believed."


def _cascade(row: Row, facts: _Facts) -> None:
    for key in ("process.pids", "process.memory", "process.cpu"):
        if value := facts.says(key):
            row.holds.append(f"{key}={value}")
        elif key != "process.pids":
            row.open.append(f"{key} is not set: the machine's own bound is the only one")
    if facts.says("on_audit_failure") == "deny":
        row.holds.append("on_audit_failure=deny: what cannot be recorded does not happen")
    else:
        row.open.append("on_audit_failure=continue: it goes on unrecorded when the trail cannot be written")
    if facts.says("privacy.on_failure") == "pass":
        row.open.append("privacy.on_failure=pass: calls leave unread when the classifier fails")
    _best_effort(row, facts)
    row.beyond = "How often a permitted request is made is not bounded."


def _trust(row: Row, facts: _Facts) -> None:
    row.holds.append("the trail is written by the agent outside, whatever the one inside says that it did")
    if facts.case.answers:
        row.holds.append(f"{len(facts.case.answers)} answers of people to what was refused, each with a name")
    row.beyond = "What an agent makes people believe is not seen."


def _rogue(row: Row, facts: _Facts) -> None:
    row.holds.append("the kernel and a process outside enforce: nothing in the sandbox can turn them off")
    row.holds.append("a sandbox that loses what holds it is killed, and that is on record")
    if any(record["reason"] == "enforcement_lost" for record in facts.case.findings):
        row.open.append("enforcement was lost in this period: see the findings")
    if any(record["reason"] == "events_lost" for record in facts.case.findings):
        row.open.append("events were lost in this period: see the findings")
    _best_effort(row, facts)
    row.beyond = "An agent that does harm by permitted means only."


def _any_path(row: Row, facts: _Facts) -> None:
    if loose := facts.count("rules.any_path"):
        row.open.append(f"{_rules(loose)} open on every path (/**)")


def _rules(count: int) -> str:
    return "what one rule allows is" if count == 1 else f"what {count} rules allow is"


def _best_effort(row: Row, facts: _Facts) -> None:
    if lacking := facts.says("best_effort"):
        row.open.append(f"best_effort: {lacking} may be missing on a kernel that has none")


type _Fill = Callable[[Row, _Facts], None]

_ROWS: Mapping[str, tuple[str, Status, _Fill]] = {
    "ASI01": ("Agent Goal Hijack", Status.PART, _goal),
    "ASI02": ("Tool Misuse and Exploitation", Status.HELD, _tools),
    "ASI03": ("Identity and Privilege Abuse", Status.HELD, _identity),
    "ASI04": ("Agentic Supply Chain Vulnerabilities", Status.PART, _supply),
    "ASI05": ("Unexpected Code Execution", Status.HELD, _code),
    "ASI06": ("Memory and Context Poisoning", Status.RECORDED, _memory),
    "ASI07": ("Insecure Inter-Agent Communication", Status.PART, _agents),
    "ASI08": ("Cascading Failures", Status.PART, _cascade),
    "ASI09": ("Human-Agent Trust Exploitation", Status.RECORDED, _trust),
    "ASI10": ("Rogue Agents", Status.HELD, _rogue),
}
