"""A real one-node Kubernetes, started and stopped by a test: etcd, API server, controllers, scheduler, kubelet, containerd, runc.

The node has a network and a mount namespace of its own, with its own /run and layers over /var/lib and /var/log: what it leaves goes with
them. It has no PID namespace: what an agent in a pod with hostPID sees must be what the kernel's programs see. Pods are in this
machine's own cgroups, below kubepods, as on any node; hybrid and v2 alike, spelt as the driver cgroupfs does.

One at a time on a machine. As root.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Self

from framework.kubernetes import image
from framework.kubernetes.parts import NODE, PARTS, PAUSE, Part, settings
from framework.patience import PATIENCE

BINARIES = Path("/var/cache/stockade-tests/kubernetes")
BUILD = Path(__file__).parent / "build.sh"
COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
_LOCK = Path("/run/lock/stockade-kubernetes")
_ROOM = Path("/var/tmp/stockade-kubernetes")
_OURS = "stockade-kubernetes"  # the cgroup, in the v2 hierarchy, of the node's own programs
_PODS = "kubepods"
_NAMESPACES = f"""set -e
mount --make-rshared /
for place in lib log; do
    mkdir -p "$1/$place/upper" "$1/$place/work"
    mount -t overlay -o "lowerdir=/var/$place,upperdir=$1/$place/upper,workdir=$1/$place/work" overlay "/var/$place"
