"""Real containers, made from files of this machine: a root file system by copying, images of it by hand, runtimes as apt has them.

A Place is the network a container lives in: a namespace of its own, joined to the host by a veth pair, with a server on the host's end that
every container could reach if nobody refused it. What gets out anyhow is what these servers heard.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from framework.machine import Machine, Running, wait_for
from framework.patience import PATIENCE

PROGRAMS = ("/bin/dash", "/usr/bin/curl", "/usr/bin/python3", "/bin/cat", "/bin/sleep", "/bin/true", "/bin/cp")
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
IMAGE = "localhost/stockade-test:1"
_LEAK = b"stockade-leak"
_SKIPPED = ("test", "__pycache__", "dist-packages", "site-packages", "idlelib", "tkinter", "ensurepip", "lib2to3", "config-*")
_numbers = itertools.count(1)


def lacking(*commands: str) -> str | None:
    """Why containers of these cannot be tried here; None when they can."""
    missing = [command for command in (*commands, "nft", "ip") if not shutil.which(command)]
    return f"no {', '.join(missing)} (make setup with --tests installs it)" if missing else None


def root_filesystem(directory: Path, roots: Path) -> Path:
    """A small Debian of this machine's own files. roots: the CA bundle of the image."""
    for name in ("bin", "lib", "lib64", "sbin"):
        (directory / "usr" / name).mkdir(parents=True)
        (directory / name).symlink_to(f"usr/{name}")
    for name in ("proc", "sys", "dev", "tmp", "work", "etc/ssl/certs", "run", "root"):
        (directory / name).mkdir(parents=True)
    for program in PROGRAMS:
        _copy(Path(program), directory)
    (directory / "usr/bin/sh").symlink_to("dash")
    library = next(Path("/usr/lib").glob(f"{Path('/usr/bin/python3').resolve().name}"))
    shutil.copytree(library, directory / library.relative_to("/"), ignore=shutil.ignore_patterns(*_SKIPPED), symlinks=True)
    for extension in (directory / library.relative_to("/")).glob("lib-dynload/*.so"):
        _libraries(extension, directory)
    shutil.copy(roots, directory / BUNDLE.lstrip("/"))
    (directory / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (directory / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    (directory / "etc/resolv.conf").write_text("nameserver 127.0.0.11\n")  # where docker's own resolver is
    return directory


def _copy(path: Path, root: Path) -> None:
    """The file itself under the name it is asked for, and what it is linked with."""
    target = root / "usr" / "bin" / path.name
    shutil.copy(path.resolve(), target)
    _libraries(path, root)


def _libraries(path: Path, root: Path) -> None:
    listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
    for word in listed.split():
        if word.startswith("/"):
            target = root / "usr" / word.removeprefix("/usr").lstrip("/")
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(word).resolve(), target)


def archive(root: Path, target: Path, name: str = IMAGE, command: Sequence[str] = ("/usr/bin/python3", "/work/contained.py")) -> Path:
    """An OCI image of one layer in a tar file (image-spec, image-layout.md)."""

    def blob(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        files[f"blobs/sha256/{digest}"] = data
        return {"digest": f"sha256:{digest}", "size": len(data)}

    files: dict[str, bytes] = {}
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(root, arcname=".")
    data = layer.getvalue()
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "config": {"Cmd": list(command), "Env": [path]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}"]},
    }
    oci = "application/vnd.oci.image."
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{oci}manifest.v1+json",
        "config": {"mediaType": f"{oci}config.v1+json", **blob(json.dumps(config).encode())},
        "layers": [{"mediaType": f"{oci}layer.v1.tar", **blob(data)}],
    }
    named = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    entry = {"mediaType": f"{oci}manifest.v1+json", **blob(json.dumps(manifest).encode()), "annotations": named}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    files["oci-layout"] = json.dumps({"imageLayoutVersion": "1.0.0"}).encode()
    with tarfile.open(target, "w") as tar:
        for path, content in files.items():
            about = tarfile.TarInfo(path)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return target


