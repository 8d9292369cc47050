"""What this kernel can do, found out by doing it: lists of features lie (`bpf` is among the LSMs of kernels that refuse LSM programs)."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from stockade.kernel import backend, devices, headers, syscall
from stockade.kernel.hooks import HOOKS
from stockade.types import StockadeError

_RETURN_1 = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)  # r0 = 1; exit


class Answer(StrEnum):
    AVAILABLE = "available"
    MISSING = "missing"
    UNKNOWN = "could not tell"


@dataclass(frozen=True, slots=True)
class Finding:
    """One probe's answer. fatal: `stockade run` cannot do without it."""

    name: str
    answer: Answer
    detail: str = ""
    hint: str = ""
    fatal: bool = True


def _try(name: str, attempt: Callable[[], None], *, hint: str = "", fatal: bool = True) -> Finding:
    try:
        attempt()
    except OSError as error:
        # EPERM says that we may not ask, or that the kernel will not answer: for root it is the latter
        answer = Answer.UNKNOWN if error.errno == errno.EPERM and os.geteuid() != 0 else Answer.MISSING
        return Finding(name, answer, (error.strerror or str(error)).splitlines()[0], hint, fatal)
    except StockadeError as error:
        return Finding(name, Answer.MISSING, error.message, error.hint or hint, fatal)
    return Finding(name, Answer.AVAILABLE, fatal=fatal)


def _program(kind: int, attach_type: int) -> Callable[[], None]:
    return lambda: os.close(syscall.prog_load("probe", kind, attach_type, _RETURN_1))


def _map(kind: int, key_size: int, value_size: int, entries: int, flags: int) -> Callable[[], None]:
    return lambda: os.close(syscall.map_create(syscall.MapShape("probe", kind, key_size, value_size, entries, flags)))


def exec_lsm() -> Finding:
    """Whether exec can be refused with EPERM by a BPF LSM program instead of killing the new image."""
    hint = "boot with lsm=...,bpf on a kernel with CONFIG_BPF_LSM; until then a refused exec is killed before its first instruction"
    return _try("exec refusal by BPF LSM", backend.try_lsm, hint=hint, fatal=False)


def senders() -> Finding:
    """Whether the kernel says who sends on a socket that another process connected."""
    hint = "Linux 6.3, or an older one booted with lsm=...,bpf; until then a socket speaks for whoever connected it, also when handed on"
    return _try("senders named", backend.demand_senders, hint=hint, fatal=False)


def kernel_findings() -> list[Finding]:
    """Every program and map type that Stockade loads, each tried. Takes some milliseconds; needs root."""

    def btf() -> None:
        headers.btf_hash()

    found = [_try("BTF", btf, hint="CONFIG_DEBUG_INFO_BTF=y")]
    seen: dict[tuple[int, int], str] = {}
    for hook in HOOKS:
        seen.setdefault((hook.kind, hook.attach_type), hook.program)
    seen.setdefault((devices.PROGRAM_TYPE, devices.ATTACH_TYPE), "devices")
    found += [_try(f"program type of {name}", _program(*kind)) for kind, name in seen.items()]
    found += [
        _try("socket storage", _map(syscall.MAP_TYPE_SK_STORAGE, 4, 8, 0, 1)),
        _try("ring buffer", _map(syscall.MAP_TYPE_RINGBUF, 0, 0, 4096, 0)),
        _try("longest-prefix map", _map(11, 8, 4, 16, 1)),
        exec_lsm(),
        senders(),
    ]
    return found
