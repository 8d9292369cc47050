"""What only the LSM backend does: EPERM that the caller lives to see, and no code from where it can be written. Skipped where it is not."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.box import KILLED, PYTHON, Actor, Box, Ear
from stockade.kernel import backend, syscall
from stockade.kernel.abi import Event, EventType, Network, SandboxFlag, Verdict, Why
from stockade.kernel.backend import Backend
from stockade.kernel.hooks import LSM, LSM_MAC
from stockade.kernel.load import Kernel
from stockade.kernel.probe import exec_lsm
from stockade.sandbox import libc

REFUSED_EXEC = 1 << 48  # bpf/lsm.c
ALLOW = bytes([0xB7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0])
MAPPING = """
import mmap
def map_code(fd):
    mmap.mmap(fd, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()
def map_file(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        map_code(fd)
    finally:
        os.close(fd)
libc = ctypes.CDLL(None, use_errno=True)
def checked(result):
    if result in (-1, 2**64 - 1):
        raise OSError(ctypes.get_errno(), "")
"""


@pytest.fixture(autouse=True)
def by_lsm(kernel: Kernel) -> None:
    if kernel.backend is not Backend.LSM:
        found = exec_lsm()
        pytest.skip(f"{found.name} is {found.answer} ({found.detail})")


# exec


@pytest.fixture
def inside(box: Box) -> Actor:
    box.enrol(PYTHON)
    return box.actor()


def test_the_caller_sees_the_refusal_and_is_who_it_was(box: Box, inside: Actor, bench: Path) -> None:
    unlisted = shutil.copy("/usr/bin/true", bench / "unlisted")
    tagged = box.tasks
    (start,) = box.heard()
    for _ in range(2):
        with pytest.raises(PermissionError) as raised:
            inside(f"os.execv({str(unlisted)!r}, ['x'])")
        assert raised.value.errno == errno.EPERM
    first, second = box.heard()
    assert (first.verdict, first.why, first.identity, first.pid) == (Verdict.DENY, Why.UNLISTED, 0, inside.pid)
    assert first.parent_exec_id == start.exec_id and first.tail == os.fsencode(unlisted)
    assert REFUSED_EXEC < first.exec_id != second.exec_id > REFUSED_EXEC > start.exec_id
    box.enrol("/usr/bin/true")
    assert inside("os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn('/usr/bin/true', ['true'], {}), 0)[1])") == 0
    assert box.heard()[0].parent_exec_id == start.exec_id and box.tasks == tagged


def test_what_is_no_program_is_refused_by_the_kernel_as_ever(box: Box, inside: Actor, bench: Path) -> None:
    """A shell that meets ENOEXEC interprets the file itself; EPERM would stop it."""
    text = bench / "text"
    text.write_text("echo no shebang\n")
    text.chmod(0o755)
    box.heard()
    with pytest.raises(OSError) as raised:
        inside(f"os.execv({str(text)!r}, ['x'])")
    assert raised.value.errno == errno.ENOEXEC and box.heard() == []


def test_a_hook_that_is_full_leaves_the_tracepoint(pins: Path, cgroups: Path, bench: Path) -> None:
    held = []
    target = backend.hook_id("mmap_file")
    try:
        with pytest.raises(OSError) as raised:
            for _ in range(64):
                program = syscall.prog_load("theirs", LSM, LSM_MAC, ALLOW, attach_btf_id=target)
                held.append(program)
                held.append(syscall.link_lsm(program))
        assert raised.value.errno == errno.E2BIG
        kernel = Kernel(Network(), pins / "crowded")
        try:
            kernel.attach_tracepoints()
            assert kernel.backend is Backend.TRACEPOINT and not list(kernel.pins.glob("link_*_check_*"))
            with Box(kernel, ear := Ear(kernel), cgroups) as box:
                ended = box.run(shutil.copy("/usr/bin/true", bench / "unlisted"))
                assert (ended.status, ended.said) == (KILLED, [(Verdict.DENY, Why.UNLISTED)])
                ear.ring.close()
        finally:
            kernel.close()
    finally:
        for descriptor in held:
            os.close(descriptor)


# mappings


@pytest.fixture
def sealed(box: Box, inside: Actor) -> Actor:
    inside(MAPPING)
    box.switch(1, SandboxFlag.SEALED)
    box.heard()
    return inside


@pytest.fixture
def library(bench: Path) -> Path:
    return Path(shutil.copy("/usr/bin/true", bench / "library.so"))


@pytest.fixture
def mounted(bench: Path, library: Path) -> Iterator[Path]:
    """The same directory again at bench/again, on a mount of its own with the attributes a test sets."""
    again = bench / "again"
    again.mkdir()
    yield again
    libc.umount(str(again))


def mapping(box: Box) -> Event:
    (event,) = box.heard()
    assert event.type is EventType.MAPPING
    return event


def test_a_file_that_could_be_written_is_not_mapped_as_code(box: Box, sealed: Actor, library: Path) -> None:
    with pytest.raises(PermissionError) as raised:
        sealed(f"map_file({str(library)!r})")
    assert raised.value.errno == errno.EPERM
    event = mapping(box)
    assert (event.verdict, event.why, event.tail, event.pid) == (Verdict.DENY, Why.WRITABLE, os.fsencode(library), sealed.pid)
    assert event.identity and event.exec_id
    box.switch(1, SandboxFlag.NONE)
    sealed(f"map_file({str(library)!r})")
    assert box.heard() == []


def test_from_a_read_only_mount_it_is(box: Box, sealed: Actor, bench: Path, library: Path, mounted: Path) -> None:
    libc.bind(str(bench), str(mounted), libc.MOUNT_ATTR_RDONLY)
    sealed(f"map_file({str(mounted / library.name)!r})")
    assert box.heard() == []


def test_what_is_only_read_is_nobodys_code(box: Box, sealed: Actor, library: Path) -> None:
    sealed(f"mmap.mmap(os.open({str(library)!r}, os.O_RDONLY), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ).close()")
    assert box.heard() == []


def test_memory_without_a_file_may_be_code(box: Box, sealed: Actor) -> None:
    """Just-in-time compilers."""
    sealed("mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()")
    assert box.heard() == []


@pytest.mark.parametrize(
    ("attempt", "name"),
    [
        pytest.param("fd = os.memfd_create('code'); os.write(fd, bytes(4096)); map_code(fd)", b"/memfd:code (deleted)", id="memfd"),
        pytest.param(
            "libc.shmat.restype = ctypes.c_size_t; checked(libc.shmat(libc.shmget(0, 4096, 0o1700), None, 0o100000))", None, id="SysV"
        ),
    ],
)
def test_a_file_on_no_mount_of_the_sandbox_is_refused(box: Box, sealed: Actor, attempt: str, name: bytes | None) -> None:
    with pytest.raises(PermissionError):
        sealed(attempt)
    event = mapping(box)
    assert (event.verdict, event.why) == (Verdict.DENY, Why.WRITABLE) and name in (None, event.tail)


def test_a_mapping_does_not_become_code_later(box: Box, sealed: Actor, library: Path) -> None:
    sealed(f"""
        libc.mmap.restype = ctypes.c_size_t
        libc.mprotect.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
        fd = os.open({str(library)!r}, os.O_RDONLY)
        at = libc.mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_PRIVATE, fd, ctypes.c_long(0))
    """)
    with pytest.raises(PermissionError):
        sealed("checked(libc.mprotect(at, 4096, mmap.PROT_READ | mmap.PROT_EXEC))")
    event = mapping(box)
    assert (event.verdict, event.why, event.tail) == (Verdict.DENY, Why.WRITABLE, os.fsencode(library.name))


def test_what_a_noexec_mount_refuses_is_told_in_every_box(box: Box, sealed: Actor, bench: Path, library: Path, mounted: Path) -> None:
    """By itself it is silent; and it refuses a read-only mount's files as well."""
    box.switch(1, SandboxFlag.NONE)
    libc.bind(str(bench), str(mounted), libc.MOUNT_ATTR_NOEXEC | libc.MOUNT_ATTR_RDONLY)
    with pytest.raises(PermissionError):
        sealed(f"map_file({str(mounted / library.name)!r})")
    assert (mapping(box).verdict, box.heard()) == (Verdict.DENY, [])


@pytest.mark.parametrize("noexec", [False, True])
def test_observing_lets_pass_what_the_mount_does_not_refuse_anyway(
    box: Box, sealed: Actor, bench: Path, library: Path, mounted: Path, noexec: bool
) -> None:
    libc.bind(str(bench), str(mounted), libc.MOUNT_ATTR_NOEXEC if noexec else libc.MOUNT_ATTR_NODEV)
    box.switch(1, SandboxFlag.SEALED | SandboxFlag.OBSERVE)
    if noexec:
        with pytest.raises(PermissionError):
            sealed(f"map_file({str(mounted / library.name)!r})")
    else:
        sealed(f"map_file({str(mounted / library.name)!r})")
    assert mapping(box).verdict is (Verdict.DENY if noexec else Verdict.LOCAL)


def test_a_path_that_does_not_fit_is_named_by_its_end(box: Box, sealed: Actor, library: Path) -> None:
    deep = library.parent / ("d" * 200) / ("e" * 100)
    deep.mkdir(parents=True)
    file = shutil.copy(library, deep / "library.so")
    with pytest.raises(PermissionError):
        sealed(f"map_file({str(file)!r})")
    assert mapping(box).tail == b"library.so"


def test_the_launcher_is_not_held(box: Box, library: Path) -> None:
    """A process of the cgroup that never had an exec admitted has no identity to lend to foreign code."""
    import mmap

    def attempt() -> None:
        mmap.mmap(os.open(library, os.O_RDONLY), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()

    box.switch(1, SandboxFlag.SEALED)
    assert box.untagged(attempt) == 0 and box.heard() == []
