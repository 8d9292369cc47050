"""Matching as properties: what is admitted below a prefix is below it for every server that we could think of, and nothing depends on how
often it was normalised.

The servers are models of our own, each as its documentation or source describes the order in which it decodes, drops and resolves.
"""

from __future__ import annotations

import posixpath
import re
import sys
import unicodedata
from collections.abc import Callable
from types import FrameType
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from stockade.policy import Policy, decide
from stockade.policy.hosts import HostPattern, normalise_host, parse_pattern
from stockade.policy.model import Destination, Names, Paths, Rule
from stockade.policy.paths import allow_list, check_glob, deny_list
from stockade.proxy.canonical import canonical_path, readings
from stockade.proxy.ladder import Admitted, Head, judge
from stockade.proxy.spine import Caller
from stockade.types import Binary, Request
from unit.policy.reference import closes, fits

CURL = Binary.named("curl")
CALLER = Caller(CURL, (), "api.example.com", 443)


# How servers read a path. Each takes what is sent to it and gives the path that it would serve.


def resolved(segments: list[str]) -> str:
    """Dot segments resolved against the root; empty segments are skipped."""
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            kept = kept[:-1]
        elif segment not in ("", "."):
            kept.append(segment)
    return "/" + "/".join(kept)


def rfc3986(path: str) -> str:
    """As it stands: dot segments only, nothing decoded."""
    return resolved(path.split("/"))


def nginx(path: str) -> str:
    """Decodes all of it, merges slashes, resolves dots: ngx_http_parse_complex_uri."""
    return resolved(unquote(path).split("/"))


def tomcat(path: str) -> str:
    """Drops `;…` of each raw segment, decodes with %2F and backslash as separators, then normalises."""
    dropped = "/".join(segment.partition(";")[0] for segment in path.split("/"))
    return resolved(unquote(dropped).replace("\\", "/").split("/"))


def spring(path: str) -> str:
    """Decodes first and drops parameters afterwards, as its older UrlPathHelper did."""
    return resolved([segment.partition(";")[0] for segment in unquote(path).split("/")])


def jetty(path: str) -> str:
    """Resolves dots with their parameters on, then drops these and decodes."""
    return resolved(unquote("/".join(part.partition(";")[0] for part in rfc3986(path).split("/"))).split("/"))


def python(path: str) -> str:
    """urllib's unquote and posixpath, as http.server translates a path."""
    return posixpath.normpath("/" + unquote(path).lstrip("/"))


def go(path: str) -> str:
    """net/http: URL.Path is decoded, ServeMux cleans it."""
    return resolved(unquote(path).split("/"))


def windows(path: str) -> str:
    """IIS and NTFS: decodes, both slashes, dots resolved, names without trailing dots and spaces, case of no account."""
    segments = resolved(unquote(path).replace("\\", "/").split("/")).split("/")
    return resolved([segment.rstrip(". ") for segment in segments]).lower()


def apple(path: str) -> str:
    """A file system that takes composed and decomposed names for the same, case of no account."""
    return resolved(unicodedata.normalize("NFC", unquote(path)).split("/")).lower()


def twice(path: str) -> str:
    """A gateway that decodes, and a server behind it that does so again."""
    return resolved(unquote(unquote(path)).split("/"))


def c_program(path: str) -> str:
    """Ends at the first NUL."""
    return resolved(unquote(path).partition("\0")[0].split("/"))


SERVERS: list[Callable[[str], str]] = [rfc3986, nginx, tomcat, spring, jetty, python, go, windows, apple, twice, c_program]

PIECES = [
    *"/.;:\\%aAeé @+?~|x",
    "//",
    "..",
    "...",
    "/../",
    "/./",
    "/..;/",
    "a",
    "allowed",
    "secret",
    "SECRET",
    "Secret",
    "/secret/",
    "/allowed/",
]
PIECES += [
    f"%{octet:02x}" for octet in (0x00, 0x0A, 0x20, 0x25, 0x2B, 0x2E, 0x2F, 0x3B, 0x3F, 0x40, 0x41, 0x5C, 0x73, 0x7E, 0xC0, 0xAE, 0xFF)
]
PIECES += [
    "%2E%2E",
    "%2e.",
    "%252e",
    "%252f",
    "%25%32%65",
    "%c0%ae",
    "%e2%80%a4",
    "%CC%81",
    "%CD%BE",
    "%E2%84%AA",
    "%u002e",
    "%73ecret",
    "s%65cret",
]
# Harmless ones in between, or nearly every path would be refused for one reason or another.
HARMLESS = ["a", "b/", "/", "x", "é", "/c", "%20", "%2F", ";", ".", "%41"]
raws = st.lists(st.sampled_from(HARMLESS) | st.sampled_from(PIECES), max_size=7).map("".join) | st.text(max_size=24)
canonicals = st.builds(lambda text: canonical(f"/{text}"), raws).filter(lambda path: path is not None)


