"""A cluster for a whole run: it takes half a minute to start. In `make test` only where it is built already, and there is time for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework import helm
from framework.kubernetes import Cluster
from framework.kubernetes.alone import AGENT, Alone
from framework.kubernetes.cluster import hierarchies
from framework.kubernetes.node import Node, released
from framework.kubernetes.wanted import available
from stockade.policy.format.crd import GROUP, as_text

README = Path(__file__).resolve().parents[2] / "deploy/kubernetes/README.md"
RBAC = {"apiVersion": "rbac.authorization.k8s.io/v1"}
PROGRAMS = ("etcd", "kube", "containerd", "pause", "runc")
FILES = ("kube", "containerd", "cni", "etcd", "calico", "default_", "stockade-kubernetes", "pods", "containers", "dockershim", "runc")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster. When it has stopped, nothing of it is left: else each run fails here, at its end."""
    available()
    before = traces()
    with Cluster() as running:
        yield running
    assert traces() - before == set()


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The chart on it, and the pod `held` under the policy `app`."""
    try:
        helm.helm()
    except RuntimeError as error:
        pytest.skip(str(error))
    with released(cluster, tmp_path_factory.mktemp("pods")) as made:
        yield made


@pytest.fixture(scope="module")
def alone() -> Iterator[Alone]:
    """An API server without a node, with the definitions of our resources. Nothing of it is left either."""
    available()
    before = traces()
    with Alone() as running:
        running.apply(as_text())
        for name in ("stockadepolicies", "clusterstockadepolicies"):
            running.wait(f"crd/{name}.{GROUP}", "condition=Established")
        running.apply(json.dumps({"kind": "ClusterRole", "metadata": {"name": AGENT}, "rules": rights()} | RBAC))
        running.kubectl("create", "clusterrolebinding", AGENT, f"--clusterrole={AGENT}", f"--user={AGENT}")
        running.apply(json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"}}))
        yield running
    assert traces() - before == set()


def rights() -> list[dict[str, list[str]]]:
    """What deploy/kubernetes/README.md says an agent needs."""
    rows = [line.split("|")[1:4] for line in README.read_text().splitlines() if line.startswith(('| `""`', "| `stockade.internal`"))]
    assert len(rows) == 6
    return [
        {
            "apiGroups": [group.strip(" `").replace('""', "")],
            "resources": re.findall("`([^`]+)`", names),
            "verbs": [verb.strip() for verb in verbs.split(",")],
        }
        for group, names, verbs in rows
    ]


def traces() -> set[str]:
    """What a node could leave on this machine: processes of its, cgroups, mounts, network namespaces and devices, files."""
    found = {f"{name} runs" for name in _commands() if name.startswith(PROGRAMS)}
    for hierarchy in hierarchies():
        found |= {str(path) for name in ("kubepods*", "stockade-kubernetes*") for path in hierarchy.glob(name)}
    found |= {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if "kube" in line or "containerd" in line}
    found |= {f"device {path.name}" for path in Path("/sys/class/net").iterdir() if path.name.startswith(("node", "veth"))}
    for place in (
        "/run",
        "/run/netns",
        "/run/containerd/s",
        "/var/lib",
        "/var/lib/cni",
        "/var/log",
        "/var/log/pods",
        "/var/tmp",
        "/etc/cni",
        "/etc",
    ):
        if Path(place).is_dir():
            found |= {str(path) for path in Path(place).iterdir() if path.name.startswith(FILES)}
    return found


def _commands() -> Iterator[str]:
    """Of every process that has not ended: whose parent has yet to hear of it does not count."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().partition("(")[2].rpartition(")")
        except OSError:  # gone meanwhile
            continue
        if rest.split()[0] not in "ZX":
            yield name
