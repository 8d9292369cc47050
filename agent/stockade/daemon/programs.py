"""The programs that hold every sandbox of a daemon, and each one's own beside them: made, watched, written down, and taken over.

They hang on one cgroup above all sandboxes, which carries the name of their build: programs of two builds on one would each refuse what the
other led away. What a sandbox has of its own is what guards its devices. When the daemon dies all of it goes on, by its pins.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockade.kernel.backend import Backend
from stockade.kernel.links import Link
from stockade.kernel.load import Kernel, Lost, Pinned
from stockade.kernel.syscall import LinkInfo
from stockade.sandbox.cgroup import HOSTED, Cgroup, mounted
from stockade.service.enforcement import lost_of
from stockade.service.orphans import DIES
from stockade.service.settings import Settings
from stockade.types import StockadeError

log = logging.getLogger(__name__)

NAME = "daemon"
LOOK = 0.4  # seconds for which what was seen of the programs that hold everybody is good
_DIGITS = 12  # of a build's digest


@dataclass(frozen=True, slots=True)
class _Machine:
    """What holds every sandbox of a daemon, as it writes it down for the next one."""

    build: str
    backend: str
    links: tuple[Pinned, ...]

    def write(self, path: Path) -> None:
        """Whole or not at all. Raises OSError."""
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "w") as file:  # noqa: PTH123 (a descriptor)
            json.dump(dataclasses.asdict(self), file)
        new.rename(path)

    @classmethod
    def read(cls, path: Path) -> _Machine | None:
        """None: none is there, or it is not what a daemon wrote. Whatever it names is looked at before it is believed."""
        try:
            found: dict[str, Any] = json.loads(path.read_text())
            links = tuple(Pinned(str(link["name"]), str(link["pin"]), LinkInfo(**link["info"])) for link in found["links"])
            return cls(str(found["build"]), str(found["backend"]), links)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("%s is not what a daemon wrote: %s", path, error)
            return None


class Programs:
    """build: of the programs. bpffs: where they are pinned. kernel: there once they are had.

    broken: what holds everybody was taken away, so only another daemon can begin anew. over: set then, and by whoever ends this one.
    """

    kernel: Kernel

    def __init__(self, settings: Settings, bpffs: Path, build: str) -> None:
        self._settings, self._bpffs, self.build = settings, bpffs, build
        self._name = f"{NAME}-{build[:_DIGITS]}"
        self.parent = f"{HOSTED}-{build[:_DIGITS]}"  # of the sandboxes
        self.guards: dict[int, Link] = {}  # by slot: what is of one sandbox alone
        self._written: tuple[Pinned, ...] = ()
        self._looked, self._lost = 0.0, list[str]()
        self.broken = False
        self.over = asyncio.Event()

    def have(self) -> list[str]:
        """Those that another daemon pinned while sandboxes of it live, else everything anew. In a thread. Raises StockadeError.

        Returns what was lost of the former. Then nobody lives on: they are killed here, before what still holds them is taken away.
        """
        network, pins = self._settings.network, self._bpffs / self._name
        self._sweep()
        lost: list[str] = []
        if self.populated():
            machine = _Machine.read(self._path)
            try:
                if machine is None:
                    raise Lost("what the daemon before this one wrote down is gone")
                self.kernel = Kernel.adopt(network, pins, machine.links, Backend(machine.backend))
                self._written = machine.links
                return lost
            except Lost as error:
                lost = [str(word) for word in error.args]
            _end_all(self.parent)
        shutil.rmtree(pins, ignore_errors=True)
        self._path.unlink(missing_ok=True)
        self.kernel = kernel = Kernel(network, pins)
        try:
            kernel.govern(Cgroup.make("", self.parent).path)
            kernel.answer_origins(listeners().path)
            kernel.attach_tracepoints()
            self.write_down()
        except BaseException:
            kernel.close()
            raise
        return lost

    @property
    def _path(self) -> Path:
        return self._settings.run / f"{self._name}.json"

    def _sweep(self) -> None:
        """What daemons of other builds left, and nobody lives under."""
        for pins in self._bpffs.glob(f"{NAME}-*"):
            parent = Cgroup.named("", f"{HOSTED}-{pins.name.removeprefix(f'{NAME}-')}")
            if pins.name != self._name and not parent.populated():
                shutil.rmtree(pins, ignore_errors=True)
                (self._settings.run / f"{pins.name}.json").unlink(missing_ok=True)
                parent.remove()

    def populated(self) -> set[int]:
        """Numbers of the sandboxes in which something lives."""
        return populated(self.parent)

    def guard(self, number: int, link: Link) -> Callable[[], list[str]]:
        """This is of one sandbox alone. What holds it no longer, in words."""
        self.guards[number] = link
        return lambda: [*self.lost(), *lost_of([link])]

    def unguard(self, number: int) -> None:
        """Nothing of it runs any more."""
        if (link := self.guards.get(number)) is not None:
            self.kernel.take_off(link)
            del self.guards[number]  # last: until it is off it must not look like one that holds everybody

    def _shared(self) -> list[Link]:
        guards = set(map(id, list(self.guards.values())))  # a thread may be taking one off
        return [link for link in self.kernel.links if id(link) not in guards]

    def lost(self, *, now: bool = False) -> list[str]:
        """Of what holds everybody, in words. now: not what was seen a moment ago, for whoever else asked."""
        if now or time.monotonic() - self._looked > LOOK:
            self._lost = lost_of(self._shared())
            self._looked = time.monotonic()
            if self._lost:
                self.broken = True
                self.over.set()
        return self._lost

    def write_down(self) -> None:
        """For the next daemon, where it is not what was written before. Raises StockadeError: nobody begins what cannot be taken over."""
        links = tuple(map(Pinned.of, self._shared()))
        if links == self._written:
            return
        try:
            _Machine(self.build, self.kernel.backend.value, links).write(self._path)
        except OSError as error:
            raise StockadeError(f"nothing can be written down for the next daemon: {error.strerror}", code="state") from None
        self._written = links

    def forget_others(self, served: set[int]) -> None:
        """Whatever is left of sandboxes in which nothing lives. served: those of whom each program is known. In a thread."""
        held = self.populated()
        self.kernel.maps.release_but(held)
        if held <= served:
            self.kernel.unpin_strangers()

    def close(self) -> None:
        """Take them off the kernel, unless somebody lives under them."""
        self.kernel.close(unpin=not self.populated())


def populated(parents: str) -> set[int]:
    """Numbers of sandboxes below such parents in which something lives."""
    found = [Cgroup(path) for path in mounted().glob(f"{parents}/sandbox-*")]
    return {int(cgroup.path.name.removeprefix("sandbox-")) for cgroup in found if cgroup.populated()}


def _end_all(parent: str) -> None:
    """Kill everybody below it. Raises StockadeError when something does not die: nothing may be taken away then."""
    cgroup, until = Cgroup.named("", parent), time.monotonic() + DIES
    while cgroup.populated():
        cgroup.kill()
        if time.monotonic() > until:
            raise StockadeError(f"{cgroup.path} still has processes", hint="look at its cgroup.procs", code="not_killed")
        time.sleep(0.01)


def listeners() -> Cgroup:
    """Where the agent's sockets in all sandboxes are made: they answer ORIGIN."""
    return Cgroup.make("listeners-daemon")
