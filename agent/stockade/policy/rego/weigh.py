"""Weighing: what the rules decided and what Rego says, as one decision.

allowed = (rules allow or Rego allows) and not (a rule denies or Rego denies). Rego never lifts a veto, what it allows is always inspected,
and no answer is a denial.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from stockade.policy.model import Policy
from stockade.policy.own import is_own
from stockade.policy.rego import judge
from stockade.policy.rego.module import RULE, Rego
from stockade.types import Decision, Effect, Level, Outcome, Reason, Request

_DEPTHS = (Level.BINARY, Level.DESTINATION, Level.METHOD, Level.PATH)

_log = logging.getLogger(__name__)


class _Pace:
    """Once a second at most."""

    def __init__(self) -> None:
        self._next = 0.0

    def due(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + 1
        return True


_said = _Pace()


def weigh(decision: Decision, request: Request, policy: Policy, rego: Rego) -> Decision:
    """The decision of a policy with Rego, given that of its rules."""
    if decision.reason is Reason.RULE_DENY:
        return decision
    if request.method is None or request.path is None:
        return _before_http(decision, request, policy, rego)
    try:
        allow, deny = _judged(request, policy, rego)
    except judge.Failed as failure:
        return _deny(policy, Level.PATH, Reason.REGO_ERROR, failure)
    if deny:
        return _deny(policy, Level.PATH, Reason.REGO_DENY)
    if allow and not decision.allowed and _may(request, policy, rego):
        return Decision(Outcome.ALLOW, Effect.PASS, Level.PATH, Reason.REGO_ALLOW, RULE, policy.generation)
    return _deepest(decision, request, policy, rego)


def _before_http(decision: Decision, request: Request, policy: Policy, rego: Rego) -> Decision:
    """A name, a connect, or a request that is not known whole."""
    if decision.effect is Effect.RELAY and request.port is not None and rego.denies:
        return _relayed(decision, request, policy, rego)  # nothing more will be known of it
    if not decision.allowed and _may(request, policy, rego):
        return Decision(Outcome.ALLOW, Effect.PASS, Level.DESTINATION, Reason.REGO_PENDING, RULE, policy.generation)
    return _deepest(decision, request, policy, rego)


def _deepest(decision: Decision, request: Request, policy: Policy, rego: Rego) -> Decision:
    """A denial for want of a rule, at the deepest level that a rule or a body of `allow` reached."""
    if decision.allowed:
        return decision
    names = request.binary.names
    fitting = [
        scope for scope in rego.scopes if not names.isdisjoint(policy.exec.allow) and (scope.binary is None or scope.binary in names)
    ]
    there = [scope for scope in fitting if scope.fits(names, request.host, request.port)]
    spoken = [scope for scope in there if scope.method is None or scope.method == request.method]
    reached = Level.PATH if spoken else Level.METHOD if there else Level.DESTINATION if fitting else Level.BINARY
    if _DEPTHS.index(reached) <= _DEPTHS.index(decision.level):
        return decision
    return Decision(Outcome.DENY, Effect.REFUSE, reached, Reason.NO_RULE, RULE, policy.generation, policy.enforced)


def _relayed(decision: Decision, request: Request, policy: Policy, rego: Rego) -> Decision:
    """Where this process evaluates nothing (the agent, for the kernel), the worker asks again at accept."""
    if judge.current() is None:
        return decision
    try:
        _, deny = _judged(request, policy, rego)
    except judge.Failed as failure:
        return _deny(policy, Level.DESTINATION, Reason.REGO_ERROR, failure)
    return _deny(policy, Level.DESTINATION, Reason.REGO_DENY) if deny else decision


def _may(request: Request, policy: Policy, rego: Rego) -> bool:
    """Whether Rego could allow this: for binaries that exec.allow names, and only what fits one of its bodies; another sandbox never."""
    names = request.binary.names
    return not is_own(request.host) and not names.isdisjoint(policy.exec.allow) and rego.may_allow(names, request.host, request.port)


def _judged(request: Request, policy: Policy, rego: Rego) -> tuple[bool, bool]:
    """(allow, deny), asked for each family that the binary belongs to. Raises judge.Failed."""
    asked = judge.current()
    if asked is None:
        raise judge.Failed("this process evaluates no Rego")
    binary = request.binary
    known: dict[str, Any] = {
        "binary_path": binary.script or binary.path,
        "sha256": binary.sha256,
        "host": request.host,
        "port": request.port,
        "method": request.method,
        "path": request.path,
        "sandbox": policy.sandbox,
        "labels": policy.labels,
    }
    told = {name: value for name, value in known.items() if value is not None}
    answers = [asked.evaluate(rego, told | {"binary": name}) for name in sorted(binary.names) or [binary.name]]
    return any(allow for allow, _ in answers), any(deny for _, deny in answers)


def _deny(policy: Policy, level: Level, reason: Reason, failure: judge.Failed | None = None) -> Decision:
    if failure is not None and _said.due():
        _log.warning("rego: %s; denied", failure)  # each has its record; the log must not be a sandbox's to fill
    return Decision(Outcome.DENY, Effect.REFUSE, level, reason, RULE, policy.generation, policy.enforced)
