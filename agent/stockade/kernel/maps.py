"""What the agent writes to and reads from the kernel's maps, in terms of policy. One method, one map; layouts are abi.py's.

Writing raises OSError when a map is full: the caller must deny, never go on.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import struct
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from stockade.kernel import abi, syscall

_ZERO = struct.pack("<I", 0)
_U32 = struct.Struct("<I")
_REFUSES, _ISOLATES, _SPOILS = 1, 2, 4  # values of `variables`
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_BY_SANDBOX = (  # maps whose keys say of which sandbox they are, and where
    ("binaries", abi.BINARY_KEY, 0),
    ("scripts", abi.SCRIPT_KEY, 0),
    ("variables", abi.VARIABLE_KEY, 1),
    ("verdicts", abi.VERDICT_KEY, 0),
    ("literals", abi.LITERAL_KEY, 1),
    ("services", abi.SERVICE_KEY, 0),
    ("askers", abi.ASKER_KEY, 0),
    ("counted_directories", abi.BINARY_KEY, 0),
    ("opened", abi.OPEN_KEY, 0),
    ("opened_told", abi.OPEN_KEY, 0),
)
_SHARED = ("sandboxes", "gates", "usages", *(name for name, *_ in _BY_SANDBOX))


@dataclass(frozen=True, slots=True)
class KernelTask:
    """What a process is tagged with."""

    sandbox: int
    identity: int
    exec_id: int


@dataclass(frozen=True, slots=True)
class KernelAsker:
    """Who sent the datagram that came from a source port."""

    identity: int
    pid: int
    exec_id: int


class Maps:
    def __init__(
        self,
        descriptors: Mapping[str, int],
        shapes: Mapping[str, syscall.MapShape],
        enrol_program: int,
        identify_program: int | None = None,
    ) -> None:
        self._fd, self._shapes, self._enrol, self._identify = descriptors, shapes, enrol_program, identify_program
        self._learning = threading.Lock()
        self._shared: tuple[float, dict[str, tuple[int, int]]] = float("-inf"), {}  # of fill: when it was counted, and what was found

    @property
    def events(self) -> int:
        """Descriptor of the ring buffer."""
        return self._fd["events"]

    def set_exec_steps(self, programs: Sequence[int]) -> None:
        for place, program in enumerate(programs):
            syscall.map_update(self._fd["exec_steps"], _U32.pack(place), _U32.pack(program))

    # sandboxes

    def register(self, sandbox: int, cgroup_id: int, level: int, generation: int, flags: abi.SandboxFlag) -> None:
        """Govern a cgroup."""
        self.begin(sandbox)
        self.switch(sandbox, cgroup_id, generation, flags)
        self.look_at(level)

    def begin(self, sandbox: int) -> None:
        """Before any cgroup of it is governed: without this entry nothing of the sandbox is tagged."""
        syscall.map_update(self._fd["usages"], _U32.pack(sandbox), abi.USAGE.pack(0, 0, 0))

    def look_at(self, level: int) -> None:
        """Governed cgroups are at this depth, too."""
        mask = syscall.map_lookup(self._fd["levels"], _ZERO, 4) or bytes(4)
        syscall.map_update(self._fd["levels"], _ZERO, _U32.pack(_U32.unpack(mask)[0] | 1 << level))

    def switch(self, sandbox: int, cgroup_id: int, generation: int, flags: abi.SandboxFlag, *, place: int = 0, outside: int = 0) -> None:
        """Put a generation in force: one update, read once per decision.

        place: which of the sandbox's cgroups this is, told with each exec. outside: the mount namespace (its inode) of the runtime that
        starts programs in it, which are judged once they have left that; 0 for none.
        """
        value = abi.SANDBOX.pack(sandbox, generation, flags, place, outside, 0)
        syscall.map_update(self._fd["sandboxes"], struct.pack("<Q", cgroup_id), value)

    def gate(self, cgroup_id: int, level: int) -> None:
        """Whoever begins in it, in no cgroup that is governed, stops before its first instruction."""
        syscall.map_update(self._fd["gates"], struct.pack("<Q", cgroup_id), _U32.pack(1))
        self.look_at(level)

    def let_begin(self, cgroup_id: int, level: int) -> None:
        """Nobody waits in this one, below one that is gated: it has been looked at, and is not governed."""
        syscall.map_update(self._fd["gates"], struct.pack("<Q", cgroup_id), _U32.pack(2))
        self.look_at(level)

    def ungate(self, cgroup_id: int) -> None:
        syscall.map_delete(self._fd["gates"], struct.pack("<Q", cgroup_id))

    def forget(self, cgroup_id: int) -> None:
        """One of a sandbox's cgroups is gone."""
        syscall.map_delete(self._fd["sandboxes"], struct.pack("<Q", cgroup_id))

    def release(self, sandbox: int, cgroup_id: int) -> None:
        """Forget a sandbox of which nothing runs any more, so that its number may be another's. In a thread: it reads whole maps."""
        syscall.map_delete(self._fd["sandboxes"], struct.pack("<Q", cgroup_id))
        for name, layout, at in _BY_SANDBOX:
            self._delete(name, layout, at, sandbox)
        syscall.map_delete(self._fd["usages"], _U32.pack(sandbox))

    def untag(self, sandbox: int) -> None:
        """Forget who its processes are: they live on, and are nobody's. In a thread: it reads a whole map.

        Without the sandbox's usage no fork copies a tag: none is left in a child that comes meanwhile.
        """
        syscall.map_delete(self._fd["usages"], _U32.pack(sandbox))
        found, key = [], None
        while (key := syscall.map_next_key(self._fd["tasks"], key, 4)) is not None:
            if (raw := syscall.map_lookup(self._fd["tasks"], key, abi.TASK.size)) is not None and abi.TASK.unpack(raw)[0] == sandbox:
                found.append(key)
        for key in found:
            syscall.map_delete(self._fd["tasks"], key)

    def release_but(self, kept: Collection[int]) -> None:
        """Forget every sandbox but these: what ended while nobody looked."""
        found, key = [], None
        while (key := syscall.map_next_key(self._fd["sandboxes"], key, 8)) is not None:
            if (raw := syscall.map_lookup(self._fd["sandboxes"], key, abi.SANDBOX.size)) is not None:
                found.append((int(abi.SANDBOX.unpack(raw)[0]), *struct.unpack("<Q", key)))
        for sandbox, cgroup_id in found:
            if sandbox not in kept:
                self.release(sandbox, cgroup_id)

    def _delete(self, name: str, layout: struct.Struct, at: int, sandbox: int, but: int | None = None) -> None:
        """Every key of a sandbox, which stands at a place of it; of every generation but one, which stands next to it."""
        found, key = [], None
        while (key := syscall.map_next_key(self._fd[name], key, layout.size)) is not None:
            fields = layout.unpack(key)
            if fields[at] == sandbox and (but is None or fields[at + 1] != but):
                found.append(key)
        for key in found:
            syscall.map_delete(self._fd[name], key)

    def generation(self, cgroup_id: int) -> int | None:
        """The generation in force; None for a cgroup that is not governed."""
        raw = syscall.map_lookup(self._fd["sandboxes"], struct.pack("<Q", cgroup_id), abi.SANDBOX.size)
        return int(abi.SANDBOX.unpack(raw)[1]) if raw else None

    # identity

    def facts(self, fd: int) -> abi.FileFacts:
        """The key of an open file as the kernel sees it, learnt by running a program in this very thread."""
        with self._learning:  # two calls and one place for the answer
            syscall.prog_test_run(self._enrol, (fd,))
            raw = syscall.map_lookup(self._fd["enrolled"], _ZERO, abi.FileFacts.LAYOUT.size)
        assert raw is not None, "an array always has its elements"
        return abi.FileFacts.decode(raw)

    def enrol(self, sandbox: int, facts: abi.FileFacts, identity: int, flags: abi.BinaryFlag) -> None:
        key = abi.BINARY_KEY.pack(sandbox, 0, facts.ino, facts.dev, facts.generation)
        value = abi.BINARY.pack(identity, flags, facts.size, facts.ctime_sec, facts.ctime_nsec, 0)
        syscall.map_update(self._fd["binaries"], key, value)

    def strike(self, sandbox: int, facts: abi.FileFacts) -> None:
        """Nothing executes as this file any more."""
        syscall.map_delete(self._fd["binaries"], abi.BINARY_KEY.pack(sandbox, 0, facts.ino, facts.dev, facts.generation))

    def enrol_script(
        self, sandbox: int, interpreter: int, path: str, identity: int, flags: abi.BinaryFlag, script: int, *, carried: bool
    ) -> None:
        """path: as execve gets it, shorter than 256 bytes (ValueError). carried: reached through env(1) only."""
        raw = os.fsencode(path)
        if len(raw) >= abi.SCRIPT_PATH:
            raise ValueError(f"script path longer than {abi.SCRIPT_PATH - 1} bytes: {path}")
        key = abi.SCRIPT_KEY.pack(sandbox, interpreter, raw)
        syscall.map_update(self._fd["scripts"], key, abi.SCRIPT.pack(identity, flags, script, carried))

    def refuse_variable(self, sandbox: int, pattern: str) -> None:
        """pattern: a variable's name, or a prefix of names ending in `*`; at most 31 bytes."""
        prefix = pattern[:-1] if pattern.endswith("*") else pattern + "="
        raw = prefix.encode()
        if len(raw) > 32:
            raise ValueError(f"variable name too long: {pattern}")
        syscall.map_update(self._fd["variables"], abi.VARIABLE_KEY.pack(32 + 8 * len(raw), sandbox, raw), _U32.pack(_REFUSES))

    def require_variable(self, sandbox: int, assignment: str) -> None:
        """assignment: `NAME=` and the start of a value, which BinaryFlag.ISOLATED binaries must be started with; at most 32 bytes.

        The same name with any other value spoils it, wherever it stands: libc reads the first of two.
        """
        for text, value in ((assignment.partition("=")[0] + "=", _SPOILS), (assignment, _ISOLATES)):
            raw = text.encode()
            syscall.map_update(self._fd["variables"], abi.VARIABLE_KEY.pack(32 + 8 * len(raw), sandbox, raw), _U32.pack(value))

    # verdicts

    def set_verdict(self, sandbox: int, generation: int, identity: int, name: int, port: int, verdict: abi.Verdict) -> None:
        syscall.map_update(self._fd["verdicts"], abi.VERDICT_KEY.pack(sandbox, generation, identity, name, port), _U32.pack(verdict))

    def set_verdicts(self, sandbox: int, generation: int, verdicts: Collection[tuple[int, int, int, abi.Verdict]]) -> None:
        """verdicts: (identity, name, port, verdict) of one generation. A call costs 25 µs alone and 1 µs a verdict among many."""
        if not verdicts:
            return
        keys = b"".join(abi.VERDICT_KEY.pack(sandbox, generation, identity, name, port) for identity, name, port, _ in verdicts)
        values = b"".join(_U32.pack(verdict) for *_, verdict in verdicts)
        syscall.map_update_many(self._fd["verdicts"], keys, values, len(verdicts))

    def set_literal(self, sandbox: int, generation: int, identity: int, network: Network, port: int, verdict: abi.Verdict) -> None:
        raw = network.network_address.packed.ljust(16, b"\0")
        key = abi.LITERAL_KEY.pack(128 + network.prefixlen, sandbox, generation, identity, port, network.version, 0, raw)
        syscall.map_update(self._fd["literals"], key, _U32.pack(verdict))

    def let_in(self, sandbox: int, generation: int, network: Network, port: int) -> None:
        """Whoever comes from there may speak to this port of a container, by its own device."""
        self.set_literal(sandbox, generation, abi.IDENTITY_INBOUND, network, port, abi.Verdict.LOCAL)

    def keep(self, descriptor: int, sandbox: int, generation: int, peer: abi.Address, port: int, pid: int) -> None:
        """Let a connection go on that was there before its container was governed. descriptor: of its socket. Raises OSError."""
        packed = peer.packed.ljust(16, b"\0")
        state = abi.SOCKET_STATE.pack(sandbox, 0, 0, pid, 0, generation, port, peer.version, abi.Verdict.KEPT, packed, 0, 0, 0, b"")
        syscall.map_update(self._fd["sockets"], _U32.pack(descriptor), state)

    def lend_port(self, sandbox: int, generation: int, port: int) -> None:
        """This loopback port belongs to a service of the host."""
        syscall.map_update(self._fd["services"], abi.SERVICE_KEY.pack(sandbox, generation, port), _U32.pack(1))

    def forget_generations(self, sandbox: int, *, but: int) -> None:
        """Delete the verdicts of every generation of this sandbox except one."""
        for name, layout in (("verdicts", abi.VERDICT_KEY), ("literals", abi.LITERAL_KEY), ("services", abi.SERVICE_KEY)):
            self._delete(name, layout, 1 if layout is abi.LITERAL_KEY else 0, sandbox, but)

    # reading

    def identify(self, pid: int, task: KernelTask, facts: abi.FileFacts, *, weak: bool) -> bool:
        """Tag a process that ran before its sandbox was governed. False: it has a tag, which is newer, or there is no room for one."""
        assert self._identify is not None, "who takes a sandbox over finds its processes tagged"
        arguments = (pid, task.sandbox, task.identity, task.exec_id, facts.ino, facts.dev, facts.generation, abi.TASK_WEAK if weak else 0)
        syscall.prog_test_run(self._identify, arguments)
        return self.task(pid) == task

    def task(self, pid: int) -> KernelTask | None:
        """The tag of a process; None for one that is of no sandbox."""
        raw = syscall.map_lookup(self._fd["tasks"], _U32.pack(pid), abi.TASK.size)
        return KernelTask(*abi.TASK.unpack(raw)[:3]) if raw else None

    def asker(self, sandbox: int, port: int, family: int) -> KernelAsker | None:
        """Who sent a datagram from this source port; family 4 or 6."""
        raw = syscall.map_lookup(self._fd["askers"], abi.ASKER_KEY.pack(sandbox, port, family, 0), abi.ASKER.size)
        return KernelAsker(*abi.ASKER.unpack(raw)) if raw else None

    def failures(self) -> dict[str, int]:
        """Every helper that failed since load, by name, and `dropped` packets: summed over CPUs, exact."""
        counts = {}
        for index, name in enumerate(abi.FAILURES):
            raw = syscall.map_lookup(self._fd["failures"], _U32.pack(index), 8 * _possible_cpus()) or b""
            counts[name] = sum(value for (value,) in struct.iter_unpack("<Q", raw))
        return counts

    def usage(self, sandbox: int) -> tuple[int, int, int]:
        """(tagged processes, origins not yet asked for, connections to the agent's listeners) of a sandbox."""
        raw = syscall.map_lookup(self._fd["usages"], _U32.pack(sandbox), abi.USAGE.size)
        tasks, origins, conversations = abi.USAGE.unpack(raw) if raw else (0, 0, 0)
        return tasks, origins, conversations

    def fill(self, sandbox: int) -> dict[str, tuple[int, int]]:
        """(entries, how many there can be) of what may fill up: a sandbox's quotas, and maps. Raises OSError."""
        quotas = zip(("tasks", "origins", "conversations"), self.usage(sandbox), abi.QUOTAS, strict=True)
        return {name: (held, quota) for name, held, quota in quotas} | self._counted()

    def _counted(self) -> dict[str, tuple[int, int]]:
        """Maps that all sandboxes share: counted by reading them whole, so once for all that are asked about in the same second."""
        when, found = self._shared
        if time.monotonic() - when >= 1:
            found = self.entries(("verdicts", "literals", "binaries", "scripts"))
            self._shared = time.monotonic(), found
        return found

    def entries(self, names: Iterable[str] = _SHARED) -> dict[str, tuple[int, int]]:
        """(entries, how many there can be) of maps. Raises OSError."""
        shapes = {name: self._shapes[name] for name in names}
        return {
            name: (syscall.map_count(self._fd[name], shape.key_size, shape.value_size), shape.max_entries) for name, shape in shapes.items()
        }


@functools.cache
def _possible_cpus() -> int:
    """Per-CPU values come for every possible CPU, online or not; which those are is settled when the machine starts."""
    with open("/sys/devices/system/cpu/possible") as file:  # noqa: PTH123 (one line)
        ranges = file.read().strip().split(",")
    return sum(int(last) - int(first) + 1 for first, _, last in ((r.partition("-")[0], "", r.rpartition("-")[2]) for r in ranges))
