"""bpf(2), as far as Stockade needs it. Numbers and layouts: include/uapi/linux/bpf.h. Every call raises OSError with the kernel's errno.

The agent calls the kernel itself rather than through BCC because BCC attaches cgroup programs exclusively, cannot load bytecode from a
cache, and cannot pin links.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import struct
import threading
from dataclasses import dataclass

_NUMBER = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}.get(platform.machine(), 321)
_libc = ctypes.CDLL(None, use_errno=True)

MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT_KEY, PROG_LOAD, OBJ_PIN, OBJ_GET = range(8)
MAP_LOOKUP_BATCH, MAP_UPDATE_BATCH = 24, 26
PROG_TEST_RUN, OBJ_GET_INFO, RAW_TRACEPOINT_OPEN, BTF_LOAD, LINK_CREATE, LINK_UPDATE = 10, 15, 17, 18, 28, 29

MAP_TYPE_SK_STORAGE, MAP_TYPE_RINGBUF = 24, 27


def _buffer(data: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(data, max(len(data), 1))


def _call(command: int, attr: bytes, what: str) -> int:
    raw = _buffer(attr)
    result: int = _libc.syscall(_NUMBER, command, raw, len(attr))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


@dataclass(frozen=True, slots=True)
class MapShape:
    """What a map is made of: sizes in bytes, `kind` and `flags` as in bpf.h."""

    name: str
    kind: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


def map_create(shape: MapShape) -> int:
    """Descriptor of a new map."""
    btf = key_type = value_type = 0
    if shape.kind == MAP_TYPE_SK_STORAGE:
        btf, key_type, value_type = _storage_btf(shape.value_size), 1, 2
    attr = struct.pack(
        "<IIIIIII16sIIIIII",
        shape.kind,
        shape.key_size,
        shape.value_size,
        shape.max_entries,
        shape.flags,
        0,
        0,
        shape.name.encode()[:15],
        0,
        btf,
        key_type,
        value_type,
        0,
        0,
    )
    try:
        return _call(MAP_CREATE, attr, f"map {shape.name}")
    finally:
        if btf:
            os.close(btf)


def _storage_btf(value_size: int) -> int:
    """Socket storage insists on BTF: type 1 is the int key, type 2 a struct of value_size bytes without members."""
    strings = b"\0key\0value\0"
    integer = struct.pack("<IIII", 1, 1 << 24, 4, 1 << 24 | 32)
    value = struct.pack("<III", 5, 4 << 24, value_size)
    types = integer + value
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    blob = _buffer(header + types + strings)
    attr = struct.pack("<QQIII", ctypes.addressof(blob), 0, len(blob), 0, 0)
    return _call(BTF_LOAD, attr, "BTF of socket storage")


def map_info(fd: int, name: str) -> MapShape:
    """The shape of an existing map (struct bpf_map_info)."""
    info = _buffer(bytes(88))
    _call(OBJ_GET_INFO, struct.pack("<IIQ", fd, len(info), ctypes.addressof(info)), f"map {name}")
    kind, _, key_size, value_size, max_entries, flags = struct.unpack_from("<IIIIII", info.raw)
    return MapShape(name, kind, key_size, value_size, max_entries, flags)


def map_update(fd: int, key: bytes, value: bytes) -> None:
    """Insert or replace. Raises OSError: E2BIG or ENOSPC when the map is full."""
    k, v = _buffer(key), _buffer(value)
    _call(MAP_UPDATE, struct.pack("<IIQQQ", fd, 0, ctypes.addressof(k), ctypes.addressof(v), 0), "map update")


def map_update_many(fd: int, keys: bytes, values: bytes, count: int) -> None:
    """Insert or replace `count` entries, end to end, in one call (Linux 5.6). Raises OSError; those before the one that failed stay."""
    k, v = _buffer(keys), _buffer(values)
    attr = struct.pack("<QQQQIIQQ", 0, 0, ctypes.addressof(k), ctypes.addressof(v), count, fd, 0, 0)
    _call(MAP_UPDATE_BATCH, attr, f"update of {count} map entries")


def map_lookup(fd: int, key: bytes, value_size: int) -> bytes | None:
    k, v = _buffer(key), _buffer(bytes(value_size))
    try:
        _call(MAP_LOOKUP, struct.pack("<IIQQQ", fd, 0, ctypes.addressof(k), ctypes.addressof(v), 0), "map look-up")
    except FileNotFoundError:
        return None
    return v.raw


def map_count(fd: int, key_size: int, value_size: int, batch: int = 4096) -> int:
    """How many entries a hash map or trie has, by reading them (Linux 5.6; 0.1 µs each). Raises OSError."""
    keys, values, place = _buffer(bytes(key_size * batch)), _buffer(bytes(value_size * batch)), _buffer(bytes(max(key_size, 8)))
    found: int = 0
    after = 0
    while True:
        into = ctypes.addressof(place)
        attr = _buffer(struct.pack("<QQQQIIQQ", after, into, ctypes.addressof(keys), ctypes.addressof(values), batch, fd, 0, 0))
        result: int = _libc.syscall(_NUMBER, MAP_LOOKUP_BATCH, attr, 56)
        number = ctypes.get_errno() if result < 0 else 0
        if number not in (0, errno.ENOENT):
            raise OSError(number, f"count of map entries: {os.strerror(number)}")
        found += struct.unpack_from("<I", attr, 32)[0]  # how many came
        if number:  # there are no more
            return found
        after = into


def map_delete(fd: int, key: bytes) -> bool:
    """False when there was no such key."""
    k = _buffer(key)
    try:
        _call(MAP_DELETE, struct.pack("<IIQQQ", fd, 0, ctypes.addressof(k), 0, 0), "map delete")
    except FileNotFoundError:
        return False
    return True


def map_next_key(fd: int, key: bytes | None, key_size: int) -> bytes | None:
    """The key after `key` (the first for None), None at the end."""
    k = _buffer(key) if key is not None else None
    following = _buffer(bytes(key_size))
    attr = struct.pack("<IIQQQ", fd, 0, ctypes.addressof(k) if k is not None else 0, ctypes.addressof(following), 0)
    try:
        _call(MAP_NEXT_KEY, attr, "map walk")
    except FileNotFoundError:
        return None
    return following.raw


_INTERRUPTED = 5  # times that a signal during verification is borne: it is told as EAGAIN


def prog_load(name: str, kind: int, attach_type: int, instructions: bytes, *, attach_btf_id: int = 0) -> int:
    """Verify and load. Raises OSError whose text ends with the verifier's last words."""
    code, license_ = _buffer(instructions), _buffer(b"GPL\0")

    def attr(log: ctypes.Array[ctypes.c_char] | None) -> bytes:
        return (
            struct.pack(
                "<IIQQIIQII16sII",
                kind,
                len(instructions) // 8,
                ctypes.addressof(code),
                ctypes.addressof(license_),
                1 if log else 0,
                len(log) if log else 0,
                ctypes.addressof(log) if log else 0,
                0,
                0,
                name.encode()[:15],
                0,
                attach_type,
            )
            + struct.pack("<IIQIIQIII", 0, 0, 0, 0, 0, 0, 0, attach_btf_id, 0)
            + bytes(28)
        )

    try:
        for _ in range(_INTERRUPTED):
            with contextlib.suppress(BlockingIOError):
                return _call(PROG_LOAD, attr(None), f"program {name}")
        return _call(PROG_LOAD, attr(None), f"program {name}")
    except OSError as error:
        log = _buffer(bytes(1 << 20))
        try:
            return _call(PROG_LOAD, attr(log), f"program {name}")
        except OSError:
            words = log.value.decode(errors="replace").strip().splitlines()[-12:]
            raise OSError(error.errno, "\n".join([str(error.strerror), *words])) from None


