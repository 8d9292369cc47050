"""Policies and requests at random, small enough that rules meet: for tests of what is claimed about every request."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from stockade.policy import Policy
from stockade.policy.hosts import HostPattern, parse_pattern
from stockade.policy.model import Destination, Names, Paths, Rule
from stockade.policy.paths import allow_list, deny_list
from stockade.types import Binary, Request

BINARIES = ["curl", "git", "/usr/bin/curl", "python3", "/opt/t/*"]
ALLOWED_HOSTS = [
    "*.example.com",
    "a.example.com",
    "a.example.com:8443",
    "b.a.example.com",
    "*.a.example.com",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.3",
]
DENIED_HOSTS = [*ALLOWED_HOSTS, "*.example.com:443", "10.1.2.0/24", "*"]
METHODS = ["GET", "POST"]
ALLOWED_PATHS = ["/", "/a", "/a/*", "/**", "/a/**", "/*/b", "/a/b*", "/a%2Fb", "/**/c"]
DENIED_PATHS = ["/a", "/a/*", "/*", "/a/b", "/**/b", "/A/b*", "/x"]
HASHES = ["1" * 64, "2" * 64]
ANCESTORS = ["bash", "make"]

HOSTS = [
    "a.example.com",
    "b.example.com",
    "b.a.example.com",
    "c.b.a.example.com",
    "example.com",
    "10.1.2.3",
    "10.1.2.4",
    "10.1.9.9",
    "10.9.9.9",
]
PATHS = ["/", "/a", "/a/", "/a/b", "/a/bc", "/a/b/c", "/x", "/x/b", "/c", "/A/B", "/a%2Fb", "/q/r/c", "/a;b"]


def _few(items: list[Any], least: int = 0) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(items), min_size=least, max_size=2, unique=True)


@st.composite
def _rules(draw: st.DrawFn, position: int, narrowed: bool) -> Rule:
    relayed = draw(st.sampled_from([None, None, None, "passthrough", "tcp"]))
    hosts: list[HostPattern] = [parse_pattern(text) for text in draw(_few(ALLOWED_HOSTS, 1))]
    closed = [parse_pattern(text) for text in draw(_few(DENIED_HOSTS))] if draw(st.booleans()) else []
    return Rule(
        name=f"r{position}",
        binary=Names(tuple(draw(_few(BINARIES, 1))), tuple(draw(_few(BINARIES))) if draw(st.integers(0, 4)) == 0 else ()),
        destination=Destination(tuple(hosts), tuple(closed)),
        ports=tuple(draw(_few([443, 8443]))),
        method=None if relayed else Names(tuple(draw(_few(METHODS, 1))), tuple(draw(_few(METHODS))) if draw(st.booleans()) else ()),
        path=None if relayed else Paths(allow_list(draw(_few(ALLOWED_PATHS, 1))), deny_list(draw(_few(DENIED_PATHS)))),
        tls="passthrough" if relayed == "passthrough" else "inspect",
        protocol="tcp" if relayed == "tcp" else "http",
        ancestors=tuple(draw(_few(ANCESTORS))) if narrowed else (),
        sha256=tuple(draw(_few(HASHES))) if narrowed else (),
        position=position,
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    narrowed = draw(st.integers(0, 3)) == 0
    return Policy("random", rules=tuple(draw(_rules(position, narrowed)) for position in range(draw(st.integers(1, 4)))))


@st.composite
def binaries(draw: st.DrawFn) -> Binary:
    """Files with the names that their paths give them, and some that no path tells."""
    name, path, names = draw(
        st.sampled_from(
            [
                ("curl", "/usr/bin/curl", {"curl", "/usr/bin/curl"}),
                ("curl", "/usr/local/bin/curl", {"curl"}),
                ("git", "/usr/bin/git", {"git"}),
                ("python3", "/usr/bin/python3.13", {"python3"}),
                ("x", "/opt/t/x", {"/opt/t/*"}),
                ("git", "/opt/t/git", {"git", "/opt/t/*"}),
                ("wget", "/usr/bin/wget", {"wget"}),
            ]
        )
    )
    return Binary(name, frozenset(names), path, sha256=draw(st.sampled_from(["", *HASHES])))


@st.composite
def requests(draw: st.DrawFn) -> Request:
    return Request(
        draw(binaries()),
        draw(st.sampled_from(HOSTS)),
        draw(st.sampled_from([443, 443, 8443, 80])),
        draw(st.sampled_from(METHODS)),
        draw(st.sampled_from(PATHS)),
        tuple(draw(_few(ANCESTORS))),
    )
