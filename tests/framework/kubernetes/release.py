"""The chart on a cluster, as an operator has it; and what this cluster lacks beside it: names, the way to a Service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from framework import helm
from framework.kubernetes import agent_image
from framework.kubernetes.cluster import Cluster
from framework.kubernetes.parts import NODE
from framework.patience import PATIENCE

Json = dict[str, Any]
NAME = SPACE = "stockade"
AGENT = f"daemonset/{NAME}-agent"
WEBHOOK = f"deployment/{NAME}-webhook"
PLACES = {"run": "/run/stockade", "state": "/var/lib/stockade", "log": "/var/log/stockade", "cache": "/var/lib/stockade-cache"}
BRIDGE = "10.123.0.1"  # from where the node comes into its pods


class Release:
    """values: beside those that this cluster needs."""

    def __init__(self, cluster: Cluster, values: Mapping[str, Any] | None = None) -> None:
        self.cluster = cluster
        registry, _, tag = agent_image.NAME.rpartition(":")
        self.values: Json = _merged(
            {
                "image": {"repository": registry, "tag": tag, "pullPolicy": "Never"},
                "node": PLACES | {"kubelet": f"{cluster.room}/kubelet"},
                "api": {"host": NODE, "port": 6443},  # there is no kube-proxy
                "agent": {"settings": {"kubernetes": {"networks": [NODE, BRIDGE]}}, "resources": {"requests": {"memory": "64Mi"}}},
                "webhook": {"replicas": 1},
            },
            dict(values or {}),
        )

    def say(self, verb: str, values: Mapping[str, Any] | None = None) -> None:
        """`helm VERB`. Raises RuntimeError."""
        chart = [str(helm.CHART), "--values=/dev/stdin"] if verb != "uninstall" else []
        words = [f"--kubeconfig={self.cluster.room}/kubeconfig", f"--namespace={SPACE}", verb, NAME, *chart]
        self.cluster.host(helm.helm(), *words, text=json.dumps(_merged(self.values, dict(values or {}))), timeout=120)

    def rolled_out(self, what: str = AGENT) -> None:
        limit = int(180 * PATIENCE)
        try:
            self.cluster.kubectl("rollout", "status", "-n", SPACE, what, f"--timeout={limit}s", timeout=limit + 30)
        except RuntimeError as error:
            raise AssertionError(f"{error}\n{self.log(what)}") from None

    def log(self, what: str = AGENT) -> str:
        said = self.cluster.kubectl("logs", "-n", SPACE, what, "--tail=60", check=False)
        return said.stdout + said.stderr

    def records(self) -> list[Json]:
        """Of the node's trail, so far."""
        text = self.cluster.host("sh", "-c", f"cat {PLACES['log']}/node.jsonl 2>/dev/null", check=False).stdout
        lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]  # the last may be half written
        return [each for each in map(json.loads, lines) if "action" in each]

    def lead_to_the_webhook(self) -> None:
        """What kube-proxy does on other nodes: the API server reaches the Service's own address."""
        kubectl = self.cluster.kubectl
        service = kubectl("get", "service", "-n", SPACE, f"{NAME}-webhook", "-o", "jsonpath={.spec.clusterIP}").stdout
        where = "jsonpath={.subsets[0].addresses[0].ip}:{.subsets[0].ports[0].port}"
        pod = kubectl("get", "endpoints", "-n", SPACE, f"{NAME}-webhook", "-o", where).stdout
        rules = f"""table ip services {{
            chain out {{ type nat hook output priority -100; ip daddr {service} tcp dport 443 dnat to {pod}; }}
        }}"""
        self.cluster.host("nft", "-f", "-", text=rules)


def _merged(one: Json, other: Json) -> Json:
    """The other's values over one's."""
    found = dict(one)
    for key, value in other.items():
        found[key] = _merged(found[key], value) if isinstance(value, dict) and isinstance(found.get(key), dict) else value
    return found
