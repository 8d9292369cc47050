"""What container runtimes have written down of a container: its process, its name, its image.

Reads the files that runc, crun, podman, containerd and docker keep; asks a daemon only for the image of a container that plain containerd
made, whose files do not say it. Root wrote all of them; what is not there or not readable is not known, and nothing is guessed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stockade.types import StockadeError

_RUNC = ("run/runc/*", "run/containerd/runc/*/*", "run/docker/runtime-runc/*/*", "run/docker/containerd/runc/*/*")
_CRUN = ("run/crun/*",)
_DOCKER = "var/lib/docker/containers"
_SECONDS = 10.0
_START = 19  # field 22, counted from the one after the name
_ANCESTORS = 4  # of a container's first process, up to the shim that started it

# Where kubelet's and podman's annotations name a container; the first that is there.
_NAMES = ("io.kubernetes.cri.container-name", "io.kubernetes.container.name", "org.opencontainers.container.name")
_REPLICATED = _NAMES[:2]  # of which every replica has the same
_IMAGES = ("io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName", "org.opencontainers.image.ref.name")
_SHORT = 12  # characters of an id that people write
_LONG = 50  # of a name before one: both together can be what a sandbox is called


@dataclass(frozen=True, slots=True)
class Container:
    """pid: of its first process, in this PID namespace.

    shared: others may have the same name. search: its own PATH. command: what it runs; empty where that is not known. capabilities: those
    that its runtime is to give it; None where nothing says it.
    """

    id: str
    runtime: str
    pid: int
    name: str = ""
    image: str = ""
    bundle: Path | None = None
    search: str = ""
    command: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    shared: bool = False
    capabilities: frozenset[str] | None = None

    @property
    def short(self) -> str:
        return self.id[:_SHORT] if len(self.id) >= 64 else self.id

    @property
    def called(self) -> str:
        """For people and for records: nobody else on this machine is called so."""
        return f"{self.name[:_LONG]}-{self.id[:_SHORT]}" if self.shared else self.name or self.short


def find(wanted: str, root: Path = Path("/")) -> Container:
    """By its name, its id, or what an id begins with. Raises StockadeError for none and for several."""
    known = list(containers(root))
    exact = [each for each in known if wanted and wanted in (each.id, each.name, each.called)]
    found = exact or [each for each in known if len(wanted) >= 4 and each.id.startswith(wanted)]
    if not found:
        names = ", ".join(sorted(each.called for each in known)) or "none"
        hint = f"running here, by what runc, crun, podman, containerd and docker wrote down: {names}"
        raise StockadeError(f"no running container is {wanted}", hint=hint, code="no_container")
    if len(found) > 1:
        ids = ", ".join(sorted(each.id for each in found))
        raise StockadeError(f"several containers are {wanted}: {ids}", hint="write the whole id", code="no_container")
    return found[0]


def of_process(pid: int, root: Path = Path("/")) -> Container | None:
    """The container whose first process this is."""
    return next((each for each in containers(root) if each.pid == pid), None)


def containers(root: Path = Path("/")) -> Iterator[Container]:
    """Those that run. root: of this machine's files, for tests."""
    for pattern in _RUNC:
        for directory in sorted(root.glob(pattern)):
            state = _read(directory / "state.json")
            if (pid := _running(state.get("init_process_pid"), state.get("init_process_start"))) is not None:
                labels = [str(label) for label in _mapping(state.get("config")).get("labels") or ()]
                bundle = next((Path(label.removeprefix("bundle=")) for label in labels if label.startswith("bundle=")), None)
                yield described(Container(directory.name, _runtime(directory, root), pid, bundle=bundle), root)
    for pattern in _CRUN:
        for directory in sorted(root.glob(pattern)):
            state = _read(directory / "status")
            if (pid := _running(state.get("pid"), state.get("process-start-time"))) is not None:
                bundle = Path(str(state["bundle"])) if "bundle" in state else None
                yield described(Container(directory.name, "crun", pid, bundle=bundle), root)


