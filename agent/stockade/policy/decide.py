"""The decision: what a policy says to a request.

Pure; the kernel compiler, the resolver, the proxy, `explain` and the tests all ask here.
"""

from __future__ import annotations

from stockade.policy.model import Policy
from stockade.policy.own import HOST, decide_own
from stockade.policy.rego.weigh import weigh
from stockade.policy.ruling import Ruling, rule_on
from stockade.types import Decision, Effect, Level, Reason, Request

RULINGS = 8192  # kept per generation: a sandbox chooses the hosts and ports that it asks about


def decide(request: Request, policy: Policy) -> Decision:
    """Decides as far as the request is known: without a port (DNS) or a method (connect), whether anything could be allowed.

    PASS means that HTTP must be inspected, RELAY that only L4 rules cover it; where both do, inspection wins. A denial names the deepest
    level that a rule reached and that rule, or the deny list that vetoed.
    """
    if request.host == HOST:
        return decide_own(request, policy.generation)
    decision = by_rules(request, policy)
    return decision if policy.rego is None else weigh(decision, request, policy, policy.rego)


def by_rules(request: Request, policy: Policy) -> Decision:
    """What the rules say, whatever Rego does."""
    # 1) who, and where to: what the rules say to this binary at this host and port is worked out once and kept
    ruling = _ruling(request, policy)
    method, path = request.method, request.path
    if ruling.http is None or (method is None and path is None):
        return ruling.connect

    # 2) how: a denied method at one of a rule's destinations falls whatever else allows it
    http = ruling.http
    if method is not None and (barring := http.denied_methods.get(method)) is not None:
        return ruling.deny(Level.METHOD, Reason.RULE_DENY, barring)
    spoken = http.speaking(method)
    if spoken is None:
        return ruling.deny(Level.METHOD, Reason.NO_RULE, http.rules[0])
    if path is None:
        return ruling.allow(Effect.PASS, Level.METHOD, spoken.rules[0])

    # 3) what: so does a denied path; and one rule must allow both method and path
    if (veto := http.vetoes.find(path)) is not None:
        return ruling.deny(Level.PATH, Reason.RULE_DENY, http.rules[veto])
    if (found := spoken.paths.find(path)) is not None:
        return ruling.allow(Effect.PASS, Level.PATH, spoken.rules[found])
    return ruling.deny(Level.PATH, Reason.NO_RULE, spoken.rules[0])


def _ruling(request: Request, policy: Policy) -> Ruling:
    index = policy.index
    key = (request.binary, request.host, request.port, request.ancestors if index.asks_ancestors else None)
    ruling = index.rulings.get(key)
    if ruling is None:
        if len(index.rulings) >= RULINGS:
            index.rulings.clear()
        ruling = index.rulings[key] = rule_on(request, policy)
    return ruling
