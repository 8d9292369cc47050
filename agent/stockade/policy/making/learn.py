"""Learning: the smallest policy that would have allowed what a trail saw.

Reads records as the trail has them, of runs that were enforced or observed: what was allowed and what `mode: observe` let pass is learnt,
what was refused is not. A host is never generalised, a method only allows the paths it was seen with. The policy is put to every request
that it was made of before anybody sees it. Opens no file.
"""

from __future__ import annotations

import functools
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stockade.policy.addresses import range_of
from stockade.policy.decide import decide
from stockade.policy.families import SEARCHED, load_families
from stockade.policy.format.problems import PolicyError
from stockade.policy.hosts import LOCALHOST, HostError, as_address, parse_pattern, too_broad
from stockade.policy.load import load
from stockade.policy.making.generalise import generalise
from stockade.policy.making.writing import Line, PolicyText, RuleText, as_yaml, unique
from stockade.policy.model import Policy
from stockade.policy.neighbour import neighbour_of, spelt
from stockade.policy.own import is_own
from stockade.types import Binary, Reason, Request, StockadeError

Json = dict[str, Any]
Key = tuple[str, str, int]  # binary as a policy names it, host, port

_METHOD = re.compile(r"[A-Z][A-Z0-9-]*")
_NAME_IT = "; if it is meant to lie in a private network, name it in the policy that is observed"
_NOT_LEARNT = frozenset({"exec_anonymous", "exec_changed", "loader_variable", "env_unreadable", "identity_unknown"})


@dataclass(frozen=True, slots=True)
class Remark:
    """What was seen and is not in the policy. count: records."""

    code: str
    message: str
    count: int

    def __str__(self) -> str:
        return f"not learnt: {self.message}{f' ({self.count} times)' if self.count > 1 else ''} [{self.code}]"


@dataclass(frozen=True, slots=True)
class Learnt:
    """policy: loaded once, and asked for everything it was learnt from."""

    policy: PolicyText
    remarks: tuple[Remark, ...]


def learn(records: Iterable[Json], *, name: str, notes: tuple[str, ...] = ()) -> Learnt:
    """The policy of these records. notes: comments for its top.

    Raises StockadeError when what came out does not hold: that is a mistake of this module, and nothing is to be printed.
    """
    seen = _Seen()
    for record in records:
        seen.take(record)
    policy = PolicyText(
        name=unique(name, ()),
        rules=tuple(_rules(seen)),
        execs=tuple(Line(binary, _times(count, "start") if count else "") for binary, count in sorted(seen.runs().items())) or None,
        notes=notes,
    )
    _replay(policy, seen)
    return Learnt(policy, tuple(seen.remarks()))


