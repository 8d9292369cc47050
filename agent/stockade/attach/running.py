"""Who runs already: processes that were there before their sandbox was governed, known by the file that they execute.

Nothing was seen of what such a process loaded before: it is known as its executable and as no script, without its loader variables, or not
at all. Writes a tag only where exec and fork have written none: what they say is newer than what /proc said.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stockade.kernel.maps import KernelTask, Maps
from stockade.policy import loader_variables
from stockade.sandbox.cgroup import Cgroup
from stockade.service.governed import Governed
from stockade.types import UNKNOWN_BINARY, Binary, StockadeError

# Above what the kernel numbers execs with (a count per CPU), and below 2^53, which every reader of JSON keeps apart.
_FIRST = 1 << 50
_ROUNDS = 100  # scans until two agree: more means that somebody forks faster than /proc is read


@dataclass(frozen=True, slots=True)
class Known:
    """One of them. binary: UNKNOWN_BINARY, or what no rule knows: it reaches nothing, and why says why."""

    pid: int
    exec_id: int
    binary: Binary
    why: str = ""

    def __str__(self) -> str:
        return f"{self.pid} {self.binary.path}{f' ({self.why})' if self.why else ''}"


class Running:
    """Of one sandbox. Its hooks on exec and fork must be attached, and its cgroup registered."""

    def __init__(self, governed: Governed, maps: Maps) -> None:
        self._governed, self._maps = governed, maps
        self._files: dict[tuple[int, int, int], int] = {}
        self._next = _FIRST
        self.known: dict[int, Known] = {}
        self._cgroup, self._place = governed.cgroup, 0

    def identify(self) -> list[Known]:
        """Tag every process, until two looks in a row find nobody new. Raises StockadeError when that does not come about."""
        return self.identify_in(self._governed.cgroup)

    def identify_in(self, cgroup: Cgroup, place: int = 0) -> list[Known]:
        """The same of one of several cgroups of the sandbox: what it numbers is unlike what was numbered before. Raises StockadeError when
        more and more come.
        """
        self._cgroup, self._place, self.known = cgroup, place, {}
        self._files = {(facts.ino, facts.dev, facts.generation): number for number, facts in self._governed.facts.items()}
        for _ in range(_ROUNDS):
            if not self._look():
                return [self.known[pid] for pid in sorted(self.known)]
        raise StockadeError(f"processes come in {cgroup.path} faster than they can be looked at", hint="try again", code="too_fast")

    def _look(self) -> bool:
        """Whether somebody was found who had no tag."""
        found = False
        for pid in self._cgroup.processes():
            if self._maps.task(pid) is None:
                found |= self._tag(pid)
        return found

    def _tag(self, pid: int) -> bool:
        """False for one that is gone, or has become known by an exec meanwhile."""
        try:
            descriptor = os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESRCH):
                raise StockadeError(f"cannot look at process {pid}: {error.strerror}", code="no_process") from None
            return False  # over, or of the kernel's own
        try:
            facts = self._maps.facts(descriptor)
            path = os.readlink(f"/proc/{pid}/exe")  # noqa: PTH115 (as the kernel spells it)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        number = self._files.get((facts.ino, facts.dev, facts.generation), 0)
        why = "not in the policy" if not number else ""
        if not facts.nlink:
            number, why = 0, "deleted, or in no file system"
        elif number and (facts.size, facts.ctime_sec, facts.ctime_nsec) != self._as_enrolled(number):
            number, why = 0, "changed while it was looked at"
        elif number and (variable := self._loader_variable(pid)):
            number, why = 0, f"started with {variable}"
        enrolled = self._governed.roster.binary(number) if number else None
        binary = enrolled or Binary(Path(path).name, UNKNOWN_BINARY.names, path, identity="weak")
        exec_id, self._next = self._next, self._next + 1
        if not self._maps.identify(pid, KernelTask(self._governed.number, number, exec_id), facts, weak=True):
            if self._maps.task(pid) is None:
                raise StockadeError(f"{self._cgroup.path} has more processes than can be told apart", code="maps")
            return False
        self._governed.executed(exec_id, binary, 0, self._place)
        self.known[pid] = Known(pid, exec_id, binary, why)
        return True

    def _as_enrolled(self, number: int) -> tuple[int, int, int]:
        facts = self._governed.facts[number]
        return facts.size, facts.ctime_sec, facts.ctime_nsec

    def _loader_variable(self, pid: int) -> str:
        """A variable that lets foreign code in, and which the policy does not name; as /proc shows the environment it was started with.

        A process may have written over that since: what ran before is weak, whatever this says.
        """
        allowed = self._governed.policy.exec.env
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return "an environment that cannot be read"
        return next((found for found in _matching(variables, loader_variables()) if found not in allowed), "")


def _matching(variables: Iterable[bytes], patterns: Iterable[str]) -> Iterable[str]:
    known = tuple(patterns)
    for variable in variables:
        with contextlib.suppress(UnicodeDecodeError):
            name = variable.partition(b"=")[0].decode()
            for pattern in known:
                if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
                    yield pattern
