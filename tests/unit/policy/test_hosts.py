"""Hosts: every spelling becomes one, and entries cover what they say."""

from __future__ import annotations

import pytest

from stockade.policy.hosts import HostError, normalise_host, parse_pattern, strangers_below, too_broad


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("api.slack.com", "api.slack.com"),
        ("API.Slack.COM", "api.slack.com"),
        ("api.slack.com.", "api.slack.com"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("аpple.com", "xn--pple-43d.com"),  # a Cyrillic а: another host than apple.com
        ("example。com", "example.com"),  # the ideographic full stop
        ("ｅxample．com", "example.com"),
        ("ｅxample．com．", "example.com"),
        ("bücher.example。", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),  # UTS 46 without transition: another host than strasse.example
        ("strasse.example", "strasse.example"),
        ("ex\u00adample.com", "example.com"),  # a soft hyphen is nothing
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("xn--a.example", "xn--a.example"),  # no valid A-label, and yet a name of its own for DNS
        ("¹²⁷.⁰.⁰.¹", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("0xg", "0xg"),  # not hexadecimal: a name
        ("１２７。０。０。１", "127.0.0.1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("FD00::0001", "fd00::1"),
        ("[::]", "::"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:a00:1", "10.0.0.1"),
    ],
)
def test_every_spelling_becomes_one(text: str, host: str) -> None:
    assert normalise_host(text) == host
    assert normalise_host(host) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "a b",
        "a\tb",
        "a\x00b",
        "a\r\nb",
        "user@host",
        "host\\x",
        "host/x",
        "host?x",
        "a" * 64 + ".com",
        "x." * 127 + "xx",
        "example.com..",
        "ｅxample.com..",
        "bücher.example..",
        "ｅxample.com。.",
        "a‍b.example",  # a joiner that joins nothing
        "ｅxample／com",
        "ｅxample＠evil.com",
        "1" * 5000,
        "xn--example-.com",  # decodes to ASCII
        "xn--\u00fc.example",
        "-a.com",
        "a-.com",
        "256.0.0.1",
        "1.2.3.4.5",
        "1.2.3.256",
        "4294967296",
        "08.0.0.1",
        "foo.1",
        "[::1",
        "::1%eth0",
        "[fe80::1%25x]",
        "a:b",
        "%61.com",
        "*.com",
    ],
)
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(ValueError):
        normalise_host(text)


MATCHES = [
    # entry, host, covered
    ("example.com", "example.com", True),
    ("EXAMPLE.com.", "example.com", True),
    ("example.com", "www.example.com", False),
    ("example.com", "evilexample.com", False),
    ("example.com", "example.com.evil.com", False),
    ("*.example.com", "www.example.com", True),
    ("*.example.com", "a.b.example.com", True),
    ("*.example.com", "example.com", False),
    ("*.example.com", "evilexample.com", False),
    ("*.example.com", "www.example.com.evil.com", False),
    ("*.bücher.example", "www.xn--bcher-kva.example", True),
    ("10.1.2.3", "10.1.2.3", True),
    ("0xa.1.2.3", "10.1.2.3", True),
    ("10.1.2.0/24", "10.1.2.9", True),
    ("10.1.2.0/24", "10.1.3.9", False),
    ("10.1.2.0/24", "name.example", False),
    ("fd00:1::/64", "fd00:1::9", True),
    ("fd00:1::/64", "10.1.2.3", False),
    ("*", "anything.example", True),
    ("::ffff:10.1.2.0/120", "10.1.2.9", True),
    ("::ffff:10.1.2.0/120", "10.1.3.9", False),
    ("::ffff:10.1.2.3", "10.1.2.3", True),
]


@pytest.mark.parametrize(("entry", "host", "covered"), MATCHES)
def test_what_an_entry_covers(entry: str, host: str, covered: bool) -> None:
    assert parse_pattern(entry).matches(host) is covered


