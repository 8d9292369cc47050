"""Approvals: what the policy refused because no rule speaks of it, and what a person said to that.

The pure core for one sandbox: a table of questions, the rules that answer them, and what is left of each answer. It does no I/O, starts no
timer and changes no policy; `generations` puts its rules in force. An approved rule stands beside those of the policy: it can open what no
rule speaks of, and nothing that one of them denies (`decide` sees to that), nor let a binary run that may not.
"""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from stockade.audit.mask import mask_path
from stockade.policy import Policy, PolicyError, Rule
from stockade.policy.decide import by_rules
from stockade.policy.format.document import Findings, compose
from stockade.policy.format.rules import parse_rule
from stockade.policy.format.schema import Reader
from stockade.policy.neighbour import neighbour_of, spelt
from stockade.policy.own import is_own
from stockade.proxy.canonical import readings
from stockade.types import Action, Binary, Decision, Outcome, Reason, Record, Request, StockadeError

PENDING = 256  # questions of one sandbox that wait; the oldest makes room
OVER = 256  # answered ones that are remembered
PREFIX = "approval-"  # of the rule's name

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that is read as another
_HOST = re.compile(r"[a-z0-9_.:-]{1,253}")
_ASKABLE = frozenset({Action.DNS, Action.CONNECT, Action.HTTP, Action.WEBSOCKET})


class State(StrEnum):
    """PENDING waits for an answer; APPROVED has its rule in force; CONSUMED was for one request, which has been; EXPIRED had its time."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    CONSUMED = "consumed"
    EXPIRED = "expired"


class Term(StrEnum):
    """How long an approval holds."""

    ONCE = "once"
    FOR = "for"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was refused, as far as it was known: DNS knows no port, a connect no method and path.

    binary: the name by which rules know it; program: the file, or the script. path: canonical.
    """

    binary: str
    program: str
    host: str
    port: int | None = None
    method: str | None = None
    path: str | None = None


@dataclass(slots=True)
class Approval:
    """One question and what became of it. Times in seconds since the epoch; until: on the caller's own clock, None without end."""

    id: str
    wanted: Wanted
    asker: Binary
    first_seen: float
    last_seen: float
    count: int = 1
    state: State = State.PENDING
    term: Term | None = None
    until: float | None = None
    ends: float | None = None  # the same, since the epoch
    by: str = ""
    rule: Rule | None = None  # in force, or about to be
    text: str = ""  # the rule as it stands in a policy file

    @property
    def rule_name(self) -> str:
        return PREFIX + self.id


