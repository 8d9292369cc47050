"""Path globs: tables for what they mean, and a property against a matcher too simple to be wrong."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.policy.paths import PathError, allow_list, check_glob, deny_list

ALLOWED = [
    # glob, path, covered
    ("/api/chat.postMessage", "/api/chat.postMessage", True),
    ("/api/chat.postMessage", "/api/chat.postMessage/", False),
    ("/api/chat.postMessage", "/api/chat.postmessage", False),
    ("/api/chat.postMessage", "/api/chat.postMessageX", False),
    ("/", "/", True),
    ("/", "/x", False),
    ("/api/admin.*", "/api/admin.users", True),
    ("/api/admin.*", "/api/admin.", True),
    ("/api/admin.*", "/api/admin.users/x", False),
    ("/api/admin.*", "/api/adminXusers", False),
    ("/api/*/notes", "/api/7/notes", True),
    ("/api/*/notes", "/api//notes", False),
    ("/api/*/notes", "/api/7/8/notes", False),
    ("/x/*", "/x/a", True),
    ("/x/*", "/x/", False),
    ("/x/*", "/x", False),
    ("/x/*", "/x/a/", False),
    ("/x/*/", "/x/a/", True),
    ("/x/*/", "/x/a", False),
    ("/a*b*c", "/abc", True),
    ("/a*b*c", "/abbcc", True),
    ("/a*b*c", "/acb", False),
    ("/a*b*c", "/ab/c", False),
    ("/*", "/left-pad", True),
    ("/*", "/@scope%2Fname", True),
    ("/*", "/", False),
    ("/**", "/", True),
    ("/**", "/a/b/c", True),
    ("/a/**", "/a/b/c", True),
    ("/a/**", "/a/", True),
    ("/a/**", "/a", False),
    ("/a/**", "/ab", False),
    ("/**/info/refs", "/o/r/info/refs", True),
    ("/**/info/refs", "/info/refs", True),
    ("/**/info/refs", "/o/r/info/refs/x", False),
    ("/a/**/b/**/c", "/a/x/b/y/z/c", True),
    ("/a/**/b/**/c", "/a/b/c", True),
    ("/a/**/b/**/c", "/a/c/b", False),
    ("/a/**/b/**", "/a/b/", True),
]

DENIED = [
    ("/api/files.upload", "/api/files.upload", True),
    ("/api/files.upload", "/api/FILES.upload", True),
    ("/api/files.upload", "/api/files.upload/", True),
    ("/api/files.upload", "/api/files.uploadV2", False),
    ("/api/admin.*", "/api/admin.users", True),
    ("/api/admin.*", "/api/Admin.users/deep/er", True),
    ("/api/admin.*", "/api/adminusers", False),
    ("/x/*", "/x", True),
    ("/x/*", "/x/", True),
    ("/x/*", "/X/a/b", True),
    ("/x/*", "/xy", False),
    ("/x/**", "/x", True),
    ("/x/**", "/x/a/b", True),
    ("/p/*/billing", "/p/7/billing", True),
    ("/p/*/billing", "/p/7/Billing/", True),
    ("/p/*/billing", "/p/billing", False),
    ("/*", "/", True),
    ("/*", "/any/thing", True),
    ("/", "/", True),
    ("/", "/x", False),
    ("/**/secret*", "/a/b/secrets/c", True),
    ("/**/secret", "/a/b/secret", True),
]


@pytest.mark.parametrize(("glob", "path", "covered"), ALLOWED)
def test_allow(glob: str, path: str, covered: bool) -> None:
    check_glob(glob)
    assert allow_list([glob]).matches(path) is covered


@pytest.mark.parametrize(("glob", "path", "covered"), DENIED)
def test_deny(glob: str, path: str, covered: bool) -> None:
    check_glob(glob)
    assert deny_list([glob]).matches(path) is covered


@pytest.mark.parametrize(
    "glob",
    [
        "",
        "api",
        "*",
        "https://a/b",
        "/a?b",
        "/a#b",
        "/a b",
        "/a\\b",
        "/é",
        "/%2f",
        "/%41",
        "/%",
        "//a",
        "/a//b",
        "/a/../b",
        "/./a",
        "/a**",
        "/**b",
        "/a/***",
    ],
)
def test_globs_that_no_canonical_path_fits(glob: str) -> None:
    with pytest.raises(PathError) as error:
        check_glob(glob)
    assert error.value.accepted


def reference(glob: list[str], path: list[str]) -> bool:
    """The meaning of an allow glob, segment by segment, with no thought of speed."""
    if not glob:
        return not path
    head, rest = glob[0], glob[1:]
    if head == "**":
        return bool(path) if not rest else any(reference(rest, path[skip:]) for skip in range(len(path)))
    return bool(path) and (path[0] != "" if head == "*" else within(head, path[0])) and reference(rest, path[1:])


def within(glob: str, segment: str) -> bool:
    if not glob:
        return not segment
    if glob[0] == "*":
        return any(within(glob[1:], segment[skip:]) for skip in range(len(segment) + 1))
    return segment[:1] == glob[0] and within(glob[1:], segment[1:])


segments = st.text("ab*", max_size=5).map(lambda text: text.replace("**", "*"))
globs = st.lists(segments.filter(bool) | st.just("**"), min_size=1, max_size=5)
paths = st.lists(st.text("ab", max_size=4), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(globs, paths)
def test_matching_means_what_the_reference_says(glob: list[str], path: list[str]) -> None:
    assert allow_list(["/" + "/".join(glob)]).matches("/" + "/".join(path)) is reference(glob, path)


@settings(max_examples=200, deadline=None)
@given(globs, paths)
def test_a_deny_covers_at_least_what_the_same_glob_allows(glob: list[str], path: list[str]) -> None:
    text, spelt = "/" + "/".join(glob), "/" + "/".join(path)
    if allow_list([text]).matches(spelt):
        assert deny_list([text]).matches(spelt) and deny_list([text]).matches(spelt.upper())


@pytest.mark.parametrize("glob", ["/**/a/**/a/**/a/**/b", "/" + "*a" * 12 + "*b", "/**/*a*a*a*a/**/*a*a*a*b"])
@pytest.mark.parametrize("path", ["/" + "a" * 4000, "/a" * 2000, "/aa/a" * 800])
def test_a_hostile_path_costs_no_more_than_a_long_one(glob: str, path: str) -> None:
    begun = time.process_time()
    assert not allow_list([glob]).matches(path)
    assert not deny_list([glob]).matches(path)
    assert time.process_time() - begun < 2  # exponential or cubic search would take minutes
