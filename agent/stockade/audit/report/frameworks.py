"""Which controls of a framework these records are evidence for, and what they do not show.

Titles are ours and short: the framework's own text is what counts. No control is called met: a trail shows what happened, and it is an
auditor who judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stockade.audit.report.gather import Case
from stockade.audit.verify import Verification


@dataclass(frozen=True, slots=True)
class Evidence:
    """control: its number and a short title. shows: with figures of this period. lacks: what has to come from elsewhere."""

    control: str
    title: str
    shows: str
    lacks: str


@dataclass(frozen=True, slots=True)
class Framework:
    name: str
    rows: Callable[[Case, Sequence[Verification]], list[Evidence]]


def _refused(case: Case, *actions: str) -> int:
    return sum(count for (action, decision), count in case.actions.items() if decision == "deny" and action in actions)


def _integrity(checks: Sequence[Verification]) -> str:
    whole = sum(check.records for check in checks)
    if not checks:
        return "The trail was not verified for this page."
    if all(check.ok for check in checks):
        signed = whole - sum(check.unsigned for check in checks)
        return f"Hash chain and signatures verify: {whole} records, {signed} of them covered by a signature."
    return "The trail does NOT verify: see Integrity."


def _changes(case: Case) -> str:
    refused = sum(record["reason"] == "reload_refused" for record in case.findings)
    return f"{len(case.generations)} policies in force, each with its time, files and SHA-256; {refused} reloads refused."


def _soc2(case: Case, checks: Sequence[Verification]) -> list[Evidence]:
    network = _refused(case, "dns", "connect", "http", "websocket", "inference")
    return [
        Evidence(
            "CC6.1",
            "Logical access",
            f"{case.records} records; every attempt with program, destination and the rule that decided it.",
            "Who may change the policy, and who reviewed it.",
        ),
        Evidence("CC6.6", "Boundary protection", f"{network} attempts refused at the boundary.", "Boundaries of other systems."),
        Evidence(
            "CC6.7",
            "Restricting transmission",
            f"{case.decisions['redact']} calls redacted, {case.decisions['local']} kept local, by category of data.",
            "That what was found is all that was there: a classifier errs.",
        ),
        Evidence(
            "CC6.8",
            "Unauthorised software",
            f"{_refused(case, 'exec')} programs refused; {len(case.programs)} program files ran, each with its SHA-256.",
            "Scripts that a listed interpreter was given.",
        ),
        Evidence("CC7.2", "Monitoring", f"{case.decisions['alerts']} records that somebody should look at.", "That somebody looked."),
        Evidence("CC8.1", "Change management", _changes(case), "Approval of a change before it was made."),
    ]


def _hipaa(case: Case, checks: Sequence[Verification]) -> list[Evidence]:
    phi = sum(count for (_, category), count in case.categories.items() if category.startswith("phi."))
    return [
        Evidence(
            "164.312(a)(1)",
            "Access control",
            f"{case.decisions['refused']} attempts refused; access is by program and rule.",
            "Access of people.",
        ),
        Evidence(
            "164.312(b)", "Audit controls", f"{case.records} records of what the agent did and tried.", "Other systems that hold ePHI."
        ),
        Evidence("164.312(c)(1)", "Integrity", _integrity(checks), "Integrity of the ePHI itself."),
        Evidence(
            "164.312(d)",
            "Entity authentication",
            "Programs are known by their file's SHA-256.",
            "Authentication of persons: not shown by these records.",
        ),
        Evidence(
            "164.312(e)(1)",
            "Transmission security",
            f"{phi} findings of PHI in calls to models: {case.decisions['redact']} calls redacted, {case.decisions['local']} kept local.",
            "That nothing was missed. Connections that are relayed are not read.",
        ),
        Evidence(
            "164.308(a)(1)(ii)(D)",
            "Review of activity",
            "This page is material for a review.",
            "That the review took place: sign and date it.",
        ),
    ]


def _ai_act(case: Case, checks: Sequence[Verification]) -> list[Evidence]:
    return [
        Evidence(
            "Article 12",
            "Record-keeping",
            f"{case.records} events recorded automatically. {_integrity(checks)}",
            "Events inside the model.",
        ),
        Evidence(
            "Article 14",
            "Human oversight",
            f"{len(case.answers)} answers of people to what was refused; {case.decisions['refused']} attempts stopped.",
            "That the persons were competent and had the time.",
        ),
        Evidence(
            "Article 15",
            "Robustness and cybersecurity",
            f"{case.decisions['alerts']} alerts; enforcement outside of the agent. {_changes(case)}",
            "Accuracy of the model.",
        ),
        Evidence(
            "Articles 19, 26(6)",
            "Keeping logs",
            f"Records from {case.first or '-'} to {case.last or '-'}.",
            "That they are kept for six months or longer: a matter of the settings and of storage.",
        ),
        Evidence("Article 26(5)", "Monitoring by deployers", "What was refused and why, on this page.", "That somebody acted on it."),
    ]


FRAMEWORKS: Mapping[str, Framework] = {
    "soc2": Framework("SOC 2, Trust Services Criteria", _soc2),
    "hipaa": Framework("HIPAA Security Rule, 45 CFR 164", _hipaa),
    "eu-ai-act": Framework("EU AI Act, Regulation (EU) 2024/1689", _ai_act),
}
