"""decide() against a reference that scans every rule: whatever the index is made of, the answers stay those of the design's text.

The reference knows no index, no pattern objects and no regular expressions; it reads rules as they are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from stockade.policy import Policy, decide
from stockade.policy.hosts import parse_pattern
from stockade.policy.model import Destination, Names, Paths, Rule
from stockade.policy.paths import allow_list, deny_list
from stockade.types import Binary, Effect, Level, Outcome, Reason, Request
from unit.policy.reference import closes, entry_port, fits, host_fits


@dataclass(frozen=True)
class Written:
    """One rule as a person writes it. kind: inspect, passthrough or tcp; only an inspected rule has methods and paths."""

    name: str
    kind: str
    binaries: tuple[str, ...]
    barred: tuple[str, ...]
    hosts: tuple[str, ...]
    closed: tuple[str, ...]
    ports: tuple[int, ...]
    methods: tuple[str, ...] = ()
    methods_denied: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    paths_denied: tuple[str, ...] = ()
    ancestors: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()


# The reference, in the order of the design: binary → destination → method → path, deny by default, a deny vetoes.

Verdict = tuple[Effect, Level, str | None, Reason]


def reference(request: Request, rules: list[Written]) -> Verdict:
    def deny(level: Level, rule: Written | None, reason: Reason) -> Verdict:
        return Effect.REFUSE, level, rule.name if rule else None, reason

    binary, host, port = request.binary, request.host, request.port
    spelt = {*binary.names, binary.script or binary.path, (binary.script or binary.path).rsplit("/", 1)[-1]}
    for rule in rules:
        if spelt & set(rule.barred) and port is not None and opens(rule, host, port):
            return deny(Level.BINARY, rule, Reason.RULE_DENY)
    mine = [rule for rule in rules if binary.names & set(rule.binaries) and is_for(rule, request) is not False]
    if not mine:
        return deny(Level.BINARY, None, Reason.NO_RULE)
    for rule in mine:
        if is_for(rule, request) and any(host_fits(entry, host) and entry_port(entry) in (None, port) for entry in rule.closed):
            return deny(Level.DESTINATION, rule, Reason.RULE_DENY)
    there = [rule for rule in mine if opens(rule, host, port)]
    if not there:
        return deny(Level.DESTINATION, mine[0], Reason.NO_RULE)
    inspected = [rule for rule in there if rule.kind == "inspect"]
    if not inspected:
        return Effect.RELAY, Level.DESTINATION, there[0].name, Reason.RULE_ALLOW
    method, path = request.method, request.path
    if method is None:
        return Effect.PASS, Level.DESTINATION, inspected[0].name, Reason.RULE_ALLOW
    for rule in inspected:
        if method in rule.methods_denied:
            return deny(Level.METHOD, rule, Reason.RULE_DENY)
    spoken = [rule for rule in inspected if method in rule.methods]
    if not spoken:
        return deny(Level.METHOD, inspected[0], Reason.NO_RULE)
    if path is None:
        return Effect.PASS, Level.METHOD, spoken[0].name, Reason.RULE_ALLOW
    for rule in inspected:
        if any(closes(glob, path) for glob in rule.paths_denied):
            return deny(Level.PATH, rule, Reason.RULE_DENY)
    for rule in spoken:
        if any(fits(glob[1:].split("/"), path[1:].split("/")) for glob in rule.paths):
            return Effect.PASS, Level.PATH, rule.name, Reason.RULE_ALLOW
    return deny(Level.PATH, spoken[0], Reason.NO_RULE)


def is_for(rule: Written, request: Request) -> bool | None:
    """Whether the file and who started it are as the rule wants them; None: not known, which allows nothing to be denied."""
    if rule.hashes and request.binary.sha256 not in rule.hashes:
        return False
    if rule.ancestors and request.ancestors is None:
        return None
    return not rule.ancestors or any(
        path == name or path in (f"/usr/bin/{name}", f"/bin/{name}") for path in request.ancestors or () for name in rule.ancestors
    )


def opens(rule: Written, host: str, port: int | None) -> bool:
    return any(host_fits(entry, host) and (port is None or port in opened_ports(rule, entry)) for entry in rule.hosts)


def opened_ports(rule: Written, entry: str) -> tuple[int, ...]:
    if (own := entry_port(entry)) is not None:
        return (own,)
    default = (11434, 8000) if entry == "localhost" else (443, 80) if rule.kind == "inspect" else (443,)
    return rule.ports or default


# Small worlds, so that rules meet each other and requests meet rules.

HOSTS: tuple[str, ...] = ("a.test", "b.a.test", "c.b.a.test", "evila.test", "localhost", "10.0.0.1", "10.0.0.9", "fd00::1")
ENTRIES = ("a.test", "b.a.test", "*.a.test", "*.b.a.test", "evila.test", "localhost", "10.0.0.1", "10.0.0.0/29", "10.0.0.0/24")
SIX = ("fd00::1", "fd00::/64", "[fd00::1]:8443")
PORTS: tuple[int, ...] = (80, 443, 8443, 11434)
METHODS: tuple[str, ...] = ("GET", "POST", "HEAD", "DELETE", "get")
PATHS = ("/", "/x", "/X", "/x/", "/x/a", "/x/A", "/x/a/b", "/xa", "/y/x", "/y/z/x", "/a%2Fb")
GLOBS = ("/", "/x", "/x/", "/x/*", "/x/**", "/*", "/**", "/**/x", "/*/a", "/x*", "/y/*/x", "/*a*", "/**/a/*")
ANCESTRIES = (None, (), ("/usr/bin/starter",), ("/usr/bin/sh", "/opt/agent"), ("/home/somebody/starter",))
BINARIES: tuple[Binary, ...] = (
    Binary.named("curl", "/usr/bin/curl"),
    Binary("curl", frozenset({"curl"}), "/usr/bin/curl", sha256="aa"),
    Binary("curl", frozenset({"curl"}), "/opt/old/curl"),
    Binary("git", frozenset({"git", "curl"}), "/usr/lib/git-core/git-remote-https"),
    Binary("pip", frozenset({"pip"}), "/usr/bin/python3.13", "/usr/bin/pip"),
    Binary("?", frozenset(), "?"),
)


def some(items: tuple[str, ...], least: int = 0, most: int = 3) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(items), min_size=least, max_size=most, unique=True).map(tuple)


destinations = ENTRIES + SIX + tuple(f"{entry}:8443" for entry in ENTRIES if "/" not in entry)


@st.composite
def written_rules(draw: st.DrawFn) -> list[Written]:
    rules = []
    for number in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(("inspect", "inspect", "inspect", "passthrough", "tcp")))
        http = {
            "methods": draw(some(("GET", "POST", "HEAD"), 1)),
            "methods_denied": draw(some(("GET", "POST", "DELETE"), most=1)),
            "paths": draw(some(GLOBS, 1)),
            "paths_denied": draw(some(GLOBS, most=2)),
        }
        rules.append(
            Written(
                name=f"r{number}",
                kind=kind,
                binaries=draw(some(("curl", "git", "pip", "node"), 1)),
                barred=draw(st.sampled_from([(), (), (), ("git",), ("/opt/old/curl",), ("pip",)])),
                hosts=draw(some(destinations, 1)),
                closed=draw(some(("*", "*:80", *destinations), most=2) if draw(st.booleans()) else st.just(())),
                ancestors=draw(st.sampled_from([(), (), (), ("starter",), ("/opt/agent", "other")])),
                hashes=draw(st.sampled_from([(), (), (), ("aa",), ("bb", "aa")])),
                ports=draw(st.sampled_from([(443, 8443), (80,)]) if kind == "tcp" or draw(st.booleans()) else st.just(())),
                **(http if kind == "inspect" else {}),
            )
        )
    return rules


def built(rules: list[Written]) -> Policy:
    return Policy("random", rules=tuple(parsed(rule, position) for position, rule in enumerate(rules)), generation=3)


def parsed(rule: Written, position: int) -> Rule:
    http = rule.kind == "inspect"
    return Rule(
        name=rule.name,
        binary=Names(rule.binaries, rule.barred),
        destination=Destination(tuple(map(parse_pattern, rule.hosts)), tuple(map(parse_pattern, rule.closed))),
        ports=rule.ports,
        method=Names(rule.methods, rule.methods_denied) if http else None,
        path=Paths(allow_list(rule.paths), deny_list(rule.paths_denied)) if http else None,
        tls="passthrough" if rule.kind == "passthrough" else "inspect",
        protocol="tcp" if rule.kind == "tcp" else "http",
        ancestors=rule.ancestors,
        sha256=rule.hashes,
        position=position,
    )


@st.composite
def requests(draw: st.DrawFn, rules: list[Written]) -> Request:
    """What DNS knows, what connect knows, and what HTTP knows. Most are aimed at some rule: chance seldom gets past the ports."""
    known = draw(st.sampled_from(("dns", "connect", "method", "http", "http", "http")))
    who, hosts, ports, methods = BINARIES, HOSTS, PORTS, METHODS
    if draw(st.integers(0, 3)):
        rule = draw(st.sampled_from(rules))
        entry = draw(st.sampled_from(rule.hosts))
        who = tuple(each for each in BINARIES if each.names & set(rule.binaries)) or who
        hosts = tuple(each for each in HOSTS if host_fits(entry, each)) or hosts
        ports, methods = opened_ports(rule, entry), rule.methods or methods
    return Request(
        draw(st.sampled_from(who)),
        draw(st.sampled_from(hosts)),
        None if known == "dns" else draw(st.sampled_from(ports)),
        draw(st.sampled_from(methods)) if known in ("method", "http") else None,
        draw(st.sampled_from(PATHS)) if known == "http" else None,
        draw(st.sampled_from(ANCESTRIES)),
    )


@st.composite
def cases(draw: st.DrawFn, most: int = 1) -> tuple[list[Written], list[Request]]:
    rules = draw(written_rules())
    return rules, draw(st.lists(requests(rules), min_size=most, max_size=most))


def verdict(request: Request, policy: Policy) -> Verdict:
    said = decide(request, policy)
    assert said.generation == 3 and said.enforced
    assert (said.outcome is Outcome.ALLOW) is (said.effect is not Effect.REFUSE)
    return said.effect, said.level, said.rule, said.reason


@settings(max_examples=250)
@given(cases(8))
def test_decide_says_what_a_scan_of_every_rule_says(case: tuple[list[Written], list[Request]]) -> None:
    rules, asked = case
    policy = built(rules)
    for request in asked:
        assert verdict(request, policy) == reference(request, rules), request


@settings(max_examples=25)
@given(written_rules())
def test_every_host_port_and_path_of_the_small_world(rules: list[Written]) -> None:
    policy = built(rules)
    for host, port, path in product(HOSTS, PORTS, PATHS):
        request = Request(BINARIES[0], host, port, "GET", path)
        assert verdict(request, policy) == reference(request, rules), request


@settings(max_examples=100)
@given(cases())
def test_what_is_known_later_only_narrows(case: tuple[list[Written], list[Request]]) -> None:
    """Who is refused at DNS or connect would have been refused by every request there, so refusing early loses nothing."""
    rules, (request,) = case
    policy = built(rules)
    who, host = request.binary, request.host
    early = [Request(who, host, port, ancestors=known) for port in (None, request.port) for known in (None, request.ancestors)]
    if any(not decide(each, policy).allowed for each in early if each.port is None or request.port is not None):
        assert not decide(request, policy).allowed


VERDICTS = [
    (Effect.REFUSE, Level.BINARY, Reason.RULE_DENY),
    (Effect.REFUSE, Level.BINARY, Reason.NO_RULE),
    (Effect.REFUSE, Level.DESTINATION, Reason.RULE_DENY),
    (Effect.REFUSE, Level.DESTINATION, Reason.NO_RULE),
    (Effect.REFUSE, Level.METHOD, Reason.RULE_DENY),
    (Effect.REFUSE, Level.METHOD, Reason.NO_RULE),
    (Effect.REFUSE, Level.PATH, Reason.RULE_DENY),
    (Effect.REFUSE, Level.PATH, Reason.NO_RULE),
    (Effect.RELAY, Level.DESTINATION, Reason.RULE_ALLOW),
    (Effect.PASS, Level.DESTINATION, Reason.RULE_ALLOW),
    (Effect.PASS, Level.METHOD, Reason.RULE_ALLOW),
    (Effect.PASS, Level.PATH, Reason.RULE_ALLOW),
]


@pytest.mark.parametrize("wanted", VERDICTS, ids=lambda wanted: "-".join(map(str, wanted)))
def test_the_random_policies_reach_every_kind_of_answer(wanted: tuple[Effect, Level, Reason]) -> None:
    """Otherwise the comparison above would be of denials with denials."""

    def meets(case: tuple[list[Written], list[Request]]) -> bool:
        rules, asked = case
        return any(reference(request, rules)[:2] + reference(request, rules)[3:] == wanted for request in asked)

    find(cases(12), meets, settings=settings(max_examples=5000, phases=[Phase.generate], database=None))