def canonical(raw: str) -> str | None:
    try:
        return canonical_path(raw)
    except ValueError:
        return None


def one_rule(allow: list[str], deny: list[str]) -> Policy:
    rule = Rule(
        "rule",
        Names(("curl",)),
        Destination((parse_pattern("api.example.com"),)),
        method=Names(("GET",)),
        path=Paths(allow_list(allow), deny_list(deny)),
    )
    return Policy("one", rules=(rule,))


def sent(raw: str, policy: Policy) -> str | None:
    """The path that goes upstream for a path as a client wrote it; None when it is refused."""
    head = Head("GET", raw.encode("utf-8", "replace").decode("utf-8", "surrogateescape"), None, (("host", "api.example.com"),))
    outcome = judge(head, CALLER, policy, decide)
    return outcome.target.partition("?")[0] if isinstance(outcome, Admitted) else None


BELOW = one_rule(["/allowed/**"], [])
BUT = one_rule(["/**"], ["/secret/*"])


@settings(max_examples=1000)
@given(raws, st.sampled_from(["/allowed/", "/allowed", "/", "/x/../allowed/"]))
def test_nothing_admitted_below_a_prefix_is_above_it_for_any_server(raw: str, start: str) -> None:
    if (path := sent(start + raw, BELOW)) is None:
        return
    for server in SERVERS:
        served = server(path)
        assert served == "/allowed" or served.startswith("/allowed/"), (server.__name__, path)


@settings(max_examples=1000)
@given(raws, st.sampled_from(["/", "/secret", "/secret/", "/x/../secret/", "/;a/secret/"]))
def test_nothing_admitted_beside_a_denied_prefix_is_below_it_for_any_server(raw: str, start: str) -> None:
    if (path := sent(start + raw, BUT)) is None:
        return
    for server in SERVERS:
        served = server(path).lower()
        assert served != "/secret" and not served.startswith("/secret/"), (server.__name__, path)


def test_the_random_paths_are_often_admitted() -> None:
    """Otherwise the two properties above would be of refusals."""

    def most(drawn: list[str]) -> bool:
        return sum(sent(f"/allowed/{raw}", BELOW) is not None for raw in drawn) >= 10

    find(st.lists(raws, min_size=25, max_size=25), most, settings=settings(max_examples=200, phases=[Phase.generate], database=None))


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.__name__)
def test_every_server_is_led_astray_by_something_that_is_refused(server: Callable[[str], str]) -> None:
    """A model that nothing fools would prove nothing."""
    disguises = [
        "/x/../secret/a",
        "/x/..%2Fsecret/a",
        "/x/..;/secret/a",
        "/;a/secret/a",
        "/%73ecret/a",
        "//secret/a",
        "/secret./a",
        "/SECRET/a",
    ]
    disguises += ["/secret%00/a", "/x%2F..%2Fsecret/a", "/%2573ecret/a", "/secret;x/a", "/x/..\\secret/a", "/secre\u0074/a"]
    fooled = [disguise for disguise in disguises if server(disguise).startswith("/secret")]
    assert fooled and not any(sent(disguise, BUT) for disguise in fooled)


@settings(max_examples=500)
@given(raws)
def test_what_is_sent_is_admitted_again_and_stays_what_it_is(raw: str) -> None:
    if (path := sent(f"/{raw}", BUT)) is not None:
        assert canonical_path(path) == path and sent(path, BUT) == path


@settings(max_examples=500)
@given(canonicals)
def test_every_reading_is_canonical_and_has_no_other_readings(path: str) -> None:
    """So that a rule means the same however often a path was read."""
    found = readings(path)
    assert found[0] == path and len(set(found)) == len(found)
    for reading in found:
        assert canonical_path(reading) == reading
        assert set(readings(reading)) <= set(found)


# Hosts.

labels = st.sampled_from(
    ["a", "b", "www", "example", "com", "xn--bcher-kva", "_dmarc", "1", "0x7f", "a-b", "bücher", "ＷＷＷ", "ß", "а", "A", "*", ""]
)
separators = st.sampled_from([".", "．", "。", "..", ""])
addresses = st.ip_addresses().map(str) | st.integers(0, 2**32 - 1).map(str) | st.integers(0, 2**32 - 1).map(hex)
hosts = (
    st.lists(st.tuples(labels, separators), min_size=1, max_size=5).map(lambda parts: "".join(label + dot for label, dot in parts))
    | addresses
    | addresses.map(lambda address: f"[{address}]")
    | st.text(max_size=12)
)


def normal(text: str) -> str | None:
    try:
        return normalise_host(text)
    except ValueError:
        return None


@settings(max_examples=500)
@given(hosts)
def test_a_host_is_normalised_once(text: str) -> None:
    if (host := normal(text)) is None:
        return
    assert normalise_host(host) == host and host.isascii() and host == host.lower() and not host.endswith(".")
    if ":" not in host:
        assert normalise_host(f"{host}.") == host == normalise_host(host.upper())


