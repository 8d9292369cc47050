"""One program on one hook, and whether it is still there.

A descriptor keeps a link alive, and not its program on the hook: BPF_LINK_DETACH takes a cgroup's program off a link that others hold open,
and BPF_LINK_UPDATE puts another in its place. Removing the pin alone changes nothing until the agent dies: then nothing holds any more.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from stockade.kernel import syscall


@dataclass(frozen=True, slots=True)
class Link:
    """name: of the program. pin: where the link stays when its agent is gone. info: what the kernel said of it when it was made."""

    name: str
    descriptor: int
    pin: Path
    info: syscall.LinkInfo

    @classmethod
    def pinned(cls, name: str, descriptor: int, pin: Path) -> Link:
        """Pin a new link. Raises OSError."""
        syscall.pin(descriptor, str(pin))
        return cls(name, descriptor, pin, syscall.link_info(descriptor))

    @classmethod
    def found(cls, name: str, pin: Path, info: syscall.LinkInfo) -> Link:
        """One that a dead agent pinned. info: what was said of it then. Raises OSError."""
        return cls(name, syscall.pinned(str(pin)), pin, info)

    def lost(self) -> str | None:
        """What became of it, in words; None while it holds."""
        try:
            program, cgroup = syscall.link_state(self.descriptor)
        except OSError as error:
            return f"{self.name}: {error.strerror}"
        if cgroup != self.info.cgroup:
            return f"{self.name} was detached"
        if program != self.info.program:
            return f"{self.name} was replaced"
        return None if os.access(self.pin, os.F_OK) else f"{self.name} is no longer pinned"
