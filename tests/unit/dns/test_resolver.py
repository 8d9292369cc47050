"""The ladder, as transcripts: a query in, the decoded answer and its one record out."""

from __future__ import annotations

import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stockade.dns.message import Answer, failure, parse, spell
from stockade.types import Destination, Effect, Level, Outcome, Reason
from unit.dns.samples import PIP, World

NOERROR, NXDOMAIN, SERVFAIL = dns.rcode.NOERROR, dns.rcode.NXDOMAIN, dns.rcode.SERVFAIL


def test_an_allowed_name_is_its_synthetic_address() -> None:
    world = World()
    reply = world.ask("repo.test", "A")
    assert str(reply.answer[0]) == "repo.test. 30 IN A 198.18.1.0"
    assert reply.flags & (dns.flags.AA | dns.flags.AD) == 0 and reply.flags & (dns.flags.RA | dns.flags.RD) == dns.flags.RA | dns.flags.RD
    assert str(world.ask("repo.test", "AAAA").answer[0]) == "repo.test. 30 IN AAAA fd57:a11d::100"
    assert str(world.ask("files.repo.test", "A").answer[0]) == "files.repo.test. 30 IN A 198.18.1.1"
    assert world.published == [(256, "repo.test"), (256, "repo.test"), (257, "files.repo.test")]
    one = world.records[1]
    assert (one.outcome, one.effect, one.reason, one.rule, one.generation) == (Outcome.ALLOW, Effect.PASS, Reason.RULE_ALLOW, "pypi", 12)
    assert one.destination == Destination("repo.test", None, "fd57:a11d::100") and one.detail == {"type": "AAAA"}
    assert (one.binary, one.pid, one.exec_id, one.ancestry) == (PIP.binary, 77, 5, ("/bin/sh",))


def test_a_denied_name_does_not_exist_and_says_why() -> None:
    world = World()
    reply = world.ask("pastebin.com")
    assert (reply.rcode(), reply.answer) == (NXDOMAIN, [])
    assert reply.options == (dns.edns.EDEOption(dns.edns.EDECode.BLOCKED, "stockade: no_rule"),)
    assert str(reply.authority[0]) == ". 1 IN SOA stockade.invalid. nobody.invalid. 1 3600 600 86400 1"
    assert (world.published, len(world.table)) == ([], 0)
    assert (world.records[0].outcome, world.records[0].effect, world.records[0].enforced) == (Outcome.DENY, Effect.REFUSE, True)


def test_a_denied_name_that_a_person_may_allow_says_under_which_id() -> None:
    """There is no body to put it in: `dig` shows it, and so does the record."""
    world = World()
    world.approval = "k3x9"
    assert world.ask("pastebin.com").options[0].text == "stockade: no_rule approval=k3x9"
    assert world.ask("repo.test", "A").options == ()


