"""Imported and then allowed means allowed before: for random policies of theirs, random requests, and every reading of their globs."""

from __future__ import annotations

import functools
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stockade.policy import Policy, decide, load, load_families
from stockade.policy.making.openshell import import_file
from stockade.policy.making.openshell.globs import narrow, wide
from stockade.policy.making.writing import as_yaml
from stockade.policy.paths import allow_list, check_glob, deny_list
from stockade.proxy.canonical import readings
from stockade.types import Binary, Request
from unit.policy.openshell.reference import READINGS, Asked, Matcher, allowed

SEGMENTS = ("a", "b", "*", "**", "a*", "*b", "a*b", "a**", "?", "[ab]")
NAMES = ("a", "b", "ab", "axb")
PATHS = ["/", *("/" + "/".join(names) for length in (1, 2, 3) for names in itertools.product(NAMES, repeat=length))]
PATHS += [path + "/" for path in PATHS[1:21]]
GLOBS = ["**", "/", *("/" + "/".join(parts) for length in (1, 2, 3) for parts in itertools.product(SEGMENTS, repeat=length))]


@pytest.mark.parametrize("matches", READINGS)
def test_what_is_allowed_is_read_narrowly_and_what_is_denied_widely(matches: Matcher) -> None:
    for glob in GLOBS:
        theirs = {path for path in PATHS if glob == "**" or matches(glob, path)}
        ours = narrow(glob, encoded_slash=False)
        if ours is not None:
            check_glob(ours)
            listed = allow_list([ours])
            assert {path for path in PATHS if listed.matches(path)} <= theirs, (glob, ours)
        denied = wide(glob)
        for each in denied:
            check_glob(each)
        closed = deny_list(denied)
        assert theirs <= {path for path in PATHS if closed.matches(path)}, (glob, denied)


def test_a_denial_with_more_stars_than_a_glob_may_have_closes_what_lies_below_its_beginning() -> None:
    assert wide("/api/" + "/".join(f"*{letter}" for letter in "abcdefghij")) == ("/api/**",)


def test_what_is_the_same_in_both_languages_loses_nothing() -> None:
    for glob in ("/a", "/a/*/b", "/a/**", "/api/chat.*", "/bot*/sendMessage", "/a/"):
        assert narrow(glob, encoded_slash=False) == glob
    assert narrow("/**/x", encoded_slash=False) == "/*/**/x"
    assert narrow("/@scope%2fname", encoded_slash=True) == "/@scope%2Fname"
    assert narrow("/@scope%2fname", encoded_slash=False) is None
    assert narrow("/a b", encoded_slash=False) == "/a%20b"


HOSTS = ("a.example.com", "b.example.com", "c.a.example.com", "a-1.example.com", "other.example.org")
HOST_GLOBS = (*HOSTS[:3], "*.example.com", "**.example.com", "a-*.example.com", "**.a.example.com")
HELPER = "/usr/lib/git-core/git-remote-https"
BINARIES = ("/usr/bin/git", "/usr/bin/two", "/opt/tool/bin/three", HELPER)
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PROPFIND")

globs = st.sampled_from([glob for glob in GLOBS if glob.count("/") < 3])
methods = st.sampled_from(("GET", "POST", "DELETE", "*", "HEAD"))


