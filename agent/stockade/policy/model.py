"""The policy as one value: what may run, what it may reach, under which generation. Owns no parsing and no deciding."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stockade.policy.compact import compact
from stockade.policy.format.document import NOWHERE, Place
from stockade.policy.format.origins import Origins
from stockade.policy.format.problems import Problem
from stockade.policy.hosts import LOCALHOST, HostPattern, Network, as_address
from stockade.policy.index import Index, build
from stockade.policy.literals import disjoint
from stockade.policy.neighbour import Neighbour, Visitor
from stockade.policy.paths import PathList
from stockade.policy.privacy import Privacy
from stockade.policy.rego.module import Rego
from stockade.types import Binary, Decision, Effect, Level, Outcome, Reason

WEB_PORTS = (443, 80)
TLS_PORTS = (443,)
MODEL_PORTS = (11434, 8000)  # Ollama; vLLM and NIM


@compact()
@dataclass(frozen=True, slots=True)
class Names:
    """Binaries or methods of a rule, in the order written."""

    allow: tuple[str, ...]
    deny: tuple[str, ...] = ()


@compact()
@dataclass(frozen=True, slots=True)
class Destination:
    """addresses: where a host of this rule may lie; empty: at any public address, and a private one as the host is named exactly."""

    allow: tuple[HostPattern, ...]
    deny: tuple[HostPattern, ...] = ()
    addresses: tuple[Network, ...] = ()


@compact()
@dataclass(frozen=True, slots=True)
class Paths:
    allow: PathList
    deny: PathList


@compact(why="", place=NOWHERE)
@dataclass(frozen=True, slots=True)
class Rule:
    """One network rule. With method and path it is inspected; without both it is relayed (`tls: passthrough` or `protocol: tcp`).

    ports: as written, empty when the rule names none. ancestors: binaries one of which must have started the binary's process, directly or
    not; empty: anybody. sha256: hex hashes one of which the binary's file must have; empty: any. scan: categories of data that a request
    may not carry; on_found: what becomes of one that does. position: its place in the policy, from 0.
    """

    name: str
    binary: Names
    destination: Destination
    ports: tuple[int, ...] = ()
    method: Names | None = None
    path: Paths | None = None
    tls: Literal["inspect", "passthrough"] = "inspect"
    protocol: Literal["http", "tcp"] = "http"
    ancestors: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()
    scan: tuple[str, ...] = ()
    on_found: Literal["deny", "redact"] = "deny"
    why: str = ""
    position: int = 0
    place: Place = NOWHERE
    models: tuple[int, ...] = MODEL_PORTS

    @property
    def inspected(self) -> bool:
        return self.method is not None

    def ports_for(self, pattern: HostPattern) -> tuple[int, ...]:
        """The ports that a destination entry of this rule opens."""
        if pattern.port is not None:
            return (pattern.port,)
        if self.ports:
            return self.ports
        if pattern.value == LOCALHOST:
            return self.models
        return WEB_PORTS if self.inspected else TLS_PORTS


@dataclass(frozen=True, slots=True)
class Exec:
    """What may run. allow already holds the binaries of rules whose document says nothing about exec; the agent adds CMD's own file.

    env: variables of policies/loader_variables.yaml that a binary with network rules may nevertheless be started with.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    unlisted: Literal["refuse", "no-network"] = "refuse"
    writable: bool = False
    env: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Filesystem:
    """Absolute paths. read and write are empty when the policy leaves them to the default (system read; workdir and /tmp write)."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    hide: tuple[str, ...] = ()
    count: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seccomp:
    """System calls by name: allowed beyond the built-in list, and refused of it. A denial counts more."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


DEFAULT_PIDS = 4096  # where process.pids is not stated: no sandbox may fill the machine's table


@dataclass(frozen=True, slots=True)
class Process:
    """env: pairs of name and value; the value None means inherited from whoever started Stockade. memory: bytes. cpu: cores."""

    user: str | None = None
    env: tuple[tuple[str, str | None], ...] = ()
    pids: int | None = None
    memory: int | None = None
    cpu: float | None = None
    devices: tuple[str, ...] = ()
    seccomp: Seccomp = Seccomp()


@dataclass(frozen=True, slots=True)
class Inbound:
    """A port of the sandbox that is open to others, over TCP. sources: who may connect, at least one."""

    port: int
    sources: tuple[Network | Neighbour, ...]

    @property
    def networks(self) -> tuple[Network, ...]:
        """Those sources that come to a port of the host."""
        return tuple(source for source in self.sources if not isinstance(source, Neighbour))

    def admits(self, visitor: Visitor) -> bool:
        if isinstance(visitor, Neighbour):
            return visitor in self.sources
        return any(visitor.version == network.version and visitor in network for network in self.networks)


