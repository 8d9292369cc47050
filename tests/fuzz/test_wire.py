"""Bytes that a sandbox sends: ClientHellos, DNS queries, paths. Mutated from what real clients said, and compared with a second reader."""

from __future__ import annotations

import contextlib
import ssl
import urllib.parse

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest
from hypothesis import strategies as st

from fuzz.campaign import mutate
from fuzz.corpus import lines, seeds, spoilt
from stockade.dns.message import UDP_PAYLOAD
from stockade.proxy import clienthello
from stockade.proxy.canonical import MAXIMUM, canonical_path, demand_query, readings
from unit.dns.samples import PIP, World

HELLOS = seeds("clienthello")


def read_hello(data: bytes) -> str | None:
    """What the reader says, as one text: the name, or that there is none, that more is wanted, that it is refused."""
    try:
        hello = clienthello.parse(data)
    except ValueError:
        return "(refused)"
    if hello is None:
        return "(more)"
    return hello.server_name


def openssl_reads(data: bytes) -> str | None:
    """The name as OpenSSL's server takes it from the same bytes; (none) when it got that far and found none, None when it did not."""
    seen: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sni_callback = lambda _socket, name, _context: seen.append(name)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(data)
    with contextlib.suppress(ssl.SSLError, UnicodeError):
        context.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
    return None if not seen else seen[0] or "(none)"


def test_each_seed_names_its_server() -> None:
    names = [read_hello(hello) for hello in HELLOS]
    assert names.count("seed.example") == len(HELLOS) - 1 and names.count(None) == 1
    assert [openssl_reads(hello) or "" for hello in HELLOS].count("seed.example") >= 5  # the second reader does read


def test_a_client_hello_that_is_cut_is_never_another_one() -> None:
    for hello in HELLOS:
        for end in range(len(hello)):
            assert read_hello(hello[:end]) == "(more)"


def test_what_is_read_of_the_beginning_holds_for_the_whole() -> None:
    """Bytes arrive in pieces: neither an answer nor a refusal may depend on where the first piece ends."""

    def check(drawn: tuple[bytes, int]) -> None:
        data, end = drawn
        early = read_hello(data[:end])
        assert early in ("(more)", read_hello(data))

    mutate(st.tuples(spoilt(HELLOS), st.integers(0, 1200)), check)


def test_records_may_be_cut_anywhere() -> None:
    """The same handshake bytes over other records are the same ClientHello."""

    def check(drawn: tuple[bytes, list[int]]) -> None:
        body, sizes = drawn
        whole = b"\x16\x03\x01" + len(body).to_bytes(2) + body
        if not 4 <= len(body) == 4 + int.from_bytes(body[1:4]):
            return
        pieces, at = b"", 0
        for size in [*sizes, len(body)]:
            piece = body[at : at + size]
            pieces += b"\x16\x03\x03" + len(piece).to_bytes(2) + piece if piece else b""
            at += size
        assert read_hello(pieces) == read_hello(whole)

    bodies = spoilt([hello[5:] for hello in HELLOS]).map(lambda body: body[:1] + (len(body[4:])).to_bytes(3) + body[4:] if body else body)
    mutate(st.tuples(bodies, st.lists(st.integers(1, 300), max_size=8)), check)


def test_a_client_hello_in_too_many_records_is_refused_before_its_end() -> None:
    """Each record that arrives makes all before it be read again: their number is bounded, and with it what one client can cost."""
    body = HELLOS[0][5:]
    large = b"\x01" + (clienthello.RECORDS + 10).to_bytes(3) + b"\0" * (clienthello.RECORDS + 10)
    for message, expected in ((body, "seed.example"), (large, "(refused)")):
        records = [b"\x16\x03\x01\x00\x01" + message[at : at + 1] for at in range(len(message))]
        assert read_hello(b"".join(records)) == expected
        assert read_hello(b"".join(records[: clienthello.RECORDS - 1])) in ("(more)", expected)
    assert read_hello(b"".join(records[: clienthello.RECORDS])) == "(refused)"


# OpenSSL refuses a name that is not ASCII; Python prints that it could not hand it over
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_openssl_never_sees_another_name() -> None:
    """The server behind a relay reads the same bytes: where it takes a name from them, we took that one or refused."""

    def check(data: bytes) -> None:
        theirs, ours = openssl_reads(data), read_hello(data)
        if theirs is not None and ours != "(refused)":
            assert (ours or "(none)") == theirs

    mutate(spoilt(HELLOS), check)


def test_queries() -> None:
    """One answer and one record for what is a query, nothing for what is none; and only a host name that was asked for is published."""
    queries = [query.replace(b"\x04seed\x07example", b"\x04seed\x04repo\x04test") for query in seeds("dns")] + seeds("dns")

    def check(drawn: tuple[bytes, bool]) -> None:
        query, tcp = drawn
        world = World()
        answer = world.resolver.answer(query, PIP, tcp=tcp)
        assert len(world.records) == (answer is not None)
        for _, name in world.published:
            asked = dns.message.from_wire(query).question[0].name
            assert asked.to_text(omit_final_dot=True).lower() == name and name in world.asked
        if answer is None:
            return
        assert answer[:2] == query[:2] and len(answer) <= (65535 if tcp else UDP_PAYLOAD)
        if dns.opcode.from_flags(int.from_bytes(answer[2:4])) == dns.opcode.QUERY:
            reply = dns.message.from_wire(answer)
            assert reply.flags & dns.flags.QR and not reply.flags & dns.flags.AA
            assert sum(len(each) for each in reply.answer) <= 1
            assert reply.rcode() == dns.rcode.NOERROR or not reply.answer

    for query in queries:
        check((query, False))
    mutate(st.tuples(spoilt(queries), st.booleans()), check)


def test_paths() -> None:
    """A path is refused or becomes one that is its own canonical path; and so is every reading of it that has no `;` and no `%`."""

    def check(data: bytes) -> None:
        raw = data.decode("utf-8", "surrogateescape")
        try:
            path = canonical_path(raw)
        except ValueError:
            return
        assert path.isascii() and path.startswith("/") and len(path) <= MAXIMUM and canonical_path(path) == path
        found = readings(path)
        assert found[0] == path and len(set(found)) == len(found) <= 32
        for reading in found:
            assert not {".", ".."} & set(reading.split("/")) and "//" not in reading
            assert urllib.parse.unquote_to_bytes(reading).decode()  # UTF-8 still

    for seed in lines("path"):
        check(seed)
    mutate(spoilt(lines("path"), most=8), check)


def test_queries_of_a_url() -> None:
    def check(data: bytes) -> None:
        query = data.decode("utf-8", "surrogateescape")
        try:
            demand_query(query)
        except ValueError:
            return
        assert not set(query) & set("\r\n\t #\\")

    mutate(spoilt(lines("path")), check, examples=100)
