"""Settings of an agent: one frozen value, made at the edge from what the settings file says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stockade.kernel.abi import Network
from stockade.settings import Configured

# Own users, never shared and never `nobody`: far above what distributions, systemd and container runtimes hand out, below 2^31.
USER_BASE = 1_471_000_000


@dataclass(frozen=True, slots=True)
class Settings:
    """run: sockets, pins and locks, gone with the machine. log: audit trails. configured: the settings file."""

    run: Path = Path("/run/stockade")
    log: Path = Path("/var/log/stockade")
    network: Network = field(default_factory=Network)
    proxy_user: int = USER_BASE
    classifier_user: int = USER_BASE + 1
    first_sandbox_user: int = USER_BASE + 1000
    slots: int = 1000
    failures_every: float = 1.0  # seconds between two looks at what the kernel counted
    configured: Configured = field(default_factory=Configured)

    @classmethod
    def of(cls, configured: Configured) -> Settings:
        directory = configured.audit.directory
        return cls(configured=configured) if directory is None else cls(log=directory, configured=configured)

    @property
    def control(self) -> Path:
        """The directory of control sockets, one for each running sandbox."""
        return self.run / "control"

    @property
    def daemon(self) -> Path:
        """Where a daemon listens."""
        return self.run / "daemon.sock"