def rules(method: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    query = st.dictionaries(st.just("query"), st.just({"q": "x*"}), max_size=1)
    return st.builds(lambda method, path, more: {"method": method, "path": path} | more, method, globs, query)


@st.composite
def endpoints(draw: st.DrawFn) -> dict[str, Any]:
    protocol = draw(st.sampled_from(("", "tcp", "rest", "rest", "rest", "websocket", "graphql", "json-rpc")))
    endpoint: dict[str, Any] = {"host": draw(st.sampled_from(HOST_GLOBS))}
    endpoint |= draw(st.sampled_from(({"port": 443}, {"ports": [80, 443]}, {"ports": [5432]})))
    if draw(st.booleans()):
        endpoint["enforcement"] = "enforce"
    if protocol:
        endpoint["protocol"] = protocol
    if protocol in ("", "tcp"):
        return endpoint
    if draw(st.integers(0, 2)) == 0:
        endpoint["path"] = draw(globs)
    if draw(st.integers(0, 3)) == 0:
        endpoint["allow_encoded_slash"] = True
    own = st.sampled_from(("GET", "WEBSOCKET_TEXT", "*")) if protocol == "websocket" else methods
    if protocol == "json-rpc":
        return endpoint | {"rules": [{"allow": {"method": "*"}}]}
    if draw(st.booleans()):
        endpoint["access"] = draw(st.sampled_from(("read-only", "read-write", "full")))
    else:
        endpoint["rules"] = [{"allow": rule} for rule in draw(st.lists(rules(own), min_size=1, max_size=3))]
    if protocol in ("rest", "websocket") and draw(st.booleans()):
        endpoint["deny_rules"] = draw(st.lists(rules(own), min_size=1, max_size=2))
    return endpoint


entries = st.fixed_dictionaries(
    {
        "endpoints": st.lists(endpoints(), min_size=1, max_size=3),
        "binaries": st.lists(st.sampled_from((*BINARIES, "/opt/tool/bin/*", "/usr/**")), min_size=1, max_size=2, unique=True).map(
            lambda paths: [{"path": path} for path in paths]
        ),
    }
)
policies = st.lists(entries, min_size=1, max_size=3).map(
    lambda found: {"version": 1, "network_policies": {f"entry-{number}": entry for number, entry in enumerate(found)}}
)
SAMPLE = [*PATHS[:12], "/a/ab/", "/ab/a/b", "/a%2Fb", "/b/a%2Fb"]


def imported(policy: dict[str, Any], *, hosts: tuple[str, ...] = ()) -> Policy:
    with tempfile.TemporaryDirectory() as directory:
        theirs, ours = Path(directory) / "theirs.yaml", Path(directory) / "ours.yaml"
        theirs.write_text(json.dumps(policy, indent=1))  # JSON is YAML, without the aliases that a dumper makes
        ours.write_text(as_yaml(import_file(theirs, hosts=hosts).policy))
        return load([ours])


@functools.cache
def names_of(path: str) -> frozenset[str]:
    """Every name under which a policy here could mean this file."""
    return load_families().of(path, ("/opt/tool/bin/*",)) | {path}


def passes(policy: Policy, asked: Asked) -> bool:
    """As the proxy asks: every reading of the path has to be allowed."""
    binary = Binary(asked.binary, names_of(asked.binary), asked.binary)
    return all(
        decide(Request(binary, asked.host, asked.port, asked.method, path, asked.ancestors), policy).allowed
        for path in readings(asked.path)
    )


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(policies, st.lists(st.sampled_from(BINARIES[:3]), max_size=1).map(tuple))
def test_imported_and_allowed_means_allowed_before(policy: dict[str, Any], ancestors: tuple[str, ...]) -> None:
    ours = imported(policy, hosts=HOSTS)
    for binary, host, port, method, path in itertools.product(
        BINARIES[1:], HOSTS[:4], (443, 5432), ("GET", "HEAD", "POST", "DELETE"), SAMPLE
    ):
        asked = Asked(binary, ancestors, host, port, method, path)
        if passes(ours, asked):
            for matches in READINGS:
                assert allowed(policy, asked, matches), (asked, matches)


def test_the_property_is_not_empty() -> None:
    """A policy that says what both can say is carried over whole: of what it allowed, all but WebDAV passes."""
    policy: dict[str, Any] = {
        "version": 1,
        "network_policies": {
            "api": {
                "endpoints": [{"host": "a.example.com", "port": 443, "protocol": "rest", "enforcement": "enforce", "access": "read-write"}],
                "binaries": [{"path": BINARIES[0]}],
            }
        },
    }
    ours = imported(policy)
    for method, path in itertools.product(METHODS, PATHS):
        asked = Asked(BINARIES[0], (), "a.example.com", 443, method, path)
        assert passes(ours, asked) == allowed(policy, asked, READINGS[0])
