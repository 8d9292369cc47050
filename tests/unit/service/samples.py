"""A governed sandbox without a kernel: a real policy, a roster of three binaries, and maps that keep what was written."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import cast

from stockade.kernel import abi
from stockade.kernel.abi import Event, EventType, Verdict, Why
from stockade.kernel.maps import Maps
from stockade.policy import Policy, load
from stockade.sandbox.cgroup import Cgroup
from stockade.sandbox.roster import Enrolment, File, Roster
from stockade.service.governed import Governed
from stockade.types import Binary, Sandbox

CURL, GIT, LS = (Binary(name, frozenset({name}), f"/usr/bin/{name}") for name in ("curl", "git", "ls"))
NUMBERS = {CURL: 1, GIT: 2, LS: 3}
NUMBER = 7  # of the sandbox

POLICY = """
version: 1
name: test
exec: {allow: [curl, git, ls], deny: [nc]}
network:
  - name: web
    binary: {allow: [curl]}
    destination: {allow: ["*.example.com", api.example.com, 203.0.113.0/24, "2001:db8::/32"], deny: [bad.example.com, 203.0.113.64/26]}
    method: {allow: [GET]}
    path: {allow: ["/**"]}
  - name: code
    binary: {allow: [git]}
    destination: {allow: [git.example.com, 203.0.113.7]}
    port: [443, 9418]
    tls: passthrough
  - name: model
    binary: {allow: [curl]}
    destination: {allow: [localhost]}
    protocol: tcp
"""


class FakeMaps:
    """The maps of the kernel as dicts, looked up as bpf/connect.c does."""

    def __init__(self, room: int = 1 << 20) -> None:
        self.verdicts: dict[tuple[int, int, int, int], Verdict] = {}
        self.literals: dict[tuple[int, int, int, ipaddress.IPv4Network | ipaddress.IPv6Network], Verdict] = {}
        self.services: set[tuple[int, int]] = set()
        self.switched: list[tuple[int, abi.SandboxFlag]] = []
        self.enrolled: dict[int, abi.BinaryFlag] = {}
        self.order: list[str] = []
        self._room = room

    def _take(self, sandbox: int) -> None:
        assert sandbox == NUMBER
        self._room -= 1
        if self._room < 0:
            raise OSError(7, "map full")

    def set_verdicts(self, sandbox: int, generation: int, verdicts: list[tuple[int, int, int, Verdict]]) -> None:
        for identity, name, port, verdict in verdicts:
            self._take(sandbox)
            self.verdicts[generation, identity, name, port] = verdict

    def set_literal(
        self,
        sandbox: int,
        generation: int,
        identity: int,
        network: ipaddress.IPv4Network | ipaddress.IPv6Network,
        port: int,
        verdict: Verdict,
    ) -> None:
        self._take(sandbox)
        self.literals[generation, identity, port, network] = verdict

    def lend_port(self, sandbox: int, generation: int, port: int) -> None:
        self._take(sandbox)
        self.services.add((generation, port))

    def facts(self, _descriptor: int) -> abi.FileFacts:
        return abi.FileFacts(1, 2, 3, 4, 5, 6, 1)

    def refuse_variable(self, sandbox: int, _pattern: str) -> None:
        assert sandbox == NUMBER

    require_variable = refuse_variable

    def enrol(self, sandbox: int, _facts: abi.FileFacts, identity: int, flags: abi.BinaryFlag) -> None:
        assert sandbox == NUMBER
        self.enrolled[identity] = flags
        self.order.append(f"enrol {identity}")

    def switch(self, sandbox: int, cgroup_id: int, generation: int, flags: abi.SandboxFlag) -> None:
        assert sandbox == NUMBER and cgroup_id
        self.switched.append((generation, flags))
        self.order.append("switch")

    def forget_generations(self, sandbox: int, *, but: int) -> None:
        assert sandbox == NUMBER
        self.verdicts = {key: value for key, value in self.verdicts.items() if key[0] == but}
        self.literals = {key: value for key, value in self.literals.items() if key[0] == but}
        self.services = {key for key in self.services if key[0] == but}

    def named(self, generation: int, identity: int, name: int, port: int) -> Verdict:
        return self.verdicts.get((generation, identity, name, port), Verdict.DENY)

    def literal(self, generation: int, identity: int, address: str, port: int) -> Verdict:
        """The longest prefix wins; silence denies."""
        dialled = ipaddress.ip_address(address)
        found = [
            (network.prefixlen, verdict)
            for (a, b, c, network), verdict in self.literals.items()
            if (a, b, c) == (generation, identity, port) and dialled in network
        ]
        return max(found)[1] if found else Verdict.DENY


def policy(directory: Path, text: str = POLICY, generation: int = 1) -> Policy:
    source = directory / "policy.yaml"
    source.write_text(text)
    return load([source], generation=generation)


def roster() -> Roster:
    enrolments = {n: Enrolment(n, binary, File(binary.path, -1, "", ()), True) for binary, n in NUMBERS.items()}
    return Roster(enrolments)


def governed(directory: Path, text: str = POLICY, maps: FakeMaps | None = None) -> tuple[Governed, FakeMaps]:
    """Compiled, and its policy's first generation in force."""
    maps = maps or FakeMaps()
    loaded = policy(directory, text)
    sandbox = Sandbox("id", "box", loaded.name, loaded.generation)
    made = Governed(NUMBER, sandbox, Cgroup(directory), loaded, roster(), cast(Maps, maps), abi.Network())
    made.compile(loaded)
    return made, maps


def event(kind: EventType, verdict: Verdict = Verdict.DENY, why: Why = Why.POLICY, **fields: object) -> Event:
    """An event of curl's, fourth exec of the sandbox, unless fields say otherwise."""
    whole: dict[str, object] = {
        "port": 443, "protocol": 6, "sandbox": NUMBER, "generation": 1, "identity": 1, "name": 0, "pid": 4242, "time": 1,
        "exec_id": 4, "parent_exec_id": 3, "cookie": 9, "address": None, "tail": b"",
    }  # fmt: skip
    return Event(kind, verdict, why, **(whole | fields))  # type: ignore[arg-type]
