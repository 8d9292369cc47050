"""A sandbox that knocks at every way out while something is taken away from around it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bypass.battery import FILES, PYTHON
from framework.internet import ECHO
from framework.machine import Machine, Running, wait_for
from framework.outside import PORT, Outside
from framework.policy import http, whole
from stockade.kernel.abi import Network

COMMAND = b"\0".join((PYTHON.encode(), b"knock.py"))
_numbers = itertools.count(1)


@dataclass(slots=True)
class Knocking:
    """say() changes the word that its tokens carry; after ENOUGH rounds with a word, everything was tried with it."""

    running: Running
    work: Path
    phase: str

    def say(self, word: str) -> None:
        part = self.work / "word.part"
        part.write_text(word)
        part.rename(self.work / "word")

    def lines(self, word: str) -> list[str]:
        log = self.work / "knock.log"
        return [line for line in log.read_text().splitlines() if line.startswith(f"{word} ")] if log.exists() else []

    def said(self, word: str, way: str) -> set[str]:
        return {line.split()[2] for line in self.lines(word) if line.split()[1] == way}

    def rounds(self, word: str, count: int = 3, timeout: float = 60) -> None:
        """Wait until so many rounds with the word are over."""
        wait_for(lambda: self.lines(word).count(f"{word} round over") >= count, f"{count} rounds of {word!r}", timeout)

    @property
    def processes(self) -> list[int]:
        """Those of the command: by their working directory, which is this run's own, and by how they were started."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "cwd").readlink() == self.work and (process / "cmdline").read_bytes().startswith(COMMAND):
                    found.append(int(process.name))
        return found


@contextlib.contextmanager
def knocking(machine: Machine, outside: Outside, *, room: Path | None = None, flood: int = 0) -> Iterator[Knocking]:
    """Up once a round has shown the allowed ways open and the others closed."""
    room = room or machine.room()
    phase, network = f"knock{'abcdefghijklmnop'[next(_numbers)]}", Network()
    facts = {"phase": phase, "echo": ECHO, "v4": outside.addresses.v4, "port": PORT, "flood": flood}
    facts |= {"agent": str(network.agent4), "agent_port": network.inspect_port}
    (room / "work/knock.py").write_text(FILES["knock.py"])
    (room / "work/facts.json").write_text(json.dumps(facts))
    (room / "work/word").write_text("before")
    (room / "work/word").chmod(0o666)
    policy = whole(http("python3", ECHO, paths=["/open/**"], port=[80]), allow=["python3"])
    with machine.start([PYTHON, "knock.py", "facts.json"], policy=policy, room=room) as running:
        knock = Knocking(running, room / "work", phase)
        try:
            knock.rounds("before", 2)
            assert knock.said("before", "allowed") == knock.said("before", "kept") == {"200"}, knock.lines("before")
            assert not {"200", "out", "sent"} & {
                line.split()[2] for line in knock.lines("before") if line.split()[1] in ("straight", "stream", "datagram")
            }
            outside.settle()
            assert outside.heard(phase, "before")
            yield knock
        finally:
            for pid in knock.processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
