"""A governed container: what its policy says of those who come in holds at its own device, not at a port of the host.

Its runtime publishes ports, or nobody does. So no door is opened for it: the kernel's programs and the filter on its device let in whom
`inbound` names, and the replies out.
"""

from __future__ import annotations

from stockade.attach.device import Closed
from stockade.attach.entered import entrances
from stockade.kernel.abi import Network, SandboxFlag
from stockade.kernel.maps import Maps
from stockade.policy import Policy
from stockade.sandbox.cgroup import Cgroup
from stockade.sandbox.roster import Roster
from stockade.service.governed import Governed
from stockade.types import Sandbox, StockadeError


class Contained(Governed):
    """A governed container, or unit, or process: its device is closed with its programs, and it was not started by Stockade."""

    def __init__(
        self,
        number: int,
        sandbox: Sandbox,
        cgroup: Cgroup,
        policy: Policy,
        roster: Roster,
        maps: Maps,
        network: Network,
        device: Closed,
        *,
        shared: bool,
    ) -> None:
        """shared: the network namespace is the host's."""
        self._kind = SandboxFlag.CONTAINED | (SandboxFlag.SHARED if shared else SandboxFlag.NONE)
        super().__init__(number, sandbox, cgroup, policy, roster, maps, network)
        self._device = device

    def flags_of(self, policy: Policy) -> SandboxFlag:
        return super().flags_of(policy) | self._kind

    def compile(self, policy: Policy) -> None:
        super().compile(policy)
        for inbound in entrances(policy):
            for source in inbound.networks:
                self._maps.let_in(self.number, policy.generation, source, inbound.port)

    def switch(self, policy: Policy) -> None:
        before = self.policy
        self._admit(policy)
        try:
            super().switch(policy)
        except OSError:
            self._admit(before)
            raise

    def _admit(self, policy: Policy) -> None:
        try:
            self._device.admit(entrances(policy))
        except StockadeError as error:
            raise OSError(5, str(error)) from None