@dataclass(slots=True)
class _Seen:
    """What the records add up to."""

    requests: dict[Key, dict[str, Counter[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Counter)))
    relays: Counter[Key] = field(default_factory=Counter)
    plain: set[Key] = field(default_factory=set)  # relayed, and no TLS
    connects: Counter[Key] = field(default_factory=Counter)
    names: Counter[tuple[str, str]] = field(default_factory=Counter)
    execs: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # by rule name, then by the narrower name
    paths: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # files that a binary's name was seen as
    lost: Counter[tuple[str, str]] = field(default_factory=Counter)  # (code, message)
    refused: dict[tuple[Key, str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # (key, method, reason)

    def take(self, record: Json) -> None:
        action, binary = record["action"], record.get("binary")
        if action not in ("exec", "dns", "connect", "http", "websocket"):
            return
        wanted = record["decision"] == "allow" or not record["enforced"]
        who = _name(binary) if binary else None
        if binary is None or who is None:
            self.lost["unknown_binary", f"{action} by a program that the kernel did not know"] += 1
            return
        if not wanted:
            self._refused(record, who)
            return
        if record["reason"] in _NOT_LEARNT:
            variable = record.get("detail", {}).get("variable", "")
            self.lost["exec", f"{action} of {who}: {record['reason']}{f', {variable}' if variable else ''}"] += 1
        self.paths[who].add(binary["script"] or binary["path"])
        if action == "exec":
            if record["reason"] not in _NOT_LEARNT:
                self.execs[who][_started_as(who, binary)] += 1
            return
        self._network(record, who)

    def _network(self, record: Json, who: str) -> None:
        if record["reason"] == Reason.LOCAL_LISTENER.value:
            return
        destination = record.get("destination") or {}
        host, port = destination.get("host") or "", destination.get("port")
        if why := _unusable(host):
            self.lost["host", f"{who} to {host}: {why}"] += 1
            return
        if record["action"] == "dns":
            self.names[who, host] += 1
            return
        if not isinstance(port, int) or not 0 < port <= 65535:
            return
        key = (who, host, port)
        http = record.get("http")
        if http is None:
            self.connects[key] += 1
            if record["effect"] == "relay":
                self.relays[key] += 1
                if record["decision"] == "allow" and port != 443:
                    self.plain.add(key)  # the trail does not say by which kind of rule: tcp demands no TLS, and checks it where it is
            return
        if not _METHOD.fullmatch(http["method"]) or http["method"] == "CONNECT":
            self.lost["method", f"{who} to {host}: method {http['method']}"] += 1
            return
        self.requests[key][http["method"]][http["path"]] += 1

    def _refused(self, record: Json, who: str) -> None:
        destination = record.get("destination") or {}
        host, port = destination.get("host"), destination.get("port")
        if record["reason"] == Reason.PROTOCOL_ERROR.value and (key := (who, str(host), int(port or 0))) in self.relays:
            self.plain.add(key)  # the relay wanted TLS, as for any connection that is only observed
            return
        if record["action"] == "exec":
            self.lost["refused", f"exec of {who}: {record['reason']}"] += 1
            return
        if http := record.get("http"):
            self.refused[(who, str(host), int(port or 0)), http["method"], record["reason"]][http["path"]] += 1
        else:
            self.lost["refused", f"{who} to {host}{f':{port}' if port else ''}: {record['reason']}"] += 1

    def runs(self) -> dict[str, int]:
        """What has to run: what was started, and what used the network and was started before the period."""
        found = {who: 0 for who, _, _ in (*self.requests, *self.relays)}
        for who, starts in self.execs.items():
            for name, count in starts.items():
                key = who if who in found else name
                found[key] = found.get(key, 0) + count
        return found

    def remarks(self) -> Iterator[Remark]:
        """What was seen and is not learnt, sorted by what it is about."""
        found = [Remark(code, message, count) for (code, message), count in self.lost.items()]
        for ((who, host, port), method, reason), paths in self.refused.items():
            passed: Counter[str] = self.requests.get((who, host, port), {}).get(method, Counter())  # another time
            for glob, count in generalise({path: count for path, count in paths.items() if path not in passed}).items():
                hint = _NAME_IT if reason == Reason.ADDRESS_REFUSED.value else ""
                found.append(Remark("refused", f"{who} to {host}:{port} {method} {glob}: {reason}{hint}", count))
        reached = {(who, host) for who, host, _ in (*self.requests, *self.relays)}
        for (who, host, port), count in self.connects.items():
            if (who, host, port) not in self.requests and (who, host, port) not in self.relays:
                message = f"{who} connected to {host}:{port} and asked for nothing: `tls: passthrough` or `protocol: tcp` if it is no HTTP"
                found.append(Remark("no_request", message, count))
                reached.add((who, host))
        for (who, host), count in self.names.items():
            if (who, host) not in reached:
                found.append(Remark("name_only", f"{who} asked for the name {host} and did not connect", count))
        yield from sorted(found, key=lambda remark: (remark.code, remark.message))


def _rules(seen: _Seen) -> Iterator[RuleText]:
    taken: list[str] = []

    def named(who: str, host: str) -> str:
        taken.append(unique(f"{who.rpartition('/')[2][:24]}-{host}", taken))
        return taken[-1]

    for (who, host, port), methods in sorted(seen.requests.items()):
        # A rule allows each of its methods on each of its paths: only globs of the same methods share one.
        globs: dict[str, dict[str, int]] = {}
        for method, paths in sorted(methods.items()):
            for glob, count in generalise(_readings(paths)).items():
                globs.setdefault(glob, {})[method] = count
        groups: dict[tuple[str, ...], list[str]] = {}
        for glob, counts in sorted(globs.items()):
            groups.setdefault(tuple(counts), []).append(glob)
        for together, covered in sorted(groups.items()):
            lines = tuple(Line(glob, _times(sum(globs[glob].values()), "request")) for glob in covered)
            yield RuleText(named(who, host), (who,), (spelt(host),), (port,), together, paths=lines)
    for (who, host, port), count in sorted(seen.relays.items()):
        if (who, host, port) not in seen.requests:
            relayed: Literal["tcp", "passthrough"] = "tcp" if (who, host, port) in seen.plain else "passthrough"
            yield RuleText(named(who, host), (who,), (spelt(host),), (port,), relayed=relayed, notes=(_times(count, "connection"),))


def _readings(paths: Counter[str]) -> dict[str, int]:
    """The paths, and every other path that a server may take one for: the proxy wants each of them allowed."""
    from stockade.proxy.canonical import readings  # the package above it is not needed to read a policy

    found: Counter[str] = Counter()
    for path, count in paths.items():
        first, *others = readings(path)
        found[first] += count
        for other in others:
            found[other] += 0
    return dict(found)


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _name(binary: Json) -> str | None:
    """How a rule names the file of a record: as the policy named it then, by its family, by its base name, else by its path."""
    name, path, enrolled = str(binary["name"]), str(binary["script"] or binary["path"]), bool(binary["sha256"])
    if not path.startswith("/"):
        return None
    if enrolled:
        return path if "*" in name else name
    families = _families(path)
    return name if name in families else min(families, default=_base(path))


@functools.cache
def _families(path: str) -> frozenset[str]:
    return load_families().of(path)


def _started_as(who: str, binary: Json) -> str:
    """How exec.allow names it when it used no network: one program, where a family such as coreutils is many."""
    path = str(binary["script"] or binary["path"])
    return who if binary["sha256"] or _base(path) == path else _base(path)


def _base(path: str) -> str:
    directory, _, base = path.rpartition("/")
    return base if directory in SEARCHED else path


def _unusable(host: str) -> str:
    """Why no rule can name a host; empty when one can."""
    if is_own(host):
        return "" if neighbour_of(host) is not None else "is Stockade's own"
    try:
        pattern = parse_pattern(host)
    except HostError as error:
        return str(error)
    if pattern.kind != "name" or pattern.port is not None:
        return "is no host"
    if broad := too_broad(pattern):
        return broad
    address = as_address(pattern.value)
    row = range_of(address) if address is not None and pattern.value != LOCALHOST else None
    return f"is never dialled: {row}" if row is not None and not row.private else ""


def _replay(text: PolicyText, seen: _Seen) -> None:
    """Everything that was learnt, put to the policy. Raises StockadeError when one thing of it is not allowed."""
    policy = _loaded(text)
    binaries = {who: _file(who, min(paths), policy) for who, paths in seen.paths.items()}
    missed = [
        f"{who} {method or ''} {host}:{port}{path or ''}"
        for who, host, port, method, path in _asked(seen)
        if not decide(Request(binaries[who], host, port, method, path), policy).allowed
    ]
    missed += [
        who for who in seen.execs for path in seen.paths[who] if policy.may_exec(_file(who, path, policy)).reason is not Reason.EXEC_ALLOWED
    ]
    if missed:
        raise StockadeError(f"what was learnt does not allow {missed[0]}", hint="please report the trail's records of it", code="learn")


def _asked(seen: _Seen) -> Iterator[tuple[str, str, int, str | None, str | None]]:
    for (who, host, port), methods in seen.requests.items():
        for method, paths in methods.items():
            for path in _readings(paths):
                yield who, host, port, method, path
    for who, host, port in seen.relays:
        yield who, host, port, None, None


def _file(who: str, path: str, policy: Policy) -> Binary:
    """A file under every name that the policy can mean it by; who: as it was seen, be it through a link."""
    return Binary(who, load_families().of(path, policy.binary_names()) | {who}, path)


def _loaded(text: PolicyText) -> Policy:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "learnt.yaml"
        file.write_text(as_yaml(text), encoding="utf-8")
        try:
            return load([file])
        except PolicyError as error:
            said = "; ".join(f"{problem.message} [{problem.code}]" for problem in error.problems)
            raise StockadeError(f"what was learnt does not load: {said}", hint="please report the trail's records", code="learn") from None