names = st.sampled_from(["a.test", "b.a.test", "c.b.a.test", "evila.test", "test.a", "localhost"])
networks = st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.2.0.0/16", "fd00::/8", "fd00:1::/64", "::ffff:10.1.0.0/112"])
entries = names | names.map(lambda name: f"*.{name}") | networks | st.sampled_from(["10.1.2.3", "10.9.9.9", "fd00:1::1", "*"])


def witnesses(pattern: HostPattern) -> list[str]:
    """Hosts that a pattern covers, enough of them to show that two overlap when they do."""
    if pattern.network is not None:
        return [str(pattern.network[0]), str(pattern.network[-1])]
    return [{"any": "some.test", "below": f"w.{pattern.value}"}.get(pattern.kind, pattern.value)]


@settings(max_examples=400)
@given(entries, entries)
def test_two_entries_overlap_when_some_host_is_covered_by_both(one: str, other: str) -> None:
    a, b = parse_pattern(one), parse_pattern(other)
    assert a.overlaps(b) is b.overlaps(a) is any(a.matches(host) and b.matches(host) for host in witnesses(a) + witnesses(b))
    assert a.overlaps(a) and all(a.matches(host) for host in witnesses(a))


@settings(max_examples=300)
@given(entries, hosts)
def test_an_entry_covers_a_host_in_each_of_its_spellings(entry: str, text: str) -> None:
    if (host := normal(text)) is None:
        return
    pattern = parse_pattern(entry)
    for spelling in (text, text.upper(), f"{text}."):
        if normal(spelling) == host:
            assert pattern.matches(normalise_host(spelling)) is pattern.matches(host)


# Globs.

pieces = st.text("abAB.*", min_size=1, max_size=5).map(lambda text: re.sub(r"\*+", "*", text)).filter(lambda text: text not in (".", ".."))
globs = st.lists(pieces | st.just("**"), min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts))
globs |= globs.filter(lambda glob: not glob.endswith("*")).map(lambda glob: glob + "/")
paths = st.lists(st.text("abAB.", max_size=4), min_size=1, max_size=6).map(lambda parts: "/" + "/".join(parts))


@settings(max_examples=600)
@given(st.lists(globs, min_size=1, max_size=3), paths)
def test_lists_mean_what_the_reference_says(written: list[str], path: str) -> None:
    for glob in written:
        check_glob(glob)
    assert allow_list(written).matches(path) is any(fits(glob[1:].split("/"), path[1:].split("/")) for glob in written)
    assert deny_list(written).matches(path) is any(closes(glob, path) for glob in written)


@settings(max_examples=400)
@given(st.lists(globs, min_size=1, max_size=3), paths)
def test_a_deny_list_covers_what_an_allow_list_of_the_same_globs_does_and_its_disguises(written: list[str], path: str) -> None:
    if allow_list(written).matches(path):
        closed = deny_list(written)
        assert closed.matches(path) and closed.matches(path.upper()) and closed.matches(path.rstrip("/") or "/")


@settings(max_examples=300)
@given(canonicals, globs)
def test_decide_says_the_same_about_a_path_that_was_read_before(path: str, glob: str) -> None:
    policy = one_rule([glob], ["/a/*"])

    def allowed(each: str) -> bool:
        return all(decide(Request(CURL, "api.example.com", 443, "GET", reading), policy).allowed for reading in readings(each))

    assert allowed(path) is allowed(canonical_path(path))
    if allowed(path):
        assert all(allowed(reading) for reading in readings(path))


# Work. Counted in lines of our own code, so that a machine's speed is no part of it.

HOSTILE = [
    "/**/a/**/a/**/a/**/b",
    "/" + "*a" * 12 + "*b",
    "/**/*a*a*a*a/**/*a*a*a*b",
    "/" + "**/a*/" * 8 + "b",
    "/**/**/**/b",
    "/*/*/*/*/**/b",
]
LONG = ["/" + "a" * 2000, "/a" * 1000, "/aa/a" * 400, "/" + "ab" * 1000, "/a/" * 600]


def lines_run(work: Callable[[], Any]) -> int:
    """Lines of the policy package that were executed."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if "/stockade/policy/" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("path", LONG, ids=lambda path: path[:6])
@pytest.mark.parametrize("glob", HOSTILE, ids=lambda glob: glob[:12])
def test_a_path_twice_as_long_costs_twice_as_much(glob: str, path: str) -> None:
    for written in (allow_list([glob]), deny_list([glob])):
        written.matches("/")  # laid out
        once, doubled = lines_run(lambda: written.matches(path)), lines_run(lambda: written.matches(path + path))  # noqa: B023 - run at once
        assert doubled <= 2.2 * once + 200
        assert once <= 40 * (len(path) + 1) * (glob.count("/") + 1)
