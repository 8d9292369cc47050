"""The programs of a node, in the order in which they start: how each is called, and what it reads.

Kubernetes 1.20: CRDs v1 with structural schemas, admission webhooks v1, server-side apply; no CEL. Ephemeral containers are in it behind a
gate, which is open here, and in a form of their own (`kind: EphemeralContainers`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NODE, NAME = "10.124.0.1", "node1"
GATE = "EphemeralContainers"
PODS, SERVICES = "10.123.0.0/24", "10.96.0.0/16"
PAUSE = "docker.io/local/pause:1"
TOKEN = "of-tests"
_API, _ETCD = f"https://{NODE}:6443", "http://127.0.0.1:2379"


@dataclass(frozen=True, slots=True)
class Part:
    """command: its words, for the node's directory and that of the binaries; ready: what exits with 0 once it serves."""

    name: str
    command: Callable[[Path, Path], list[str]]
    ready: tuple[str, ...] = ()


def _etcd(room: Path, _: Path) -> list[str]:
    peers = "http://127.0.0.1:2380"
    return [
        "etcd",
        f"--data-dir={room}/etcd",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        f"--listen-peer-urls={peers}",
    ]


def _containerd(room: Path, _: Path) -> list[str]:
    return ["containerd", "-c", f"{room}/containerd.toml"]


def _apiserver(room: Path, binaries: Path) -> list[str]:
    key = f"{room}/certs/sa.key"
    return [
        *(
            f"{binaries}/kube-apiserver",
            f"--etcd-servers={_ETCD}",
            f"--bind-address={NODE}",
            "--secure-port=6443",
            f"--cert-dir={room}/certs",
        ),
        *(f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}"),
        *("--service-account-issuer=https://kubernetes.default.svc", f"--token-auth-file={room}/certs/tokens.csv"),
        *("--authorization-mode=RBAC", f"--service-cluster-ip-range={SERVICES}", "--allow-privileged=true"),
        *("--kubelet-preferred-address-types=InternalIP", f"--feature-gates={GATE}=true"),
    ]


def _controllers(room: Path, binaries: Path) -> list[str]:
    return [
        *(f"{binaries}/kube-controller-manager", f"--kubeconfig={room}/kubeconfig", f"--root-ca-file={room}/certs/apiserver.crt"),
        *(f"--service-account-private-key-file={room}/certs/sa.key", "--leader-elect=false", "--bind-address=127.0.0.1", "--port=0"),
        "--use-service-account-credentials=true",
    ]


def _scheduler(room: Path, binaries: Path) -> list[str]:
    return [
        *(f"{binaries}/kube-scheduler", f"--kubeconfig={room}/kubeconfig", "--leader-elect=false", "--bind-address=127.0.0.1", "--port=0"),
    ]


def _kubelet(room: Path, binaries: Path) -> list[str]:
    return [
        *(f"{binaries}/kubelet", f"--kubeconfig={room}/kubeconfig", f"--config={room}/kubelet.yaml", "--container-runtime=remote"),
        *(f"--container-runtime-endpoint=unix://{room}/containerd.sock", f"--root-dir={room}/kubelet"),
        *(f"--hostname-override={NAME}", f"--node-ip={NODE}"),
    ]


PARTS = (
    Part("etcd", _etcd, ("bash", "-c", f"exec 3<>/dev/tcp/{_ETCD.removeprefix('http://').replace(':', '/')}")),
    Part("containerd", _containerd, ("ctr", "-a", "{room}/containerd.sock", "version")),
    Part("apiserver", _apiserver, ("{binaries}/kubectl", "--kubeconfig={room}/kubeconfig", "get", "--raw", "/readyz")),
    Part("controllers", _controllers),
    Part("scheduler", _scheduler),
    Part(
        "kubelet",
        _kubelet,
        ("{binaries}/kubectl", "--kubeconfig={room}/kubeconfig", "wait", "--for=condition=Ready", f"node/{NAME}", "--timeout=1s"),
    ),
)


def settings(room: Path) -> dict[str, str]:
    """Files below the node's directory, by name."""
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": _API, "certificate-authority": f"{room}/certs/apiserver.crt"}}],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [NODE],
        "clusterDomain": "cluster.local",
        "failSwapOn": False,
        "featureGates": {GATE: True},
        "makeIPTablesUtilChains": False,
        "resolvConf": "",
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    }
    network = {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {"type": "ptp", "ipMasq": False, "ipam": {"type": "host-local", "subnet": PODS, "routes": [{"dst": "0.0.0.0/0"}]}},
        ],
    }
    # restrict_oom_score_adj: containers may not ask for a lower score than containerd's, which takes CAP_SYS_RESOURCE to give
    containerd = f"""version = 2
root = "{room}/containerd/root"
state = "{room}/containerd/state"
[grpc]
  address = "{room}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{room}/cni"
"""
    return {
        "certs/tokens.csv": f'{TOKEN},admin,1,"system:masters"\n',
        "kubeconfig": json.dumps(kubeconfig),
        "kubelet.yaml": json.dumps(kubelet),
        "cni/10-pods.conflist": json.dumps(network),
        "containerd.toml": containerd,
    }
