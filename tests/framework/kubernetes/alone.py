"""An API server and its store alone, real and without a node: what pods are made is seen, and none of them runs.

It has a network and a directory of its own and no cgroup, so several may run at a time, also beside a whole cluster.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from framework.kubernetes.cluster import BINARIES, BUILD, Cluster
from framework.kubernetes.parts import NODE, PARTS, TOKEN, Part, settings

AGENT = "agent"  # a user without any right, and its token; agent.kubeconfig is its
_NETWORK = f"""set -e
ip link set lo up
ip link add node0 type bridge
ip addr add {NODE}/24 dev node0
ip link set node0 up
ip route add default dev node0
echo ready
exec sleep infinity
"""
ETCD, API = (next(part for part in PARTS if part.name == name) for name in ("etcd", "apiserver"))


class Alone(Cluster):
    """As a Cluster, of which host, kubectl, apply, start_part and stop_part are there."""

    def start(self) -> None:
        subprocess.run(["nice", BUILD, BINARIES], check=True, stdin=subprocess.DEVNULL)
        self.room = Path(tempfile.mkdtemp(prefix="stockade-api-"))
        for name, text in settings(self.room).items():
            path = self.room / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        (self.room / "certs/tokens.csv").open("a").write(f"{AGENT},{AGENT},2\n")
        (self.room / "agent.kubeconfig").write_text((self.room / "kubeconfig").read_text().replace(TOKEN, AGENT))
        subprocess.run(["openssl", "genrsa", "-out", self.room / "certs/sa.key", "2048"], check=True, capture_output=True)
        words = ["unshare", "--mount", "--net", "--propagation", "private", "bash", "-c", _NETWORK]
        self._holder = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            raise RuntimeError("the API's network could not be made")
        for part in (ETCD, API):
            self.start_part(part)
        self._until("apiserver", "{binaries}/kubectl", "--kubeconfig={room}/kubeconfig", "get", "namespace", "default")
        self.kubectl("create", "serviceaccount", "default")  # as a controller would, and without it no pod is taken

    def start_part(self, part: Part) -> None:
        with (self.room / f"{part.name}.log").open("ab") as log:
            words = [*self.inside(), *part.command(self.room, BINARIES)]
            self._parts[part.name] = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if part.ready:
            self._until(part.name, *part.ready)

    def stop_part(self, name: str) -> None:
        """At once: told to end, an API server first waits a minute for whoever watches."""
        process = self._parts.pop(name)
        process.kill()
        process.wait(60)

    def program(self, *words: str | Path) -> subprocess.Popen[str]:
        """Start one in its network, spoken to by lines."""
        return subprocess.Popen([*self.inside(), *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _clear(self) -> None:
        for name in (API.name, ETCD.name):
            if (process := self._parts.get(name)) is not None and process.poll() is None:
                process.kill()
        if self._holder is not None:
            self._holder.kill()
        if self.room.exists():
            shutil.rmtree(self.room, ignore_errors=True)
