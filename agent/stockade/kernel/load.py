"""Loads bytecode, attaches it as pinned links, and never instead of what others attached.

A Kernel owns every descriptor it made. The pins outlive the process: after kill -9 of the agent the programs go on deciding with the maps
as they were, which means that nothing new is allowed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stockade.kernel import backend, bytecode, devices, syscall
from stockade.kernel.abi import Network
from stockade.kernel.backend import Backend
from stockade.kernel.devices import Device
from stockade.kernel.hooks import EXEC_STEPS, HOOKS, LSM, LSM_HOOKS, OPENS_HOOK, TRACING, Hook
from stockade.kernel.links import Link
from stockade.kernel.maps import Maps
from stockade.kernel.opens import Opens
from stockade.kernel.refusals import Refusals
from stockade.types import StockadeError

BPFFS = Path("/run/stockade/bpf")
_BPFFS_MAGIC = 0xCAFE4A11


def mounted_bpffs(path: Path = BPFFS) -> Path:
    """A bpffs of our own, 0700, mounted if need be. Raises StockadeError."""

    class Statfs(ctypes.Structure):
        _fields_ = (("type", ctypes.c_long), ("rest", ctypes.c_byte * 256))

    libc = ctypes.CDLL(None, use_errno=True)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = Statfs()
    if libc.statfs(os.fsencode(path), ctypes.byref(state)) == 0 and state.type == _BPFFS_MAGIC:
        return path
    if libc.mount(b"bpf", os.fsencode(path), b"bpf", 0, b"mode=0700") != 0:
        reason = os.strerror(ctypes.get_errno())
        raise StockadeError(f"cannot mount bpffs on {path}: {reason}", hint="Stockade needs root with CAP_SYS_ADMIN", code="no_bpffs")
    return path


class _HookIsFull(Exception):
    """As many programs as an LSM hook can hold are attached to it."""


class Lost(Exception):
    """What a dead agent pinned is no longer there, or is not what it was. args: a word on each."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """A link as it was when it was made. pin: the file's name."""

    name: str
    pin: str
    info: syscall.LinkInfo

    @classmethod
    def of(cls, link: Link) -> Pinned:
        return cls(link.name, link.pin.name, link.info)


def _highest(pins: Path) -> int:
    """The number of the last link that was pinned there, also of one whose sandbox has ended since; 0 for none."""
    return max((int(path.name.split("_")[1]) for path in pins.glob("link_*")), default=0)


