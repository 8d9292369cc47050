"""One governed sandbox: its policy in force, its binaries and names, and what of both the kernel has been told.

Owns the translation between the kernel's numbers (identity, name, exec id) and what people read. Decides nothing but through decide().
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping

from stockade.dns import SyntheticTable
from stockade.kernel import abi
from stockade.kernel.maps import Maps
from stockade.policy import Policy, decide, loader_variables
from stockade.policy.own import HOST, PORT
from stockade.sandbox.cgroup import Cgroup
from stockade.sandbox.roster import Enrolment, Roster
from stockade.service.static import demand_same
from stockade.types import FORGOTTEN, UNKNOWN_BINARY, Binary, Decision, Effect, Record, Request, Sandbox

LOCALHOST = "localhost"
REMEMBERED = 8  # policies of the past, for events that were under way when they were replaced
ANCESTORS = 64  # different files that a process is known to come from
_EXECS_REMEMBERED = 65536


@dataclasses.dataclass(frozen=True, slots=True)
class Exec:
    """An admitted exec: what it became, and the files of the execs that its process came from, nearest first, each once.

    place: in which of the sandbox's cgroups, where it has several.
    """

    binary: Binary
    ancestry: tuple[str, ...] = ()
    place: int = 0


class Governed:
    """number: the sandbox's in kernel maps and on the worker's channel."""

    def __init__(
        self, number: int, sandbox: Sandbox, cgroup: Cgroup, policy: Policy, roster: Roster, maps: Maps, network: abi.Network
    ) -> None:
        self.number, self.sandbox, self.cgroup = number, sandbox, cgroup
        self.policy, self.roster, self._maps = policy, roster, maps
        self.init: int | None = None  # PID of the sandbox's init, once it runs
        self.table = SyntheticTable(network.v4, network.v6)
        self._policies = {policy.generation: policy}
        self._execs: OrderedDict[int, Exec] = OrderedDict()
        self._facts: dict[int, abi.FileFacts] = {}
        self._published: dict[int, set[int]] = {}  # generation → names whose verdicts are in the kernel
        self.named: Callable[[int, str], None] = lambda _index, _name: None  # keeps a name for the next agent; raises OSError
        self._kept: set[int] = set()

    # told to the kernel

    @property
    def flags(self) -> abi.SandboxFlag:
        return self.flags_of(self.policy)

    def flags_of(self, policy: Policy) -> abi.SandboxFlag:
        """What the kernel must know of a sandbox under this policy, beside its verdicts."""
        return _flags(policy)

    def enrol(self) -> None:
        """Files, scripts and loader variables: static. Raises OSError when a map is full or a file has a name too long."""
        for pattern in loader_variables():
            if pattern not in self.policy.exec.env:
                self._maps.refuse_variable(self.number, pattern)
        self._maps.require_variable(self.number, "PYTHONNOUSERSITE=1")
        self._take_up(self.roster)

    def _take_up(self, roster: Roster) -> None:
        networked = self._networked_numbers(self.policy, roster)
        for enrolment in roster:
            if not enrolment.scripts:
                self._facts[enrolment.number] = self._maps.facts(enrolment.file.descriptor)
            self._enrol(enrolment, enrolment.number in networked)
        for loader in roster.loaders:  # last: no policy can make ld.so a program
            self._maps.enrol(self.number, self._maps.facts(loader.descriptor), 0, abi.BinaryFlag.LOADER)

    @property
    def facts(self) -> dict[int, abi.FileFacts]:
        """Of each enrolled file, by its number, as it was at start."""
        return dict(self._facts)

    def resume(self, policy: Policy, in_force: int, facts: Mapping[int, abi.FileFacts], names: Iterable[tuple[int, str]]) -> list[str]:
        """Go on where a dead agent left off, under this policy: its generation is above every one that is in the kernel.

        in_force: the kernel's. facts: as enrolled. A file that is not what it was is executed by nobody any more, and what runs of it keeps
        its name; returns the paths of these. Raises OSError when a map is full, ValueError for names that cannot have been given.
        """
        self.table.restore(names)
        self._kept.update(index for index, _ in self.table)
        self._policies[in_force] = self.policy
        self._facts = dict(facts)
        changed = [enrolment for enrolment in self.roster if not enrolment.scripts and not self._is_as_enrolled(enrolment)]
        self.compile(policy)
        networked = self._networked_numbers(policy)
        for enrolment in self.roster:  # each again: which of them had network rules when the agent died is not known for sure
            if enrolment in changed:
                self._maps.strike(self.number, self._facts[enrolment.number])
            else:
                self._enrol(enrolment, enrolment.number in networked)
        self.policy = policy
        self.switch(policy)
        self.forget_others()
        return sorted({enrolment.file.path for enrolment in changed})

    def _is_as_enrolled(self, enrolment: Enrolment) -> bool:
        if enrolment.file.descriptor < 0:
            return False
        return dataclasses.replace(self._maps.facts(enrolment.file.descriptor), nlink=0) == dataclasses.replace(
            self._facts[enrolment.number], nlink=0
        )

    def _enrol(self, enrolment: Enrolment, networked: bool) -> None:
        """As the file was when the sandbox started: one that has changed since is not looked at again."""
        flags = _binary_flags(enrolment, networked)
        if not enrolment.scripts:
            self._maps.enrol(self.number, self._facts[enrolment.number], enrolment.number, flags)
        for path in enrolment.scripts:
            number, carried = enrolment.script_number, enrolment.carried
            self._maps.enrol_script(self.number, enrolment.interpreter, path, enrolment.number, flags, number, carried=carried)

    def _guard(self, policy: Policy) -> None:
        """Refuse loader variables to the binaries that have network rules under this policy, and only to these.

        A process that was started with some before its binary had rules has no identity (bpf/exec.c): it is not among those they are for.
        """
        before, after = self._networked_numbers(self.policy), self._networked_numbers(policy)
        for number in before ^ after:
            self._enrol(self.roster.enrolments[number], number in after)

    def _networked_numbers(self, policy: Policy, among: Iterable[Enrolment] | None = None) -> set[int]:
        return {enrolment.number for enrolment in self._networked(policy, among)}

    def publish(self, index: int, name: str) -> None:
        """Put this name's verdicts in force. Raises OSError when the map is full, or the name cannot be kept: then nobody is told of it."""
        if index not in self._kept:
            self.named(index, name)
            self._kept.add(index)
        self._publish(self.policy, [(index, name)])

    def _publish(self, policy: Policy, names: Iterable[tuple[int, str]]) -> None:
        published = self._published.setdefault(policy.generation, set())
        fresh = [(index, name) for index, name in names if index not in published]
        if not fresh:
            return
        networked = self._networked(policy)
        verdicts: list[tuple[int, int, int, abi.Verdict]] = []
        for index, name in fresh:
            verdicts += self._verdicts_for(policy, networked, self.roster, index, name)
        self._maps.set_verdicts(self.number, policy.generation, verdicts)
        published.update(index for index, _ in fresh)

    def _verdicts_for(
        self, policy: Policy, networked: Iterable[Enrolment], everybody: Iterable[Enrolment], index: int, name: str
    ) -> Iterator[tuple[int, int, int, abi.Verdict]]:
        own = name == HOST  # everybody's
        return self._verdicts(policy, everybody if own else networked, index, name, (PORT,) if own else policy.ports_for(name))

    @staticmethod
    def _verdicts(
        policy: Policy, enrolments: Iterable[Enrolment], index: int, name: str, ports: Iterable[int]
    ) -> Iterator[tuple[int, int, int, abi.Verdict]]:
        """(identity, index, port, verdict) of what is not denied: silence denies."""
        for port in ports:
            for enrolment in enrolments:
                verdict = _verdict(decide(Request(enrolment.binary, name, port), policy))
                if verdict is not abi.Verdict.DENY:
                    yield enrolment.number, index, port, verdict

    def _networked(self, policy: Policy, among: Iterable[Enrolment] | None = None) -> list[Enrolment]:
        names = policy.network_names()
        return [enrolment for enrolment in (self.roster if among is None else among) if not enrolment.binary.names.isdisjoint(names)]

    def compile(self, policy: Policy) -> None:
        """Write a whole generation beside the one in force. Raises OSError; the old one then stays.

        May run in a thread of its own, while the loop publishes names under the generation in force.
        """
        self._publish(policy, self.table)
        for port in policy.host_services():
            self._maps.lend_port(self.number, policy.generation, port)
        self._compile_addresses(policy, self._networked(policy))

    def _compile_addresses(self, policy: Policy, networked: list[Enrolment]) -> None:
        """What has no name."""
        verdicts = list(self._verdicts(policy, networked, abi.NAME_LOCALHOST, LOCALHOST, policy.host_services()))
        self._maps.set_verdicts(self.number, policy.generation, verdicts)
        for network, ports in policy.literals():
            for port in ports:
                for enrolment in networked:
                    verdict = _verdict(decide(Request(enrolment.binary, str(network.network_address), port), policy))
                    self._maps.set_literal(self.number, policy.generation, enrolment.number, network, port, verdict)

    def switch(self, policy: Policy) -> None:
        """Put a compiled generation in force, in one map update, names included that were asked for while it was compiled.

        Raises OSError when those do not fit; the old one then stays.
        """
        self._publish(policy, self.table)
        self._guard(policy)
        self._put_in_force(policy)
        self.policy = self._policies[policy.generation] = policy
        self.sandbox = dataclasses.replace(self.sandbox, policy=policy.name, generation=policy.generation, labels=policy.labels)

    def _put_in_force(self, policy: Policy) -> None:
        self._maps.switch(self.number, self.cgroup.id, policy.generation, self.flags_of(policy))

    def demand(self, on_disk: Policy, following: Policy) -> None:
        """Whether a running sandbox can be held to this one instead. Raises PolicyError."""
        demand_same(on_disk, following, frozenset(on_disk.binary_names()).union(*(enrolment.binary.names for enrolment in self.roster)))

    def forget_others(self) -> None:
        """Delete the verdicts of every generation but the one in force; events that are under way still find their policy.

        May run in a thread of its own, while no generation is compiled.
        """
        in_force = self.policy.generation
        self._maps.forget_generations(self.number, but=in_force)
        for generation in [each for each in list(self._published) if each != in_force]:
            del self._published[generation]
        for generation in sorted(self._policies)[:-REMEMBERED]:
            del self._policies[generation]

    # heard from the kernel

    def policy_of(self, generation: int) -> Policy:
        return self._policies.get(generation, self.policy)

    def executed(self, exec_id: int, binary: Binary, parent: int, place: int = 0) -> None:
        self._execs[exec_id] = Exec(binary, self._descent(parent), place)
        if len(self._execs) > _EXECS_REMEMBERED:
            self._execs.popitem(last=False)

    def sandbox_of(self, record: Record) -> Sandbox:
        """As this record names it."""
        return self.sandbox

    def knows(self, exec_id: int) -> bool:
        """Whether this exec's event was read."""
        return exec_id in self._execs

    def binary(self, identity: int, exec_id: int) -> Binary:
        """Who an identity is; a process without one is known by what it executed, and by no name that a rule could match."""
        known = self.roster.binary(identity)
        if known is not None:
            return known
        execed = self._execs.get(exec_id)
        return execed.binary if execed else UNKNOWN_BINARY

    def ancestry(self, exec_id: int) -> tuple[str, ...]:
        """Paths of the execs this one came from, nearest first, each once, at most ANCESTORS."""
        execed = self._execs.get(exec_id)
        if execed is None:  # none, or an exec that was forgotten, or read by an agent before this one
            return (FORGOTTEN,) if exec_id else ()
        return execed.ancestry

    def _descent(self, parent: int) -> tuple[str, ...]:
        """What an exec from this one comes from. Those who go on starting others are remembered longest.

        The full list takes nobody new: what a process comes from cannot be pushed out of it by starting more.
        """
        execed = self._execs.get(parent)
        if execed is None:
            return (FORGOTTEN,) if parent else ()
        self._execs.move_to_end(parent)
        path = execed.binary.script or execed.binary.path
        if path not in execed.ancestry and len(execed.ancestry) == ANCESTORS:
            return execed.ancestry
        return (path, *(other for other in execed.ancestry if other != path))

    def host(self, name: int, address: abi.Address | None) -> str | None:
        """What was dialled: the name behind a synthetic address, `localhost` for a service of the host, or the literal. None: unknown."""
        if name == abi.NAME_LOCALHOST:
            return LOCALHOST
        if name:
            return self.table.name_of(name)
        return str(ipaddress.ip_address(address)) if address is not None else None