def new_id() -> str:
    """59 bits: short enough to be typed, and not to be guessed."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(12))


def wanted_of(record: Record, policy: Policy) -> Wanted | None:
    """What a refusal asks for, when a person could grant it: no rule speaks of it, and nothing but that stands against it.

    Decides once more: the record may come from a worker, which is not believed, or be of a policy that is no longer in force.
    """
    if record.action not in _ASKABLE or record.outcome is not Outcome.DENY or record.reason is not Reason.NO_RULE or not record.enforced:
        return None
    binary, destination, http = record.binary, record.destination, record.http
    if binary is None or binary.name not in binary.names or destination is None:
        return None
    if (is_own(destination.host) and neighbour_of(destination.host) is None) or not _HOST.fullmatch(destination.host):
        return None
    method, path = (http.method, http.path) if http is not None else (None, None)
    asked = Request(binary, destination.host, destination.port, method, path, record.ancestry)
    denials = [decision for decision in decisions(asked, policy) if not decision.allowed]
    if not denials or any(denial.reason is not Reason.NO_RULE for denial in denials) or not policy.enforced:
        return None
    return Wanted(binary.name, binary.script or binary.path, destination.host, destination.port, method, path)


def decisions(request: Request, policy: Policy) -> list[Decision]:
    """What the rules say to every reading of the path, as the proxy asks it. Not what Rego says: that is evaluated in the worker."""
    if request.path is None:
        return [by_rules(request, policy)]
    return [by_rules(dataclasses.replace(request, path=reading), policy) for reading in readings(request.path)]


class Approvals:
    """The table of one sandbox."""

    def __init__(self, ids: Callable[[], str] = new_id, pending: int = PENDING) -> None:
        self._ids, self._room = ids, pending
        self._by_id: OrderedDict[str, Approval] = OrderedDict()  # oldest first
        self._by_wanted: dict[Wanted, Approval] = {}
        self.dropped = 0  # questions that had to make room
        self.answered = False  # whether anything was ever approved

    def __iter__(self) -> Iterator[Approval]:
        return iter(list(self._by_id.values()))

    def find(self, identifier: str) -> Approval | None:
        return self._by_id.get(identifier)

    def note(self, wanted: Wanted, asker: Binary, now: float) -> Approval:
        """A refusal: a new question, or one that was asked before. A question that was denied stays denied, and is not asked again."""
        known = self._by_wanted.get(wanted)
        if known is not None and known.state not in (State.CONSUMED, State.EXPIRED):
            known.count, known.last_seen = known.count + 1, now
            return known
        approval = Approval(self._ids(), wanted, asker, now, now)
        self._by_id[approval.id] = self._by_wanted[wanted] = approval
        self._make_room()
        return approval

    def _make_room(self) -> None:
        waiting = [each for each in self._by_id.values() if each.state is State.PENDING]
        for oldest in waiting[: max(0, len(waiting) - self._room)]:
            self._drop(oldest)
            self.dropped += 1
        over = [each for each in self._by_id.values() if each.state in (State.DENIED, State.CONSUMED, State.EXPIRED)]
        for oldest in over[: max(0, len(over) - OVER)]:
            self._drop(oldest)

    def _drop(self, approval: Approval) -> None:
        del self._by_id[approval.id]
        if self._by_wanted.get(approval.wanted) is approval:
            del self._by_wanted[approval.wanted]

    # what a person says

    def approve(
        self,
        identifier: str,
        term: Term,
        by: str,
        *,
        until: float | None = None,
        ends: float | None = None,
        methods: Sequence[str] = (),
        paths: Sequence[str] = (),
        port: int | None = None,
    ) -> Approval:
        """Give it its rule; `confirm` it when that is in force, or `reopen` it. Raises StockadeError, and nothing has changed.

        methods, paths, port: instead of those that were refused.
        """
        approval = self._answerable(identifier, (State.PENDING, State.DENIED))
        text = _rule_text(approval, term, by, methods, paths, port)
        approval.rule, approval.text = _parse(text, approval.rule_name), text
        approval.term, approval.until, approval.ends, approval.by = term, until, ends, by
        self.answered = True
        return approval

    def confirm(self, approval: Approval) -> None:
        """Its rule is in force: whoever waits for it may be told. It may have been consumed already."""
        if approval.rule is not None:
            approval.state = State.APPROVED

    def deny(self, identifier: str, by: str) -> Approval:
        """Also takes back what was approved. Raises StockadeError."""
        approval = self._answerable(identifier, (State.PENDING, State.DENIED, State.APPROVED))
        if approval.term is Term.ALWAYS:
            message = f"{identifier} was approved for always: its rule stands in the file of approvals"
            raise StockadeError(message, hint=f"take `{approval.rule_name}` out of the file", code="approval_over")
        approval.state, approval.rule, approval.by = State.DENIED, None, by
        return approval

    def reopen(self, approval: Approval) -> None:
        """Its rule could not be put in force."""
        approval.state, approval.rule, approval.text = State.PENDING, None, ""
        approval.term, approval.until, approval.ends, approval.by = None, None, None, ""

    def _answerable(self, identifier: str, states: Collection[State]) -> Approval:
        approval = self._by_id.get(identifier)
        if approval is None:
            raise StockadeError(f"no approval {identifier}", hint="stockade approvals list", code="no_approval")
        if approval.state not in states or (approval.state is not State.APPROVED and approval.rule is not None):
            raise StockadeError(f"{identifier} is {approval.state}", hint="stockade approvals list", code="approval_over")
        return approval

    # what is left of it

    def rules(self) -> tuple[Rule, ...]:
        """Those in force. What was approved for always is not among them: it is read with the policy, from its file."""
        return tuple(each.rule for each in self._by_id.values() if each.rule is not None and each.term is not Term.ALWAYS)

    def of_rule(self, name: str | None) -> Approval | None:
        """The approval whose rule this is."""
        return self._by_id.get(name.removeprefix(PREFIX)) if name is not None and name.startswith(PREFIX) else None

    def consume(self, approval: Approval) -> Rule | None:
        """The rule, for the one request that was approved once. None: another came first."""
        rule = approval.rule
        if rule is not None:
            approval.state, approval.rule = State.CONSUMED, None
        return rule

    def expire(self, now: float) -> list[Approval]:
        """Those whose time is over by now, on the clock of `until`; their rules are gone."""
        over = [each for each in self._by_id.values() if each.rule is not None and each.until is not None and each.until <= now]
        for approval in over:
            approval.state, approval.rule = State.EXPIRED, None
        return over


def with_rules(policy: Policy, rules: Sequence[Rule]) -> Policy:
    """The policy and further rules behind its own; one whose name it has already is left out."""
    names = {rule.name for rule in policy.rules}
    further = [rule for rule in rules if rule.name not in names]
    if not further:
        return policy
    placed = (dataclasses.replace(rule, position=len(policy.rules) + at) for at, rule in enumerate(further))
    return dataclasses.replace(policy, rules=(*policy.rules, *placed))


def demand_effect(approval: Approval, policy: Policy) -> None:
    """Raises StockadeError when the rule in this policy would not let pass what was approved, and says which rule stands against it."""
    assert approval.rule is not None and approval.rule.method is not None
    wanted = approval.wanted
    method = wanted.method if wanted.method in approval.rule.method.allow else approval.rule.method.allow[0]
    path = wanted.path if wanted.path and approval.rule.path and approval.rule.path.allow.matches(wanted.path) else None
    decision = by_rules(Request(approval.asker, wanted.host, approval.rule.ports[0], method, path), policy)
    if not decision.allowed:
        message = f"rule `{decision.rule}` denies it ({decision.level}), and no approval can lift a deny"
        raise StockadeError(message, hint="change that rule", code="approval_vetoed")


def _rule_text(approval: Approval, term: Term, by: str, methods: Sequence[str], paths: Sequence[str], port: int | None) -> str:
    """The rule, as an entry of a list of rules. Raises StockadeError."""
    wanted = approval.wanted
    methods = methods or ([wanted.method] if wanted.method else [])
    if not paths and wanted.path:
        paths = readings(wanted.path)  # every one must be allowed: that is how the proxy judges
        if any("*" in path for path in paths):
            message = f"the path {wanted.path} has a `*`, which a rule takes for anything in its place"
            raise StockadeError(message, hint=f"stockade approvals approve {approval.id} --path GLOB", code="approval_vague")
    if not methods or not paths:
        what = "a name was asked for" if wanted.port is None else "a connection was refused"
        message = f"{what}, and no request was seen: an approval must say which it lets pass"
        raise StockadeError(message, hint=f"stockade approvals approve {approval.id} --method GET --path '/**'", code="approval_vague")
    when = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    listed = {"binary": [wanted.binary], "destination": [spelt(wanted.host)], "method": list(methods), "path": list(paths)}
    lines = [f"- name: {approval.rule_name}", f"  why: {json.dumps(f'approved {when} by {by}, for {wanted.program}')}"]
    lines += [f"  {level}: {{allow: {json.dumps(names)}}}" for level, names in listed.items()]
    lines.insert(4, f"  port: {port or wanted.port or 443}")
    if term is not Term.ALWAYS and approval.asker.sha256:  # a name may stand for several files; for always, one that is upgraded too
        lines.append(f"  sha256: {approval.asker.sha256}")
    return "\n".join(lines) + "\n"


def _parse(text: str, name: str) -> Rule:
    """Read as any policy is read: what no policy may say, no approval can. Raises StockadeError."""
    findings = Findings()
    root = compose(text.encode(), name, findings)
    drafts = Reader(findings).document(root).rules if root is not None else []
    rules = [rule for draft in drafts if (rule := parse_rule(draft, 0, findings)) is not None]
    if findings.failed or len(rules) != 1:
        raise PolicyError(findings.problems)
    return rules[0]


# what is said of it

Json = dict[str, Any]


def for_the_sandbox(approval: Approval) -> Json:
    """What the one who was refused may know."""
    wanted = approval.wanted
    return {
        "id": approval.id,
        "state": approval.state.value,
        "term": approval.term.value if approval.term else None,
        "ends": _time(approval.ends) if approval.ends is not None else None,
        "binary": wanted.binary,
        "host": wanted.host,
        "port": wanted.port,
        "method": wanted.method,
        "path": mask_path(wanted.path) if wanted.path else None,
    }


def for_people(approval: Approval) -> Json:
    """All of it. Credentials in the path are masked: the rule holds them, the screen does not."""
    return for_the_sandbox(approval) | {
        "program": approval.wanted.program,
        "count": approval.count,
        "first_seen": _time(approval.first_seen),
        "last_seen": _time(approval.last_seen),
        "rule": approval.rule_name if approval.rule else None,
        "by": approval.by or None,
    }


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
