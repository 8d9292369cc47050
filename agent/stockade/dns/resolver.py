"""The resolver: may this binary ask for this name, and what does the name become?

Owns the ladder from a query to its answer and its one record. Pure but for four callables: wire in, wire out. It has no upstream: nothing
that a sandbox asks leaves the machine, so a name cannot carry data out, allowed or not.

A denied name is NXDOMAIN, never REFUSED: musl waits five seconds on REFUSED and gives up on names that are allowed further down its
search list.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import logging
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import dns.exception
import dns.rcode
import dns.rdatatype
import dns.reversename
from dns.name import Name, from_text

from stockade.dns.message import Answer, Malformed, NotAQuery, Question, failure, parse, spell
from stockade.dns.synthetic import QuotaExceeded, SyntheticTable
from stockade.types import UNKNOWN_BINARY, Action, Binary, Decision, Destination, Effect, Level, Outcome, Reason, Record

log = logging.getLogger(__name__)

Address = IPv4Address | IPv6Address

_LOOPBACK: dict[dns.rdatatype.RdataType, Address] = {dns.rdatatype.A: IPv4Address("127.0.0.1"), dns.rdatatype.AAAA: IPv6Address("::1")}
_BROKEN = Answer(dns.rcode.SERVFAIL)


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, as the kernel knows it."""

    binary: Binary
    pid: int | None = None
    exec_id: int | None = None
    ancestry: tuple[str, ...] = ()


UNKNOWN = Asker(UNKNOWN_BINARY)


@dataclass(frozen=True, slots=True)
class _Finding:
    """One step of the ladder came to a result: the answer, and what the record says of it."""

    answer: Answer
    outcome: Outcome
    level: Level
    reason: Reason
    decision: Decision | None = None
    host: str | None = None
    address: str | None = None


