"""The table of approvals: what may be asked, what an answer opens, and what is left of it."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from stockade.policy import Policy, decide, load
from stockade.policy.own import HOST
from stockade.service.approvals import Approval, Approvals, State, Term, Wanted, demand_effect, for_people, new_id, wanted_of, with_rules
from stockade.types import Action, Binary, Destination, Effect, Http, Level, Outcome, Reason, Record, Request, StockadeError

CURL = Binary.named("curl", "/usr/bin/curl")
TEXT = """
version: 1
name: test
exec: {allow: [curl]}
network:
  - name: api
    binary: {allow: [curl]}
    destination: {allow: [api.example.com], deny: [bad.example.com]}
    method: {allow: [GET], deny: [DELETE]}
    path: {allow: ["/v1/**"], deny: ["/v1/admin/*"]}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    source = tmp_path / "policy.yaml"
    source.write_text(TEXT)
    return load([source])


def refused(method: str = "POST", path: str = "/v1/items", host: str = "api.example.com", **changes: object) -> Record:
    """The record of a refused request."""
    record = Record(
        Action.HTTP, Outcome.DENY, Effect.REFUSE, Level.METHOD, Reason.NO_RULE,
        binary=CURL, exec_id=4, destination=Destination(host, 443), http=Http(method, path, 403),
    )  # fmt: skip
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


def table() -> Approvals:
    numbers = itertools.count(1)
    return Approvals(lambda: f"id{next(numbers)}", pending=3)


def asked(approvals: Approvals, policy: Policy, record: Record, now: float = 100.0) -> Approval:
    wanted = wanted_of(record, policy)
    assert wanted is not None
    return approvals.note(wanted, CURL, now)


# what may be asked


def test_what_no_rule_speaks_of_may_be_asked(policy: Policy) -> None:
    assert wanted_of(refused(), policy) == Wanted("curl", "/usr/bin/curl", "api.example.com", 443, "POST", "/v1/items")
    name = refused(action=Action.DNS, destination=Destination("new.example.com"), http=None)
    assert wanted_of(name, policy) == Wanted("curl", "/usr/bin/curl", "new.example.com")
    dialled = refused(action=Action.CONNECT, destination=Destination("203.0.113.9", 22), http=None)
    assert wanted_of(dialled, policy) == Wanted("curl", "/usr/bin/curl", "203.0.113.9", 22)


UNASKABLE = {
    "what a deny list vetoes": refused("DELETE", reason=Reason.RULE_DENY),
    "what a worker says no rule speaks of, and one denies": refused("DELETE"),
    "the same, of a path in another reading": refused("GET", "/v1/admin%3Bx"),
    "what the policy allows by now": refused("GET"),
    "what is refused in any mode": refused(reason=Reason.ADDRESS_REFUSED),
    "what observe let through": refused(enforced=False),
    "what was allowed": refused(outcome=Outcome.ALLOW),
    "an exec": refused(action=Action.EXEC),
    "a binary without a network identity": refused(binary=Binary("x", frozenset(), "/tmp/x")),
    "nobody": refused(binary=None),
    "a host that is a glob": refused(host="*.example.com"),
    "a host that would end a line": refused(host="a\nb"),
    "Stockade itself": refused(host=HOST),
    "what is below it and no sandbox": refused(host=f"x.{HOST}"),
}


@pytest.mark.parametrize("what", UNASKABLE)
def test_what_may_not_be_asked(policy: Policy, what: str) -> None:
    assert wanted_of(UNASKABLE[what], policy) is None


def test_under_observe_nothing_waits(policy: Policy) -> None:
    assert wanted_of(refused(), dataclasses.replace(policy, mode="observe")) is None


def test_a_question_is_asked_once_and_counted(policy: Policy) -> None:
    approvals = table()
    first = asked(approvals, policy, refused(), 100)
    again = asked(approvals, policy, refused(), 160)
    assert again is first and (first.count, first.first_seen, first.last_seen) == (2, 100, 160)
    assert asked(approvals, policy, refused(path="/v1/other")).id != first.id
    assert for_people(first)["last_seen"] == "1970-01-01T00:02:40Z"


