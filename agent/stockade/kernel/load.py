"""Loads bytecode, attaches it as pinned links, and never instead of what others attached.

A Kernel owns every descriptor it made. The pins outlive the process: after kill -9 of the agent the programs go on deciding with the maps
as they were, which means that nothing new is allowed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from stockade.kernel import bytecode, syscall
from stockade.kernel.abi import Network
from stockade.kernel.maps import Maps
from stockade.types import StockadeError

BPFFS = Path("/run/stockade/bpf")
_BPFFS_MAGIC = 0xCAFE4A11


@dataclass(frozen=True, slots=True)
class Hook:
    """A program of bpf/: its type and attach type (enum bpf_prog_type, enum bpf_attach_type), and where it is attached."""

    program: str
    kind: int
    attach_type: int
    where: str  # "sandbox" or "listeners": a cgroup; "tracepoint:NAME"; "step": reached by a tail call; "run": only through TEST_RUN


_RAW_TRACEPOINT, _SOCK_ADDR, _SOCK, _SOCK_OPS, _SKB, _SOCKOPT = 17, 18, 9, 13, 8, 25

HOOKS = (
    Hook("on_exec_environment", _RAW_TRACEPOINT, 0, "step"),
    Hook("on_exec", _RAW_TRACEPOINT, 0, "tracepoint:sched_process_exec"),
    Hook("on_fork", _RAW_TRACEPOINT, 0, "tracepoint:sched_process_fork"),
    Hook("on_exit", _RAW_TRACEPOINT, 0, "tracepoint:sched_process_exit"),
    Hook("enrol", _RAW_TRACEPOINT, 0, "run"),
    Hook("connect4", _SOCK_ADDR, 10, "sandbox"),
    Hook("connect6", _SOCK_ADDR, 11, "sandbox"),
    Hook("sendmsg4", _SOCK_ADDR, 14, "sandbox"),
    Hook("sendmsg6", _SOCK_ADDR, 15, "sandbox"),
    Hook("recvmsg4", _SOCK_ADDR, 19, "sandbox"),
    Hook("recvmsg6", _SOCK_ADDR, 20, "sandbox"),
    Hook("getpeername4", _SOCK_ADDR, 29, "sandbox"),
    Hook("getpeername6", _SOCK_ADDR, 30, "sandbox"),
    Hook("bind4", _SOCK_ADDR, 8, "sandbox"),
    Hook("bind6", _SOCK_ADDR, 9, "sandbox"),
    Hook("sock_create", _SOCK, 2, "sandbox"),
    Hook("sock_release", _SOCK, 34, "sandbox"),
    Hook("sock_ops", _SOCK_OPS, 3, "sandbox"),
    Hook("skb_ingress", _SKB, 0, "sandbox"),
    Hook("skb_egress", _SKB, 1, "sandbox"),
    Hook("listener_ops", _SOCK_OPS, 3, "listeners"),
    Hook("getsockopt", _SOCKOPT, 21, "listeners"),
)


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


class Kernel:
    """The programs and maps of one agent."""

    def __init__(self, network: Network, pins: Path) -> None:
        """Load everything and attach what is global. Raises StockadeError with the verifier's or compiler's words."""
        self.network, self.pins = network, pins
        code = bytecode.compiled(network.defines())
        self._descriptors: list[int] = []
        self._links = 0
        ours = False
        try:
            maps = {shape.name: self._own(syscall.map_create(shape)) for shape in code.maps}
            self._programs = {
                hook.program: self._own(syscall.prog_load(hook.program, hook.kind, hook.attach_type, code.linked(hook.program, maps)))
                for hook in HOOKS
            }
            pins.mkdir(mode=0o700, parents=True)
            ours = True
            for name, fd in maps.items():
                syscall.pin(fd, str(pins / f"map_{name}"))
        except OSError as error:
            self.close(unpin=ours)  # pins that were there are another's: they may be all that holds its sandbox
            hint = "see `stockade doctor` for what this kernel lacks"
            raise StockadeError(f"the kernel refused: {error.strerror or error}", hint=hint, code="bpf_load") from None
        self.maps = Maps(maps, {shape.name: shape for shape in code.maps}, self._programs["enrol"])
        self.maps.set_exec_step(self._programs["on_exec_environment"])

    def _own(self, fd: int) -> int:
        self._descriptors.append(fd)
        return fd

    def _link(self, name: str, fd: int) -> None:
        self._own(fd)
        self._links += 1
        syscall.pin(fd, str(self.pins / f"link_{self._links:02}_{name}"))

    def attach_tracepoints(self) -> None:
        """exec, fork and exit, for every governed cgroup of the machine."""
        self._attach("tracepoint", None)

    def govern(self, cgroup: Path) -> None:
        """Attach every per-sandbox program to this cgroup. Raises StockadeError: a sandbox with a hook missing is not started."""
        self._attach("sandbox", cgroup)

    def answer_origins(self, cgroup: Path) -> None:
        """Let sockets created in this cgroup be asked for ORIGIN."""
        self._attach("listeners", cgroup)

    def _attach(self, where: str, cgroup: Path | None) -> None:
        fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if cgroup else -1
        try:
            for hook in HOOKS:
                place, _, tracepoint = hook.where.partition(":")
                if place != where:
                    continue
                program = self._programs[hook.program]
                if cgroup:
                    self._link(hook.program, syscall.link_cgroup(program, fd, hook.attach_type))
                else:
                    self._link(hook.program, syscall.link_raw_tracepoint(program, tracepoint))
        except OSError as error:
            raise StockadeError(f"cannot attach {hook.program} ({hook.where}): {error.strerror or error}", code="bpf_attach") from None
        finally:
            if fd >= 0:
                os.close(fd)

    def close(self, *, unpin: bool = True) -> None:
        """Release the descriptors; with unpin, take the programs off the kernel too."""
        if unpin:
            shutil.rmtree(self.pins, ignore_errors=True)
        while self._descriptors:
            os.close(self._descriptors.pop())
