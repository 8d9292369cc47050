"""bpf/*.c → bytecode, through BCC, once per kernel: the only importer of bcc.

BCC is the compiler; the result is kept under a root-only cache, keyed by everything that went in, so that a warm start needs neither clang
nor BCC. Map references in the code are kept by map name and patched with the descriptors of the maps that the loader makes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stockade import resources
from stockade.kernel import headers, syscall
from stockade.types import StockadeError

CACHE = Path("/var/cache/stockade")
FILES = (
    *("include/abi.h", "include/maps.h", "include/task.h", "include/image.h"),
    *("exec.c", "lsm.c", "connect.c", "sock.c", "origin.c", "taint.c", "skb.c", "refusal.c", "opens.c"),
)
_FORMAT = 2  # of the cache file

_LD_IMM64, _PSEUDO_MAP_FD = 0x18, 1


@dataclass(frozen=True, slots=True)
class Bytecode:
    """Maps by shape, and programs as instruction bytes with (offset, map name) for each map reference."""

    maps: tuple[syscall.MapShape, ...]
    programs: dict[str, tuple[bytes, tuple[tuple[int, str], ...]]]

    def linked(self, program: str, descriptors: dict[str, int]) -> bytes:
        """The program's instructions, referring to these maps."""
        code, references = self.programs[program]
        patched = bytearray(code)
        for offset, name in references:
            struct.pack_into("<i", patched, offset + 4, descriptors[name])
        return bytes(patched)


def source() -> str:
    """bpf/ as one text: a function in an included file is silently not a program, and map calls in a header compile but do not load."""
    return "\n".join(f'#line 1 "{name}"\n{(resources.BPF / name).read_text()}' for name in FILES)


def compiled(defines: dict[str, int], cache: Path = CACHE) -> Bytecode:
    """The bytecode for this kernel and these constants, from the cache or freshly compiled.

    Raises StockadeError with the compiler's words. A cache that cannot be read is made again; one that root does not own is not trusted.
    """
    text = source()
    path = cache / f"{_digest(defines, text)[:32]}.json"
    cached = _read(path)
    if cached is None:
        cached = _compile(text, defines, cache)
        _write(path, cached)
    return cached


def digest(defines: dict[str, int]) -> str:
    """Names everything that makes the bytecode what it is: maps and programs of another digest may not understand each other."""
    return _digest(defines, source())


def _digest(defines: dict[str, int], text: str) -> str:
    key = json.dumps([_FORMAT, headers.btf_hash(), platform.release(), platform.machine(), os.cpu_count(), defines, text])
    return hashlib.sha256(key.encode()).hexdigest()


def _read(path: Path) -> Bytecode | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(fd) as file:
        state = os.fstat(file.fileno())
        if state.st_uid != 0 or state.st_mode & 0o022:
            return None
        try:
            raw = json.load(file)
            maps = tuple(syscall.MapShape(*shape) for shape in raw["maps"])
            programs = {n: (bytes.fromhex(code), tuple((o, m) for o, m in refs)) for n, (code, refs) in raw["programs"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
    return Bytecode(maps, programs)


def _write(path: Path, bytecode: Bytecode) -> None:
    """Atomically; a cache that cannot be written only costs time."""
    maps = [[m.name, m.kind, m.key_size, m.value_size, m.max_entries, m.flags] for m in bytecode.maps]
    programs = {name: [code.hex(), references] for name, (code, references) in bytecode.programs.items()}
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(fd, "w") as file:
            json.dump({"maps": maps, "programs": programs}, file)
        Path(temporary).rename(path)
    except OSError:
        return


@contextmanager
def _captured() -> Iterator[list[str]]:
    """BCC and clang speak to descriptor 2: keep their words for the error."""
    words: list[str] = []
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield words
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            words.extend(file.read().decode(errors="replace").splitlines())


def _compile(text: str, defines: dict[str, int], cache: Path) -> Bytecode:
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        tree = headers.build(cache / f"headers-{headers.btf_hash()}")
    except OSError as error:
        raise StockadeError(f"cannot write {cache}: {error.strerror}", code="cache_unwritable") from None
    os.environ["BCC_KERNEL_SOURCE"] = str(tree)
    try:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import bcc
    except ImportError:
        raise StockadeError(
            "the BCC Python package is missing", hint="apt-get install python3-bpfcc, then make setup", code="no_bcc"
        ) from None
    flags = ["-Wno-everything", *headers.inode_defines(tree), *(f"-D{name}={value:#x}u" for name, value in defines.items())]
    here = Path.cwd()
    with _captured() as words:
        try:
            module = bcc.BPF(text=text, cflags=flags)
        except Exception as error:
            failure: str | None = str(error)
        else:
            failure = None
        finally:
            os.chdir(here)  # BCC changes directory while it compiles
    if failure is not None:
        said = "\n".join(line for line in words if "error" in line or "note" in line)
        raise StockadeError(f"BCC could not compile bpf/: {failure}\n{said}", code="bpf_compile")
    return _extract(module)


def _extract(module: object) -> Bytecode:
    import ctypes

    from bcc.libbcc import lib

    handle = module.module  # type: ignore[attr-defined]
    names = re.findall(r"^(?:SHARED_HASH|BPF_[A-Z_]+)\((\w+),", (resources.BPF / "include/maps.h").read_text(), re.M)
    shapes: dict[int, syscall.MapShape] = {}
    for name in names:
        fd = lib.bpf_table_fd(handle, name.encode())
        if fd < 0:
            raise StockadeError(f"BCC made no map {name}", code="bpf_compile")
        shapes[fd] = syscall.map_info(fd, name)
    programs: dict[str, tuple[bytes, tuple[tuple[int, str], ...]]] = {}
    for i in range(lib.bpf_num_functions(handle)):
        function = lib.bpf_function_name(handle, i)
        code = ctypes.string_at(lib.bpf_function_start(handle, function), lib.bpf_function_size(handle, function))
        references = []
        offset = 0
        while offset < len(code):
            opcode, registers, _, value = struct.unpack_from("<BBhi", code, offset)
            if opcode == _LD_IMM64:
                if registers >> 4 == _PSEUDO_MAP_FD:
                    references.append((offset, shapes[value].name))
                offset += 8
            offset += 8
        programs[function.decode()] = (code, tuple(references))
    return Bytecode(tuple(shapes.values()), programs)
