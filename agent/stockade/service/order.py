"""What the user asked of `stockade run`, and how the policy that was named there is read, at start and ever after."""

from __future__ import annotations

import dataclasses
import stat
from dataclasses import dataclass
from pathlib import Path

from stockade.metrics.listen import Listen
from stockade.policy import Policy, load
from stockade.service.approved import Approved
from stockade.settings import Metrics
from stockade.types import StockadeError


@dataclass(frozen=True, slots=True)
class Order:
    """What the user asked for. policies and presets compose; binds: (source, target, writable); audit None: below Settings.log.

    approvals: the file that keeps what is approved for always. settings: the settings file that was named. metrics: where
    they are served instead of where the settings say; `off`.
    """

    command: tuple[str, ...]
    policies: tuple[Path, ...]
    presets: tuple[str, ...] = ()
    name: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    workdir: Path | None = None
    binds: tuple[tuple[str, str, bool], ...] = ()
    audit: Path | None = None
    settings: Path | None = None
    approvals: Path | None = None
    metrics: str | None = None
    observe: bool = False
    verbose: bool = False

    def listen(self, configured: Metrics) -> Listen | None:
        """Where the metrics are served; who may have them is the settings' to say. Raises StockadeError."""
        if self.metrics is None:
            return configured.listen
        if self.metrics == "off":
            return None
        try:
            listen = Listen.parse(self.metrics)
        except ValueError as error:
            hint = "127.0.0.1:9464; port 0 takes any that is free; off"
            raise StockadeError(f"--metrics {self.metrics}: {error}", hint=hint, code="bad_listen") from None
        known = configured.listen
        return listen if known is None else listen.secured(known.certificate, known.key, known.token)

    @property
    def approved(self) -> Approved | None:
        return Approved(self.approvals.absolute()) if self.approvals is not None else None

    def policy(self, generation: int, named: list[Path]) -> Policy:
        """Read it from disk. named takes up every path that was looked for. Raises PolicyError, StockadeError: anybody may write it."""
        found = load(self.policies, presets=self.presets, generation=generation, named=named, thorough=False)
        if self.approved is not None:
            found = self.approved.beside(found, named)
        for source in found.sources:
            _kept_from_others(source)
        labels = found.labels | dict(self.labels)
        return dataclasses.replace(found, labels=labels, mode="observe" if self.observe else found.mode)

    def anywhere(self, audit: Path) -> Order:
        """The same for an agent that starts in another directory."""
        policies = tuple(path.absolute() for path in self.policies)
        approvals = self.approvals.absolute() if self.approvals is not None else None
        workdir = self.workdir.absolute() if self.workdir is not None else None
        settings = self.settings.absolute() if self.settings is not None else None
        found = dataclasses.replace(self, policies=policies, approvals=approvals, workdir=workdir, settings=settings)
        return dataclasses.replace(found, audit=audit.absolute(), verbose=False)


def _kept_from_others(source: Path) -> None:
    """Raises StockadeError."""
    try:
        open_to_all = source.stat().st_mode & stat.S_IWOTH
    except OSError as error:
        raise StockadeError(f"cannot look at {source}: {error.strerror}", hint="it was there a moment ago", code="policy_gone") from None
    if open_to_all:
        said = f"{source} may be written by anybody on this machine, so it holds nobody"
        raise StockadeError(said, hint=f"chmod o-w {source}, or a copy of it where that does not last", code="policy_writable")