def test_the_oldest_question_makes_room(policy: Policy) -> None:
    approvals = table()
    kept = [asked(approvals, policy, refused(path=f"/v1/{number}")) for number in range(5)]
    assert approvals.dropped == 2 and [each.id for each in approvals] == [each.id for each in kept[2:]]
    assert approvals.find(kept[0].id) is None
    assert asked(approvals, policy, refused(path="/v1/0")).id == "id6"


def test_an_answer_makes_no_room_for_questions(policy: Policy) -> None:
    """What is approved is not forgotten because others ask."""
    approvals = table()
    open_ = asked(approvals, policy, refused())
    approvals.approve(open_.id, Term.FOR, "uid 0", until=500)
    approvals.confirm(open_)
    for number in range(10):
        asked(approvals, policy, refused(path=f"/v1/{number}"))
    assert approvals.find(open_.id) is open_ and len(approvals.rules()) == 1


def test_a_path_with_a_credential_is_masked(policy: Policy) -> None:
    approval = asked(table(), policy, refused("POST", "/bot123:secret/sendMessage"))
    assert for_people(approval)["path"] == "/bot***/sendMessage"


# what an answer opens


def opened(policy: Policy, record: Record, term: Term = Term.ONCE, **instead: object) -> Policy:
    approvals = table()
    approval = asked(approvals, policy, record)
    approvals.approve(approval.id, term, "uid 0", **instead)  # type: ignore[arg-type]
    approvals.confirm(approval)
    changed = with_rules(policy, approvals.rules())
    demand_effect(approval, changed)
    return changed


def test_an_approval_may_open_another_sandbox(policy: Policy) -> None:
    """As its caller's half: it stands in the file of approvals as a policy spells it, and loads."""
    host = f"db.sandbox.{HOST}"
    approvals = table()
    approval = asked(approvals, policy, refused(host=host))
    approvals.approve(approval.id, Term.ALWAYS, "uid 0")
    assert '"sandbox:db"' in approval.text and approval.rule is not None
    found = decide(Request(CURL, host, 443, "POST", "/v1/items"), with_rules(policy, (approval.rule,)))
    assert found.allowed and not decide(Request(CURL, host, 443, "POST", "/v1/items"), policy).allowed


def allows(policy: Policy, method: str, path: str, host: str = "api.example.com", port: int = 443, binary: Binary = CURL) -> bool:
    return decide(Request(binary, host, port, method, path), policy).allowed


def test_an_approval_opens_what_was_refused_and_nothing_else(policy: Policy) -> None:
    changed = opened(policy, refused())
    assert allows(changed, "POST", "/v1/items")
    assert decide(Request(CURL, "api.example.com", 443, "POST", "/v1/items"), changed).rule == "approval-id1"
    for other in (("POST", "/v1/items/"), ("POST", "/v1/Items"), ("POST", "/v1/items/7"), ("PUT", "/v1/items"), ("POST", "/v2")):
        assert not allows(changed, *other), other
    assert not allows(changed, "POST", "/v1/items", port=80)
    assert not allows(changed, "POST", "/v1/items", host="x.api.example.com")
    assert not allows(changed, "POST", "/v1/items", binary=Binary.named("wget"))
    assert allows(changed, "GET", "/v1/items") and allows(policy, "GET", "/v1/items"), "what the policy says stays"


def test_a_path_that_servers_read_in_several_ways_is_opened_in_all_of_them(policy: Policy) -> None:
    """Otherwise the proxy, which wants each of them allowed, would refuse it as before."""
    path = "/v2/a%2Fb;c=d"
    changed = opened(policy, refused("GET", path))
    for reading in (path, "/v2/a/b;c=d", "/v2/a%2Fb", "/v2/a/b"):
        assert allows(changed, "GET", reading), reading
    assert not allows(changed, "GET", "/v2/a")


