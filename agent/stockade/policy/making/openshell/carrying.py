"""Importing: a policy of OpenShell's carried over into ours, never looser than it was.

Every doubt is decided towards deny. What theirs allows is carried over when ours can say it exactly or more narrowly, else it is a loss.
What theirs denies is carried over into every rule that it could concern, whoever the binary is: there a denial also holds for what a binary
started. The same goes for an endpoint that is left out because it looks into bodies: what it covered, no other rule may open.
"""

from __future__ import annotations

import ipaddress
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from stockade.policy.families import load_families
from stockade.policy.format.document import Findings, Place
from stockade.policy.format.problems import PolicyError
from stockade.policy.hosts import HostError, parse_pattern
from stockade.policy.load import load
from stockade.policy.making.openshell.globs import ANY, crosses_inside, narrow, wide
from stockade.policy.making.openshell.hosts import covers, overlap, unusable
from stockade.policy.making.openshell.reading import Endpoint, Entry, Foreign, Kind, Loss, read
from stockade.policy.making.openshell.static import files, user
from stockade.policy.making.writing import Line, PolicyText, RuleText, as_yaml, unique
from stockade.policy.paths import deny_list
from stockade.types import StockadeError

ENCODED_SLASH = "/**/*%2F*"
_BINARY = re.compile(r"/[^\s?\[\]{}<>\\]+")

_GIVEN = re.compile(r"(?:[A-Za-z0-9_]|/[^/*])[A-Za-z0-9._+/-]*")

NOTES = (
    "Nothing here allows what the original does not. In every rule it is also narrower where the languages differ:",
    "- a binary is one executable, where theirs also means whatever it started: of that only the helpers of its family are here;",
    "- what else may run has to be listed under exec.allow;",
    "- `*` in a path stays within its segment, and `/**/` is one segment or more;",
    "- the name in the TLS handshake must be the host's, also where nobody looks inside.",
)


@dataclass(frozen=True, slots=True)
class Imported:
    """policy: ours, checked by loading it. losses: what of theirs is not in it, in the order of the file."""

    policy: PolicyText
    losses: tuple[Loss, ...]


def import_file(path: Path, *, binaries: Sequence[str] = (), hosts: Sequence[str] = ()) -> Imported:
    """One of their files as a policy of ours.

    binaries: who shall use the entries that name no binary. hosts: the hosts meant by patterns that ours cannot say exactly; of these only
    what their pattern covers counts. Raises PolicyError when the file is none of theirs, StockadeError when it cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StockadeError(f"cannot read {path}: {error.strerror}", hint="name a policy file", code="unreadable") from None
    findings = Findings()
    foreign = read(data, str(path), findings)
    if foreign is None:
        raise PolicyError(findings.problems)
    return carry(foreign, path.name, binaries=binaries, hosts=hosts)


def carry(foreign: Foreign, source: str, *, binaries: Sequence[str] = (), hosts: Sequence[str] = ()) -> Imported:
    """source: the name of the file, for the comments. Raises StockadeError for a binary or host that no policy could hold."""
    for name in binaries:
        if not _GIVEN.fullmatch(name) or ".." in name:
            raise StockadeError(f"--binary {name} is no binary", hint="curl, /usr/bin/curl", code="bad_binary")
    given = tuple(_given_host(host) for host in hosts)
    carrier = _Carrier(foreign, tuple(binaries), given)
    rules = tuple(carrier.rules())
    read_paths, write_paths = files(foreign, carrier.losses)
    runs_as = user(foreign, carrier.losses)
    losses = tuple(sorted(dict.fromkeys([*foreign.losses, *carrier.losses]), key=lambda loss: (loss.place.line, loss.place.column)))
    lost = [f"- line {loss.place.line}: {loss.kind.replace('_', ' ')}: {loss.message} [{loss.code}]" for loss in losses]
    policy = PolicyText(
        name=unique(foreign.name or source.partition(".")[0], ()),
        rules=rules,
        best_effort=("landlock",) if foreign.best_effort else (),
        read=read_paths,
        write=write_paths,
        user=runs_as,
        notes=(f"Imported from {source}.", "", *NOTES, *(("", "Left out or narrowed:", *lost) if lost else ())),
    )
    _demand_loads(policy)
    return Imported(policy, losses)


def _given_host(text: str) -> str:
    try:
        pattern = parse_pattern(text)
    except HostError as error:
        raise StockadeError(f"--host {text}: {error}", hint=error.accepted, code=error.code) from None
    if pattern.kind != "name" or pattern.port is not None:
        raise StockadeError(f"--host {text} is no single host", hint="api.example.com", code="bad_host")
    return pattern.value


def _demand_loads(policy: PolicyText) -> None:
    """Whatever is printed loads; anything else is a mistake of this module, and is not printed."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "imported.yaml"
        file.write_text(as_yaml(policy), encoding="utf-8")
        try:
            load([file])
        except PolicyError as error:
            said = "; ".join(f"{problem.message} [{problem.code}]" for problem in error.problems)
            raise StockadeError(f"what came out does not load: {said}", hint="please report the file", code="import") from None


