"""A resolver whose policy is one line: names below repo.test, and `db`, may be asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

import dns.message

from stockade.dns import Asker, Resolver, SyntheticTable
from stockade.types import Binary, Decision, Effect, Level, Outcome, Reason, Record

PIP = Asker(Binary.named("pip", "/usr/bin/pip"), pid=77, exec_id=5, ancestry=("/bin/sh",))
ALLOW = Decision(Outcome.ALLOW, Effect.PASS, Level.DESTINATION, Reason.RULE_ALLOW, "pypi", 12)
DENY = Decision(Outcome.DENY, Effect.REFUSE, Level.DESTINATION, Reason.NO_RULE, None, 12)


@dataclass
class World:
    """A resolver and all that it did."""

    quota: int = 100
    observe: bool = False
    fail_publish: bool = False
    fail_record: bool = False
    approval: str = ""  # under which id whoever records a denial would let it be approved
    records: list[Record] = field(default_factory=list)
    published: list[tuple[int, str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.table = SyntheticTable(quota=self.quota)
        self.resolver = Resolver(table=self.table, decide=self.decide, publish=self.publish, record=self.record)

    def decide(self, asker: Asker, name: str) -> Decision:
        self.asked.append(name)
        if name == "repo.test" or name.endswith(".repo.test") or name == "db":
            return ALLOW
        return Decision(DENY.outcome, DENY.effect, DENY.level, DENY.reason, None, 12, enforced=False) if self.observe else DENY

    def publish(self, index: int, name: str) -> None:
        if self.fail_publish:
            raise OSError(7, "map full")
        self.published.append((index, name))

    def record(self, asker: Asker, record: Record) -> None:
        if self.fail_record:
            raise OSError(28, "disk full")
        if self.approval and record.outcome is Outcome.DENY:
            record.detail["approval"] = self.approval
        self.records.append(record)

    def ask(self, name: str, kind: str = "A", *, asker: Asker | None = PIP, edns: bool = True) -> dns.message.Message:
        """The decoded answer to one question; checks that exactly one record was written."""
        before = len(self.records)
        query = dns.message.make_query(name, kind, use_edns=0 if edns else False, payload=1232)
        answer = self.resolver.answer(query.to_wire(), asker)
        assert answer is not None
        assert len(self.records) == before + (0 if self.fail_record else 1)
        reply = dns.message.from_wire(answer)
        assert query.is_response(reply)
        return reply
