"""What somebody asks to have governed, and how: what an attachment needs, whoever hosts it.

`stockade attach` and `oci-hook` make one, and govern it themselves or hand it to a daemon, which writes it down for the next one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

from stockade.attach import trust
from stockade.attach.attachment import Charged, Existing
from stockade.attach.entered import Entered
from stockade.attach.target import Target
from stockade.attach.volumes import refuse_writable
from stockade.policy import Policy
from stockade.proxy import Authority
from stockade.service.control import Json, Peer, Verb
from stockade.service.generations import Load
from stockade.service.order import Order
from stockade.service.watch import Watch


@dataclass(frozen=True, slots=True)
class Read:
    """Its policy at the start. watch: of the files that it came from. load: reads them again."""

    policy: Policy
    watch: Watch
    load: Load


@dataclass(frozen=True, slots=True)
class Wanted:
    """A target that has not started is given the sandbox's own CA. trusted: what it was given of it already, in words."""

    order: Order
    target: Target
    existing: Existing = "cut"
    trusted: str = ""

    @property
    def name(self) -> str:
        return self.order.name or self.target.called

    def read(self) -> Read:
        """Raises StockadeError, also for a policy that the target could write."""
        if self.order.approved is not None:
            self.order.approved.create()
        watch, load = Watch(), self._load
        with watch.reading() as named:
            policy = load(1, named)
            named += policy.sources
        return Read(policy, watch, load)

    def _load(self, generation: int, named: list[Path]) -> Policy:
        found = self.order.policy(generation, named)
        for source in (*named, *found.sources):
            refuse_writable(source, self.target, "a policy source")
        return dataclasses.replace(prepared(found, self.target), sandbox=self.name)

    def give(self, place: Path, authority: Authority) -> str:
        """Whose certificates it trusts, where that can be given. place: for the files. Returns what it was given, in words."""
        if not self.target.starting:
            return self.trusted
        return trust.give(self.target.init, self.target.directory, place, authority.certificate_pem)

    def charged(self, read: Read, authority: Authority, trusted: str, leave: asyncio.Event) -> Charged:
        """leave: set by the verb `let_go`."""
        verbs = {"let_go": _let_go(leave)}
        return Charged(self.order, read.policy, read.watch, read.load, authority, self.existing, trusted, verbs)


def prepared(policy: Policy, target: Target) -> Policy:
    """A policy for what Stockade did not start: labels of its own, no promise that its files are not its own to write, and no doors."""
    exec_ = dataclasses.replace(policy.exec, writable=True)
    return Entered.of(dataclasses.replace(policy, labels=dict(policy.labels) | target.labels, exec=exec_))


def _let_go(leave: asyncio.Event) -> Verb:
    async def let_go(_arguments: Json, peer: Peer) -> Json:
        print(f"stockade: let go of by a command of {peer}", file=sys.stderr, flush=True)
        leave.set()
        return {"let_go": True}

    return let_go