def _runtime(directory: Path, root: Path) -> str:
    return "containerd" if directory.parent.parent == root / "run/containerd/runc" else "docker" if "docker" in directory.parts else "runc"


def described(container: Container, root: Path = Path("/")) -> Container:
    """With what its bundle and whoever asked for it have written down."""
    spec = _read(container.bundle / "config.json") if container.bundle is not None else {}
    process = _mapping(spec.get("process"))
    annotations = {str(key): str(value) for key, value in _mapping(spec.get("annotations")).items()}
    variables = dict(str(each).partition("=")[::2] for each in process.get("env") or ())
    runtime, name, image = container.runtime, container.name, container.image
    named = "" if name else next((key for key in _NAMES if annotations.get(key)), "")
    name, shared = annotations.get(named, name), named in _REPLICATED
    image = image or next((annotations[key] for key in _IMAGES if key in annotations), "")
    for kind, known in (("podman", _podman(container)), ("docker", _docker(container.id, root))):
        if known is not None:
            runtime, name, image, shared = kind, known[0] or name, known[1] or image, shared and not known[0]
    if not image and (shim := _shim(container.pid)) is not None:
        image = _containerd(*shim, container.id)
    command = tuple(str(word) for word in process.get("args") or ())
    search = variables.get("PATH", "")
    given = process.get("capabilities")
    told = frozenset(str(each) for names in given.values() for each in names or ()) if isinstance(given, dict) else None
    return Container(container.id, runtime, container.pid, name, image, container.bundle, search, command, annotations, shared, told)


def _podman(container: Container) -> tuple[str, str] | None:
    """(name, image), by the list that its storage keeps beside the bundles: …/overlay-containers/ID/userdata is one."""
    if container.bundle is None or container.bundle.name != "userdata":
        return None
    for entry in _read(container.bundle.parent.parent / "containers.json", list):
        if _mapping(entry).get("id") == container.id:
            try:
                about = _mapping(json.loads(str(entry.get("metadata") or "{}")))
            except ValueError:
                about = {}
            names = entry.get("names") or [about.get("name", "")]
            return str(names[0]), str(about.get("image-name") or entry.get("image") or "")
    return None


def _docker(identity: str, root: Path) -> tuple[str, str] | None:
    about = _read(root / _DOCKER / identity / "config.v2.json")
    return (str(about.get("Name", "")).lstrip("/"), str(_mapping(about.get("Config")).get("Image", ""))) if about else None


def _shim(pid: int) -> tuple[str, str] | None:
    """The socket and the namespace of the containerd whose shim started this process, as the shim was told."""
    for _ in range(_ANCESTORS):
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except (OSError, ValueError, IndexError):
            return None
        if Path(words[0]).name.startswith("containerd-shim") and {"-address", "-namespace"} <= set(words):
            return words[words.index("-address") + 1], words[words.index("-namespace") + 1]
    return None


def _containerd(address: str, namespace: str, identity: str) -> str:
    """Its database is containerd's own: containerd is asked, by its own client."""
    client = shutil.which("ctr", path="/usr/local/bin:/usr/bin:/bin")
    if client is None:
        return ""
    try:
        command = [client, "-a", address, "-n", namespace, "containers", "info", identity]
        said = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=True).stdout
        return str(_mapping(json.loads(said)).get("Image", ""))
    except (OSError, subprocess.SubprocessError, ValueError):
        return ""


def _read(path: Path, kind: type[Any] = dict) -> Any:
    """A JSON file of root's, empty when there is none or it is something else."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return kind()
    return found if isinstance(found, kind) else kind()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _running(pid: object, start: object) -> int | None:
    """start: when it was started, in ticks since boot, as the runtime wrote down (proc_pid_stat(5), field 22): a number is given again."""
    if not isinstance(pid, int) or pid <= 0:
        return None
    try:
        began = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[_START])
    except (OSError, ValueError, IndexError):
        return None
    return pid if start is None or start == began else None  # an old crun wrote none down
