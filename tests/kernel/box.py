"""A governed cgroup as the tests hold it: what is enrolled, what runs in it, and what the kernel said of it."""

from __future__ import annotations

import ast
import contextlib
import errno
import itertools
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from framework.patience import PATIENCE
from stockade.kernel.abi import BinaryFlag, Event, EventType, FileFacts, SandboxFlag, Verdict, Why
from stockade.kernel.backend import Backend
from stockade.kernel.devices import Device
from stockade.kernel.events import Ring
from stockade.kernel.load import Kernel
from stockade.sandbox.cgroup import Cgroup

PYTHON = os.path.realpath(sys.executable)
INSIDE = Path(__file__).parent / "inside.py"
KILLED = -signal.SIGKILL
RUNS, NETWORK = BinaryFlag.RUNS, BinaryFlag.NETWORK
RAN, DIED = Verdict.LOCAL, Verdict.DENY  # of an exec

_numbers = itertools.count(1)


class Ear:
    """Everything a Kernel says, by sandbox, in order."""

    def __init__(self, kernel: Kernel) -> None:
        self._heard: list[Event] = []
        self.ring = Ring(kernel.maps.events, self._heard.append)

    def take(self, sandbox: int) -> list[Event]:
        """What was said of this sandbox since the last call."""
        self.ring.consume()
        mine = [event for event in self._heard if event.sandbox == sandbox]
        self._heard[:] = [event for event in self._heard if event.sandbox != sandbox]
        return mine


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that ran in a box to its end. status: as subprocess gives it, -9 when it was killed; EPERM when its exec answered that."""

    status: int
    output: str
    events: list[Event]

    @property
    def exec(self) -> Event:
        """The event of its own exec, which must be the only one."""
        (event,) = self.events
        assert event.type is EventType.EXEC
        return event

    @property
    def said(self) -> list[tuple[Verdict, Why]]:
        return [(event.verdict, event.why) for event in self.events]


class Actor:
    """inside.py, running in a box. An OSError inside is an OSError here."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def __call__(self, code: str, timeout: float = 20) -> Any:
        """Perform some lines; the value of the last one, when it is an expression."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(repr(textwrap.dedent(code)) + "\n")
        self.process.stdin.flush()
        waiting = select.poll()
        waiting.register(self.process.stdout, select.POLLIN)
        if not waiting.poll(1000 * timeout * PATIENCE):
            raise AssertionError(f"no answer within {timeout * PATIENCE} s: {code}")
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"ended with {self.process.wait()} in: {code}")
        kind, value = ast.literal_eval(line)
        if kind == "errno":
            raise OSError(value, os.strerror(value))
        if kind == "error":
            raise AssertionError(value)
        return value

    @property
    def pid(self) -> int:
        return self.process.pid

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


class Box:
    """A cgroup that a Kernel knows as one sandbox. `govern()` attaches the network's programs; exec is judged without them."""

    def __init__(self, kernel: Kernel, ear: Ear, parent: Path, flags: SandboxFlag = SandboxFlag.NONE) -> None:
        self.kernel, self.maps, self._ear = kernel, kernel.maps, ear
        self.number, self.generation, self.flags = next(_numbers), 1, flags
        path = parent / f"box-{self.number}"
        path.mkdir(parents=True)
        self.cgroup = Cgroup(path)
        self.maps.register(self.number, self.cgroup.id, self.cgroup.level, self.generation, flags)
        self.netns: int | None = None
        self._identities = itertools.count(1)
        self._open: list[int] = []
        self._actors: list[Actor] = []
        self._links: list[int] = []
        self._pinned: set[Path] = set()

    @property
    def refusal(self) -> int:
        """The status of a process whose exec is refused for its file: by LSM it sees EPERM, and ends with that; else it is killed."""
        return errno.EPERM if self.kernel.backend is Backend.LSM else KILLED

    # what may run

    def enrol(self, path: str | Path, flags: BinaryFlag = RUNS, *, identity: int | None = None) -> int:
        """Enrol a file as the roster does (it stats and holds it), under the next free identity."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._open.append(descriptor)
        os.fstat(descriptor)  # from here on a kernel with multigrain timestamps tells a change from what was seen
        number = next(self._identities) if identity is None else identity
        self.maps.enrol(self.number, self.maps.facts(descriptor), number, flags)
        return number

    def facts(self, path: str | Path) -> FileFacts:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self.maps.facts(descriptor)
        finally:
            os.close(descriptor)

    def govern(self) -> None:
        """Attach every program."""
        self._attach(lambda: self.kernel.govern(self.cgroup.path))

    def guard_devices(self, allowed: Iterable[Device] = ()) -> None:
        self._attach(lambda: self.kernel.guard_devices(self.cgroup.path, self.number, allowed))

    def _attach(self, attach: Callable[[], None]) -> None:
        """A Kernel keeps its links to its end; a hundred boxes of one session give theirs back."""
        descriptors, pinned = list(self.kernel._descriptors), set(self.kernel.pins.iterdir())
        attach()
        self._links += [fd for fd in self.kernel._descriptors if fd not in descriptors]
        self._pinned |= set(self.kernel.pins.iterdir()) - pinned

    def _ungovern(self) -> None:
        for link in self._links:
            if link in self.kernel._descriptors:
                self.kernel._descriptors.remove(link)
                os.close(link)
        for path in self._pinned:
            path.unlink(missing_ok=True)

    def switch(self, generation: int, flags: SandboxFlag | None = None) -> None:
        self.generation, self.flags = generation, self.flags if flags is None else flags
        self.maps.switch(self.number, self.cgroup.id, generation, self.flags)

    # what runs

    def _enter(self, cgroup: Path | None) -> Callable[[], None]:
        procs = str((cgroup or self.cgroup.path) / "cgroup.procs")

        def enter() -> None:
            with open(procs, "w") as file:  # noqa: PTH123 (between fork and exec)
                file.write("0")
            if self.netns is not None:
                os.setns(self.netns, os.CLONE_NEWNET)

        return enter

    def run(
        self,
        *argv: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        cgroup: Path | None = None,
        executable: str | Path | None = None,
    ) -> Ended:
        """Exec in the box, to its end. env: the whole environment."""
        try:
            done = subprocess.run(
                [str(word) for word in argv],
                executable=executable,
                env=dict(env or {}),
                cwd=cwd,
                preexec_fn=self._enter(cgroup),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=30 * PATIENCE,
            )
        except PermissionError as refused:
            if refused.errno != errno.EPERM or self.refusal != errno.EPERM:
                raise
            return Ended(errno.EPERM, "", self.heard())
        return Ended(done.returncode, done.stdout, self.heard())

    def actor(self, executable: str | Path = PYTHON, *, cgroup: Path | None = None, env: Mapping[str, str] | None = None) -> Actor:
        """A Python in the box; its interpreter must be enrolled."""
        process = subprocess.Popen(
            [str(executable), "-I", "-S", str(INSIDE)],
            env=dict(env or {}),
            preexec_fn=self._enter(cgroup),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._actors.append(Actor(process))
        return self._actors[-1]

    def untagged(self, attempt: Callable[[], None]) -> int:
        """What `attempt` comes to in a process that joined the box without an exec: 0, or the errno it raised."""
        enter = self._enter(None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pytest's watchdog is a thread that no child needs
            pid = os.fork()
        if pid == 0:
            status = 255
            try:
                enter()
                attempt()
                status = 0
            except OSError as error:
                status = error.errno or 254
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    # what was said

    def heard(self, kind: EventType | None = None) -> list[Event]:
        """The events since the last call, of one kind or all."""
        return [event for event in self._ear.take(self.number) if kind in (None, event.type)]

    @property
    def tasks(self) -> int:
        return self.maps.usage(self.number)[0]

    def close(self) -> None:
        self.cgroup.kill()
        for actor in self._actors:
            actor.close()
        wait_for(lambda: not self.cgroup.populated(), "an empty cgroup")
        self._ungovern()
        self.cgroup.remove()
        for descriptor in self._open:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wait_for(probe: Callable[[], object], what: str, timeout: float = 10) -> None:
    """For what another process does in its own time and nothing announces."""
    deadline = time.monotonic() + timeout * PATIENCE
    while not probe():
        assert time.monotonic() < deadline, f"waited {timeout * PATIENCE} s for {what}"
        os.sched_yield()


def allowed(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.verdict is not Verdict.DENY]
