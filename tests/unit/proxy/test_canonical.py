"""Paths: one spelling each, whatever was sent, and never a way out of an allowed prefix."""

from __future__ import annotations

import re
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.proxy.canonical import MAXIMUM, canonical_path, demand_query, readings

CANONICAL = [
    ("/", "/"),
    ("/a/b", "/a/b"),
    ("/a/b/", "/a/b/"),
    ("/%61%2D%5f%7e", "/a-_~"),
    ("/a%2bb%3A%40", "/a%2Bb%3A%40"),
    ("/a+b:@!$&'()*,;=", "/a+b:@!$&'()*,;="),
    ("/@scope%2fname", "/@scope%2Fname"),
    ("//a///b", "/a/b"),
    ("/a/./b", "/a/b"),
    ("/a/%2e/b", "/a/b"),
    ("/a/../b", "/b"),
    ("/a/%2E%2e/b", "/b"),
    ("/a/.%2e/b", "/b"),
    ("/a/b/..", "/a/"),
    ("/a/b/.", "/a/b/"),
    ("/..a/...", "/..a/..."),
    ("/.well-known/x", "/.well-known/x"),
    ("/a b", "/a%20b"),
    ('/"<>[]^`{|}', "/%22%3C%3E%5B%5D%5E%60%7B%7C%7D"),
    ("/é", "/%C3%A9"),
    ("/%c3%a9", "/%C3%A9"),
    ("/100%25", "/100%25"),
    ("/a%25zz", "/a%25zz"),
    ("/a%3fb%23c", "/a%3Fb%23c"),
    ("/a;v=1/b", "/a;v=1/b"),
]