class Kernel:
    """The programs and maps of one agent."""

    def __init__(self, network: Network, pins: Path, refuse_by: Backend | None = None) -> None:
        """Load everything. Raises StockadeError with the verifier's or compiler's words.

        refuse_by: how a refused exec is refused, of what this kernel can; the better one when not said. `backend` says what it came to.
        """
        self.network, self.pins = network, pins
        self.backend = refuse_by or backend.chosen()
        code = bytecode.compiled(network.defines())
        self._descriptors: list[int] = []
        self.links: list[Link] = []
        self._made = 0  # links so far: no two pins have one name
        ours = False
        try:
            maps = {shape.name: self._own(syscall.map_create(shape)) for shape in code.maps}
            self._programs = {hook.program: self._own(self._load(hook, code.linked(hook.program, maps))) for hook in self._hooks}
            pins.mkdir(mode=0o700, parents=True)
            ours = True
            for name, fd in maps.items():
                syscall.pin(fd, str(pins / f"map_{name}"))
        except OSError as error:
            self.close(unpin=ours)  # pins that were there are another's: they may be all that holds its sandbox
            hint = "see `stockade doctor` for what this kernel lacks"
            raise StockadeError(f"the kernel refused: {error.strerror or error}", hint=hint, code="bpf_load") from None
        self._know(code, maps)
        self.maps.set_exec_steps([self._programs[program] for program in EXEC_STEPS])

    def _know(self, code: bytecode.Bytecode, maps: dict[str, int]) -> None:
        self.maps = Maps(maps, {shape.name: shape for shape in code.maps}, self._programs["enrol"], self._programs.get("identify"))
        by_lsm = self.backend is Backend.LSM
        self.refusals = Refusals(maps["refused_calls"], maps["refusals"], maps["refusal_epoch"], mappings_told=by_lsm)
        self.opens = Opens(maps["counted_directories"], maps["opened"], maps["opened_told"])
        self._opens_code = code.linked(OPENS_HOOK.program, maps)  # loaded when a policy asks

    @classmethod
    def adopt(cls, network: Network, pins: Path, links: Sequence[Pinned], refuses_by: Backend) -> Kernel:
        """The programs and maps that a dead agent pinned, as they go on deciding. Loads nothing but what asks for a file's key.

        links: all that it had. Raises Lost when one of them does not hold any more, StockadeError.
        """
        self = cls.__new__(cls)
        self.network, self.pins, self.backend = network, pins, refuses_by
        self._descriptors, self.links, self._made = [], [], _highest(pins)
        code = bytecode.compiled(network.defines())
        lost: list[str] = []
        maps: dict[str, int] = {}
        for shape in code.maps:
            try:
                maps[shape.name] = self._own(syscall.pinned(str(pins / f"map_{shape.name}")))
                if syscall.map_info(maps[shape.name], shape.name) != shape:
                    lost.append(f"map {shape.name} was replaced")
            except OSError as error:
                lost.append(f"map {shape.name} is no longer pinned ({error.strerror})")
        for pinned in links:
            try:
                self.take_over(pinned)
            except Lost as one:
                lost += map(str, one.args)
        try:
            if lost:
                raise Lost(*lost)
            enrol = next(hook for hook in HOOKS if hook.program == "enrol")
            self._programs = {"enrol": self._own(self._load(enrol, code.linked("enrol", maps)))}
            self._know(code, maps)
        except BaseException:
            self.close(unpin=False)
            raise
        return self

    def take_over(self, pinned: Pinned) -> Link:
        """A link that a dead agent pinned among these. Raises Lost."""
        try:
            link = Link.found(pinned.name, self.pins / pinned.pin, pinned.info)
        except OSError as error:
            raise Lost(f"{pinned.name} is no longer pinned ({error.strerror})") from None
        self._own(link.descriptor)
        self.links.append(link)
        if (words := link.lost()) is not None:
            raise Lost(words)
        return link

    def held_by(self) -> tuple[Pinned, ...]:
        """What `adopt` must find."""
        return tuple(map(Pinned.of, self.links))

    @property
    def _hooks(self) -> tuple[Hook, ...]:
        found = HOOKS + LSM_HOOKS if self.backend is Backend.LSM else HOOKS
        return found + backend.sender_hooks(self.backend)

    @property
    def tells_senders(self) -> bool:
        """Whether a connection is known to have been spoken on by another than who opened it."""
        return bool(backend.sender_hooks(self.backend))

    @staticmethod
    def _load(hook: Hook, instructions: bytes) -> int:
        target = backend.hook_id(hook.where.partition(":")[2], hook.attach_type) if hook.kind in (LSM, TRACING) else 0
        return syscall.prog_load(hook.program, hook.kind, hook.attach_type, instructions, attach_btf_id=target)

    def _own(self, fd: int) -> int:
        self._descriptors.append(fd)
        return fd

    def _link(self, name: str, fd: int, pins: Path | None = None) -> None:
        self._made += 1
        try:
            link = Link.pinned(name, fd, (pins or self.pins) / f"link_{self._made:02}_{name}")
        except OSError:
            os.close(fd)
            raise
        self._own(fd)
        self.links.append(link)

    def attach_tracepoints(self) -> None:
        """exec, fork and exit, what the kernel refuses, and who sends, for every governed cgroup; and what refuses an exec before that.

        A hook of the LSM holds 38 programs (BPF_MAX_TRAMP_LINKS), the agents of as many sandboxes. The next one does with the tracepoint.
        """
        self._attach("tracepoint", None)
        self._attach("typed", None)
        if self.backend is not Backend.LSM:
            return
        before = len(self.links)
        try:
            self._attach("lsm", None)
        except _HookIsFull:
            self._unlink_from(before)
            self.backend = Backend.TRACEPOINT

    def count_opens(self) -> None:
        """For the sandboxes that asked (opens.ask). May be called for each of them. Raises StockadeError."""
        if any(link.name == OPENS_HOOK.program for link in self.links):
            return
        try:
            program = self._own(self._load(OPENS_HOOK, self._opens_code))
            self._link(OPENS_HOOK.program, syscall.link_raw_tracepoint(program, OPENS_HOOK.where.partition(":")[2]))
        except OSError as error:
            raise StockadeError(f"opens cannot be counted: {error.strerror or error}", code="bpf_attach") from None

    def govern(self, cgroup: Path, pins: Path | None = None) -> list[Link]:
        """Attach every per-sandbox program to this cgroup. Raises StockadeError: a sandbox with a hook missing is not started.

        pins: a directory of their own, made here. Returns the links.
        """
        first = len(self.links)
        if pins is not None:
            pins.mkdir(mode=0o700, parents=True)
        try:
            self._attach("sandbox", cgroup, pins)
        except BaseException:
            if pins is not None:
                self._unlink_from(first)
                pins.rmdir()
            raise
        return self.links[first:]

    def guard_devices(self, cgroup: Path, sandbox: int, allowed: Iterable[Device]) -> Link:
        """Let this cgroup open the devices of every sandbox, and these. Raises StockadeError."""
        fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            code = devices.program([*devices.SAFE, *allowed], sandbox, self.maps.events)
            program = syscall.prog_load("devices", devices.PROGRAM_TYPE, devices.ATTACH_TYPE, code)
            try:
                self._link("devices", syscall.link_cgroup(program, fd, devices.ATTACH_TYPE))
            finally:
                os.close(program)  # the link holds it
        except OSError as error:
            raise StockadeError(f"cannot attach devices (sandbox): {error.strerror or error}", code="bpf_attach") from None
        finally:
            os.close(fd)
        return self.links[-1]

    def answer_origins(self, cgroup: Path) -> None:
        """Let sockets created in this cgroup be asked for ORIGIN."""
        self._attach("listeners", cgroup)

    def _attach(self, where: str, cgroup: Path | None, pins: Path | None = None) -> None:
        fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if cgroup else -1
        try:
            for hook in self._hooks:
                place, _, name = hook.where.partition(":")
                if place != where:
                    continue
                program = self._programs[hook.program]
                if cgroup:
                    self._link(hook.program, syscall.link_cgroup(program, fd, hook.attach_type), pins)
                elif place == "typed":
                    self._link(hook.program, syscall.link_typed_tracepoint(program))
                elif place == "lsm":
                    self._link(hook.program, syscall.link_lsm(program))
                else:
                    self._link(hook.program, syscall.link_raw_tracepoint(program, name))
        except OSError as error:
            if place == "lsm" and error.errno == errno.E2BIG:
                raise _HookIsFull from None
            raise StockadeError(f"cannot attach {hook.program} ({hook.where}): {error.strerror or error}", code="bpf_attach") from None
        finally:
            if fd >= 0:
                os.close(fd)

    def _unlink_from(self, first: int) -> None:
        """Take off again what was attached last, down to link number `first`."""
        while len(self.links) > first:
            self.take_off(self.links[-1])

    def unpin_strangers(self) -> None:
        """Links that are pinned here and nobody took over: of sandboxes that ended while nobody looked."""
        known = {link.pin for link in self.links}
        for pin in self.pins.glob("link_*"):
            if pin not in known:
                pin.unlink(missing_ok=True)

    def take_off(self, link: Link) -> None:
        """What it attached, off the kernel: of a sandbox that has ended, while others go on."""
        self.links.remove(link)
        link.pin.unlink(missing_ok=True)
        self._descriptors.remove(link.descriptor)
        os.close(link.descriptor)

    def close(self, *, unpin: bool = True) -> None:
        """Release the descriptors; with unpin, take the programs off the kernel too."""
        if unpin:
            shutil.rmtree(self.pins, ignore_errors=True)
        while self._descriptors:
            os.close(self._descriptors.pop())