class Resolver:
    """The resolver of one sandbox. Not re-entrant: one thread calls it."""

    def __init__(
        self,
        *,
        table: SyntheticTable,
        decide: Callable[[Asker, str], Decision],
        publish: Callable[[int, str], None],
        record: Callable[[Asker, Record], None],
    ) -> None:
        """decide: the policy's word on a name (lower case, no dot).

        publish: put the kernel's verdicts for (index, name) in force, before the answer is out; OSError means it could not.
        record: write the one record of a query; whatever it raises, nothing is answered that is not recorded.
        """
        self._table, self._decide, self._publish, self._record = table, decide, publish, record

    def answer(self, query: bytes, asker: Asker | None, *, tcp: bool = False) -> bytes | None:
        """One query's answer; None when it is not a query and gets none. asker: None when the kernel does not know it."""
        who = asker or UNKNOWN
        try:
            question = parse(query)
        except NotAQuery:
            return None
        except Malformed as malformed:
            record = _record(who, _denied(Answer(), Level.STATIC, Reason.PROTOCOL_ERROR), {"problem": malformed.why})
            return failure(query, malformed.rcode if self._recorded(who, record) else dns.rcode.SERVFAIL)
        found = self._find(question, asker)
        record = _record(who, found, {"type": dns.rdatatype.to_text(question.type)}, found.host or question.text)
        answer = found.answer if self._recorded(who, record) else _BROKEN
        if answer.blocked and "approval" in record.detail:  # whoever writes it down knows under which id a person may let it pass
            answer = dataclasses.replace(answer, blocked=f"{answer.blocked} approval={record.detail['approval']}")
        return spell(question, answer, tcp=tcp)

    def _recorded(self, asker: Asker, record: Record) -> bool:
        try:
            self._record(asker, record)
        except OSError as error:  # a full disk: there is no record, so there is no answer
            log.error("dns query not recorded: %s", error)
            return False
        except Exception:  # a bug: the same
            log.exception("dns query not recorded")
            return False
        return True

    def _find(self, question: Question, asker: Asker | None) -> _Finding:
        """The ladder. Each rung ends the query or lets it climb."""
        # 1) Nobody we know asks.
        if asker is None:
            return _blocked(Level.BINARY, Reason.IDENTITY_UNKNOWN)
        # 2) Another class (CHAOS) is not ours to answer. getaddrinfo never asks for one, so nobody waits on this REFUSED.
        if not question.internet:
            return _denied(Answer(dns.rcode.REFUSED), Level.STATIC, Reason.PROTOCOL_REFUSED)
        # 3) What no host can be called: NUL, spaces, non-ASCII, an address spelt as a name.
        if question.host is None:
            return _denied(Answer(dns.rcode.NXDOMAIN), Level.DESTINATION, Reason.PROTOCOL_ERROR)
        # 4) localhost is the sandbox's own (RFC 6761 6.3); what may be reached there is decided at connect.
        if question.host == "localhost" or question.host.endswith(".localhost"):
            address = _LOOPBACK.get(question.type)
            answer = Answer(data=address.packed if address else None)
            return _Finding(answer, Outcome.ALLOW, Level.STATIC, Reason.LOCAL_LISTENER)
        # 5) The way back from an address.
        if question.type == dns.rdatatype.PTR:
            return self._reverse(question.name, asker)
        # 6) The policy.
        decision = self._decide(asker, question.host)
        if not decision.passes:
            return _blocked(decision.level, decision.reason, decision)
        # 7) Only addresses are made up. HTTPS and SVCB would carry ECH keys and hints of real addresses; TXT and the like are tunnels.
        if question.type not in (dns.rdatatype.A, dns.rdatatype.AAAA):
            return _denied(Answer(), Level.DESTINATION, Reason.RECORD_TYPE, decision)
        return self._resolve(question.type, question.host, decision)

    def _resolve(self, kind: dns.rdatatype.RdataType, host: str, decision: Decision) -> _Finding:
        """A name that may be asked for gets its address, once the kernel knows what to do with it."""
        try:
            index = self._table.allocate(host)
            self._publish(index, host)
        except QuotaExceeded:
            return _denied(_BROKEN, Level.STATIC, Reason.QUOTA, decision)
        except OSError as error:
            log.error("verdicts of a name not published: %s", error)
            return _denied(_BROKEN, Level.STATIC, Reason.KERNEL_MAP_FULL, decision)
        v4, v6 = self._table.addresses(index)
        address: Address = v4 if kind == dns.rdatatype.A else v6
        return _Finding(Answer(data=address.packed), decision.outcome, decision.level, decision.reason, decision, address=str(address))

    def _reverse(self, name: Name, asker: Asker) -> _Finding:
        """A synthetic address is its name, for whoever may ask for that name; 127.0.0.1 and ::1 are localhost; no other is known."""
        try:
            address = ipaddress.ip_address(dns.reversename.to_address(name))
        except (dns.exception.DNSException, ValueError):
            return _denied(Answer(dns.rcode.NXDOMAIN), Level.DESTINATION, Reason.NO_RULE)
        if address in _LOOPBACK.values():
            return _Finding(Answer(data=_pointer("localhost")), Outcome.ALLOW, Level.STATIC, Reason.LOCAL_LISTENER, address=str(address))
        index = self._table.index_at(address)
        host = None if index is None else self._table.name_of(index)
        if host is None:
            reason = Reason.NO_RULE if index is None else Reason.UNKNOWN_SYNTHETIC
            return _denied(Answer(dns.rcode.NXDOMAIN), Level.DESTINATION, reason, address=str(address))
        decision = self._decide(asker, host)
        if not decision.passes:
            return _blocked(decision.level, decision.reason, decision, host=host, address=str(address))
        return _Finding(Answer(data=_pointer(host)), decision.outcome, decision.level, decision.reason, decision, host, str(address))


def _denied(
    answer: Answer, level: Level, reason: Reason, decision: Decision | None = None, *, host: str | None = None, address: str | None = None
) -> _Finding:
    return _Finding(answer, Outcome.DENY, level, reason, decision, host, address)


def _blocked(
    level: Level, reason: Reason, decision: Decision | None = None, *, host: str | None = None, address: str | None = None
) -> _Finding:
    answer = Answer(dns.rcode.NXDOMAIN, blocked=f"stockade: {reason.value}")
    return _Finding(answer, Outcome.DENY, level, reason, decision, host, address)


def _pointer(host: str) -> bytes:
    return from_text(host + ".").to_wire() or b""


def _record(asker: Asker, found: _Finding, detail: dict[str, str | int | list[str]], host: str | None = None) -> Record:
    """enforced is False only where `mode: observe` let a denial pass: what this module itself cannot answer is refused in any mode."""
    decision = found.decision
    observed = decision is not None and found.outcome is Outcome.DENY and found.answer.data is not None
    return Record(
        action=Action.DNS,
        outcome=found.outcome,
        effect=Effect.PASS if found.outcome is Outcome.ALLOW or observed else Effect.REFUSE,
        level=found.level,
        reason=found.reason,
        rule=decision.rule if decision else None,
        enforced=not observed,
        binary=asker.binary,
        exec_id=asker.exec_id,
        pid=asker.pid,
        ancestry=asker.ancestry,
        destination=None if host is None else Destination(host, None, found.address),
        generation=decision.generation if decision else None,
        detail=detail,
    )