@dataclass(frozen=True, slots=True)
class _Denial:
    """methods: `*` alone for any. path: theirs. whole: it stands for an endpoint that is left out."""

    host: str
    ports: tuple[int, ...]
    methods: tuple[str, ...]
    path: str
    place: Place
    whole: bool


@dataclass(slots=True)
class _Draft:
    """A rule in the making."""

    methods: list[str]
    paths: dict[str, Line]
    methods_denied: list[str] = field(default_factory=list)
    denied: dict[str, Line] = field(default_factory=dict)


class _Carrier:
    def __init__(self, foreign: Foreign, binaries: tuple[str, ...], hosts: tuple[str, ...]) -> None:
        self.foreign, self.given, self.hosts = foreign, binaries, hosts
        self.losses: list[Loss] = []
        self.endpoints = [endpoint for entry in foreign.entries for endpoint in entry.endpoints]
        self.denials = [denial for endpoint in self.endpoints for denial in _denials(endpoint)]

    def rules(self) -> Iterator[RuleText]:
        taken: list[str] = []
        for entry in self.foreign.entries:
            binaries = self._binaries(entry)
            made = [rule for endpoint in entry.endpoints for rule in self._endpoint(entry, endpoint, binaries)]
            for rule in made:
                host = rule.hosts[0].removeprefix("*.")
                taken.append(unique(entry.key if len(made) == 1 else f"{entry.key[:32]}-{host}", taken))
                yield replace(rule, name=taken[-1])
                for path in rule.binaries:
                    if started := _started_by(path):
                        notes = (f"what {path} starts to do its work",)
                        taken.append(unique(f"{taken[-1][:40]}-{path.rpartition('/')[2]}-helpers", taken))
                        yield replace(rule, name=taken[-1], binaries=started, ancestors=(path,), notes=notes)

    def _lose(self, kind: Kind, place: Place, code: str, message: str) -> None:
        self.losses.append(Loss(kind, place, code, message))

    def _binaries(self, entry: Entry) -> tuple[str, ...]:
        if entry.binaries is None:
            if self.given:
                self._lose("narrowed", entry.place, "binaries_given", f"`{entry.key}` names no binary; now {', '.join(self.given)}")
            else:
                self._lose("left_out", entry.place, "no_binaries", f"`{entry.key}` names no binary: say who with --binary")
            return self.given
        kept = []
        for text, place in entry.binaries:
            broad = "**" in text or text.startswith("/*")
            if not text:
                continue
            if broad or not _BINARY.fullmatch(text) or ".." in text.split("/") or not text.isprintable():
                what = "stands for any program" if broad else "is no absolute path that a rule could hold"
                self._lose("left_out", place, "binary", f"the binary `{text}` {what}")
            else:
                kept.append(text)
        return tuple(dict.fromkeys(kept))

    # One endpoint.

    def _endpoint(self, entry: Entry, endpoint: Endpoint, binaries: tuple[str, ...]) -> Iterator[RuleText]:
        if endpoint.opaque or not binaries:
            return
        hosts = self._hosts(endpoint)
        addresses = self._addresses(endpoint)
        if not hosts or addresses is None:
            return
        if not endpoint.ports:
            self._lose("left_out", endpoint.place, "no_port", f"{endpoint.host} has no port, so nothing reaches it there either")
            return
        for middleware in self.foreign.middlewares:
            if not middleware.hosts or any(overlap(endpoint.host, host) for host in middleware.hosts):
                message = f"{endpoint.host}: middleware `{middleware.key}` changes or refuses its requests there, and nothing does here"
                self._lose("left_out", endpoint.place, "middleware", message)
                return
        if endpoint.inspected or self._alone(endpoint):
            self.losses += endpoint.narrowings
            yield from self._opened(entry, endpoint, binaries, hosts, addresses)

    def _opened(
        self, entry: Entry, endpoint: Endpoint, binaries: tuple[str, ...], hosts: tuple[str, ...], addresses: tuple[str, ...]
    ) -> Iterator[RuleText]:
        notes = (f"line {endpoint.place.line}: network_policies.{entry.key}, {endpoint.host}",)
        if endpoint.inspected:
            for draft in self._inspected(endpoint, hosts):
                yield RuleText(
                    name=entry.key,
                    binaries=binaries,
                    hosts=hosts,
                    ports=endpoint.ports,
                    methods=tuple(draft.methods),
                    methods_denied=tuple(draft.methods_denied),
                    paths=tuple(draft.paths.values()),
                    paths_denied=tuple(draft.denied.values()),
                    addresses=addresses,
                    notes=notes,
                )
        else:
            for relayed, ports in _relays(endpoint):
                yield RuleText(entry.key, binaries, hosts, ports, addresses=addresses, relayed=relayed, notes=notes)

    def _hosts(self, endpoint: Endpoint) -> tuple[str, ...]:
        host = endpoint.host.lower()
        if not host:
            self._lose("left_out", endpoint.place, "no_host", "an endpoint without a host is any name that leads to its addresses")
            return ()
        if "*" in host.removeprefix("**."):
            listed = tuple(name for name in self.hosts if covers(host, name))
            if listed:
                self._lose("narrowed", endpoint.place, "hosts_given", f"`{endpoint.host}` is {', '.join(listed)} now")
            else:
                message = f"`{endpoint.host}` is one label there; a star here covers any number: name the hosts that you need with --host"
                self._lose("left_out", endpoint.place, "host_pattern", message)
            return listed
        ours = "*." + host.removeprefix("**.") if host.startswith("**.") else host
        if why := unusable(ours):
            self._lose("left_out", endpoint.place, "host", f"`{endpoint.host}` {why}")
            return ()
        return (ours,)

    def _addresses(self, endpoint: Endpoint) -> tuple[str, ...] | None:
        """None when a bound on addresses cannot be read: without it the rule would be wider."""
        found = []
        for text, place in endpoint.addresses:
            try:
                found.append(str(ipaddress.ip_network(text, strict=False)))
            except ValueError:
                self._lose("left_out", place, "allowed_ips", f"`{text}` is no address, so {endpoint.host} has no bound that could be held")
                return None
        return tuple(dict.fromkeys(found))

    def _alone(self, endpoint: Endpoint) -> bool:
        """Whether nobody looks inside there: an inspected endpoint at the same host and port would, for some of the callers."""
        for other in self.endpoints:
            if (other.inspected or other.opaque) and _share(endpoint, other.host, other.ports):
                message = f"{endpoint.host}: line {other.place.line} inspects the same host and port, and relaying would go around it"
                self._lose("left_out", endpoint.place, "overlap", message)
                return False
        return True

    def _inspected(self, endpoint: Endpoint, hosts: tuple[str, ...]) -> Iterator[_Draft]:
        by_method: dict[str, dict[str, Line]] = {}
        for access in endpoint.allows:
            glob = self._allowed_path(endpoint, access.path, access.place)
            if glob is not None:
                note = f"{access.path} there" if glob != access.path and not (glob == "/**" and access.path in ANY) else ""
                for method in access.methods:
                    by_method.setdefault(method, {}).setdefault(glob, Line(glob, note))
        # Methods that share their paths share a rule: a rule allows each of its methods on each of its paths.
        groups: dict[frozenset[str], _Draft] = {}
        for method, paths in by_method.items():
            groups.setdefault(frozenset(paths), _Draft([], dict(paths))).methods.append(method)
        spoken = list(by_method)
        for draft in groups.values():
            self._deny(endpoint, hosts, draft, spoken)
            if draft.methods and draft.paths:
                yield draft

    def _allowed_path(self, endpoint: Endpoint, path: str, place: Place) -> str | None:
        scope = endpoint.scope
        if path in ANY:
            path = scope or "**"
        elif scope not in ANY and path != scope:
            below = scope.removesuffix("**")
            if "*" in below or not scope.endswith("/**") or not path.startswith(below):
                self._lose("left_out", place, "scope", f"`{path}` within the endpoint's `{scope}` cannot be said in one glob")
                return None
        glob = narrow(path, encoded_slash=endpoint.encoded_slash)
        if glob is None:
            self._lose("left_out", place, "path", f"`{path}` cannot be said exactly: a glob here has `*`, and `**` between slashes")
        elif crosses_inside(path):
            self._lose("narrowed", place, "path", f"`{path}` ends with its segment here: {glob}")
        return glob

    def _deny(self, endpoint: Endpoint, hosts: tuple[str, ...], draft: _Draft, spoken: list[str]) -> None:
        """Take from a draft what any denial of the file may mean for it. spoken: every method of the endpoint."""
        concerned = [
            denial
            for denial in self.denials
            if not set(denial.ports).isdisjoint(endpoint.ports) and any(overlap(host, denial.host) for host in (endpoint.host, *hosts))
        ]
        for denial in sorted(concerned, key=lambda denial: denial.path not in ANY):  # those of whole methods first
            hit = [method for method in draft.methods if denial.methods[0] == "*" or method in denial.methods]
            globs = wide(denial.path) if hit else ()
            if not globs:
                continue
            if "/**" in globs:
                draft.methods = [method for method in draft.methods if method not in hit]
                draft.methods_denied += [method for method in hit if method not in draft.methods_denied]
                if denial.whole:
                    message = f"{endpoint.host}: line {denial.place.line} covers all of it, and is left out"
                    self._lose("left_out", endpoint.place, "overlap", message)
                continue
            # A denied path vetoes whatever the method, in every rule of the binary for this host.
            more = [] if denial.methods[0] == "*" else [method for method in spoken if method not in denial.methods]
            if more:
                message = f"{denial.path} is denied for {', '.join(denial.methods)} there; here also for {', '.join(more)}"
                self._lose("narrowed", denial.place, "deny_any_method", message)
            if denial.whole:
                message = f"{endpoint.host}: what line {denial.place.line} covers, {denial.path}, is left out with it"
                self._lose("narrowed", endpoint.place, "overlap", message)
            for glob in globs:
                draft.denied.setdefault(glob, Line(glob, f"line {denial.place.line}"))
        closed = deny_list(draft.denied)
        draft.paths = {glob: line for glob, line in draft.paths.items() if not _shut(glob, draft.denied, closed.matches(glob))}
        if not endpoint.encoded_slash and any("*" in glob for glob in draft.paths):
            draft.denied[ENCODED_SLASH] = Line(ENCODED_SLASH, "refused there too, unless allow_encoded_slash")


