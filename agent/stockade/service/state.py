"""What an agent writes down of its sandbox for the one that comes after it, should it die: a file of root's beside the lock of the slot.

    slots/N.json    who the sandbox is, for whoever lists or sweeps, and in `kept` all that goes on governing it needs
    slots/N.names   the names behind synthetic addresses, a line each, written before a name is answered

Owns their form, and that what is read is what was written: a file that was cut, changed, or written by another build is refused whole. A
sandbox never sees them: /run/stockade is hidden in it, and they are 0600 in a directory that is 0700.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import enum
import functools
import hashlib
import inspect
import io
import json
import os
import pickle
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockade.kernel import bytecode
from stockade.kernel.abi import FileFacts, Network
from stockade.kernel.backend import Backend
from stockade.kernel.load import Pinned
from stockade.policy import Policy
from stockade.proxy import Authority
from stockade.proxy.parcel import pack
from stockade.sandbox.plan import Bind
from stockade.sandbox.roster import Enrolment
from stockade.service.order import Order
from stockade.types import Sandbox, StockadeError

FORMAT = 2


@dataclass(frozen=True, slots=True)
class Process:
    """One process and no later one with its PID. started: in clock ticks since boot (proc_pid_stat(5), field 22)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """None: there is none any more, or it has ended."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return cls(pid, int(fields[19])) if fields[0] not in "ZX" else None
        return None

    @property
    def lives(self) -> bool:
        return Process.of(self.pid) == self


@dataclass(frozen=True, slots=True)
class Kept:
    """What never changes while the sandbox lives, but for the policy: as it was read last, without what was approved for a time."""

    order: Order
    policy: Policy
    enrolments: tuple[Enrolment, ...]
    facts: dict[int, FileFacts]
    binds: tuple[Bind, ...]
    links: tuple[Pinned, ...]
    refuses_by: Backend
    authority: Authority


@dataclass(frozen=True, slots=True)
class State:
    """sandbox: as records name it. build: of the code that wrote it. worker: who else held sockets in it. since: epoch seconds."""

    sandbox: Sandbox
    init: Process
    worker: Process | None
    build: str
    since: float
    kept: Kept

    @property
    def header(self) -> Header:
        order = self.kept.order
        assert order.audit is not None, "Order.anywhere said where"
        return Header(self.sandbox, order.audit, self.init, self.worker, self.build, _boot(), self.since, order.command, order.settings)


@dataclass(frozen=True, slots=True)
class Header:
    """What anybody may read of a state without taking the sandbox over. boot: of the machine. settings: the file that was named."""

    sandbox: Sandbox
    audit: Path
    init: Process
    worker: Process | None
    build: str
    boot: str
    since: float
    command: tuple[str, ...]
    settings: Path | None = None

    @property
    def lives(self) -> bool:
        """Whether the sandbox's init is still the one that was written down."""
        return self.boot == _boot() and self.init.lives


