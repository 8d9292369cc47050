"""Pods under a policy on a real node, with the chart and the agent's own image: how they and their policy are made, what is asked of them,
and the servers on the node, which write down whom they heard."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from framework import containers
from framework.ca import Authority, pem
from framework.kubernetes import agent_image
from framework.kubernetes.cluster import Cluster, unified
from framework.kubernetes.parts import NODE
from framework.kubernetes.release import PLACES, SPACE, WEBHOOK, Release
from framework.machine import select
from framework.patience import PATIENCE

Json = dict[str, Any]
IMAGE = "docker.io/local/app:1"
API, OTHER = "api.web.test", "other.web.test"
RAW = 7000  # on the node, for TCP and UDP: whoever gets there got out
CURL = ("curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}")
SERVER = Path(__file__).parents[2] / "kubernetes/server_of_pods.py"

# By whoever may have a packet socket: with the pod's own address, the node's, and a port there.
FRAME = """
import socket, struct, sys
own, node, port = sys.argv[1:]
said = b"by a frame"
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(said), 1, 0, 64, 17, 0, socket.inet_aton(own), socket.inet_aton(node))
total = sum(struct.unpack("!10H", ip))
total = (total & 0xFFFF) + (total >> 16)
ip = ip[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + ip[12:]
frame = b"\\xff" * 6 + b"\\x02" + bytes(5) + b"\\x08\\x00" + ip + struct.pack("!HHHH", 4711, int(port), 8 + len(said), 0) + said
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
try:
    raw.send(frame)
except OSError:  # a filter that drops it may say so
    print("refused")
"""


def policy(*paths: str, name: str = "app", **more: Any) -> str:
    rule = {
        "name": "api",
        "binary": {"allow": ["curl"]},
        "destination": {"allow": [API]},
        "port": [443],
        "method": {"allow": ["GET"]},
        "path": {"allow": list(paths)},
    }
    spec = {"selector": {"matchLabels": {"app": "held"}}, "exec": {"allow": ["sh", "cat", "sleep", "python3", "curl"]}, "network": [rule]}
    return json.dumps(
        {"apiVersion": "stockade.internal/v1alpha1", "kind": "StockadePolicy", "metadata": {"name": name}, "spec": spec | more}
    )


def pod(name: str, **container: Any) -> str:
    main: Json = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", f"{' '.join(CURL)} https://{API}/open/first > /tmp/first; exec python3 -m http.server 8080"],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 5},
        "workingDir": "/tmp",
    }
    spec = {"terminationGracePeriodSeconds": 0, "containers": [main | container]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "held"}}, "spec": spec})


class Node:
    """The release, the pod `held` under the policy `app`, and the servers on the node, which write down whom they heard."""

    def __init__(self, release: Release, heard: Path, zone: Path) -> None:
        self.release, self.cluster, self._heard, self.zone = release, release.cluster, heard, zone

    def heard(self) -> list[str]:
        return self._heard.read_text().splitlines()

    def run(self, *words: str, name: str = "held") -> tuple[int, str]:
        try:
            done = self.cluster.exec(name, *words, check=False)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{words[0]} in {name} did not end: {self.state()}") from None
        return done.returncode, done.stdout.strip()

    def state(self) -> list[str]:
        """Of every process in a pod's cgroup, and what is pinned."""
        found = [self.cluster.host("ls", "/sys/fs/bpf/stockade", check=False).stdout.replace("\n", " ")]
        for directory, _, _ in os.walk(unified("kubepods")):
            place = Path(directory)
            for pid in (place / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                    frozen = (place / "cgroup.freeze").read_text().strip()
                    found.append(f"{place.name[:12]} {pid} {Path(f'/proc/{pid}/comm').read_text().strip()} {state} freeze={frozen}")
        return found

    def records(self, **expected: Any) -> list[Json]:
        return select(self.release.records(), **expected)

    def until(self, probe: Any, what: str, seconds: float = 60) -> Any:
        until = time.monotonic() + seconds * PATIENCE
        while not (found := probe()):
            if time.monotonic() > until:
                last = "\n".join(json.dumps(each)[:300] for each in self.release.records()[-12:])
                raise AssertionError(f"{what} did not come about\n{self.release.log()}\n{last}")
            time.sleep(0.2)
        return found

    @property
    def runtime(self) -> list[str]:
        return ["ctr", "-a", f"{self.cluster.room}/containerd.sock", "-n", "k8s.io", "tasks"]

    def task(self) -> tuple[str, int]:
        """The container of the pod `held`: its id, and its first process."""
        started = [each for each in self.records(reason="started") if each["detail"].get("started") == "container"]
        started = [each for each in started if each["sandbox"]["labels"]["pod"] == "held"]
        container = started[-1]["sandbox"]["labels"]["container_id"]
        listed = [line.split() for line in self.cluster.host(*self.runtime, "ls").stdout.splitlines()]
        ((identity, pid),) = [(words[0], int(words[1])) for words in listed if words[0].startswith(container)]
        return identity, pid

    def agent(self) -> int:
        """The process of the agent that serves."""
        words = ["get", "pods", "-n", SPACE, "-l", "app.kubernetes.io/component=agent", "-o"]
        container = self.cluster.kubectl(*words, "jsonpath={.items[0].status.containerStatuses[0].containerID}").stdout
        listed = [line.split() for line in self.cluster.host(*self.runtime, "ls").stdout.splitlines()]
        return next(int(words[1]) for words in listed if words[0] == container.rpartition("/")[2])

    def governed(self, name: str = "app") -> str:
        columns = "jsonpath={.status.sandboxes}/{.status.pods}"
        return self.cluster.kubectl("get", "stockadepolicies", name, "-o", columns).stdout


@contextlib.contextmanager
def released(cluster: Cluster, room: Path) -> Iterator[Node]:
    """The chart on a cluster, and all that is said above. Nothing of it is left, and no record."""
    root = Authority.root("ec")
    leaf = root.issue(room, API, OTHER)
    zone, bundle, heard = room / "zone", room / "bundle.crt", room / "heard"
    zone.write_text(f"{API} {NODE}\n{OTHER} {NODE}\n")
    bundle.write_bytes(Path(containers.BUNDLE).read_bytes() + b"\n" + pem(root.certificate))
    heard.touch()
    words = [*cluster.inside(), sys.executable, str(SERVER), NODE, str(RAW), *map(str, (leaf.chain, leaf.key, heard, zone))]
    server = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None and server.stdout.readline() == "ready\n"
    files = containers.root_filesystem(room / "root", Path(containers.BUNDLE))
    if shutil.which("musl-gcc"):
        subprocess.run(["musl-gcc", "-static", "-o", files / "usr/bin/ask", SERVER.with_name("ask.c")], check=True)
    cluster.image(IMAGE, files, ["/bin/sh"])
    agent_image.load(cluster)
    cluster.kubectl("create", "namespace", SPACE)
    cluster.kubectl("create", "secret", "generic", "roots", "-n", SPACE, f"--from-file=bundle.crt={bundle}")
    if Path("/var/cache/stockade").is_dir():  # programs that are compiled already
        cluster.host("cp", "-aT", "/var/cache/stockade", PLACES["cache"])
    place = "/etc/stockade/secrets/roots"
    agent = {"secrets": [{"secret": "roots", "path": place}], "env": [{"name": "SSL_CERT_FILE", "value": f"{place}/bundle.crt"}]}
    release = Release(cluster, {"agent": agent})
    try:
        release.say("install")
        release.rolled_out()
        release.rolled_out(WEBHOOK)
        release.lead_to_the_webhook()
        cluster.apply(policy("/open/**"))
        made = Node(release, heard, zone)
        made.until(lambda: made.governed() == "0/0" or made.governed() == "/", "the policy's status")
        cluster.apply(pod("held"))
        cluster.wait("pod/held", "condition=Ready", 120)
        yield made
    finally:
        server.terminate()
        server.wait(30)
        cluster.kubectl("delete", "pod", "--all", "--wait", check=False)
        cluster.kubectl("delete", "stockadepolicies", "--all", check=False)
        cluster.kubectl("delete", "namespace", SPACE, check=False, timeout=240)
        cluster.kubectl(
            "delete", "crd", "stockadepolicies.stockade.internal", "clusterstockadepolicies.stockade.internal", "--ignore-not-found"
        )
        for kind in ("clusterrole", "clusterrolebinding", "mutatingwebhookconfiguration"):
            cluster.kubectl("delete", kind, "-l", "app.kubernetes.io/name=stockade", "--ignore-not-found", check=False)
        cluster.host("nft", "delete", "table", "ip", "services", check=False)
        cluster.host("rm", "-rf", PLACES["log"], PLACES["state"])