REFUSED = [
    ("", "does not begin with /"),
    ("a", "does not begin with /"),
    ("*", "does not begin with /"),
    ("/..", ".. above the root"),
    ("/a/../../b", ".. above the root"),
    ("/%2e%2e/b", ".. above the root"),
    ("/a/..;/b", "dot segment behind %2F or ;"),
    ("/a/..;x=1/b", "dot segment behind %2F or ;"),
    ("/a/..%3b/b", "dot segment behind %2F or ;"),
    ("/a/.;/b", "dot segment behind %2F or ;"),
    ("/a/..%2fb", "dot segment behind %2F or ;"),
    ("/a/..%cd%be/b", "dot segment behind %2F or ;"),
    ("/a/x%2f..%2f..%2fb", "dot segment behind %2F or ;"),
    ("/a/%2e%2e%2fb", "dot segment behind %2F or ;"),
    ("/a\\b", "backslash"),
    ("/a%5cb", "backslash"),
    ("/a%00", "control character"),
    ("/a%0d%0aX:y", "control character"),
    ("/a\x01", "control character"),
    ("/a%7f", "control character"),
    ("/a%252e%252e/b", "doubly encoded"),
    ("/a%25%32%65", "doubly encoded"),
    ("/a%c0%ae", "not UTF-8"),
    ("/a%e0%80%ae", "not UTF-8"),
    ("/a%ed%a0%80", "not UTF-8"),
    ("/a%ff", "not UTF-8"),
    ("/a\udcff", "not UTF-8"),
    ("/a%", "% without two hex digits"),
    ("/a%4", "% without two hex digits"),
    ("/a%g1", "% without two hex digits"),
    ("/a#b", "fragment"),
    ("/" + "a" * MAXIMUM, f"longer than {MAXIMUM} octets"),
    ("/" + " " * (MAXIMUM // 2), f"longer than {MAXIMUM} octets"),
]


@pytest.mark.parametrize(("raw", "canonical"), CANONICAL)
def test_canonical(raw, canonical):
    assert canonical_path(raw) == canonical


@pytest.mark.parametrize(("raw", "reason"), REFUSED, ids=lambda value: repr(value)[:40])
def test_refused(raw, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        canonical_path(raw)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b", ("/a/b",)),
        ("/@scope%2Fname", ("/@scope%2Fname", "/@scope/name")),
        ("/api%2Fadmin", ("/api%2Fadmin", "/api/admin")),
        ("/%40evil/x", ("/%40evil/x", "/@evil/x")),
        ("/api;x=1/admin;y", ("/api;x=1/admin;y", "/api/admin")),
        ("/api%3Bx/admin", ("/api%3Bx/admin", "/api;x/admin", "/api/admin")),
        ("/a%20b%3F", ("/a%20b%3F",)),
        ("/a%2F%2Fb", ("/a%2F%2Fb", "/a/b")),
        ("/api/;x/admin", ("/api/;x/admin", "/api/admin")),
        ("/api/%3Bx/admin", ("/api/%3Bx/admin", "/api/;x/admin", "/api/admin")),
        ("/;/admin", ("/;/admin", "/admin")),
        ("/caf%C3%A9", ("/caf%C3%A9",)),
        ("/secret./x", ("/secret./x", "/secret/x")),
        ("/secret.%20.", ("/secret.%20.", "/secret")),
        ("/a/%20/b", ("/a/%20/b", "/a/b")),
        ("/a.;x/b", ("/a.;x/b", "/a./b", "/a/b")),
        ("/a.b/c", ("/a.b/c",)),
        ("/%7C%CC%81", ("/%7C%CC%81",)),  # the C belongs to an encoded octet
        ("/a%3Bx;y/b", ("/a%3Bx;y/b", "/a;x;y/b", "/a%3Bx/b", "/a;x/b", "/a/b")),
        ("/cafe%CC%81/x", ("/cafe%CC%81/x", "/caf%C3%A9/x")),
        ("/%E1%84%92%E1%85%A1%E1%86%AB", ("/%E1%84%92%E1%85%A1%E1%86%AB", "/%ED%95%9C")),
        ("/a%CD%BEx/b", ("/a%CD%BEx/b", "/a;x/b", "/a/b")),
        ("/%E2%84%AAey%2Fa", ("/%E2%84%AAey%2Fa", "/%E2%84%AAey/a", "/Key%2Fa", "/Key/a")),
    ],
)
def test_readings(path, expected):
    assert readings(path)[0] == path and set(readings(path)) == set(expected)


@pytest.mark.parametrize("query", ["a=b c", "a\n", "a#b", "a\\b", "a" * 70000, "\x7f"])
def test_queries_refused(query):
    with pytest.raises(ValueError, match="query"):
        demand_query(query)


ENCODED = [
    "%2e",
    "%2E%2e",
    "%2f",
    "%2F",
    "%3b",
    "%5c",
    "%00",
    "%25",
    "2e",
    "%61",
    "%41",
    "%c3%a9",
    "%ff",
    "%20",
    "%40",
    "%2B",
    "%3f",
    "%7E",
    "%CC%81",
    "%CD%BE",
]
PIECES = st.sampled_from([*"/.;\\%aBé @+?~[|", "//", "..", *ENCODED])
RAW = st.lists(PIECES, max_size=12).map(lambda pieces: "/" + "".join(pieces))


def attempt(raw: str) -> str | None:
    try:
        return canonical_path(raw)
    except ValueError:
        return None


@given(RAW | st.text(max_size=40).map(lambda text: "/" + text))
def test_canonical_is_its_own_canonical(raw):
    if (path := attempt(raw)) is not None:
        assert canonical_path(path) == path and path.isascii() and path.startswith("/")


@given(RAW)
def test_no_reading_has_a_dot_segment_or_an_empty_one(raw):
    if (path := attempt(raw)) is not None:
        assert "//" not in path
        for reading in readings(path):
            assert "//" not in reading
            for segment in reading.split("/"):
                assert segment not in {".", ".."}
                assert urllib.parse.unquote(segment).split(";")[0] not in {".", ".."}


@given(RAW)
def test_nothing_below_a_prefix_climbs_out_of_it_in_any_reading(raw):
    path = attempt("/allowed" + raw)
    if path is not None and path.startswith("/allowed/"):
        for reading in readings(path):
            # What a server that decodes everything and then resolves dots would serve.
            segments: list[str] = []
            for segment in urllib.parse.unquote(reading).split("/"):
                if segment == "..":
                    segments = segments[:-1]
                elif segment not in {"", "."}:
                    segments.append(segment)
            assert segments[:1] == ["allowed"]


@given(RAW)
def test_a_server_that_decodes_sees_the_same_path_before_and_after(raw):
    """Outside of dots and slashes nothing is changed that a server could tell: the decoded octets are the same."""
    path = attempt(raw)
    if path is not None and "." not in urllib.parse.unquote(raw) and "//" not in raw:
        assert urllib.parse.unquote(path) == urllib.parse.unquote(raw)
