"""Where a call may go: truth tables over what was found, what the policy says, and where it would be processed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import pytest

from stockade.policy.privacy import Local, Privacy, Route, covers, fits
from stockade.privacy.finding import CATEGORIES, Finding
from stockade.privacy.route import STRICT, NotRead, after_local_failure, route, tokens
from stockade.types import Effect, Reason

LOCAL = Local("http://localhost:11434", "nemotron", context=2000)
CLOUD = "api.openai.com"


@dataclass
class Asked:
    model: str | None = "gpt-5"
    texts: Sequence[str] = ("some text",)


def found(*categories: str, score: float = 1.0) -> list[list[Finding]]:
    return [[Finding(number, number + 1, category, "test", score) for number, category in enumerate(categories)]]


@pytest.mark.parametrize(
    ("categories", "effect", "reason"),
    [
        ((), Effect.PASS, Reason.PRIVACY_PASS),
        (("pii.organisation",), Effect.PASS, Reason.PRIVACY_PASS),
        (("pii.date", "pii.age", "pii.location", "pii.demographic", "ip.source_code"), Effect.PASS, Reason.PRIVACY_PASS),
        (("pii.staff",), Effect.REDACT, Reason.PRIVACY_DEFAULT),
        (("financial.iban", "pii.organisation"), Effect.REDACT, Reason.PRIVACY_DEFAULT),
        (("phi.clinical",), Effect.LOCAL, Reason.PRIVACY_DEFAULT),
        (("phi.identifier", "pii.person"), Effect.LOCAL, Reason.PRIVACY_DEFAULT),
        (("credential.key", "phi.clinical", "pii.person"), Effect.REFUSE, Reason.PRIVACY_DEFAULT),
    ],
)
def test_the_defaults(categories: tuple[str, ...], effect: Effect, reason: Reason) -> None:
    got = route(Asked(), found(*categories), CLOUD, Privacy(local=LOCAL))
    assert (got.effect, got.reason) == (effect, reason)
    assert got.categories == dict.fromkeys(categories, 1)


def test_of_several_categories_the_strictest_answer_counts() -> None:
    """Every pair of answers, written in either order."""
    for first, second in product(STRICT, STRICT):
        routes = (Route("a", ("pii.age",), first), Route("b", ("pii.date",), second))
        for order in (routes, routes[::-1]):
            got = route(Asked(), found("pii.age", "pii.date"), CLOUD, Privacy(routes=order, local=LOCAL))
            strictest = STRICT[max(STRICT.index(first), STRICT.index(second))]
            assert got.effect == {"pass": Effect.PASS, "redact": Effect.REDACT, "local": Effect.LOCAL, "deny": Effect.REFUSE}[strictest]


def test_a_canary_leaves_by_no_route_but_one_that_names_it() -> None:
    def of(*routes: Route) -> Effect:
        return route(Asked(), found("credential.canary"), CLOUD, Privacy(routes=routes, local=LOCAL)).effect

    wide = [Route("wide", (pattern,), "pass") for pattern in ("*", "credential.*")]
    assert {of(each) for each in wide} == {Effect.REFUSE}
    assert of(Route("wide", ("*",), "deny")) is Effect.REFUSE
    assert of(Route("exact", ("credential.canary",), "redact")) is Effect.REDACT
    assert route(Asked(), found("credential.key"), CLOUD, Privacy(routes=(wide[1],))).effect is Effect.PASS


def test_of_one_category_the_first_route_that_fits_counts() -> None:
    policy = Privacy(routes=(Route("names", ("pii.person",), "pass"), Route("all", ("pii.*",), "deny")))
    assert route(Asked(), found("pii.person"), CLOUD, policy).rule == "names"
    assert route(Asked(), found("pii.contact"), CLOUD, policy).rule == "all"
    assert route(Asked(), found("pii.person", "pii.contact"), CLOUD, policy).effect is Effect.REFUSE


def test_a_policy_loosens_a_default_by_a_route_of_its_own_and_only_that_category() -> None:
    policy = Privacy(routes=(Route("lab", ("phi.clinical",), "pass"),), local=LOCAL)
    assert route(Asked(), found("phi.clinical"), CLOUD, policy).effect is Effect.PASS
    assert route(Asked(), found("phi.clinical", "phi.identifier"), CLOUD, policy).effect is Effect.LOCAL


@pytest.mark.parametrize(
    ("entry", "model", "host", "sandbox", "applies"),
    [
        (Route("r", ("*",), "deny", model="gpt-*"), "gpt-5", CLOUD, "", True),
        (Route("r", ("*",), "deny", model="gpt-*"), "GPT-5", CLOUD, "", True),
        (Route("r", ("*",), "deny", model="gpt-*"), "claude", CLOUD, "", False),
        (Route("r", ("*",), "deny", model="gpt-*"), None, CLOUD, "", True),
        (Route("r", ("*",), "pass", model="gpt-*"), None, CLOUD, "", False),
        (Route("r", ("*",), "deny", endpoint="*.openai.com"), "gpt-5", CLOUD, "", True),
        (Route("r", ("*",), "deny", endpoint="api.anthropic.com"), "gpt-5", CLOUD, "", False),
        (Route("r", ("*",), "deny", sandbox="ward-*"), "gpt-5", CLOUD, "ward-7", True),
        (Route("r", ("*",), "deny", sandbox="ward-*"), "gpt-5", CLOUD, "office", False),
    ],
)
def test_endpoint_model_and_sandbox_narrow_a_route(entry: Route, model: str | None, host: str, sandbox: str, applies: bool) -> None:
    got = route(Asked(model), found("pii.age"), host, Privacy(routes=(entry,)), sandbox=sandbox)
    assert (got.rule == "r") is applies


def test_what_is_redacted_is_what_some_route_holds_back() -> None:
    got = route(Asked(), found("pii.person", "pii.age", "financial.card"), CLOUD, Privacy())
    assert got.redact == {"pii.person", "financial.card"}


EU = Privacy(residency=(("eu.example.com", "eu"), ("api.openai.com", "us")), require_residency=(("financial.*", ("eu",)),))


@pytest.mark.parametrize(
    ("host", "categories", "local_label", "effect", "residency"),
    [
        ("eu.example.com", ("financial.iban",), None, Effect.REDACT, "eu"),
        (CLOUD, (), None, Effect.PASS, "us"),
        (CLOUD, ("financial.iban",), None, Effect.REFUSE, "us"),
        ("other.example.com", ("financial.iban",), None, Effect.REFUSE, None),
        (CLOUD, ("financial.iban",), "eu", Effect.LOCAL, "eu"),
        (CLOUD, ("financial.iban",), "us", Effect.REFUSE, "us"),
        (CLOUD, ("phi.clinical",), "us", Effect.LOCAL, "us"),
        ("eu.example.com", ("phi.clinical", "financial.iban"), "us", Effect.REFUSE, "eu"),
    ],
)
def test_residency(host: str, categories: tuple[str, ...], local_label: str | None, effect: Effect, residency: str | None) -> None:
    local = LOCAL if local_label else None
    labels = (*EU.residency, *((("localhost", local_label),) if local_label else ()))
    got = route(Asked(), found(*categories), host, Privacy(residency=labels, require_residency=EU.require_residency, local=local))
    assert (got.effect, got.residency) == (effect, residency)
    if effect is Effect.REFUSE:
        assert got.reason is Reason.PRIVACY_RESIDENCY and got.rule == "require_residency:financial.iban"


def test_nothing_is_local_without_a_local_model() -> None:
    got = route(Asked(), found("phi.clinical"), CLOUD, Privacy())
    assert (got.effect, got.reason) == (Effect.REFUSE, Reason.PRIVACY_LOCAL_FAILURE)


def test_what_the_local_model_cannot_take_whole_is_refused() -> None:
    policy = Privacy(local=LOCAL)
    fits_in = route(Asked(texts=["word " * 800]), found("phi.clinical"), CLOUD, policy)
    too_long = route(Asked(texts=["word " * 1200]), found("phi.clinical"), CLOUD, policy)
    asks_much = route(Asked(texts=["word " * 800]), found("phi.clinical"), CLOUD, policy, answer_tokens=1500)
    assert fits_in.effect is Effect.LOCAL
    assert {too_long.reason, asks_much.reason} == {Reason.PRIVACY_CONTEXT}
    assert {too_long.effect, asks_much.effect} == {Effect.REFUSE}


@pytest.mark.parametrize("text", ["日本語" * 50, "8f3a" * 100, "{}[]();" * 40, "\U0001f600" * 30])
def test_what_tokenizers_spell_out_is_not_taken_for_english(text: str) -> None:
    assert tokens([text]) >= len(text) / 2


@pytest.mark.parametrize("then", ["deny", "local", "pass"])
@pytest.mark.parametrize("unreadable", [True, False])
def test_what_was_not_read(then: str, unreadable: bool) -> None:
    policy = Privacy(local=LOCAL, **{"unreadable" if unreadable else "on_failure": then})  # type: ignore[arg-type]
    got = route(NotRead("image", unreadable), [], CLOUD, policy)
    assert got.effect == {"deny": Effect.REFUSE, "local": Effect.LOCAL, "pass": Effect.PASS}[then]
    assert got.reason is (Reason.PRIVACY_UNREADABLE if unreadable else Reason.PRIVACY_FAILURE)
    assert route(NotRead("image", not unreadable), [], CLOUD, policy).effect is Effect.REFUSE


def test_what_was_not_read_may_hold_what_may_not_leave() -> None:
    policy = Privacy(unreadable="pass", residency=EU.residency, require_residency=EU.require_residency)
    assert route(NotRead("image"), [], CLOUD, policy).reason is Reason.PRIVACY_RESIDENCY
    assert route(NotRead("image"), [], "eu.example.com", policy).effect is Effect.PASS


def test_audit_says_the_same_and_changes_nothing() -> None:
    for category in CATEGORIES:
        held = route(Asked(), found(category), CLOUD, Privacy(local=LOCAL))
        audited = route(Asked(), found(category), CLOUD, Privacy(mode="audit", local=LOCAL))
        assert (held.effect, held.reason, held.rule) == (audited.effect, audited.reason, audited.rule)
        assert held.enforced and not audited.enforced
        assert (held.carried_out, audited.carried_out) == (held.effect, Effect.PASS)


def test_a_score_never_loosens() -> None:
    for category in CATEGORIES:
        got = {route(Asked(), found(category, score=score), CLOUD, Privacy(local=LOCAL)).effect for score in (0.0, 0.5, 1.0)}
        assert len(got) == 1


def test_more_findings_never_loosen() -> None:
    order = [Effect.PASS, Effect.REDACT, Effect.LOCAL, Effect.REFUSE]
    policy = Privacy(local=LOCAL, routes=(Route("odd", ("pii.age",), "deny"), Route("even", ("credential.key",), "pass")))
    for first, second in product(CATEGORIES, CATEGORIES):
        one, both = (route(Asked(), found(*some), CLOUD, policy).effect for some in ((first,), (first, second)))
        assert order.index(both) >= order.index(one)


@pytest.mark.parametrize(
    ("policy", "categories", "effect"),
    [
        (Privacy(local=LOCAL), ("phi.clinical",), Effect.REFUSE),
        (Privacy(local=LOCAL, on_local_failure="redact"), ("phi.clinical", "pii.age"), Effect.REDACT),
        (Privacy(local=LOCAL, on_local_failure="redact", require_residency=(("phi.*", ("local",)),)), ("phi.clinical",), Effect.REFUSE),
    ],
)
def test_when_the_local_model_fails(policy: Privacy, categories: tuple[str, ...], effect: Effect) -> None:
    before = route(Asked(), found(*categories), CLOUD, policy)
    assert before.effect is Effect.LOCAL
    after = after_local_failure(before, policy, CLOUD)
    assert (after.effect, after.reason) == (effect, Reason.PRIVACY_LOCAL_FAILURE)
    assert after.redact == (frozenset(categories) if effect is Effect.REDACT else frozenset())


def test_what_was_not_read_is_never_redacted_when_the_local_model_fails() -> None:
    policy = Privacy(local=LOCAL, unreadable="local", on_local_failure="redact")
    assert after_local_failure(route(NotRead("image"), [], CLOUD, policy), policy, CLOUD).effect is Effect.REFUSE


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("gpt-*", "gpt-5", True),
        ("*", "", True),
        ("a*b*c", "axxbyyc", True),
        ("a*b*c", "acb", False),
        ("ab*ba", "aba", False),
        ("gpt?", "gpt5", False),
        ("", "", True),
        ("*.x", "y.x", True),
    ],
)
def test_globs(pattern: str, name: str, expected: bool) -> None:
    assert fits(pattern, name) is expected


def test_families() -> None:
    assert covers("pii.*", "pii.person") and covers("*", "phi.clinical") and covers("ip.document", "ip.document")
    assert not covers("pii.*", "piix.person") and not covers("pii.person", "pii.personal")