# question, type → rcode, answer, reason of the record; the policy was asked for
LADDER = [
    ("repo.test", "HTTPS", NOERROR, None, Reason.RECORD_TYPE, ["repo.test"]),
    ("repo.test", "SVCB", NOERROR, None, Reason.RECORD_TYPE, ["repo.test"]),
    ("repo.test", "TXT", NOERROR, None, Reason.RECORD_TYPE, ["repo.test"]),
    ("repo.test", "ANY", NOERROR, None, Reason.RECORD_TYPE, ["repo.test"]),
    ("repo.test", "MX", NOERROR, None, Reason.RECORD_TYPE, ["repo.test"]),
    ("repo.test", "TYPE65399", NOERROR, None, Reason.RECORD_TYPE, ["repo.test"]),
    ("_https._tcp.repo.test", "SRV", NOERROR, None, Reason.RECORD_TYPE, ["_https._tcp.repo.test"]),
    ("evil.com", "TXT", NXDOMAIN, None, Reason.NO_RULE, ["evil.com"]),
    ("REPO.Test.", "A", NOERROR, "198.18.1.0", Reason.RULE_ALLOW, ["repo.test"]),
    ("db", "A", NOERROR, "198.18.1.0", Reason.RULE_ALLOW, ["db"]),
    ("wpad", "A", NXDOMAIN, None, Reason.NO_RULE, ["wpad"]),
    ("repo.test.corp.example", "A", NXDOMAIN, None, Reason.NO_RULE, ["repo.test.corp.example"]),
    ("evilrepo.test", "A", NXDOMAIN, None, Reason.NO_RULE, ["evilrepo.test"]),
    ("localhost", "A", NOERROR, "127.0.0.1", Reason.LOCAL_LISTENER, []),
    ("LocalHost", "AAAA", NOERROR, "::1", Reason.LOCAL_LISTENER, []),
    ("a.localhost", "A", NOERROR, "127.0.0.1", Reason.LOCAL_LISTENER, []),
    ("localhost", "TXT", NOERROR, None, Reason.LOCAL_LISTENER, []),
    ("notlocalhost", "A", NXDOMAIN, None, Reason.NO_RULE, ["notlocalhost"]),
    (".", "A", NXDOMAIN, None, Reason.PROTOCOL_ERROR, []),
    ("127.0.0.1", "A", NXDOMAIN, None, Reason.PROTOCOL_ERROR, []),
    ("169.254.169.0xfe", "A", NXDOMAIN, None, Reason.PROTOCOL_ERROR, []),
    ("2130706433", "A", NXDOMAIN, None, Reason.PROTOCOL_ERROR, []),
    (r"a\000b.repo.test", "A", NXDOMAIN, None, Reason.PROTOCOL_ERROR, []),
    (r"a\010b.repo.test", "A", NXDOMAIN, None, Reason.PROTOCOL_ERROR, []),
    (r"evil\.com.repo.test", "A", NXDOMAIN, None, Reason.PROTOCOL_ERROR, []),
    (r"\195\169.repo.test", "A", NXDOMAIN, None, Reason.PROTOCOL_ERROR, []),
    ("*.repo.test", "A", NXDOMAIN, None, Reason.PROTOCOL_ERROR, []),
    ("1.0.18.198.in-addr.arpa", "PTR", NXDOMAIN, None, Reason.UNKNOWN_SYNTHETIC, []),
    ("0.1.18.198.in-addr.arpa", "PTR", NXDOMAIN, None, Reason.UNKNOWN_SYNTHETIC, []),
    ("8.8.8.8.in-addr.arpa", "PTR", NXDOMAIN, None, Reason.NO_RULE, []),
    ("1.0.0.127.in-addr.arpa", "PTR", NOERROR, "localhost.", Reason.LOCAL_LISTENER, []),
    ("18.198.in-addr.arpa", "PTR", NXDOMAIN, None, Reason.NO_RULE, []),
    ("x.y.z.w.in-addr.arpa", "PTR", NXDOMAIN, None, Reason.NO_RULE, []),
    ("repo.test", "PTR", NXDOMAIN, None, Reason.NO_RULE, []),
]


@pytest.mark.parametrize(("name", "kind", "rcode", "answer", "reason", "asked"), LADDER, ids=[f"{row[0]}-{row[1]}" for row in LADDER])
def test_ladder(name: str, kind: str, rcode: dns.rcode.Rcode, answer: str | None, reason: Reason, asked: list[str]) -> None:
    world = World()
    reply = world.ask(name, kind)
    assert (reply.rcode(), [str(one[0]) for one in reply.answer]) == (rcode, [answer] if answer else [])
    assert bool(reply.authority) is (answer is None), "an empty answer carries the SOA that limits its caching"
    assert (world.records[0].reason, world.asked) == (reason, asked)
    assert (world.records[0].outcome is Outcome.ALLOW) is (reason in (Reason.RULE_ALLOW, Reason.LOCAL_LISTENER))


def test_the_way_back_from_an_address() -> None:
    world = World()
    world.ask("repo.test")
    for name in ("0.1.18.198.in-addr.arpa", "0.0.1.0" + ".0" * 20 + ".d.1.1.a.7.5.d.f.ip6.arpa"):
        assert str(world.ask(name, "PTR").answer[0][0]) == "repo.test."
        assert world.records[-1].destination is not None and world.records[-1].destination.host == "repo.test"
    world.table.allocate("secret.example")  # another binary's name: who may not ask for it does not learn it from its number
    assert world.ask("1.1.18.198.in-addr.arpa", "PTR").rcode() == NXDOMAIN
    assert world.records[-1].destination == Destination("secret.example", None, "198.18.1.1")


def test_nobody_known_gets_nothing() -> None:
    world = World()
    for name in ("repo.test", "localhost", "evil.com"):
        reply = world.ask(name, asker=None)
        assert reply.rcode() == NXDOMAIN and reply.options[0].code == dns.edns.EDECode.BLOCKED
        assert (world.records[-1].reason, world.records[-1].level) == (Reason.IDENTITY_UNKNOWN, Level.BINARY)
    assert world.asked == []


