"""Paths to globs: a table of what becomes of them, and what holds of any paths."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.policy.making.generalise import CROWD, SIBLINGS, generalise
from stockade.policy.paths import allow_list, check_glob

HASH = "149a00dd41f10bc29e5921b496af8b574d8413afcd5e30dfa0ed46c2cc5e"
UUID = "550e8400-e29b-41d4-a716-446655440000"


@pytest.mark.parametrize(
    ("path", "glob"),
    [
        ("/", "/"),
        ("/v1/status", "/v1/status"),
        ("/v1.0/me/messages", "/v1.0/me/messages"),  # an API's version is part of its address
        ("/v1/items/42", "/v1/items/*"),
        (f"/users/{UUID}/keys", "/users/*/keys"),
        (f"/blobs/{HASH}", "/blobs/*"),
        ("/log/2026-11-27/1", "/log/*/*"),
        ("/tag/1.26.0-rc1", "/tag/*"),
        ("/tag/v1.26.0", "/tag/*"),
        ("/C024BE91L/history", "/*/history"),
        ("/s/Zx81kQ9a7Bc2dE", "/s/*"),
        (f"/packages/b7/ce/{HASH}/six-1.17.0-py2.py3-none-any.whl", "/packages/*/*/*/six-*.whl"),
        ("/python-3.12.1.tar.gz", "/python-*.tar.gz"),
        ("/static/app.3f2a91bc.js", "/static/app.*.js"),
        ("/part-00012", "/part-*"),
        ("/utf-8/sha256/oauth2", "/utf-8/sha256/oauth2"),
        ("/api/chat.postMessage", "/api/chat.postMessage"),
        ("/@scope%2Fname", "/@scope%2Fname"),
        ("/bot***/getMe", "/bot*/getMe"),  # masked in the trail
        ("/services/T0ABCDEF1/***", "/services/*/**"),  # what the mask covers there may have slashes
        ("/api/webhooks/123/***", "/api/webhooks/*/*"),
        ("/a**b/x", "/a*b/x"),
        ("/a/", "/a/"),
    ],
)
def test_one_path(path: str, glob: str) -> None:
    assert generalise({path: 3}) == {glob: 3}


def test_siblings_are_a_pattern_when_they_are_many_and_alike() -> None:
    few = {f"/simple/{name}/": 2 for name in string.ascii_lowercase[: SIBLINGS - 1]}
    assert generalise(few) == few
    assert generalise(few | {"/simple/z/": 2}) == {"/simple/*/": 2 * SIBLINGS}
    assert generalise({f"/i/{name}.png": 1 for name in string.ascii_lowercase[:SIBLINGS]}) == {"/i/*.png": SIBLINGS}
    chat = {f"/api/chat.{name}": 1 for name in string.ascii_lowercase[:SIBLINGS]}
    assert generalise(chat | {"/api/users.list": 1}) == {"/api/chat.*": SIBLINGS, "/api/users.list": 1}


def test_siblings_that_go_on_differently_need_to_be_a_crowd() -> None:
    paths = {f"/p/{name}/{name * 2}": 1 for name in string.ascii_lowercase[: CROWD - 1]}
    assert generalise(paths) == paths
    assert generalise({f"/p/{name}/{name * 2}": 1 for name in string.ascii_lowercase[:CROWD]}) == {"/p/*/*": CROWD}


def test_a_segment_that_varies_is_generalised_where_it_varies() -> None:
    paths = {f"/repos/acme/{name}/issues": 1 for name in string.ascii_lowercase[:SIBLINGS]}
    assert generalise(paths | {"/repos/acme/a/pulls": 1}) == {"/repos/acme/*/issues": SIBLINGS, "/repos/acme/a/pulls": 1}


def test_depth_that_varies_a_lot_is_two_stars_below_the_root() -> None:
    deep = {"/tree/" + "/".join("abcdefgh"[:length]): 1 for length in range(1, SIBLINGS + 2)}
    found = generalise(deep)
    assert sum(found.values()) == len(deep)
    assert any(glob.endswith("/**") for glob in found)
    assert "**" not in str(generalise({"/" + "/".join("abcdefgh"[:length]): 1 for length in range(1, 4)}))


segments = st.text(alphabet="ab1-._*", min_size=1, max_size=8).filter(lambda text: text not in (".", ".."))
paths = st.lists(segments, min_size=1, max_size=6).map(lambda parts: "/" + "/".join(parts))


@given(st.dictionaries(paths, st.integers(1, 9), min_size=1, max_size=60))
def test_every_path_is_covered_and_counted_once_and_the_root_is_never_open(counts: dict[str, int]) -> None:
    found = generalise(counts)
    for glob in found:
        check_glob(glob)
    listed = allow_list(found)
    assert all(listed.matches(path) for path in counts)
    assert sum(found.values()) == sum(counts.values())
    assert "/**" not in found
    assert generalise(dict(reversed(counts.items()))) == found
    assert list(found) == sorted(found)