def prog_test_run(fd: int, arguments: tuple[int, ...]) -> None:
    """Run a raw-tracepoint program once, here and now, in this thread's own context, with up to 12 u64 arguments."""
    context = _buffer(struct.pack("<12Q", *arguments, *[0] * (12 - len(arguments))))
    attr = struct.pack("<IIIIQQIIIIQQII", fd, 0, 0, 0, 0, 0, 0, 0, len(context), 0, ctypes.addressof(context), 0, 0, 0)
    _call(PROG_TEST_RUN, attr, "program test run")


def link_cgroup(prog: int, cgroup: int, attach_type: int) -> int:
    """Attach as a link: beside what others attached, never instead of it."""
    return _call(LINK_CREATE, struct.pack("<IIII", prog, cgroup, attach_type, 0) + bytes(32), "attach to cgroup")


def link_raw_tracepoint(prog: int, name: str) -> int:
    label = _buffer(name.encode() + b"\0")
    return _call(RAW_TRACEPOINT_OPEN, struct.pack("<QII", ctypes.addressof(label), prog, 0), f"attach to {name}")


def link_typed_tracepoint(prog: int) -> int:
    """Attach to the tracepoint that the program was loaded for."""
    return _call(RAW_TRACEPOINT_OPEN, struct.pack("<QII", 0, prog, 0), "attach to the tracepoint")


