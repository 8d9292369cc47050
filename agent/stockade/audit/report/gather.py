"""One pass over records, and what of them a report says: a Case for each sandbox.

Owns every bound: a sandbox may ask for any number of hosts and live for any time, and its Case stays small. What is beyond is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from stockade.audit.explain import asked, target
from stockade.audit.formats.facts import Gravity, gravity
from stockade.audit.record import Json, record_id

GROUPS = 2000  # of refusals, and of what was allowed
KEPT = 200  # findings, answers of people and generations that are shown one by one
SPANS = 2048  # of the timeline
UNITS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800)  # seconds


@dataclass(slots=True)
class Group:
    """Records that are alike. example: the name of the last of them; path: its own."""

    first: str
    last: str
    asked: str
    count: int = 0
    times: int = 0
    example: str = ""
    path: str = ""
    sent: int = 0
    received: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """What makes two refusals alike."""

    action: str
    who: str
    target: str
    method: str
    level: str
    reason: str
    rule: str
    enforced: bool


@dataclass(frozen=True, slots=True)
class Generation:
    """A policy in force. since: when its record was written. said: the record, with terms, rules and sources where it has them."""

    number: int
    since: str
    cause: str
    said: Json


@dataclass(slots=True)
class Timeline:
    """Records by time, in spans that grow as there are more of them. spans: number of the span since the epoch → allowed, denied."""

    width: int = 1  # seconds
    spans: dict[int, list[int]] = field(default_factory=dict)

    def add(self, time: str, denied: bool) -> None:
        """time: as a record has it. Twice as wide spans when there are more than SPANS of them."""
        second = int(datetime.fromisoformat(time).timestamp())
        self.spans.setdefault(second // self.width, [0, 0])[int(denied)] += 1
        while len(self.spans) > SPANS:
            merged: dict[int, list[int]] = {}
            for at, (allowed, refused) in self.spans.items():
                into = merged.setdefault(at // 2, [0, 0])
                into[0], into[1] = into[0] + allowed, into[1] + refused
            self.width, self.spans = self.width * 2, merged

    def bars(self, most: int) -> list[tuple[datetime, int, int]]:
        """At most so many, from the first to the last, empty ones too: when it began, allowed, denied. One whole unit of time each."""
        if not self.spans:
            return []
        first, last = min(self.spans) * self.width, (max(self.spans) + 1) * self.width
        wide = next((each for each in UNITS if each >= self.width and (last - first) / each <= most - 1), None) or -(
            -(last - first) // (most - 1)
        )
        begin = first // wide * wide
        count = -(-(last - begin) // wide)
        found = [[0, 0] for _ in range(count)]
        for at, (allowed, denied) in self.spans.items():
            place = found[min((at * self.width - begin) // wide, count - 1)]
            place[0], place[1] = place[0] + allowed, place[1] + denied
        return [(datetime.fromtimestamp(begin + wide * at, UTC), *counts) for at, counts in enumerate(found)]  # type: ignore[misc]


@dataclass(slots=True)
class Case:
    """What is known of one sandbox. started: its start record, None when it is before the period or was lost."""

    id: str
    name: str
    labels: dict[str, str]
    first: str = ""
    last: str = ""
    first_seq: int = 0
    last_seq: int = 0
    records: int = 0
    decisions: Counter[str] = field(default_factory=Counter)  # allowed, refused, observed, redacted, local, alerts
    actions: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: dict[Refused, Group] = field(default_factory=dict)
    allowed: dict[tuple[str, str], Group] = field(default_factory=dict)  # program, destination
    programs: dict[tuple[str, str], int] = field(default_factory=dict)  # file, SHA-256 → times it was run
    categories: Counter[tuple[str, str]] = field(default_factory=Counter)  # effect, category of data
    findings: list[Json] = field(default_factory=list)
    answers: list[Json] = field(default_factory=list)  # of people, to what was refused
    generations: list[Generation] = field(default_factory=list)
    timeline: Timeline = field(default_factory=Timeline)
    started: Json | None = None
    ended: Json | None = None
    methods: Counter[str] = field(default_factory=Counter)
    beyond: int = 0  # records in groups that are not shown apart

    @property
    def policy(self) -> Json | None:
        """The newest record that says what the policy is."""
        return next((each.said for each in reversed(self.generations) if "terms" in each.said["detail"]), None)

    def terms(self) -> dict[str, str]:
        """Settings of the policy in force last, by key; empty when no record says them."""
        said = self.policy
        return {} if said is None else dict(str(text).partition("=")[::2] for text in said["detail"]["terms"])

    def add(self, record: Json) -> None:
        """record: of a trail, in its order."""
        self.first, self.last = min(self.first or record["time"], record["time"]), max(self.last, record["time"])
        self.first_seq, self.last_seq = self.first_seq or record["seq"], record["seq"]
        self.records += 1
        self.actions[record["action"], record["decision"]] += 1
        if record["action"] == "lifecycle":
            self._lifecycle(record)
        elif record["action"] == "policy":
            self._policy(record)
        else:
            self._attempt(record)
        if gravity(record) >= Gravity.ALERT:
            self.decisions["alerts"] += 1
            if record["action"] == "lifecycle":
                self._keep(self.findings, record)

    def _lifecycle(self, record: Json) -> None:
        if record["reason"] in ("started", "adopted"):
            if record["reason"] == "started":
                self.started = record
            cause = "start" if record["reason"] == "started" else "taken over by another agent"
            self._generation(record, cause)
        elif record["reason"] == "stopped":
            self.ended = record

    def _policy(self, record: Json) -> None:
        if record["reason"] == "reloaded":
            causes = record["detail"].get("cause", [])
            self._generation(record, f"reload ({', '.join(map(str, causes))})" if causes else "reload")
        elif record["reason"] == "reload_refused":
            self._keep(self.findings, record)
        else:
            self._keep(self.answers, record)

    def _generation(self, record: Json, cause: str) -> None:
        if len(self.generations) >= KEPT:
            del self.generations[1]  # the first, and the newest, are what is asked for
            self.beyond += 1
        self.generations.append(Generation(record["sandbox"]["generation"], record["time"], cause, record))

    def _attempt(self, record: Json) -> None:
        denied = record["decision"] == "deny"
        self.timeline.add(record["time"], denied)
        if denied:
            self.decisions["refused" if record["enforced"] else "observed"] += 1
        else:
            self.decisions["allowed"] += 1
        if record["effect"] in ("redact", "local"):
            self.decisions[record["effect"]] += 1
        if record["action"] == "inference":
            for text in record["detail"].get("categories", []):
                name, _, count = str(text).rpartition(" ")
                self.categories[record["effect"], name or str(text)] += int(count) if name and count.isdigit() else 1
        if record["http"] is not None:
            self.methods[record["http"]["method"]] += 1
        if denied:
            self._group(self.refused, _likeness(record), record)
        elif record["action"] == "exec":
            binary = record["binary"] or {"path": "?", "script": None, "sha256": ""}
            key = binary["script"] or binary["path"], binary["sha256"]
            if key in self.programs or len(self.programs) < GROUPS:
                self.programs[key] = self.programs.get(key, 0) + _times(record)
            else:
                self.beyond += 1
        elif record["destination"] is not None and record["action"] != "dns":
            self._group(self.allowed, (_who(record), target(record)), record)

    def _group(self, groups: dict[Any, Group], key: object, record: Json) -> None:
        group = groups.get(key)
        if group is None:
            if len(groups) >= GROUPS:
                self.beyond += 1
                return
            group = groups[key] = Group(record["time"], record["time"], asked(record))
        group.count, group.times, group.last, group.example = (
            group.count + 1,
            group.times + _times(record),
            record["time"],
            record_id(record),
        )
        if (http := record["http"]) is not None:
            group.path = http["path"]
            group.sent, group.received = group.sent + (http["request_bytes"] or 0), group.received + (http["response_bytes"] or 0)

    def _keep(self, into: list[Json], record: Json) -> None:
        if len(into) < KEPT:
            into.append(record)
        else:
            self.beyond += 1


def gather(records: Iterable[Json]) -> Iterator[Case]:
    """A Case for each sandbox that the records are of, in the order in which they began. Records of the trail itself go to all of them."""
    cases: dict[str, Case] = {}
    own: list[Json] = []
    for record in records:
        sandbox = record["sandbox"]
        if not sandbox["id"]:  # of the trail itself
            if len(own) < KEPT:
                own.append(record)
            continue
        case = cases.get(sandbox["id"])
        if case is None:
            case = cases[sandbox["id"]] = Case(sandbox["id"], sandbox["name"], sandbox["labels"])
        case.add(record)
    for case in cases.values():
        case.findings = [*own, *case.findings][:KEPT]
        yield case


def _likeness(record: Json) -> Refused:
    http = record["http"]
    where = target(record) if record["destination"] is not None else str(record["detail"].get("path") or record["detail"].get("call") or "")
    if record["action"] == "exec" and record["binary"] is not None:
        where = record["binary"]["script"] or record["binary"]["path"]
    return Refused(
        record["action"],
        _who(record) if record["action"] != "exec" else (record["ancestry"][0] if record["ancestry"] else ""),
        where,
        http["method"] if http is not None else "",
        record["level"],
        record["reason"],
        record["rule"] or "",
        record["enforced"],
    )


def _who(record: Json) -> str:
    binary = record["binary"]
    return binary["name"] if binary is not None else ""


def _times(record: Json) -> int:
    times = record["detail"].get("times", 1)
    return times if isinstance(times, int) and not isinstance(times, bool) else 1