class Place:
    """A network namespace with a device, and servers on its other end: TCP that answers `outside`, UDP, and whoever sees frames."""

    def __init__(self) -> None:
        number = next(
            n for n in range(1, 250) if _ip("link", "add", f"stockct{n}", "type", "veth", "peer", "name", f"stockct{n}p", check=False)
        )
        self.link, self.name = f"stockct{number}", f"stockct-{os.getpid()}-{number}"
        self.host, self.own = f"10.214.{number}.1", f"10.214.{number}.2"
        self._closing = contextlib.ExitStack()
        self._closing.callback(_ip, "link", "del", self.link, check=False)
        _ip("netns", "add", self.name)
        self._closing.callback(_ip, "netns", "del", self.name, check=False)
        self._namespace = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        self._closing.callback(os.close, self._namespace)
        _ip("link", "set", f"{self.link}p", "netns", self.name, "name", "eth0")
        _ip("address", "add", f"{self.host}/24", "dev", self.link)
        _ip("link", "set", self.link, "up")
        for words in ("address add {}/24 dev eth0", "link set lo up", "link set eth0 up", "route add default via {}"):
            _ip("-n", self.name, *words.format(self.host if "route" in words else self.own).split())
        self.heard: list[str] = []
        self._serve()

    @property
    def path(self) -> Path:
        """Of the namespace, also for who is in another mount namespace than `ip netns add` was."""
        return Path(f"/proc/{os.getpid()}/fd/{self._namespace}")

    def _serve(self) -> None:
        tcp = socket.create_server((self.host, 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((self.host, 0))
        frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        frames.bind((self.link, 0))
        self.tcp, self.udp = tcp.getsockname()[1], udp.getsockname()[1]
        for sock, work in ((tcp, self._accept), (udp, self._datagrams), (frames, self._frames)):
            self._closing.callback(sock.close)
            threading.Thread(target=work, args=(sock,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=(listener.accept()[0],), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            while peer.recv(100):
                self.heard.append("tcp")
                peer.sendall(b"outside")

    def _datagrams(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while sock.recv(2048):
                self.heard.append("udp")

    def _frames(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                frame = sock.recv(4096)
                if frame[12:14] == b"\x88\xb5" and _LEAK in frame:
                    self.heard.append("frame")

    def close(self) -> None:
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Container:
    """One that runs, of whichever runtime; its first process does what it is told (inside/contained.py)."""

    def __init__(self, id_: str, work: Path, pid: int, end: Sequence[str]) -> None:
        self.id, self.work, self.pid, self._end = id_, work, pid, list(end)
        self._orders = 0

    def begin(self, line: str) -> int:
        number, self._orders = self._orders, self._orders + 1
        part = self.work / f"order-{number}"
        part.write_text(line)
        part.rename(self.work / f"do-{number}")
        return number

    def do(self, line: str, timeout: float = 30) -> str:
        """What came of it, inside."""
        number = self.begin(line)
        wait_for((self.work / f"done-{number}").exists, f"{line} in {self.id}", timeout)
        return (self.work / f"done-{number}").read_text()

    def end(self) -> None:
        subprocess.run(self._end, capture_output=True, timeout=60 * PATIENCE, check=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def work_directory(place: Path, inside: Mapping[str, str]) -> Path:
    work = Path(tempfile.mkdtemp(prefix="work-", dir=place))
    (work / "contained.py").write_text(inside["contained.py"])
    return work


def bundle(
    directory: Path,
    root: Path,
    place: Place,
    work: Path,
    *,
    capabilities: Sequence[str] = (),
    annotations: Mapping[str, str] | None = None,
    hooks: Mapping[str, Any] | None = None,
) -> Path:
    """A runc bundle whose root is an overlay over `root`, as a runtime's would be."""
    directory.mkdir()
    for name in ("rootfs", "upper", "scratch"):
        (directory / name).mkdir()
    options = f"lowerdir={root},upperdir={directory / 'upper'},workdir={directory / 'scratch'}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, directory / "rootfs"], check=True)
    subprocess.run(["runc", "spec"], cwd=directory, check=True)
    spec = json.loads((directory / "config.json").read_text())
    spec["process"] |= {"terminal": False, "args": ["/usr/bin/python3", "/work/contained.py"], "cwd": "/work"}
    spec["process"].pop("oomScoreAdj", None)
    for kind in ("bounding", "effective", "permitted"):
        spec["process"]["capabilities"][kind] = sorted({*spec["process"]["capabilities"][kind], *capabilities})
    spec["root"]["readonly"] = False
    spec["mounts"].append({"destination": "/work", "source": str(work), "type": "none", "options": ["rbind", "rw"]})
    spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] != "network"]
    spec["linux"]["namespaces"].append({"type": "network", "path": str(place.path)})
    spec["annotations"] = {"org.opencontainers.image.ref.name": IMAGE, **(annotations or {})}
    if hooks:
        spec["hooks"] = dict(hooks)
    (directory / "config.json").write_text(json.dumps(spec))
    return directory


def runc(directory: Path, work: Path, machine: Machine | None = None, name: str = "") -> Container:
    """Start a bundle; on a machine, where its hooks are to find themselves on it. Raises AssertionError with runc's words."""
    name = name or f"stockct-{os.getpid()}-{next(_numbers)}"
    command = ["runc", "run", "-d", "--bundle", str(directory), name]
    log = directory / "runc.log"
    with log.open("wb") as said:
        done = subprocess.run(
            machine.wrap(command) if machine else command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=120
        )
    assert not done.returncode, log.read_text()
    state = json.loads(subprocess.run(["runc", "state", name], capture_output=True, text=True, check=True).stdout)
    end = f"runc delete -f {name}; umount {directory}/rootfs"
    return Container(name, work, state["pid"], ["sh", "-c", end])


class Podman:
    """A podman whose images and containers are below one directory; called with the words of a command, it answers what that said."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        base = [
            "podman",
            "--root",
            directory / "storage",
            "--runroot",
            directory / "run",
            "--cgroup-manager",
            "cgroupfs",
            "--runtime",
            "runc",
        ]
        self._base = [*map(str, base), "--tmpdir", str(directory / "tmp")]
        self._directory = directory

    def __call__(self, *words: str | Path, hooks: Path | None = None, machine: Machine | None = None) -> str:
        line = [*self._base, *(["--hooks-dir", str(hooks)] if hooks else []), *map(str, words)]
        with tempfile.TemporaryFile("w+") as said:  # not a pipe, which conmon would keep open
            command = machine.wrap(line) if machine else line
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=120 * PATIENCE, check=False)
            said.seek(0)
            text = said.read().strip()
        assert not done.returncode, text
        return text

    def run(
        self, name: str, work: Path, place: Place, *options: str, hooks: Path | None = None, machine: Machine | None = None
    ) -> Container:
        net = (
            "--network",
            f"ns:{place.path}",
            "--cap-add",
            "NET_RAW",
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
            "--no-hosts",
        )
        line = ("run", "-d", "--name", name, *net, "-v", f"{work}:/work", *options, IMAGE)
        self(*line, hooks=hooks, machine=machine)
        id_, pid = self("inspect", "--format", "{{.Id}} {{.State.Pid}}", name).split()
        return Container(id_, work, int(pid), [*self._base, "rm", "-f", "-t", "0", name])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([*self._base, "rm", "-fa", "-t", "0"], capture_output=True, check=False)
        subprocess.run([*self._base, "rmi", "-fa"], capture_output=True, check=False)
        _forget_cgroup("libpod_parent")


class Containerd:
    """A containerd of the tests' own, which finds itself on the machine as its hooks will, and `ctr` that speaks to it."""

    def __init__(self, directory: Path, machine: Machine) -> None:
        directory.mkdir()
        self._directory, self._socket = directory, directory / "containerd.sock"
        (directory / "config.toml").write_text(
            f"""version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{self._socket}"
"""
        )
        log = (directory / "log").open("wb")
        self._process = subprocess.Popen(machine.wrap(["containerd", "-c", directory / "config.toml"]), stdout=log, stderr=log)
        log.close()
        wait_for(self._socket.exists, "containerd", 60)

    def __call__(self, *words: str | Path) -> str:
        line = ["ctr", "-a", str(self._socket), *map(str, words)]
        with tempfile.TemporaryFile("w+") as said:
            done = subprocess.run(line, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=120 * PATIENCE, check=False)
            said.seek(0)
            text = said.read().strip()
        assert not done.returncode, text
        return text

    def run(self, name: str, work: Path, place: Place) -> Container:
        mount = f"type=bind,src={work},dst=/work,options=rbind:rw"
        self("run", "-d", "--with-ns", f"network:{place.path}", "--mount", mount, "--cap-add", "CAP_NET_RAW", IMAGE, name)
        return self._running(name, work)

    def run_spec(self, name: str, bundle_: Path, root: Path, work: Path) -> Container:
        """A container of a whole runtime spec, with a root file system that it cannot write to."""
        spec = json.loads((bundle_ / "config.json").read_text())
        spec["root"] = {"path": str(root), "readonly": True}
        whole = bundle_ / "whole.json"
        whole.write_text(json.dumps(spec))
        self("run", "-d", "--config", whole, name)
        return self._running(name, work)

    def _running(self, name: str, work: Path) -> Container:
        listed = [line.split() for line in self("tasks", "ls").splitlines()]
        pid = next(int(words[1]) for words in listed if words[0] == name)
        base = f"ctr -a {self._socket}"
        return Container(
            name, work, pid, ["sh", "-c", f"{base} tasks kill -s KILL {name}; sleep 0.5; {base} tasks rm -f {name}; {base} c rm {name}"]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60 * PATIENCE)
        _forget_cgroup("default")


def _forget_cgroup(name: str) -> None:
    """What a runtime leaves in every hierarchy, and nobody is in."""
    for path in Path("/sys/fs/cgroup").rglob(name):
        for directory, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                Path(directory).rmdir()


def attached(machine: Machine, room: Path, policy: str, *options: str | Path, audit: Path | None = None) -> Running:
    """`stockade attach`, when it has said that it governs."""
    from framework.machine import STOCKADE

    (room / "policy.yaml").write_text(policy)
    audit = audit or room / "audit.jsonl"
    line = [STOCKADE, "attach", *options, "--policy", room / "policy.yaml", "--audit", audit]
    said = room / "said"
    with said.open("wb") as output:
        process = subprocess.Popen(machine.wrap(line), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, text=True)
    running = Running(process, audit)
    wait_for(lambda: ": governed," in said.read_text(), "attach", 60, running)
    return running


def _ip(*words: str, check: bool = True) -> bool:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return not done.returncode