@pytest.mark.parametrize(
    ("entry", "value", "port"),
    [
        ("host.example:8443", "host.example", 8443),
        ("*.example.com:8443", "example.com", 8443),
        ("[fd00::1]:8443", "fd00::1", 8443),
        ("[fd00::1]", "fd00::1", None),
        ("fd00::1", "fd00::1", None),
        ("localhost:9000", "localhost", 9000),
    ],
)
def test_an_entry_may_name_a_port(entry: str, value: str, port: int | None) -> None:
    pattern = parse_pattern(entry)
    assert (pattern.value, pattern.port) == (value, port)


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ("", "bad_host"),
        (" a.example", "bad_host"),
        ("https://discord.com/api", "host_has_url"),
        ("discord.com/api", "host_has_path"),
        ("10.1.2.3/24", "bad_host"),
        ("10.1.2.0/33", "bad_host"),
        ("10.0.0.0/255.0.0.0", "bad_host"),
        ("10.0.0.0/0.255.255.255", "bad_host"),
        ("::ffff:10.1.2.3/120", "bad_host"),
        ("fe80::1%eth0/64", "bad_host"),
        ("0x0a.0.0.0/8", "host_has_path"),
        ("２.0.0.0/8", "host_has_path"),
        ("１０.0.0.0／8", "bad_host"),
        ("＊.example.com", "bad_host"),
        ("host：443", "bad_host"),
        ("host:４４３", "bad_port"),
        ("host:", "bad_port"),
        ("host:-1", "bad_port"),
        ("*.[::1]", "bad_wildcard"),
        ("*.0x7f.1", "bad_wildcard"),
        ("host:0", "bad_port"),
        ("host:65536", "bad_port"),
        ("host:" + "9" * 5000, "bad_port"),
        ("host:https", "bad_port"),
        ("api.*.com", "bad_wildcard"),
        ("*foo.com", "bad_wildcard"),
        ("**.foo.com", "bad_wildcard"),
        ("*.10.1.2.3", "bad_wildcard"),
        ("user@host.com", "bad_host"),
    ],
)
def test_an_entry_that_cannot_be_read(entry: str, code: str) -> None:
    with pytest.raises(HostError) as error:
        parse_pattern(entry)
    assert error.value.code == code
    assert error.value.accepted


@pytest.mark.parametrize(
    ("entry", "broad"),
    [
        ("*", True),
        ("*:443", True),
        ("*.com", True),
        ("*.internal", True),
        ("*.co.uk", True),
        ("*.github.io", True),
        ("*.s3.amazonaws.com", True),
        ("com", True),
        ("0.0.0.0/0", True),
        ("::/0", True),
        ("::ffff:0:0/96", True),  # all of IPv4
        ("::ffff:10.0.0.0/104", False),
        ("*.example.com", False),
        ("*.atlassian.net", False),
        ("*.amazonaws.com", False),  # an inner node: see strangers_below
        ("*.compute.amazonaws.com", True),  # a wildcard rule of the list: all below are suffixes
        ("*.eu-west-1.compute.amazonaws.com", True),
        ("*.kawasaki.jp", True),
        ("*.city.kawasaki.jp", False),  # an exception of the list
        ("*.foo.ck", True),
        ("*.xn--p1ai", True),
        ("*.рф", True),
        ("рф", True),
        ("*.公司.cn", True),
        ("*.vercel.app", True),  # younger than 2019: the list must be a recent one
        ("*.pages.dev", True),
        ("*.r2.dev", True),
        ("*.blob.core.windows.net", True),
        ("*.s3.us-east-1.amazonaws.com", True),
        ("*.ngrok-free.app", True),
        ("co.uk", False),  # itself a host like any other
        ("s3.amazonaws.com", False),
        ("localhost", False),
        ("buildhost", False),
        ("10.0.0.0/8", False),
    ],
)
def test_what_is_too_broad_to_allow(entry: str, broad: bool) -> None:
    assert (too_broad(parse_pattern(entry)) is not None) is broad


@pytest.mark.parametrize(
    ("entry", "suffix"),
    [
        ("*.amazonaws.com", "s3.amazonaws.com"),
        ("*.windows.net", "blob.core.windows.net"),
        ("*.example.com", None),
        ("amazonaws.com", None),
        ("10.0.0.0/8", None),
    ],
)
def test_a_wildcard_may_have_anybody_below_it(entry: str, suffix: str | None) -> None:
    found = strangers_below(parse_pattern(entry))
    assert (found is None) is (suffix is None)
    assert found is None or too_broad(parse_pattern(f"*.{found}"))


@pytest.mark.parametrize(
    ("a", "b", "overlap"),
    [
        ("a.example.com", "a.example.com", True),
        ("a.example.com", "*.example.com", True),
        ("example.com", "*.example.com", False),
        ("*.a.example.com", "*.example.com", True),
        ("*.a.example.com", "*.b.example.com", False),
        ("10.0.0.0/8", "10.1.0.0/16", True),
        ("10.1.2.3", "10.1.0.0/16", True),
        ("a.example.com", "10.1.0.0/16", False),
        ("*", "10.1.0.0/16", True),
    ],
)
def test_overlap_is_symmetric(a: str, b: str, overlap: bool) -> None:
    x, y = parse_pattern(a), parse_pattern(b)
    assert x.overlaps(y) is y.overlaps(x) is overlap
