"""The automata against what they stand for: the path lists that `decide` asks, the canonical paths of the proxy, and plain enumeration."""

from __future__ import annotations

import functools
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.policy.paths import PathError, allow_list, check_glob, deny_list
from stockade.policy.proof.language import Automaton, Budget, TooComplexError, allowing, denying, example, find
from stockade.policy.proof.spelling import Spelling
from stockade.proxy.canonical import canonical_path, readings


def is_glob(text: str) -> bool:
    try:
        check_glob(text)
    except PathError:
        return False
    return True


def is_canonical(path: str) -> bool:
    try:
        return canonical_path(path) == path
    except ValueError:
        return False


segments = st.lists(st.sampled_from(["a", "B", "*", "*", "a", ".", "%2F", "%25", "%3B", ";", "4", "1"]), max_size=4).map("".join) | st.just(
    "**"
)
globs = st.lists(segments, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts)).filter(is_glob)
lists = st.lists(globs, min_size=1, max_size=3)
texts = st.lists(
    st.sampled_from(["/", "a", "b", "B", ".", "..", "%2F", "%25", "%3B", ";", "4", "1", "x", "%C3%A9", "%", "%2"]), max_size=9
).map(lambda parts: "/" + "".join(parts))
paths = texts.filter(is_canonical)


def spelt(text: str) -> bool:
    spelling = Spelling()
    return spelling.accepts(functools.reduce(spelling.step, text, spelling.start))


@given(texts | st.text(max_size=12) | st.text("/.;%25fFeEdD89abBA0", max_size=14).map("/".__add__))
@settings(max_examples=1500, deadline=None)
def test_a_text_is_spelt_canonically_as_the_proxy_says(text: str) -> None:
    assert spelt(text) == is_canonical(text)


@given(paths)
@settings(max_examples=800, deadline=None)
def test_a_plain_path_is_read_in_one_way(path: str) -> None:
    plain = Spelling(plain=True)
    if plain.accepts(functools.reduce(plain.step, path, plain.start)):
        assert readings(path) == (path,)
    else:
        assert readings(path) != (path,) or set("%;") & set(path) or "./" in path + "/"


@pytest.mark.parametrize("lead", range(0x80, 0x100))
def test_every_first_octet_of_utf8(lead: int) -> None:
    for second, third, fourth in itertools.product((0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0), (None, 0x80, 0xC0), (None, 0xBF)):
        text = "/" + "".join(f"%{octet:02X}" for octet in (lead, second, third, fourth) if octet is not None)
        assert spelt(text) == is_canonical(text), text


@given(lists, paths)
@settings(max_examples=1500, deadline=None)
def test_an_automaton_covers_what_its_list_does(written: list[str], path: str) -> None:
    assert Automaton(written, deny=False).matches(path) == allow_list(written).matches(path)
    assert Automaton(written, deny=True).matches(path) == deny_list(written).matches(path)


SHORT = ["/" + "".join(text) for length in range(6) for text in itertools.product("aAx./", repeat=length)]
SHORT = [path for path in SHORT if is_canonical(path)]
few = st.lists(st.lists(st.sampled_from(["a", "*", "A", "."]), max_size=3).map("".join) | st.just("**"), min_size=1, max_size=3)
small = few.map(lambda parts: "/" + "/".join(parts)).filter(is_glob)


@given(st.lists(small, min_size=1, max_size=2), st.lists(small, max_size=3), st.none() | small)
@settings(max_examples=400, deadline=None)
def test_an_example_is_one_and_is_shortest_and_none_means_none(allow: list[str], deny: list[str], within: str | None) -> None:
    def fits(path: str) -> bool:
        return (
            allow_list(allow).matches(path) and not deny_list(deny).matches(path) and (within is None or allow_list([within]).matches(path))
        )

    found = example(allow, deny, within=within)
    if found is None:
        assert not any(map(fits, SHORT))
        return
    assert is_canonical(found) and fits(found)
    if len(readings(found)) == 1:
        assert not any(fits(path) for path in SHORT if len(path) < len(found) and len(readings(path)) == 1)
    else:
        assert not any(fits(path) for path in SHORT if len(path) < len(found) or len(readings(path)) == 1)


@pytest.mark.parametrize(
    ("allow", "deny", "found"),
    [
        (["/**"], [], "/"),
        (["/**"], ["/*"], None),
        (["/**"], ["/"], "/x"),
        (["/api/chat.*"], [], "/api/chat.x"),
        (["/api/chat.*"], ["/API/chat.*"], None),
        (["/api/*"], ["/api"], "/api/x"),
        (["/api/*"], ["/api/**"], None),
        (["/*/*"], ["/a*", "/x*"], "/z/z"),
        (["/a/*/c"], ["/**/c"], None),
        (["/a/*/c", "/a/d"], ["/**/c"], "/a/d"),
        (["/@scope%2F*"], [], "/@scope%2F"),
        (["/a%2F.."], [], None),
        (["/..;*"], [], None),
        (["/%C3"], [], None),
        (["/%C3*"], ["/%C3%A9*"], "/%C3%80"),
        (["/%2541"], [], None),
        (["/" + "/".join("*" * 1 for _ in range(40))], ["/**/x/**"], "/" + "/".join("z" for _ in range(40))),
    ],
)
def test_examples(allow: list[str], deny: list[str], found: str | None) -> None:
    assert example(allow, deny) == found


def test_any_question_over_lists_can_be_put() -> None:
    lists = [allowing(("/a/*",)), denying(("/a/b*",)), allowing(("/a/*", "/c")), denying(("/a/x",))]
    assert find(lists, lambda held: (held[2] and not held[3]) and not (held[0] and not held[1])) == "/c"
    assert find(lists, lambda held: (held[0] and not held[1]) and not (held[2] and not held[3])) == "/a/x"


def test_too_complex_is_said_and_not_guessed() -> None:
    with pytest.raises(TooComplexError):
        example(["/**/a*b*c*d"], ["/**/a*"], budget=Budget(5))
    shared = Budget(120)
    assert example(["/**/a*b"], ["/**/b*"], budget=shared) is not None and shared.left < 120
    with pytest.raises(TooComplexError):
        while True:
            example(["/**/a*b"], ["/**/b*"], budget=shared)