def test_it_is_that_very_file_unless_it_is_for_always(policy: Policy) -> None:
    """A name may stand for several files; and a file that is approved for always may be upgraded."""
    hashed = dataclasses.replace(CURL, sha256="ab" * 32)
    for term, pinned in ((Term.ONCE, True), (Term.FOR, True), (Term.ALWAYS, False)):
        approvals = table()
        wanted = wanted_of(refused(binary=hashed), policy)
        assert wanted is not None
        approval = approvals.note(wanted, hashed, 1)
        rule = approvals.approve(approval.id, term, "uid 0", until=500).rule
        assert rule is not None and rule.sha256 == ((hashed.sha256,) if pinned else ())
        changed = with_rules(policy, [rule])
        assert allows(changed, "POST", "/v1/items", binary=hashed)
        assert allows(changed, "POST", "/v1/items", binary=dataclasses.replace(CURL, sha256="cd" * 32)) is not pinned


def test_other_terms_may_be_stated(policy: Policy) -> None:
    changed = opened(policy, refused(), Term.FOR, until=9.0, methods=["POST", "PUT"], paths=["/v1/items/*"], port=8443)
    assert allows(changed, "PUT", "/v1/items/7", port=8443) and not allows(changed, "PUT", "/v1/items/7")


def test_a_path_with_a_star_is_no_glob(policy: Policy) -> None:
    with pytest.raises(StockadeError, match=r"has a `\*`") as caught:
        opened(policy, refused("GET", "/v2/*"))
    assert caught.value.code == "approval_vague"
    assert allows(opened(policy, refused("GET", "/v2/*"), paths=["/v2/*"]), "GET", "/v2/x")


@pytest.mark.parametrize("missing", [{"methods": ["GET"]}, {"paths": ["/**"]}, {}])
def test_where_no_request_was_seen_the_approval_must_say_which(policy: Policy, missing: dict[str, object]) -> None:
    name = refused(action=Action.DNS, destination=Destination("new.example.com"), http=None)
    with pytest.raises(StockadeError) as caught:
        opened(policy, name, **missing)
    assert caught.value.code == "approval_vague" and "--method GET --path" in caught.value.hint
    changed = opened(policy, name, methods=["GET"], paths=["/**"])
    assert allows(changed, "GET", "/x", host="new.example.com") and not allows(changed, "GET", "/x", host="new.example.com", port=80)


@pytest.mark.parametrize(
    ("instead", "said"),
    [
        ({"paths": ["v1"]}, "does not start with `/`"),
        ({"paths": ['/x"]}\n- name: other']}, "characters that no canonical path has"),
        ({"methods": ["get"]}, "no method"),
        ({"methods": ["CONNECT"]}, "opens a tunnel"),
    ],
)
def test_what_no_policy_may_say_no_approval_can(policy: Policy, instead: dict[str, object], said: str) -> None:
    approvals = table()
    approval = asked(approvals, policy, refused())
    with pytest.raises(StockadeError, match=said):
        approvals.approve(approval.id, Term.ONCE, "uid 0", **instead)  # type: ignore[arg-type]
    assert (approval.state, approval.rule, approvals.rules()) == (State.PENDING, None, ())


@pytest.mark.parametrize(
    ("record", "instead", "rule"),
    [
        (refused("POST"), {"methods": ["DELETE"]}, "api"),
        (refused(action=Action.DNS, destination=Destination("other.example.com"), http=None), {"methods": ["GET"], "paths": ["/"]}, None),
    ],
)
def test_an_approval_lifts_no_deny(policy: Policy, record: Record, instead: dict[str, object], rule: str | None) -> None:
    if rule is None:
        opened(policy, record, **instead)
        return
    with pytest.raises(StockadeError, match=f"rule `{rule}` denies it") as caught:
        opened(policy, record, **instead)
    assert caught.value.code == "approval_vetoed"


def test_a_deny_that_comes_later_still_holds(policy: Policy, tmp_path: Path) -> None:
    """Approvals outlive a reload of the policy; they do not stand above it."""
    approvals = table()
    approval = asked(approvals, policy, refused())
    approvals.approve(approval.id, Term.FOR, "uid 0", until=500)
    (tmp_path / "policy.yaml").write_text(TEXT.replace("deny: [DELETE]", "deny: [DELETE, POST]"))
    stricter = with_rules(load([tmp_path / "policy.yaml"]), approvals.rules())
    assert not allows(stricter, "POST", "/v1/items")
    assert allows(with_rules(policy, approvals.rules()), "POST", "/v1/items")