class StateFile:
    """One slot's. Written by whoever holds the slot."""

    def __init__(self, directory: Path, number: int) -> None:
        self.path, self._names = directory / f"{number}.json", directory / f"{number}.names"

    def write(self, state: State) -> None:
        """Whole or not at all. Raises OSError."""
        header = state.header
        packed = pack((state.kept, state.kept.policy.sources))  # a policy travels without its sources: a worker has no use for them
        written = {
            **{name: getattr(header, name) for name in ("build", "boot", "since")},
            "sandbox": dataclasses.asdict(header.sandbox),
            "audit": str(header.audit),
            "command": list(header.command),
            "settings": str(header.settings) if header.settings is not None else None,
            "init": _encoded(header.init),
            "worker": _encoded(header.worker),
            "kept": base64.b64encode(packed).decode(),
            "shapes": _shapes(packed),
        }
        text = json.dumps(written)
        new = self.path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "w") as file:  # noqa: PTH123 (a descriptor)
            json.dump({"format": FORMAT, "sha256": hashlib.sha256(text.encode()).hexdigest(), "state": text}, file)
        new.rename(self.path)

    def header(self) -> Header | None:
        """None when there is none. Raises StockadeError when it is not what was written."""
        state = self._read()
        return _header(state) if state is not None else None

    def read(self, build: str) -> State:
        """Raises StockadeError: none is there, it is not what was written, or another build wrote it."""
        state = self._read()
        if state is None:
            raise StockadeError(f"no agent has left a {self.path}", hint="stockade sandbox ls", code="no_state")
        header = _header(state)
        if header.build != build:
            raise _other_build(header, "its programs and this agent may not understand each other")
        try:
            kept, sources = _Reader(base64.b64decode(state["kept"]), state["shapes"]).load()  # root's own file
            kept = dataclasses.replace(kept, policy=dataclasses.replace(kept.policy, sources=sources))
        except _Another as error:
            raise _other_build(header, f"{error} is written down in another way") from None
        except Exception as error:
            raise self._garbled(f"{type(error).__name__}: {error}") from None
        if not isinstance(kept, Kept):
            raise self._garbled("it keeps something else")
        return State(header.sandbox, header.init, header.worker, header.build, header.since, kept)

    def _read(self) -> dict[str, Any] | None:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._garbled(error.strerror or "?") from None
        with open(fd) as file:  # noqa: PTH123 (a descriptor)
            about = os.fstat(fd)
            if about.st_uid != 0 or about.st_mode & 0o077 or not stat.S_ISREG(about.st_mode):
                raise self._garbled("it is not root's alone")
            try:
                whole = json.load(file)
                text = whole["state"]
                if whole["format"] != FORMAT or hashlib.sha256(text.encode()).hexdigest() != whole["sha256"]:
                    raise ValueError("its digest is another")
                state = json.loads(text)
                _header(state)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise self._garbled(str(error) or type(error).__name__) from None
        found: dict[str, Any] = state
        return found

    def _garbled(self, why: str) -> StockadeError:
        hint = f"its sandbox stays held and reaches nothing; `stockade sandbox kill box-{self.path.stem}` ends it"
        return StockadeError(f"{self.path} is not what an agent wrote: {why}", hint=hint, code="bad_state")

    # names

    def name(self, index: int, name: str) -> None:
        """Keep one more name. Raises OSError: nobody may be told of it then."""
        line = f"{index} {name}\n".encode()
        fd = os.open(self._names, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.write(fd, line) != len(line):
                raise OSError(28, "no room for one more name")
        finally:
            os.close(fd)

    def names(self) -> list[tuple[int, str]]:
        """(index, name), oldest first. A last line without an end was never answered. Raises StockadeError."""
        try:
            whole = self._names.read_text().rpartition("\n")[0]
            return [(int(index), name) for index, _, name in (line.partition(" ") for line in whole.splitlines())]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise StockadeError(f"{self._names} is not what an agent wrote: {error}", code="bad_state") from None

    def remove(self) -> None:
        for path in (self.path, self._names, self.path.with_suffix(".new")):
            path.unlink(missing_ok=True)

    def exists(self) -> bool:
        return self.path.exists() or self._names.exists()


def build(network: Network) -> str:
    """Names the programs in the kernel and what they mean to each other: those of another are nothing that this code could go on with."""
    return bytecode.digest(network.defines())


class _Another(Exception):
    """What is kept is made of a class that is another one now."""


class _Reader(pickle.Unpickler):
    """known: the shapes of the classes that what is read was made of, None for whatever they are. shapes: those that were met."""

    def __init__(self, data: bytes, known: Mapping[str, str] | None) -> None:
        super().__init__(io.BytesIO(data))
        self._known = known
        self.shapes: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        try:
            found = super().find_class(module, name)
        except (AttributeError, ImportError):
            raise _Another(name) from None
        if module.partition(".")[0] == "stockade":
            shape = self.shapes[f"{module}:{name}"] = _shape(found)
            if self._known is not None and self._known.get(f"{module}:{name}") != shape:
                raise _Another(name)
        return found


def _shapes(data: bytes) -> dict[str, str]:
    """Of every class of ours that a pickle is made of."""
    reader = _Reader(data, None)
    reader.load()
    return reader.shapes


@functools.cache
def _shape(thing: Any) -> str:
    """What must be the same for a pickle of it to be understood: the fields of a dataclass, the values of an enumeration, else its code.

    Whoever changes what one of them *means* raises FORMAT.
    """
    if dataclasses.is_dataclass(thing):
        text = repr([(field.name, str(field.type)) for field in dataclasses.fields(thing)])
    elif isinstance(thing, type) and issubclass(thing, enum.Enum):
        text = repr([(each.name, each.value) for each in thing])
    else:
        text = inspect.getsource(thing)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _other_build(header: Header, why: str) -> StockadeError:
    name = header.sandbox.name
    hint = f"adopt it with that build, or `stockade sandbox kill {name}`; until then nothing of it reaches anything"
    return StockadeError(f"{name} was started by another build of Stockade: {why}", hint=hint, code="other_build")


def now() -> float:
    return time.time()


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _header(state: dict[str, Any]) -> Header:
    """Raises KeyError, TypeError, ValueError."""
    init, worker = state["init"], state["worker"]
    who = state["sandbox"]
    labels = {str(label): str(value) for label, value in who["labels"].items()}
    return Header(
        Sandbox(str(who["id"]), str(who["name"]), str(who["policy"]), int(who["generation"]), labels),
        Path(str(state["audit"])),
        Process(int(init[0]), int(init[1])),
        Process(int(worker[0]), int(worker[1])) if worker is not None else None,
        str(state["build"]),
        str(state["boot"]),
        float(state["since"]),
        tuple(map(str, state["command"])),
        Path(str(state["settings"])) if state.get("settings") is not None else None,
    )


def _encoded(process: Process | None) -> list[int] | None:
    return [process.pid, process.started] if process is not None else None