def _started_by(path: str) -> tuple[str, ...]:
    """Families of a program that starts others of them to reach the network for it, as git does: theirs allows whatever it started."""
    families = load_families()
    found = (families.expand(name) for name in sorted(families.of(path)))
    return tuple(family.name for family in found if any(other.startswith("/") and other != path for other in family.executables))


def _denials(endpoint: Endpoint) -> Iterator[_Denial]:
    scope = endpoint.scope or "**"
    if endpoint.opaque:
        yield _Denial(endpoint.host, endpoint.ports, ("*",), scope, endpoint.place, True)
    for denied in endpoint.denies:
        path = scope if denied.path in ANY else denied.path
        yield _Denial(endpoint.host, endpoint.ports, denied.methods, path, denied.place, False)


def _relays(endpoint: Endpoint) -> Iterator[tuple[Literal["passthrough", "tcp"], tuple[int, ...]]]:
    """Where TLS is spoken for certain the name in its handshake is demanded; elsewhere it is checked when it is there."""
    if endpoint.tcp:
        yield "tcp", endpoint.ports
        return
    secure = tuple(port for port in endpoint.ports if port == 443 or endpoint.skip)
    if secure:
        yield "passthrough", secure
    if plain := tuple(port for port in endpoint.ports if port not in secure):
        yield "tcp", plain


def _share(endpoint: Endpoint, host: str, ports: tuple[int, ...]) -> bool:
    return not set(endpoint.ports).isdisjoint(ports) and overlap(endpoint.host, host)


def _shut(glob: str, denied: dict[str, Line], literal: bool) -> bool:
    """Whether an allow glob is denied as a whole, as far as its text says."""
    if "*" not in glob:
        return literal
    return any(glob == other or (other.endswith("/**") and glob.startswith(other.removesuffix("**"))) for other in denied)