def test_a_rule_that_the_policy_has_by_now_counts_once(policy: Policy) -> None:
    approvals = table()
    approval = asked(approvals, policy, refused())
    approvals.approve(approval.id, Term.FOR, "uid 0", until=500)
    once = with_rules(policy, approvals.rules())
    assert with_rules(once, approvals.rules()) is once
    assert [rule.position for rule in once.rules] == [0, 1]


# what is left of it


def test_once_is_once(policy: Policy) -> None:
    approvals = table()
    approval = asked(approvals, policy, refused())
    approvals.approve(approval.id, Term.ONCE, "uid 0")
    assert approval.state is State.PENDING, "nobody is told before it is in force"
    assert approvals.consume(approval) is not None and approvals.consume(approval) is None
    approvals.confirm(approval)
    assert (approval.state, approvals.rules()) == (State.CONSUMED, ())
    assert asked(approvals, policy, refused()).id != approval.id, "the next one is asked for anew"


def test_a_time_is_over_when_it_is_over(policy: Policy) -> None:
    approvals = table()
    approval = asked(approvals, policy, refused())
    approvals.approve(approval.id, Term.FOR, "uid 0", until=500)
    approvals.confirm(approval)
    assert approvals.expire(499.9) == [] and len(approvals.rules()) == 1
    assert approvals.expire(500) == [approval] and approvals.expire(501) == []
    assert (approval.state, approvals.rules()) == (State.EXPIRED, ())


def test_what_is_denied_stays_denied_and_may_still_be_approved(policy: Policy) -> None:
    approvals = table()
    approval = asked(approvals, policy, refused())
    approvals.deny(approval.id, "uid 0")
    assert asked(approvals, policy, refused()) is approval and approval.state is State.DENIED
    approvals.approve(approval.id, Term.ONCE, "uid 0")
    approvals.confirm(approval)
    assert approval.state is State.APPROVED
    approvals.deny(approval.id, "uid 0")
    assert (approval.state, approvals.rules()) == (State.DENIED, ())


def test_what_is_over_cannot_be_answered_again(policy: Policy) -> None:
    approvals = table()
    approval = asked(approvals, policy, refused())
    approvals.approve(approval.id, Term.ONCE, "uid 0")
    with pytest.raises(StockadeError, match="is pending"):
        approvals.approve(approval.id, Term.ONCE, "another, at the same time")
    approvals.consume(approval)
    for answer in (lambda: approvals.approve(approval.id, Term.ONCE, "uid 0"), lambda: approvals.deny(approval.id, "uid 0")):
        with pytest.raises(StockadeError) as caught:
            answer()
        assert caught.value.code == "approval_over"
    with pytest.raises(StockadeError) as caught:
        approvals.deny("nobody", "uid 0")
    assert caught.value.code == "no_approval"


def test_for_always_is_the_files(policy: Policy, tmp_path: Path) -> None:
    approvals = table()
    approval = asked(approvals, policy, refused("POST", "/v1/items"))
    approvals.approve(approval.id, Term.ALWAYS, "uid 0")
    approvals.confirm(approval)
    assert approvals.rules() == ()
    (tmp_path / "approved.yaml").write_text(approval.text)
    (rule,) = load([tmp_path / "approved.yaml"]).rules
    assert (rule.name, rule.ports) == ("approval-id1", (443,)) and "by uid 0, for /usr/bin/curl" in rule.why
    assert allows(with_rules(policy, [rule]), "POST", "/v1/items")
    with pytest.raises(StockadeError, match="stands in the file"):
        approvals.deny(approval.id, "uid 0")


def test_ids_are_not_to_be_guessed() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000 and all((len(each) == 12 and each.isalnum() and each.islower()) or not each.isalpha() for each in ids)
