"""The cluster of these tests is a real one: a pod runs, is spoken to, is in the kernel's cgroups; and what was started leaves nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from framework.kubernetes import Cluster
from framework.kubernetes.cluster import unified

IMAGE = "docker.io/local/busybox:1"
POD = f"""
apiVersion: v1
kind: Pod
metadata: {{name: talker}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {IMAGE}
    imagePullPolicy: Never
    command: [sh, -c, 'echo "hello from $HOSTNAME"; exec sleep 1000']
"""


@pytest.fixture(scope="module")
def talker(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("busybox")
    (root / "bin").mkdir()
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in ("sh", "sleep", "cat", "nc", "ip", "echo"):
        (root / "bin" / applet).symlink_to("busybox")
    cluster.image(IMAGE, root, ["/bin/sh"])
    cluster.apply(POD)
    cluster.wait("pod/talker", "condition=Ready")
    yield "talker"
    cluster.kubectl("delete", "pod", "talker", "--wait")


def test_a_pod_runs_from_an_image_of_ours(cluster: Cluster, talker: str) -> None:
    assert cluster.logs(talker) == "hello from talker\n"


def test_a_command_in_it_runs_in_its_namespaces_and_its_status_comes_back(cluster: Cluster, talker: str) -> None:
    said = cluster.exec(talker, "sh", "-c", "ip -o -4 addr show dev eth0; exit 7", check=False)
    assert said.returncode == 7 and "10.123.0." in said.stdout


def test_it_is_in_the_second_hierarchy_of_cgroups(cluster: Cluster, talker: str) -> None:
    uid = cluster.kubectl("get", "pod", talker, "-o", "jsonpath={.metadata.uid}").stdout
    inside = cluster.exec(talker, "cat", "/proc/self/cgroup").stdout
    place = unified("kubepods") / "besteffort" / f"pod{uid}"
    assert place.is_dir() and any((child / "cgroup.procs").read_text() for child in place.iterdir() if child.is_dir())
    assert f"pod{uid}" in inside


def test_a_pod_reaches_the_node_and_not_its_loopback(cluster: Cluster, talker: str) -> None:
    """What an agent in a pod needs: the API, where the others of the node are. The kubelet's health is on the loopback alone."""
    assert cluster.host("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/10248").returncode == 0
    assert _connects(cluster, talker, 6443) and not _connects(cluster, talker, 10248)


def _connects(cluster: Cluster, pod: str, port: int) -> bool:
    """By whether busybox's nc runs its program, which it does once it is connected."""
    return cluster.exec(pod, "nc", "-w", "5", "10.124.0.1", str(port), "-e", "/bin/echo", check=False).returncode == 0
