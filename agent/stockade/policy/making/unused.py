"""What of a policy nobody needed: its rules and list entries, held against the records of a trail.

Puts each recorded request to the policy as it is now and asks which entries spoke. In doubt an entry was needed: a binary counts under
every name of its files, a masked path as every path that it may stand for. Opens no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from stockade.policy.cases.coverage import Entry, spoken, spoken_exec, written
from stockade.policy.decide import decide
from stockade.policy.families import load_families
from stockade.policy.format.document import Place
from stockade.policy.making.masked import spellings
from stockade.policy.model import Policy
from stockade.types import Binary, Effect, Level, Request

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unused:
    """An entry, or a whole rule when entry is None. why: in a few words."""

    place: Place
    rule: str
    entry: Entry | None
    why: str

    def __str__(self) -> str:
        what = f"rule {self.rule}" if self.entry is None else str(self.entry)
        return f"{self.place.path}:{self.place.line}: {what}: {self.why}"


def unused(records: Iterable[Json], policy: Policy) -> tuple[Unused, ...]:
    """Rules that nothing was allowed by, allow entries that nothing needed, deny entries that refused nothing; in the policy's order."""
    found = _needed(records, policy)
    places = written(policy)
    idle = [rule for rule in policy.rules if not any(entry.rule == rule.name and entry.list == "allow" for entry in found)]
    whole = {rule.name for rule in idle if not any(entry.rule == rule.name for entry in found)}
    results = [Unused(rule.place, rule.name, None, "allowed nothing") for rule in idle if rule.name in whole]
    for entry, place in places.items():
        if entry not in found and entry.rule not in whole:
            results.append(Unused(place, entry.rule, entry, "allowed nothing" if entry.list == "allow" else "refused nothing"))
    order = {source: position for position, source in enumerate(dict.fromkeys(place.path for place in places.values()))}
    return tuple(sorted(results, key=lambda one: (order.get(one.place.path, len(order)), one.place.line, one.place.column)))


def _needed(records: Iterable[Json], policy: Policy) -> set[Entry]:
    found: set[Entry] = set()
    binaries: dict[tuple[str, str, str | None, str], Binary] = {}
    asked: set[tuple[Request, bool, bool]] = set()  # a trail repeats itself, and most of it is asked once
    waiting: dict[tuple[Binary, str], Request] = {}
    for record in records:
        fields = record.get("binary")
        if not fields or fields["path"] == "?":
            continue
        key = (fields["name"], fields["path"], fields["script"], fields["sha256"])
        if key not in binaries:
            binaries[key] = binary_of(*key, policy)
        binary, passed, denied = binaries[key], record["decision"] == "allow" or not record["enforced"], record["decision"] == "deny"
        if record["action"] == "exec" or passed:  # who uses the network was started, be it before the period
            found |= _agreeing(spoken_exec(binary, policy), passed, denied)
        for request in requests_of(record, binary):
            if (request, passed, denied) in asked:
                continue
            asked.add((request, passed, denied))
            if request.method is None and passed and decide(request, policy).effect is Effect.PASS:
                # The name and the connection of requests to come: whichever rule allows those needed them.
                waiting.setdefault((binary, request.host), request)
            else:
                found |= _agreeing(spoken(request, policy), passed, denied)
    used = {(entry.rule, entry.text) for entry in found if entry.level is Level.DESTINATION and entry.list == "allow"}
    for (binary, host), request in waiting.items():
        if not any(
            pattern.matches(host) and (rule.name, pattern.text) in used and not binary.names.isdisjoint(rule.binary.allow)
            for rule in policy.rules
            for pattern in rule.destination.allow
        ):
            found |= spoken(request, policy)
    return found


def _agreeing(entries: frozenset[Entry], passed: bool, denied: bool) -> set[Entry]:
    """An allow is needed by what passed, observed or allowed, a deny by what was denied: the policy may have been another one then."""
    return {entry for entry in entries if (denied if entry.list == "deny" else passed)}


def binary_of(name: str, path: str, script: str | None, sha256: str, policy: Policy) -> Binary:
    """The binary of a record, by every name that the policy may call it."""
    families, own = load_families(), policy.binary_names()
    names = frozenset(found for file in (path, script) if file for found in families.of(file, own)) | {name}
    return Binary(name, names, path, script, sha256)


def requests_of(record: Json, binary: Binary) -> Iterator[Request]:
    """What was asked of the policy; for a path every reading of it, as the proxy asks."""
    destination, http = record.get("destination"), record.get("http")
    if not destination or record["action"] not in ("dns", "connect", "http", "websocket"):
        return
    ancestors = tuple(record["ancestry"])
    if http is None:
        yield Request(binary, destination["host"], destination["port"], ancestors=ancestors)
        return
    for path in spellings(http["path"]):
        yield Request(binary, destination["host"], destination["port"], http["method"], path, ancestors)
