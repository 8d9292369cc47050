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
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

POSITIVE_TTL = 30  # seconds. Addresses never change their meaning; the kernel decides again at each connect
NEGATIVE_TTL = 1  # a refusal may be lifted by a reload, and must not be remembered
UDP_PAYLOAD = 1232  # https://www.dnsflagday.net/2020/

_HEADER = struct.Struct("!HHHHHH")
_LABEL = re.compile(rb"[A-Za-z0-9_-]{1,63}")
_NUMBER = re.compile(
    rb"[0-9]+|0[xX][0-9A-Fa-f]*"
)  # a last label like this makes an address, not a name: https://url.spec.whatwg.org/#ends-in-a-number-checker
_SOA = dns.rrset.from_text(dns.name.root, NEGATIVE_TTL, "IN", "SOA", f"stockade.invalid. nobody.invalid. 1 3600 600 86400 {NEGATIVE_TTL}")


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
    """What goes back. data: the one record, or None for an empty answer. blocked: text of the extended error 15."""

    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    data: dns.rdata.Rdata | None = None
    blocked: str | None = None


def parse(query: bytes) -> Question:
    """Raises NotAQuery or Malformed, and nothing else, whatever the bytes."""
    if len(query) < _HEADER.size:
        raise NotAQuery
    _, flags, questions, *_ = _HEADER.unpack_from(query)
    if flags & dns.flags.QR:
        raise NotAQuery
    if dns.opcode.from_flags(flags) != dns.opcode.QUERY:
        raise Malformed(dns.rcode.NOTIMP, "opcode")
    if questions != 1:
        raise Malformed(dns.rcode.FORMERR, "questions")
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
    """The answer as bytes, with TC set when the client cannot take it whole."""
    query = question.message
    reply = dns.message.make_response(query, recursion_available=True, our_payload=UDP_PAYLOAD)
    reply.set_rcode(answer.rcode)
    reply.flags |= query.flags & dns.flags.CD  # RFC 4035 3.2.2
    if query.edns >= 0 and answer.blocked is not None:
        reply.use_edns(0, 0, UDP_PAYLOAD, options=[dns.edns.EDEOption(dns.edns.EDECode.BLOCKED, answer.blocked)])
    if answer.data is not None:
        reply.answer.append(dns.rrset.from_rdata(question.name, POSITIVE_TTL, answer.data))
    elif answer.rcode in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        reply.authority.append(_SOA)
    size = 65535 if tcp else max(512, min(query.payload, UDP_PAYLOAD)) if query.edns >= 0 else 512
    return bytes(reply.to_wire(max_size=size, prefer_truncation=True))


def failure(query: bytes, rcode: dns.rcode.Rcode) -> bytes | None:
    """An error without a question, for a query that could not be read: id, opcode and RD are echoed. None when it has no id."""
    if len(query) < _HEADER.size:
        return None
    number, flags, *_ = _HEADER.unpack_from(query)
    kept = flags & (0x7800 | dns.flags.RD)
    if rcode > 15:  # BADVERS and above need an OPT record to hold their upper bits (RFC 6891 6.1.3)
        opt = struct.pack("!BHHIH", 0, dns.rdatatype.OPT, UDP_PAYLOAD, (rcode >> 4) << 24, 0)
        return _HEADER.pack(number, dns.flags.QR | dns.flags.RA | kept | (rcode & 15), 0, 0, 0, 1) + opt
    return _HEADER.pack(number, dns.flags.QR | dns.flags.RA | kept | rcode, 0, 0, 0, 0)