def test_observe_answers_and_records_what_it_would_have_refused() -> None:
    world = World(observe=True)
    assert str(world.ask("evil.com").answer[0][0]) == "198.18.1.0"
    one = world.records[0]
    assert (one.outcome, one.enforced, one.effect, one.reason) == (Outcome.DENY, False, Effect.PASS, Reason.NO_RULE)
    world.ask("evil.com", "TXT")
    assert (world.records[1].enforced, world.records[1].effect) == (True, Effect.REFUSE)


def test_a_full_map_a_full_table_and_a_full_disk_answer_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world = World(fail_publish=True)
    assert (world.ask("repo.test").rcode(), world.records[0].reason) == (SERVFAIL, Reason.KERNEL_MAP_FULL)
    world = World(quota=1)
    world.ask("a.repo.test")
    assert (world.ask("b.repo.test").rcode(), world.records[1].reason) == (SERVFAIL, Reason.QUOTA)
    assert world.ask("a.repo.test").rcode() == NOERROR
    world = World(fail_record=True)
    for name in ("repo.test", "evil.com", "localhost"):
        reply = world.ask(name)
        assert (reply.rcode(), reply.answer, reply.options) == (SERVFAIL, [], ())
    assert [each.getMessage() for each in caplog.records][-3:] == ["dns query not recorded: [Errno 28] disk full"] * 3
    assert "Traceback" not in caplog.text  # it is no bug


def test_case_comes_back_as_it_was_asked() -> None:
    world = World()
    query = dns.message.make_query("RePo.tEsT", "A")
    wire = world.resolver.answer(query.to_wire(), PIP)
    assert wire is not None and b"\x04RePo\x04tEsT" in wire
    assert dns.message.from_wire(wire).answer[0].name.to_text() == "RePo.tEsT."
    assert list(world.table) == [(256, "repo.test")]


def test_edns_is_answered_only_where_it_was_asked() -> None:
    world = World()
    plain = world.ask("evil.com", edns=False)
    assert (plain.edns, plain.rcode()) == (-1, NXDOMAIN)
    query = dns.message.make_query(
        "repo.test", "A", use_edns=0, want_dnssec=True, payload=4096, options=[dns.edns.GenericOption(dns.edns.OptionType.NSID, b"")]
    )
    query.flags |= dns.flags.CD
    reply = dns.message.from_wire(world.resolver.answer(query.to_wire(), PIP) or b"")
    assert (reply.edns, reply.payload, reply.ednsflags, reply.options) == (0, 1232, 0, ())
    assert reply.flags & dns.flags.CD


def test_a_later_edns_version_is_told_ours() -> None:
    query = dns.message.make_query("repo.test", "A", use_edns=1)
    reply = dns.message.from_wire(World().resolver.answer(query.to_wire(), PIP) or b"")
    assert (reply.rcode(), reply.edns) == (dns.rcode.BADVERS, 0)


LONG = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 40, "repo.test"])


def test_the_longest_names_fit_without_edns() -> None:
    world = World()
    index = world.table.allocate(LONG)
    reverse = ".".join(reversed(world.table.addresses(index)[1].exploded.replace(":", ""))) + ".ip6.arpa"
    assert str(world.ask(reverse, "PTR", edns=False).answer[0][0]) == LONG + "."
    assert str(world.ask(LONG, "AAAA", edns=False).answer[0][0]) == "fd57:a11d::100"


@pytest.mark.parametrize(("edns", "tcp", "size"), [(False, False, 512), (True, False, 1232), (False, True, 65535)])
def test_what_does_not_fit_is_left_out_and_says_so(edns: bool, tcp: bool, size: int) -> None:
    question = parse(dns.message.make_query("repo.test", "TXT", use_edns=0 if edns else False, payload=4096).to_wire())
    room = size - len(spell(question, Answer(data=b""), tcp=tcp))
    text = b"\xff" + b"x" * 255
    whole = (text * 256)[: room - room % 256]  # whole TXT strings, so that a parser takes them
    fits, cut = spell(question, Answer(data=whole), tcp=tcp), spell(question, Answer(data=b"x" * (room + 1)), tcp=tcp)
    assert len(fits) <= size and not dns.message.from_wire(fits).flags & dns.flags.TC
    reply = dns.message.from_wire(cut)
    assert reply.flags & dns.flags.TC and reply.answer == [] and reply.edns == (0 if edns else -1)