def _flags(policy: Policy) -> abi.SandboxFlag:
    flags = abi.SandboxFlag.NONE if policy.enforced else abi.SandboxFlag.OBSERVE
    flags |= abi.SandboxFlag.UNLISTED_RUNS if policy.exec.unlisted == "no-network" else abi.SandboxFlag.NONE
    return flags | (abi.SandboxFlag.NONE if policy.exec.writable else abi.SandboxFlag.SEALED)


def _binary_flags(enrolment: Enrolment, networked: bool) -> abi.BinaryFlag:
    flags = abi.BinaryFlag.RUNS if enrolment.runs else abi.BinaryFlag.NONE
    if networked:
        flags |= abi.BinaryFlag.NETWORK
    if enrolment.isolated:
        flags |= abi.BinaryFlag.ISOLATED
    if enrolment.carrier:
        flags |= abi.BinaryFlag.CARRIES
    if enrolment.binary.identity == "weak":
        flags |= abi.BinaryFlag.WEAK
    return flags


def _verdict(decision: Decision) -> abi.Verdict:
    """What the kernel does about a decision. In observe mode a denial is let through to the worker, which records it."""
    if not decision.allowed:
        return abi.Verdict.DENY
    return abi.Verdict.RELAY if decision.effect is Effect.RELAY else abi.Verdict.INSPECT
