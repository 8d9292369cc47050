"""What the node's agent and whoever knows the cluster say to each other: a pod, what is wanted of it, and what came of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from stockade.audit.record import Json


@dataclass(frozen=True, slots=True)
class Pod:
    """uid: as its cgroup is called (of a static pod that is its config hash). containers: name → image, as asked for, of every kind.

    ports: TCP ports that its containers declare or are probed at: the node itself may come in by these, whatever a policy says.
    """

    uid: str
    namespace: str
    name: str
    node: str = ""
    service_account: str = ""
    host_network: bool = False
    containers: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()

    @property
    def called(self) -> str:
        """Its sandbox: nobody else on the node is called so, and whoever reads it knows whose it is."""
        return f"{self.name[:50].rstrip('.-')}-{self.uid[:12].rstrip('-')}"

    @property
    def labels(self) -> dict[str, str]:
        """For every record."""
        known = {
            "namespace": self.namespace,
            "pod": self.name,
            "pod_uid": self.uid,
            "node": self.node,
            "service_account": self.service_account,
        }
        return {key: value for key, value in known.items() if value}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a pod is to be held to. policies: files that compose, in their order; none: everything is refused.

    revision: another one means that the files say something new. trusts: a directory of this machine's that the pod has for its trust
    store, written before a container of it starts; None: it has none.
    """

    pod: Pod
    policies: tuple[Path, ...]
    revision: str
    observe: bool = False
    trusts: Path | None = None


State = Literal["waiting", "governed", "refused", "failed", "ended"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What came of it. waiting: nothing runs of it yet, or it is being taken up. refused: everything it asks for is, since `why`.
    failed: as that, and `problems` are its policy's, each `file:line:col: what [code]`. unheld: by what it could get out all the same.

    revision: of what is in force. gaps_us: container → microseconds between its first instruction and its being governed, 0: before it.
    """

    uid: str
    state: State
    generation: int = 0
    revision: str = ""
    why: str = ""
    problems: tuple[str, ...] = ()
    unheld: tuple[str, ...] = ()
    trust: str = ""
    gaps_us: Mapping[str, int] = field(default_factory=dict)


class Listener(Protocol):
    """Who is told. Called on the loop; must not wait and must not raise."""

    def stands(self, standing: Standing) -> None: ...

    def recorded(self, uid: str, record: Json) -> None:
        """Each record about a pod, as it is written (audit/record.py): for counts, and for Events of refusals."""


class Node(Protocol):
    """Until one of the first two is called for a new pod nothing gets out of it. All of them return at once; `Listener` hears the rest."""

    def want(self, wanted: Wanted) -> None:
        """Hold it to this from now on. For a pod that is held already: another policy, put in force in one step, or not at all."""

    def leave(self, uid: str) -> None:
        """No policy means this pod: nothing of ours is on it, or any more."""

    def forget(self, uid: str) -> None:
        """The API knows it no longer. What runs of it is held until it has ended."""
