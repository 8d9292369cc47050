"""`stockade oci-hook`: a container is governed before its first instruction, because its runtime asks for it and waits.

Run by a runtime as a createRuntime hook (OCI runtime-spec, config.md: in the runtime's own namespaces, when the container's are there and
its root is not yet its root). Reads the state from standard input, has a daemon govern it or leaves an agent behind, and returns when that
governs. Whatever fails ends with another status than 0, and then the container does not start.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from stockade.attach import runtimes, target
from stockade.attach.attachment import Standing
from stockade.attach.foreground import attach
from stockade.attach.runtimes import Container
from stockade.attach.wanted import Wanted
from stockade.daemon.attaching import govern_by
from stockade.sandbox.cgroup import Cgroup
from stockade.service.control import running
from stockade.service.listening import answers
from stockade.service.order import Order
from stockade.service.settings import Settings
from stockade.types import StockadeError

POLICY, PRESET = "stockade.policy", "stockade.preset"  # annotations
DIRECTORY = Path("/etc/stockade/policies")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LONGEST = 1 << 20  # octets of a state
_GOVERNED = b"\0"
_SECONDS = 120.0
_RESTARTED = 15.0  # seconds
_STREAMS = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class State:
    """What the runtime says of the container (runtime.md#state). annotations: of the container too, where the state has none."""

    id: str
    pid: int
    bundle: Path
    annotations: dict[str, str]

    @classmethod
    def parse(cls, text: bytes) -> State:
        """Raises StockadeError."""
        try:
            said = json.loads(text)
            status, pid = str(said["status"]), said["pid"]
            found = cls(str(said["id"]), int(pid), Path(str(said["bundle"])), {})
            annotations = {str(key): str(value) for key, value in (said.get("annotations") or {}).items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            hint = "this is what a runtime runs: see docs/attach.md for how it is told to"
            why = f"not JSON: {error}" if isinstance(error, json.JSONDecodeError) else repr(error)
            raise StockadeError(f"no state of a container on standard input: {why}", hint=hint, code="bad_state") from None
        if status not in ("creating", "created") or found.pid <= 0:
            hint = "install it as a createRuntime hook"
            raise StockadeError(f"the container is {status}: it is too late, or too early, to govern it", hint=hint, code="bad_state")
        return dataclasses.replace(found, annotations=annotations)


@dataclass(frozen=True, slots=True)
class Choice:
    """Where policies are, and what holds for a container that names none: a policy's name, or nothing."""

    directory: Path = DIRECTORY
    otherwise: str = ""
    required: bool = False

    def of(self, annotations: dict[str, str]) -> tuple[tuple[Path, ...], tuple[str, ...]] | None:
        """Policy files and presets; None for a container that is not to be governed. Raises StockadeError."""
        named, presets = _words(annotations, POLICY), tuple(_words(annotations, PRESET))
        if not named and not presets and self.otherwise:
            named = [self.otherwise]
        if not named and not presets:
            if self.required:
                raise StockadeError("the container names no policy", hint=f"annotate it with {POLICY}=NAME", code="no_policy")
            return None
        return tuple(self._file(name) for name in named), presets

    def _file(self, name: str) -> Path:
        """Whoever starts a container may choose among root's policies, and bring none."""
        if not _NAME.fullmatch(name):
            raise StockadeError(f"{POLICY}={name}: not the name of a policy", hint=f"NAME of {self.directory}/NAME.yaml", code="bad_name")
        path = self.directory / (name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
        if not path.is_file():
            raise StockadeError(f"there is no {path}", hint=f"ls {self.directory}", code="no_policy")
        return path


def _words(annotations: dict[str, str], key: str) -> list[str]:
    """Raises StockadeError for one that is there and says nothing: somebody meant to have the container governed."""
    words = annotations.get(key, "").replace(",", " ").split()
    if key in annotations and not words:
        raise StockadeError(f"{key} is there, and names nothing", hint=f"{key}=NAME, or no such annotation", code="no_policy")
    return words


def govern(text: bytes, choice: Choice, settings: Settings, settings_file: Path | None = None, *, embedded: bool = False) -> str:
    """Govern the container of this state. Returns what was done, in words. Raises StockadeError: it must not start."""
    if os.geteuid() != 0:
        raise StockadeError("stockade oci-hook needs root", hint="rootless containers cannot be governed", code="not_root")
    state = State.parse(text[:_LONGEST])
    container, root = _container(state)
    chosen = choice.of(dict(container.annotations) | state.annotations)
    if chosen is None:
        return f"{container.called}: names no policy, and is not governed"
    policies, presets = chosen
    found = target.of_starting(container, f"/proc/{state.pid}/root{root}")
    order = Order(command=(), policies=policies, presets=presets, settings=settings_file)
    wanted = Wanted(order, found)
    said = None
    if settings_file is None and not embedded and answers(settings.daemon):
        _wait_for_the_last(settings.control, found.called)
        said = govern_by(settings.daemon, wanted, _SECONDS)
    return f"{found.called}: {said or _by_its_own(wanted, settings)}"


def _by_its_own(wanted: Wanted, settings: Settings) -> str:
    log = settings.log / f"{wanted.name}.log"
    log.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    return _detached(functools.partial(_serve, wanted, settings), log)


def _container(state: State) -> tuple[Container, Path]:
    """As its bundle describes it, and where its root file system is on this machine."""
    try:
        spec = json.loads((state.bundle / "config.json").read_bytes())
        path = Path(str(spec["root"]["path"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StockadeError(f"{state.bundle}/config.json cannot be read: {error}", code="bad_state") from None
    runtime = "containerd" if "io.containerd" in str(state.bundle) else "runc"
    container = runtimes.described(Container(state.id, runtime, state.pid, bundle=state.bundle))
    return container, (path if path.is_absolute() else state.bundle / path).resolve()


def _serve(wanted: Wanted, settings: Settings, done: int) -> int:
    """The agent, in the process that stays."""

    def governed(standing: Standing) -> None:
        print(f"governed; device: {standing.device}; {', '.join(standing.unheld) or 'held'}", file=sys.stderr, flush=True)
        os.write(done, _GOVERNED)
        os.close(done)

    _wait_for_the_last(settings.control, wanted.name)
    return attach(wanted, settings, governed, stays=True)


def _wait_for_the_last(control: Path, name: str) -> None:
    """A container that is started again has its name back as soon as the agent of its life before has written its last record."""
    until = time.monotonic() + _RESTARTED
    while name in running(control) and time.monotonic() < until:
        time.sleep(0.05)


def _detached(serve: functools.partial[int], log: Path) -> str:
    """Fork who stays; returns when it says that it governs. Raises StockadeError with its own words."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        _become(serve, theirs, log)
    os.close(theirs)
    try:
        said = _read(ours)
    finally:
        os.close(ours)
    if said.endswith(_GOVERNED):
        return "governed"
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise StockadeError(said.decode(errors="replace") or f"its agent ended: see {log}", code="hook")


def _read(pipe: int) -> bytes:
    said = b""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while poll.poll(_SECONDS * 1000):
        part = os.read(pipe, 65536)
        said += part
        if not part or part.endswith(_GOVERNED):
            return said
    return b"its agent did not govern it in time"


def _become(serve: functools.partial[int], done: int, log: Path) -> NoReturn:
    """Out of the runtime's session and cgroup, which may end before the container does; its words go into a file."""
    status = 1
    try:
        os.setsid()
        Cgroup.make("agents").add(os.getpid())
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        for number in _STREAMS:
            os.dup2(nothing if number == 0 else output, number)
        status = serve(done)
    except StockadeError as error:
        print(f"stockade: {error.message} [{error.code}]", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):
            os.write(done, f"{error.message} [{error.code}]{f'; {error.hint}' if error.hint else ''}".encode())
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(done, f"{type(error).__name__}: {error}".encode())
        raise
    finally:
        sys.stderr.flush()
        os._exit(status)
