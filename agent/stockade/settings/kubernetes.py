"""What the section `kubernetes` says: which node of which cluster this is, and what holds for pods that no policy means."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stockade.policy.format.document import Findings
from stockade.settings.part import Part

STATE, KUBELET = Path("/var/lib/stockade/kubernetes"), Path("/var/lib/kubelet")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """node None: NODE_NAME says it. kubeconfig None: the service account of the pod that the agent runs in.

    networks: from where the node itself comes into its pods.
    """

    node: str | None = None
    kubeconfig: Path | None = None
    state: Path = STATE
    kubelet: Path = KUBELET
    unmatched: Literal["leave", "deny"] = "leave"
    networks: tuple[Network, ...] = ()


def kubernetes(part: Part, findings: Findings) -> Kubernetes:
    networks: list[Network] = []
    for text, place in part.texts("networks"):
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError:
            findings.add(place, "bad_network", f"`{text}` is no network", accepted="10.0.0.1, 10.244.0.1/32, fd00::/64")
    kubeconfig = part.text("kubeconfig")
    return Kubernetes(
        part.text("node"),
        None if kubeconfig is None else Path(kubeconfig),
        Path(part.word("state", str(STATE))),
        Path(part.word("kubelet", str(KUBELET))),
        "deny" if part.text("unmatched") == "deny" else "leave",
        tuple(networks),
    )