done
mount -t tmpfs -o mode=755 run /run
mount -t bpf -o mode=700 bpf /sys/fs/bpf
mkdir -p /run/netns
ip link set lo up
ip link add node0 type bridge
ip addr add {NODE}/24 dev node0
ip link set node0 up
ip route add default dev node0
echo ready
exec sleep infinity
"""


def built() -> bool:
    """Whether the binaries are there: else `start` makes them, which takes minutes."""
    return all((BINARIES / name).exists() for name in COMMANDS)


class Cluster:
    """with Cluster() as cluster: what is applied in it, and what it started, is gone after it.

    Raises RuntimeError with the end of its log where a part does not come up.
    """

    def __init__(self) -> None:
        self.room = _ROOM
        self._holder: subprocess.Popen[str] | None = None
        self._lock: IO[str] | None = None
        self._parts: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        subprocess.run(["nice", BUILD, BINARIES], check=True, stdin=subprocess.DEVNULL)
        lock = _LOCK.open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        self._lock = lock  # from here on what there is is ours
        self._clear()  # of one that was killed
        self.room.mkdir(mode=0o700)
        for name, text in settings(self.room).items():
            path = self.room / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        subprocess.run(["openssl", "genrsa", "-out", self.room / "certs/sa.key", "2048"], check=True, capture_output=True)
        unified(_OURS).mkdir()
        words = ["unshare", "--mount", "--net", "--propagation", "private", "bash", "-c", _NAMESPACES, "node", str(self.room)]
        self._holder = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, preexec_fn=_join)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            raise RuntimeError("the node's namespaces could not be made")
        for part in PARTS:
            self.start_part(part)
            if part.name == "containerd":
                self._pause()
        self._until("controllers", "{binaries}/kubectl", "--kubeconfig={room}/kubeconfig", "get", "serviceaccount", "default")

    def start_part(self, part: Part) -> None:
        """Start one of PARTS, and wait until it serves: a test may stop one and start it again."""
        with (self.room / f"{part.name}.log").open("ab") as log:
            words = [*self.inside(), *part.command(self.room, BINARIES)]
            self._parts[part.name] = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_join)
        if part.ready:
            self._until(part.name, *part.ready)

    def _until(self, part: str, *probe: str) -> None:
        """Until the probe's exit status is 0."""
        words = [*self.inside(), *(word.format(room=self.room, binaries=BINARIES) for word in probe)]
        until = time.monotonic() + 120 * PATIENCE
        while subprocess.run(words, capture_output=True, check=False).returncode:
            if time.monotonic() > until or self._parts[part].poll() is not None:
                raise RuntimeError(f"{part} does not come up:\n{self.log(part)}")
            time.sleep(0.5)

    def stop_part(self, name: str) -> None:
        """As the node's operator would."""
        process = self._parts.pop(name)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:  # an API server waits a minute for those who watch
            process.kill()
            process.wait(60)

    def stop(self) -> None:
        """End everything, and leave nothing: no process, mount, namespace, cgroup or file. Of a run that this one waited for, nothing."""
        self._clear()
        for process in self._parts.values():
            process.wait(30)
        self._parts.clear()
        if self._holder:
            self._holder.communicate()
            self._holder = None
        if self._lock:
            self._lock.close()
            self._lock = None

    def log(self, name: str) -> str:
        """The last lines of one of PARTS."""
        return "\n".join((self.room / f"{name}.log").read_text(errors="replace").splitlines()[-15:])

    def host(
        self, *words: str | Path, check: bool = True, text: str | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command where the node is: in its network, with its /run. If check, raises RuntimeError with what it said on stderr."""
        done = subprocess.run(
            [*self.inside(), *map(str, words)], input=text or "", capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(map(str, words))}: exit status {done.returncode}: {done.stderr.strip()}")
        return done

    def kubectl(self, *words: str, check: bool = True, text: str | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return self.host(*self.kubectl_words(), *words, check=check, text=text, timeout=timeout)

    def kubectl_words(self) -> list[str]:
        """What it is called by, for whoever starts it himself, inside()."""
        return [str(BINARIES / "kubectl"), f"--kubeconfig={self.room}/kubeconfig"]

    def apply(self, manifest: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """YAML or JSON, one document or several."""
        return self.kubectl("apply", *words, "-f", "-", text=manifest, check=check)

    def exec(self, pod: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """pod: NAME, in the namespace default, or NAMESPACE/NAME."""
        return self.kubectl("exec", *_of(pod), "--", *command, check=check)

    def logs(self, pod: str) -> str:
        return self.kubectl("logs", *_of(pod)).stdout

    def wait(self, what: str, condition: str, seconds: float = 60) -> None:
        """what: as pod/NAME; condition: as condition=Ready or delete."""
        limit = int(seconds * PATIENCE)
        self.kubectl("wait", f"--for={condition}", what, f"--timeout={limit}s", timeout=limit + 30)

    def image(self, name: str, root: Path, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Make an image of a directory and give it to the node. name: as docker.io/local/NAME:1; pods must not want to pull it."""
        packed = self.room / "image.tar"
        try:
            image.write(packed, name, root, command, environment)
            self.load(packed)
        finally:
            packed.unlink(missing_ok=True)

    def load(self, tar: Path) -> None:
        """Give the node an image, as the tar of an OCI layout."""
        self.host("ctr", "-a", self.room / "containerd.sock", "-n", "k8s.io", "images", "import", tar, timeout=300)

    def _pause(self) -> None:
        """What holds a pod's namespaces."""
        with tempfile.TemporaryDirectory() as root:
            source = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"
            subprocess.run(["gcc", "-static", "-x", "c", "-o", f"{root}/pause", "-"], input=source, text=True, check=True)
            self.image(PAUSE, Path(root), ["/pause"])

    def inside(self) -> list[str]:
        """What a command is put behind to run where the node is."""
        assert self._holder is not None, "it is not started"
        return ["nsenter", "-t", str(self._holder.pid), "-m", "-n", "--"]

    def _clear(self) -> None:
        """Also what another one left that was killed: everything is found by its cgroup or its name. Not before it is our turn."""
        if self._lock is None:
            return
        for name in (_OURS, _PODS):
            _killed(unified(name))
        for hierarchy in hierarchies():
            for directory, _, _ in os.walk(hierarchy / _PODS, topdown=False):
                Path(directory).rmdir()
        if unified(_OURS).exists():
            unified(_OURS).rmdir()
        if self.room.exists():
            shutil.rmtree(self.room)


def _of(pod: str) -> list[str]:
    namespace, _, name = pod.rpartition("/")
    return ["-n", namespace or "default", name]


def hierarchies() -> list[Path]:
    """Where this machine's hierarchies of cgroups are: one, or those of v1 and the one of v2 beside them."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(words[1]) for words in mounts if words[2] in ("cgroup", "cgroup2")]


def unified(name: str) -> Path:
    """A cgroup in the v2 hierarchy, where programs are attached: wherever that is mounted."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return next(Path(words[1]) for words in mounts if words[2] == "cgroup2") / name


def _join() -> None:
    (unified(_OURS) / "cgroup.procs").write_text(str(os.getpid()))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _killed(cgroup: Path) -> None:
    if not cgroup.exists():
        return
    until = time.monotonic() + 30 * PATIENCE
    while "populated 1" in (cgroup / "cgroup.events").read_text():
        (cgroup / "cgroup.kill").write_text("1")
        if time.monotonic() > until:
            raise RuntimeError(f"{cgroup} is still populated")
        time.sleep(0.05)
