"""Questions and answers on the wire: RFC 1035, 6891 (EDNS), 8914 (extended errors), 2308 (negative answers).

Owns parsing one query and spelling its answer, and nothing of what the answer should be. Hostile bytes end in Malformed or NotAQuery. The
answer is that of a forwarder: RA set, AA and AD clear, the question echoed with the case it came in (0x20), the client's size kept.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

POSITIVE_TTL = 30  # seconds. Addresses never change their meaning; the kernel decides again at each connect
NEGATIVE_TTL = 1  # a refusal may be lifted by a reload, and must not be remembered
LONGEST_QUERY = 4096  # bytes; a name takes 255, padding (RFC 7830) some hundred
UDP_PAYLOAD = 1232  # https://www.dnsflagday.net/2020/

_HEADER = struct.Struct("!HHHHHH")
_OPCODE = 0x7800
_LABEL = re.compile(rb"[A-Za-z0-9_-]{1,63}")
_NUMBER = re.compile(
    rb"[0-9]+|0[xX][0-9A-Fa-f]*"
)  # a last label like this makes an address, not a name: https://url.spec.whatwg.org/#ends-in-a-number-checker
_POINTER = struct.pack("!H", 0xC000 | _HEADER.size)  # "the name of the question": keeps the case it was asked in
_RECORD = struct.Struct("!HHIH")  # type, class, TTL, length
_SOA_DATA = b"".join(
    [
        dns.name.from_text("stockade.invalid.").to_wire() or b"",
        dns.name.from_text("nobody.invalid.").to_wire() or b"",
        struct.pack("!IIIII", 1, 3600, 600, 86400, NEGATIVE_TTL),
    ]
)
_SOA = (
    b"\0" + _RECORD.pack(dns.rdatatype.SOA, dns.rdataclass.IN, NEGATIVE_TTL, len(_SOA_DATA)) + _SOA_DATA
)  # of the root: any name is below it


class NotAQuery(Exception):
    """An answer, or too short to be answered: to reply would only feed a loop."""


class Malformed(Exception):
    """A query that is answered with an error and nothing else."""

    def __init__(self, rcode: dns.rcode.Rcode, why: str) -> None:
        super().__init__(why)
        self.rcode, self.why = rcode, why


@dataclass(frozen=True, slots=True)
class Question:
    """One parsed query. host: the name, lower case and without its dot; None when it is no host name. text: the name as records show it."""

    message: dns.message.Message
    name: dns.name.Name
    type: dns.rdatatype.RdataType
    host: str | None
    text: str

    @property
    def internet(self) -> bool:
        return bool(self.message.question[0].rdclass == dns.rdataclass.IN)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back. data: the one record's RDATA, or None for an empty answer. blocked: text of the extended error 15."""

    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    data: bytes | None = None
    blocked: str | None = None


def parse(query: bytes) -> Question:
    """Raises NotAQuery or Malformed, and nothing else, whatever the bytes."""
    if len(query) < _HEADER.size:
        raise NotAQuery
    _, flags, questions, answers, authority, additional = _HEADER.unpack_from(query)
    if flags & dns.flags.QR:
        raise NotAQuery
    if dns.opcode.from_flags(flags) != dns.opcode.QUERY:
        raise Malformed(dns.rcode.NOTIMP, "opcode")
    # A question and perhaps an OPT record. Held to that before parsing: hundreds of records with chained pointers cost a parser seconds.
    if questions != 1 or answers or authority or additional > 1 or len(query) > LONGEST_QUERY:
        raise Malformed(dns.rcode.FORMERR, "sections")
    try:
        message = dns.message.from_wire(query)
        asked = message.question[0]
    except (dns.exception.DNSException, ValueError, IndexError, struct.error) as error:
        raise Malformed(dns.rcode.FORMERR, type(error).__name__) from error
    if message.edns > 0:
        raise Malformed(dns.rcode.BADVERS, "edns version")
    labels = asked.name.labels[:-1]
    valid = bool(labels) and all(map(_LABEL.fullmatch, labels)) and not _NUMBER.fullmatch(labels[-1])
    host = b".".join(labels).decode("ascii").lower() if valid else None
    return Question(message, asked.name, asked.rdtype, host, host or asked.name.to_text(omit_final_dot=True))


def spell(question: Question, answer: Answer, *, tcp: bool) -> bytes:
    """The answer as bytes, with TC set and nothing in it when the client cannot take it whole.

    Spelt by hand: an answer is one record, and dnspython's renderer takes 90 µs for it on a machine where all the rest takes 100.
    """
    query = question.message
    edns = query.edns >= 0
    asked = (question.name.to_wire() or b"") + struct.pack("!HH", question.type, question.message.question[0].rdclass)
    answers, authority = b"", b""
    if answer.data is not None:
        answers = _POINTER + _RECORD.pack(question.type, dns.rdataclass.IN, POSITIVE_TTL, len(answer.data)) + answer.data
    elif answer.rcode in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        authority = _SOA
    opt = _opt(answer.rcode, answer.blocked) if edns else b""
    size = 65535 if tcp else max(512, min(query.payload, UDP_PAYLOAD)) if edns else 512
    flags = dns.flags.QR | dns.flags.RA | query.flags & (dns.flags.RD | dns.flags.CD) | answer.rcode & 15  # CD: RFC 4035 3.2.2
    if _HEADER.size + len(asked) + len(answers) + len(authority) + len(opt) > size:
        answers, authority, flags = b"", b"", flags | dns.flags.TC
    header = _HEADER.pack(query.id, flags, 1, bool(answers), bool(authority), bool(opt))
    return header + asked + answers + authority + opt


def failure(query: bytes, rcode: dns.rcode.Rcode) -> bytes | None:
    """An error without a question, for a query that could not be read: id, opcode and RD are echoed. None when it has no id."""
    if len(query) < _HEADER.size:
        return None
    number, flags, *_ = _HEADER.unpack_from(query)
    opt = _opt(rcode) if rcode > 15 else b""
    flags = dns.flags.QR | dns.flags.RA | flags & (_OPCODE | dns.flags.RD) | rcode & 15
    return _HEADER.pack(number, flags, 0, 0, 0, bool(opt)) + opt


def _opt(rcode: int, blocked: str | None = None) -> bytes:
    """An OPT record: our size, the upper bits of rcode (RFC 6891 6.1.3), version 0, no flags: DO is ignored, nothing here is signed."""
    text = b"" if blocked is None else blocked.encode("ascii")
    options = b"" if blocked is None else struct.pack("!HHH", dns.edns.OptionType.EDE, len(text) + 2, dns.edns.EDECode.BLOCKED) + text
    return struct.pack("!BHHBBHH", 0, dns.rdatatype.OPT, UDP_PAYLOAD, rcode >> 4, 0, 0, len(options)) + options
