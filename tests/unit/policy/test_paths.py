"""Path globs: tables for what they mean. test_matching_properties.py holds them to a simple matcher, and counts their work."""

from __future__ import annotations

import pytest

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
    ("/@scope%2Fsecret", "/@scope/secret", True),
    ("/@scope%2Fsecret", "/@scope%2Fsecret", True),
    ("/a%3Bb/*", "/a;b/c", True),
    ("/**/*%2F*", "/a/b", False),
    ("/**/*%2F*", "/x/a%2Fb", True),
    ("/a%2Ab", "/a*b", False),  # an encoded star is no star, and a star that is meant cannot be written
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
        "/" + "a" * 8192,
        "/**/a" * 9,
    ],
)
def test_globs_that_no_canonical_path_fits(glob: str) -> None:
    with pytest.raises(PathError) as error:
        check_glob(glob)
    assert error.value.accepted