def test_classes_and_opcodes_that_are_not_ours() -> None:
    world = World()
    chaos = dns.message.make_query("version.bind", "TXT", rdclass=dns.rdataclass.CH)
    reply = dns.message.from_wire(world.resolver.answer(chaos.to_wire(), PIP) or b"")
    assert (reply.rcode(), world.records[0].reason) == (dns.rcode.REFUSED, Reason.PROTOCOL_REFUSED)
    for opcode in (1, 2, 4, 5, 6, 15):
        wire = bytearray(dns.message.make_query("repo.test", "A").to_wire())
        wire[2] = wire[2] & 0x87 | opcode << 3
        answer = world.resolver.answer(bytes(wire), PIP) or b""
        assert (answer[:2], answer[2] >> 3 & 15, answer[3] & 15) == (bytes(wire[:2]), opcode, dns.rcode.NOTIMP)
    assert len(world.records) == 7


@pytest.mark.parametrize(
    "body",
    [
        struct.pack("!HHHHHH", 7, 0x100, 0, 0, 0, 0),
        struct.pack("!HHHHHH", 7, 0x100, 2, 0, 0, 0) + b"\x01a\0\0\1\0\1" * 2,
        struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\x01a",
        struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
        struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\x80a\0\0\1\0\1",
        struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1",
        struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\x01a\0\0\1\0\1trailing",
        struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 2) + b"\x01a\0\0\1\0\1" + b"\0\0\x29\x04\xd0\0\0\0\0\0\0" * 2,
        struct.pack("!HHHHHH", 7, 0x100, 1, 1, 0, 0) + b"\x01a\0\0\1\0\1" + b"\0\0\1\0\1\0\0\0\0\0\4abcd",
        struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 1) + b"\x01a\0\0\1\0\1" + b"\0\0\x29\x04\xd0\0\0\0\0" + b"\x13\x88" + b"\0" * 5000,
    ],
    ids=["no question", "two questions", "cut", "self-pointer", "reserved label", "too long", "trailing", "two OPT", "an answer", "huge"],
)
def test_malformed_queries_get_an_error_and_a_record(body: bytes) -> None:
    world = World()
    answer = world.resolver.answer(body, PIP)
    assert answer is not None and answer[:2] == b"\0\7" and answer[3] & 15 == dns.rcode.FORMERR and len(answer) == 12
    assert world.records[0].reason == Reason.PROTOCOL_ERROR
    assert failure(body, SERVFAIL) == World(fail_record=True).resolver.answer(body, PIP)


@pytest.mark.parametrize("body", [b"", b"\0" * 11, dns.message.make_response(dns.message.make_query("repo.test", "A")).to_wire()])
def test_what_is_no_query_gets_no_answer(body: bytes) -> None:
    world = World()
    assert (world.resolver.answer(body, PIP), world.records) == (None, [])


SEED = dns.message.make_query("www.repo.test", "HTTPS", use_edns=0).to_wire()


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """A real query with some bytes changed, and its end moved."""
    wire = bytearray(SEED)
    for place, value in draw(st.lists(st.tuples(st.integers(0, len(SEED) - 1), st.integers(0, 255)), max_size=6)):
        wire[place] = value
    return bytes(wire[: draw(st.integers(0, len(SEED)))]) + draw(st.binary(max_size=40)) if draw(st.booleans()) else bytes(wire)


@settings(max_examples=600, deadline=None)
@given(query=st.one_of(st.binary(max_size=600), bent(), st.binary(max_size=64).map(lambda tail: SEED[:12] + tail)), tcp=st.booleans())
@example(query=b"\xff" * 512, tcp=False)
def test_no_bytes_crash_it_and_every_answer_is_one(query: bytes, tcp: bool) -> None:
    world = World()
    answer = world.resolver.answer(query, PIP, tcp=tcp)
    assert (answer is None) is (world.records == [])
    if answer is not None:
        assert answer[:2] == query[:2] and answer[2] & 0x80 and (tcp or len(answer) <= 1232)
        if answer[2] >> 3 & 15 == dns.opcode.QUERY:
            dns.message.from_wire(answer)
    for index, name in world.published:
        assert world.table.name_of(index) == name == name.lower()


@settings(max_examples=200, deadline=None)
@given(labels=st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=5))
def test_no_label_reaches_the_policy_that_is_not_a_host_s(labels: list[bytes]) -> None:
    world = World(observe=True)
    query = dns.message.make_query(dns.name.Name([*labels, b""]), "A").to_wire()
    world.resolver.answer(query, PIP)
    for name in world.asked:
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")
        assert name.encode() == b".".join(labels).lower()