# What a pickled policy leaves behind, and has instead.
_EXPLAINS: dict[str, Any] = {"index": None, "sources": (), "warnings": (), "origins": Origins()}


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy, composed and checked. sources: every file that was read for it. warnings: what its author should look at.

    sandbox: the name of the one it is in force for, which Rego is told."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    mode: Literal["enforce", "observe"] = "enforce"
    best_effort: frozenset[str] = frozenset()
    exec: Exec = Exec()
    filesystem: Filesystem = Filesystem()
    process: Process = Process()
    inbound: tuple[Inbound, ...] = ()
    on_audit_failure: Literal["deny", "continue"] = "deny"
    rules: tuple[Rule, ...] = ()
    rego: Rego | None = None
    privacy: Privacy | None = None
    sandbox: str = ""
    sources: tuple[Path, ...] = ()
    generation: int = 1
    warnings: tuple[Problem, ...] = ()
    origins: Origins = field(default=Origins(), repr=False, compare=False)
    index: Index = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", build(self.rules))

    def __getstate__(self) -> dict[str, Any]:
        """For the worker, at each reload: what decides, and nothing that only explains. The index is built anew from the rules."""
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name not in _EXPLAINS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in (_EXPLAINS | state).items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "index", build(self.rules))

    def with_generation(self, generation: int) -> Policy:
        return dataclasses.replace(self, generation=generation)

    @property
    def enforced(self) -> bool:
        """Whether a denial is carried out."""
        return self.mode == "enforce"

    def binary_names(self) -> tuple[str, ...]:
        """Every binary the policy names, the denied ones too: what must be enrolled. `may_exec` says which of them may run."""
        names = [name for rule in self.rules for name in (*rule.binary.allow, *rule.binary.deny)]
        return tuple(dict.fromkeys([*names, *self.exec.allow, *self.exec.deny]))

    def network_names(self) -> frozenset[str]:
        """The binaries that have network rules, or that Rego may allow something: they are held to the list of loader variables."""
        ruled = frozenset(name for rule in self.rules for name in rule.binary.allow)
        if self.rego is None:
            return ruled
        named = self.rego.binaries()
        return ruled | (frozenset(self.exec.allow) if named is None else named.intersection(self.exec.allow))

    def may_exec(self, binary: Binary) -> Decision:
        """Whether a file may be executed.

        A deny also covers a file by its base name or path: it must not depend on how families overlap.
        """
        path = binary.script or binary.path
        spelt = binary.names | {path, path.rpartition("/")[2]}
        if not spelt.isdisjoint(self.exec.deny):
            return self._exec(Outcome.DENY, Reason.EXEC_DENIED)
        if not binary.names.isdisjoint(self.exec.allow):
            return self._exec(Outcome.ALLOW, Reason.EXEC_ALLOWED)
        outcome = Outcome.DENY if self.exec.unlisted == "refuse" else Outcome.ALLOW
        return self._exec(outcome, Reason.EXEC_UNLISTED)

    def _exec(self, outcome: Outcome, reason: Reason) -> Decision:
        allowed = outcome is Outcome.ALLOW
        effect = Effect.PASS if allowed else Effect.REFUSE
        return Decision(outcome, effect, Level.EXEC, reason, None, self.generation, enforced=allowed or self.enforced)

    def admits(self, port: int, visitor: Visitor) -> bool:
        """Whether a connection of theirs may come in. `mode: observe` does not change it: it is about what the sandbox does."""
        return any(each.port == port and each.admits(visitor) for each in self.inbound)

    def ports_for(self, host: str) -> tuple[int, ...]:
        """Every port that some rule, or Rego, may open on a normalised host, sorted: what the kernel compiler enumerates for a name."""
        ruled = {port for entry in self.index.reaching(host) for port in entry.ports}
        return tuple(sorted(ruled | (self.rego.ports_for(host) if self.rego else frozenset())))

    def literals(self) -> tuple[tuple[Network, tuple[int, ...]], ...]:
        """Destinations given as address or CIDR, with the ports that some rule opens there; a single address is a /32 or /128.

        The networks are disjoint, cut along every border that an allow or deny list draws: any address of one stands for all of it, so the
        kernel compiler decides once per network and needs no notion of nested ones.
        """
        stated = self.rego.hosts() if self.rego else frozenset()
        return disjoint(self.rules, [(address, self.ports_for(host)) for host in stated if (address := as_address(host)) is not None])

    def host_services(self) -> tuple[int, ...]:
        """Ports of the host's own loopback that rules on `localhost` open, sorted; those of Rego when it names that host and its port."""
        local = {port for rule, pattern in self._destinations() if pattern.value == LOCALHOST for port in rule.ports_for(pattern)}
        stated = {scope.port for scope in self.rego.scopes if scope.host == LOCALHOST and scope.port} if self.rego else set()
        return tuple(sorted(local | stated))

    def ports(self) -> tuple[int, ...]:
        """Every port that any rule opens on any host, sorted."""
        return tuple(sorted({port for rule, pattern in self._destinations() for port in rule.ports_for(pattern)}))

    def _destinations(self) -> Iterator[tuple[Rule, HostPattern]]:
        return ((rule, pattern) for rule in self.rules for pattern in rule.destination.allow)