def link_lsm(prog: int) -> int:
    """Attach to the LSM hook that the program was loaded for. Raises OSError: E2BIG when 38 others are there.

    By the older of the two calls that make the same link: BPF_LINK_CREATE does it from 5.19 on.
    """
    return _call(RAW_TRACEPOINT_OPEN, struct.pack("<QII", 0, prog, 0), "attach to the LSM hook")


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """program: id of the one it runs. cgroup: id of the one it is attached to, 0 once detached; 0 for every other kind of link."""

    program: int
    cgroup: int


_LINK_CGROUP = 3  # enum bpf_link_type


_INFO = 64  # octets of struct bpf_link_info
_ASKED = struct.Struct(f"<IIQ{_INFO}x")  # the call's arguments and room for its answer, empty: the kernel reads pointers in there
_SAID = struct.Struct("<IIIIQ")
_ask = _libc["syscall"]  # not the one of `_call`, whose arguments are looked at each time
_ask.argtypes, _ask.restype = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_long), ctypes.c_long


class _Room(threading.local):
    """One for each thread."""

    def __init__(self) -> None:
        self.buffer = _buffer(bytes(_ASKED.size))
        self.address = ctypes.addressof(self.buffer)


_room = _Room()


def link_info(fd: int) -> LinkInfo:
    """What the kernel says of a link now (struct bpf_link_info)."""
    return LinkInfo(*link_state(fd))


def link_state(fd: int) -> tuple[int, int]:
    """The same, bare and at a third of the price: a daemon asks it twice a second of each of its links."""
    buffer, address = _room.buffer, _room.address
    _ASKED.pack_into(buffer, 0, fd, _INFO, address + _ASKED.size - _INFO)
    if _ask(_NUMBER, OBJ_GET_INFO, address, _ASKED.size - _INFO) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"link info: {os.strerror(number)}")
    kind, _, program, _, cgroup = _SAID.unpack_from(buffer, _ASKED.size - _INFO)
    return program, cgroup if kind == _LINK_CGROUP else 0


def pinned(path: str) -> int:
    """A descriptor of the map or link that is kept under a path. Raises OSError: FileNotFoundError when nothing is."""
    name = _buffer(os.fsencode(path) + b"\0")
    return _call(OBJ_GET, struct.pack("<QII", ctypes.addressof(name), 0, 0), f"open pin {path}")


def pin(fd: int, path: str) -> None:
    """Keep a map, program or link alive under a path on bpffs."""
    name = _buffer(os.fsencode(path) + b"\0")
    _call(OBJ_PIN, struct.pack("<QII", ctypes.addressof(name), fd, 0), f"pin {path}")
