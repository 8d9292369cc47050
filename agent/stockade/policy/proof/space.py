"""The space of requests that policies can tell apart: who asks, and where to, each class of them by one that stands for all.

Rules speak of binaries by name, of hosts by name, suffix or network, and of finitely many ports, so a policy knows only finitely many kinds
of each. Whatever holds for every one of these holds for every request: that is what makes `prove` and `diff` exhaustive. Decides nothing:
what is said to a kind is `ruling`'s to say, and which paths that means is `language`'s.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from stockade.policy.families import load_families, started_by
from stockade.policy.hosts import HostPattern, Network, as_address, normalise_host
from stockade.policy.model import Policy, Rule
from stockade.policy.proof.language import TooComplexError
from stockade.policy.ruling import Ruling, rule_on, spellings
from stockade.types import Binary, Effect, Request

WEB = {443: "https", 80: "http"}
_WILD = "*?["
_ANCESTORS = 4  # names of ancestors whose every combination is looked at


@dataclass(frozen=True, slots=True)
class Who:
    """A kind of asker. ancestors: what started it, as far as some rule asks."""

    binary: Binary
    ancestors: tuple[str, ...] = ()

    @property
    def spelling(self) -> str:
        """What the binary is called: its name, or its path where that gives it other names too."""
        binary = self.binary
        return binary.path if binary.names - {binary.name, binary.path} else binary.name

    def __str__(self) -> str:
        pinned = f" with SHA-256 {self.binary.sha256[:12]}…" if self.binary.sha256 else ""
        return self.spelling + pinned + (f" started by {' and '.join(self.ancestors)}" if self.ancestors else "")


@dataclass(frozen=True, slots=True)
class Where:
    """A kind of host: `host` stands for all that `text` says."""

    host: str
    text: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of asker at one kind of host and one port, and all that a policy says to it."""

    who: Who
    where: Where
    port: int
    ruling: Ruling

    @property
    def relayed(self) -> bool:
        """Anything passes, unseen."""
        return self.ruling.connect.allowed and self.ruling.connect.effect is Effect.RELAY

    def methods(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """By method that something may be asked with: globs that allow, and globs that deny. Empty where nothing is inspected."""
        http = self.ruling.http
        if http is None:
            return {}
        closed = tuple(dict.fromkeys(glob for rule in http.rules if rule.path for glob in rule.path.deny.globs))
        opened: dict[str, list[str]] = {}
        for rule in http.rules:
            for method in rule.method.allow if rule.method else ():
                if method not in http.denied_methods and rule.path:
                    opened.setdefault(method, []).extend(rule.path.allow.globs)
        return {method: (tuple(dict.fromkeys(globs)), closed) for method, globs in opened.items()}

    def request(self, method: str | None = None, path: str | None = None) -> Request:
        return Request(self.who.binary, self.where.host, self.port, method, path, self.who.ancestors)

    def url(self, path: str) -> str:
        host = f"[{self.where.host}]" if ":" in self.where.host else self.where.host
        return f"{WEB.get(self.port, 'https')}://{host}{'' if self.port in WEB else f':{self.port}'}{path}"


class Space:
    """What some policies together can tell apart; hosts and binaries are those of a question about them."""

    def __init__(self, policies: Iterable[Policy], hosts: Iterable[HostPattern] = (), binaries: Iterable[str] = ()) -> None:
        self.policies, self._asked = tuple(policies), tuple(binaries)
        lists = [part for policy in self.policies for rule in policy.rules for part in (rule.destination.allow, rule.destination.deny)]
        patterns = [*hosts, *itertools.chain.from_iterable(lists)]
        names = dict.fromkeys(pattern.value for pattern in patterns if pattern.kind == "name")
        below = dict.fromkeys(pattern.value for pattern in patterns if pattern.kind == "below")
        self._names: dict[str, list[str]] = {}  # by suffix: the exact names below it
        self._below: dict[str, list[str]] = {}  # by suffix, itself included: the suffixes that lists name
        for name in names:
            for suffix in _suffixes(name):
                self._names.setdefault(suffix, []).append(name)
        for name in below:
            for suffix in (name, *_suffixes(name)):
                self._below.setdefault(suffix, []).append(name)
        self._known = frozenset(names) | frozenset(below)
        networks = {network for pattern in patterns if (network := network_of(pattern)) is not None}
        self._networks = tuple(sorted(networks, key=lambda network: (network.version, network.network_address, network.prefixlen)))

    # Hosts.

    def hosts(self, pattern: HostPattern) -> Iterator[Where]:
        """One host of every kind that an entry of an allow list covers. Raises TooComplexError."""
        if (network := network_of(pattern)) is not None:
            yield from self._addresses(network)
        elif pattern.kind == "name":
            yield Where(pattern.value, pattern.value)
        elif pattern.kind == "below":
            yield from (Where(name, name) for name in self._names.get(pattern.value, ()))
            for suffix in self._below.get(pattern.value, ()):
                fresh = self._fresh(suffix)
                if fresh is not None:
                    yield Where(fresh, f"*.{suffix}")
        else:
            raise TooComplexError("`*` as an allowed destination")  # no policy that was loaded has it

    def _fresh(self, suffix: str) -> str | None:
        """A name below a suffix that no list names; None when there is no room for one."""
        labels = itertools.chain(["x"], (f"x{number}" for number in itertools.count(2)))
        host = next(name for name in (f"{label}.{suffix}" for label in labels) if name not in self._known)
        try:
            return host if normalise_host(host) == host else None
        except ValueError:
            return None

    def _addresses(self, network: Network) -> Iterator[Where]:
        """Networks lie inside each other or apart: of each, one address that no smaller one holds."""
        inside = [item for item in self._networks if _within(item, network)]
        for outer in inside:
            holes = [item for item in inside if item != outer and _within(item, outer)]
            candidates = [
                outer.network_address,
                *(hole.broadcast_address + 1 for hole in holes if hole.broadcast_address != outer.broadcast_address),
            ]
            free = next((address for address in candidates if address in outer and not any(address in hole for hole in holes)), None)
            if free is not None:
                single = outer.prefixlen == outer.max_prefixlen
                yield Where(str(free), str(free) if single else str(outer))

    # Askers.

    @functools.cached_property
    def _mentioned(self) -> frozenset[str]:
        return frozenset(self._asked).union(*(policy.binary_names() for policy in self.policies))

    def askers(self, names: Iterable[str] | None = None) -> Iterator[Who]:
        """One of every kind of binary that some rule allows, with every hash and ancestry that its rules ask for; names: of these alone."""
        allowed = frozenset[str]().union(*(policy.network_names() for policy in self.policies))
        named = dict.fromkeys((*self._asked, *sorted(allowed)) if names is None else names)
        seen = set()
        for name in named:
            for binary in self.binaries(name):
                for who in self._narrowed(binary):
                    kind = (who.binary.names & self._mentioned, spellings(who.binary) & self._mentioned, who.binary.sha256, who.ancestors)
                    if kind not in seen:
                        seen.add(kind)
                        yield who

    def binaries(self, name: str) -> Iterator[Binary]:
        """Files that a name can stand for, by what their paths say: for a family each member, and one whose path only its globs match.

        A base name stands for files wherever the sandbox's PATH leads; so in the directory of a glob there may be each of the others.
        """
        families = load_families()
        if name not in families.by_name:
            yield from self._files(name, name)
            if "/" in name and set(_WILD) & set(name):
                directory = name.rpartition("/")[0]
                inside = {f"{directory}/{base}" for base in self._bases if fnmatchcase(f"{directory}/{base}", name)}
                yield from (binary for path in sorted(inside) for binary in self._files(name, path))
            return
        family = families.expand(name)
        members = (*family.executables, *family.scripts)
        plain = [member for member in members if not set(_WILD) & set(member)]
        yield from (binary for path in sorted(plain, key=lambda member: member != name) for binary in self._files(name, path))
        if len(plain) < len(members):
            yield Binary.named(name)

    def _files(self, name: str, path: str) -> Iterator[Binary]:
        """The file at a path: with the names that the whole path has, and where PATH may lead there, those of its base name too."""
        families, base = load_families(), path.rpartition("/")[2]
        globs = {other for other in self._mentioned if set(_WILD) & set(other)}
        known = globs | ({path, base} & self._mentioned)
        names = families.of(path, known) | {name, path}
        yield Binary(name, names, path)
        if base != path and (found := families.of(base, known)) - names:
            yield Binary(name, names | found, path)

    @functools.cached_property
    def _bases(self) -> frozenset[str]:
        """Base names that the policies' binaries have."""
        families = (load_families().expand(name) for name in self._mentioned)
        entries = {entry for family in families for entry in (*family.executables, *family.scripts)}
        return frozenset(entry for entry in entries if not set("/" + _WILD) & set(entry))

    def _narrowed(self, binary: Binary) -> Iterator[Who]:
        rules = [
            rule
            for policy in (self.policies if self._narrow else ())
            for rule in policy.rules
            if not binary.names.isdisjoint(rule.binary.allow)
        ]
        hashes = ["", *dict.fromkeys(value for rule in rules for value in rule.sha256)]
        ancestries = self._ancestries(sorted({name for rule in rules for name in rule.ancestors}))
        for sha256, ancestors in itertools.product(hashes, ancestries):
            yield Who(Binary(binary.name, binary.names, binary.path, binary.script, sha256), ancestors)

    @functools.cached_property
    def _narrow(self) -> bool:
        return any(rule.sha256 or rule.ancestors for policy in self.policies for rule in policy.rules)

    def _ancestries(self, names: list[str]) -> list[tuple[str, ...]]:
        """Every combination of ancestors that rules tell apart. Raises TooComplexError beyond a few names."""
        kinds: dict[frozenset[str], str] = {}
        for name in names:
            family = load_families().expand(name)
            for member in (name, *family.executables, *family.scripts):
                spelling = member.replace("*", "x").replace("?", "x")
                kind = frozenset(other for other in names if started_by((spelling,), (other,)))
                if kind:
                    kinds.setdefault(kind, spelling)
        if len(kinds) > _ANCESTORS:
            raise TooComplexError(f"one binary's rules tell more than {_ANCESTORS} kinds of ancestors apart")
        return [chosen for size in range(len(kinds) + 1) for chosen in itertools.combinations(kinds.values(), size)]

    # Both together.

    def cells(self, who: Who, policy: Policy, within: HostPattern | None = None) -> Iterator[Cell]:
        """Every kind of place that a policy opens to an asker, or closes again; within: those of them that an entry covers too."""
        seen: set[tuple[str, int]] = set()
        for rule in self._rules(who, policy):
            for pattern in rule.destination.allow:
                common = pattern if within is None else _common(pattern, within)
                for where, port in itertools.product(self.hosts(common), rule.ports_for(pattern)) if common else ():
                    if (where.host, port) not in seen and (within is None or within.port in (None, port)):
                        seen.add((where.host, port))
                        yield self.cell(who, where, port, policy)

    def cell(self, who: Who, where: Where, port: int, policy: Policy) -> Cell:
        return Cell(who, where, port, rule_on(Request(who.binary, where.host, port, ancestors=who.ancestors), policy))

    def _rules(self, who: Who, policy: Policy) -> Iterable[Rule]:
        reach = policy.index.reach
        return itertools.chain.from_iterable(reach[name].rules for name in sorted(who.binary.names) if name in reach)


def _suffixes(name: str) -> Iterator[str]:
    """What stands behind each dot; nothing for an address."""
    if as_address(name) is None:
        dot = name.find(".")
        while dot >= 0:
            yield name[dot + 1 :]
            dot = name.find(".", dot + 1)


def network_of(pattern: HostPattern) -> Network | None:
    """What an entry covers when it is an address or a CIDR."""
    if pattern.network is not None:
        return pattern.network
    address = as_address(pattern.value) if pattern.kind == "name" else None
    return None if address is None else _single(pattern.value)


@functools.lru_cache(maxsize=4096)
def _single(address: str) -> Network:
    return ipaddress.ip_network(address)


def _within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.prefixlen >= outer.prefixlen and inner.network_address in outer


def _common(a: HostPattern, b: HostPattern) -> HostPattern | None:
    """What two entries both cover: one of them, for they lie inside each other or apart."""
    if not a.overlaps(b):
        return None
    if a.kind == "any" or b.kind == "any":
        return b if a.kind == "any" else a
    if a.kind == "name" or b.kind == "name":
        return a if a.kind == "name" else b
    if a.network is not None and b.network is not None:
        return a if a.network.prefixlen >= b.network.prefixlen else b
    return a if len(a.value) >= len(b.value) else b
