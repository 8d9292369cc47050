"""Where an inference call may go. Pure: the same call, findings and policy give the same answer.

The order in which it is decided:

    1) a body that was not read → `unreadable`; a classifier that did not answer → `on_failure`
    2) each category that was found → the first route that covers it and fits endpoint, model and sandbox; the policy's own before the
       defaults. So a policy loosens or tightens a category by a route of its own, and order counts *within a category*
    3) of all those answers the strictest is the call's: deny > local > redact > pass. So no harmless category lifts what another demands
    4) a category with `require_residency` may not go where the label is another: what would pass goes to the local model if that has the
       label, and is refused otherwise. Redacting does not satisfy it: what is left may still tell who it was
    5) what the local model cannot take whole is refused, never cut
    6) `mode: audit` says all this and changes nothing: `enforced` is False

A score cannot allow: whatever was found counts, and thresholds were applied before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol
from urllib.parse import urlsplit

from stockade.policy.privacy import DEFAULT_ROUTES, Privacy, Route, Then, covers, fits
from stockade.privacy.finding import Finding
from stockade.types import Effect, Reason

STRICT: tuple[Then, ...] = ("pass", "redact", "local", "deny")
_EFFECTS: dict[Then, Effect] = {"pass": Effect.PASS, "redact": Effect.REDACT, "local": Effect.LOCAL, "deny": Effect.REFUSE}

CANARY = "credential.canary"
ANSWER_TOKENS = 256
"""Room that is kept for an answer where the call does not say how long it may be."""


class Asked(Protocol):
    """What is read of a call (extract.Call)."""

    @property
    def model(self) -> str | None: ...
    @property
    def texts(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class NotRead:
    """In the place of a call: `unreadable` for a body nobody could read, else the classifier failed. why: a short stable code."""

    why: str
    unreadable: bool = True


@dataclass(frozen=True, slots=True)
class Routing:
    """rule: the route's name. categories: how many findings of each. residency: the label of where it is processed, as far as the policy
    says. redact: categories to take out when the effect is REDACT. detail: what a message to the client may add; never text of the call.
    """

    effect: Effect
    reason: Reason
    rule: str | None
    categories: dict[str, int]
    residency: str | None
    redact: frozenset[str] = frozenset()
    enforced: bool = True
    detail: str = ""

    @property
    def carried_out(self) -> Effect:
        """What is done: under `mode: audit` everything passes as it is."""
        return self.effect if self.enforced else Effect.PASS


def route(
    call: Asked | NotRead,
    findings: Sequence[Sequence[Finding]],
    host: str,
    policy: Privacy,
    *,
    sandbox: str = "",
    answer_tokens: int = ANSWER_TOKENS,
) -> Routing:
    """host: the endpoint asked for, normalised, without a port. findings: of each text. answer_tokens: what the client asks for."""
    counted = dict(Counter(finding.category for of_text in findings for finding in of_text))
    if isinstance(call, NotRead):
        return _unread(call, counted, host, policy)
    then, reason, rule = _answer(call.model, counted, host, sandbox, policy)
    held = {category for category in counted if _decide(category, call.model, host, sandbox, policy)[0] != "pass"}
    detail = ""
    if then != "deny":
        then, reason, rule, detail = _resident(then, reason, rule, counted, host, policy)
    if then == "local":
        if policy.local is None:
            then, reason, detail = "deny", Reason.PRIVACY_LOCAL_FAILURE, "the policy names no local model"
        elif (needed := tokens(call.texts) + answer_tokens) > policy.local.context:
            then, reason = "deny", Reason.PRIVACY_CONTEXT
            detail = f"about {needed} tokens, and the local model takes {policy.local.context}"
    effect = _EFFECTS[then]
    label = _where(effect, host, policy)
    return Routing(effect, reason, rule, counted, label, frozenset(held if then == "redact" else ()), policy.mode == "enforce", detail)


def after_local_failure(routing: Routing, policy: Privacy, host: str) -> Routing:
    """What becomes of a call that the local model did not take: refused, or with `on_local_failure: redact` sent on without *anything* that
    was found. Never where `require_residency` forbids that.
    """
    found, label = dict(routing.categories), residency(host, policy)
    unread = routing.reason in (Reason.PRIVACY_UNREADABLE, Reason.PRIVACY_FAILURE)  # what to take out is not known
    able = routing.effect is Effect.LOCAL and not unread and not _forbidden(found, label, policy)
    redacted = able and policy.on_local_failure == "redact"
    effect, redact = (Effect.REDACT, frozenset(found)) if redacted else (Effect.REFUSE, frozenset[str]())
    return Routing(effect, Reason.PRIVACY_LOCAL_FAILURE, routing.rule, found, label, redact, routing.enforced)


def residency(host: str, policy: Privacy) -> str | None:
    """The label of an endpoint: the first entry that fits."""
    return next((label for pattern, label in policy.residency if fits_host(pattern, host)), None)


def fits_host(pattern: str, host: str) -> bool:
    """`*.example.com` is what lies below it; a port in the pattern is not compared."""
    bare = pattern.rpartition(":")[0] if pattern.count(":") == 1 else pattern
    return fits(bare, host)


def local_residency(policy: Privacy) -> str | None:
    """The label of the local model: as stated for its host, or else `local`."""
    host = urlsplit(policy.local.url).hostname if policy.local else None
    return (residency(host, policy) or "local") if host else None


def tokens(texts: Sequence[str]) -> int:
    """No fewer tokens than the texts have for a common tokenizer, as far as that can be known without it: one for three ASCII letters or
    spaces, one for each other byte, and eight for the frame of each text. English has four to five bytes a token, code two to three.
    """
    total = 0
    for text in texts:
        wide = len(text.encode("utf-8", "surrogatepass"))
        narrow = sum(character.isascii() and (character.isalpha() or character == " ") for character in text)
        total += ceil(narrow / 3) + (wide - narrow) + 8
    return total


def _decide(category: str, model: str | None, host: str, sandbox: str, policy: Privacy) -> tuple[Then, Reason, str | None]:
    for own, routes in ((True, policy.routes), (False, DEFAULT_ROUTES)):
        for each in routes:
            if category == CANARY and each.then != "deny" and category not in each.when:
                continue  # planted to be caught: only a route that names it lets it out
            if any(covers(pattern, category) for pattern in each.when) and _applies(each, model, host, sandbox):
                return each.then, Reason.PRIVACY_ROUTE if own else Reason.PRIVACY_DEFAULT, each.name
    return "pass", Reason.PRIVACY_PASS, None


def _applies(each: Route, model: str | None, host: str, sandbox: str) -> bool:
    """A call whose model is not known fits a route on models unless that route lets it pass: not naming one must not loosen anything."""
    if each.endpoint and not fits_host(each.endpoint, host):
        return False
    if each.sandbox and not fits(each.sandbox, sandbox):
        return False
    return not each.model or (fits(each.model, model) if model is not None else each.then != "pass")


def _answer(model: str | None, counted: dict[str, int], host: str, sandbox: str, policy: Privacy) -> tuple[Then, Reason, str | None]:
    answers = [_decide(category, model, host, sandbox, policy) for category in counted]
    return max(answers, key=lambda answer: STRICT.index(answer[0]), default=("pass", Reason.PRIVACY_PASS, None))


def _forbidden(counted: dict[str, int], label: str | None, policy: Privacy) -> str:
    """A category that may not be processed under a label; empty when there is none."""
    for pattern, labels in policy.require_residency:
        for category in counted:
            if covers(pattern, category) and label not in labels:
                return category
    return ""


def _resident(
    then: Then, reason: Reason, rule: str | None, counted: dict[str, int], host: str, policy: Privacy
) -> tuple[Then, Reason, str | None, str]:
    if then != "local":
        category = _forbidden(counted, residency(host, policy), policy)
        if not category:
            return then, reason, rule, ""
        then, reason, rule = "local", Reason.PRIVACY_RESIDENCY, f"require_residency:{category}"
    at_home = _forbidden(counted, local_residency(policy), policy)
    if at_home or (policy.local is None and reason is Reason.PRIVACY_RESIDENCY):
        named = at_home or (rule or "").partition(":")[2]
        where = residency(host, policy) or "a place that the policy does not name"
        return "deny", Reason.PRIVACY_RESIDENCY, f"require_residency:{named}", f"{host} processes data in {where}"
    return then, reason, rule, ""


def _unread(call: NotRead, counted: dict[str, int], host: str, policy: Privacy) -> Routing:
    """What nobody read may hold any category: where the policy requires a residency for some, only a place that each allows will do.
    What cannot be read cannot be translated or measured either: the local model gets it only when it speaks the same API.
    """
    then: Then = policy.unreadable if call.unreadable else policy.on_failure
    reason = Reason.PRIVACY_UNREADABLE if call.unreadable else Reason.PRIVACY_FAILURE
    detail = call.why
    if then == "local" and policy.local is None:
        then, reason, detail = "deny", Reason.PRIVACY_LOCAL_FAILURE, "the policy names no local model"
    label = residency(host, policy) if then == "pass" else local_residency(policy)
    if then != "deny" and any(label not in labels for _, labels in policy.require_residency):
        then, reason, detail = "deny", Reason.PRIVACY_RESIDENCY, "a body that was not read may hold what may not leave"
    effect = _EFFECTS[then]
    return Routing(effect, reason, None, counted, _where(effect, host, policy), enforced=policy.mode == "enforce", detail=detail)


def _where(effect: Effect, host: str, policy: Privacy) -> str | None:
    return local_residency(policy) if effect is Effect.LOCAL else residency(host, policy)
