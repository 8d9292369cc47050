"""May this file run, and as whom? Each case with its effect (it ran, or it died before its first instruction) and its one event."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.box import DIED, PYTHON, RAN, Box
from stockade.kernel.abi import BinaryFlag, SandboxFlag, Why
from stockade.sandbox.roster import LOADERS

# which file


def test_a_listed_binary_runs(box: Box, touch: Path, bench: Path) -> None:
    identity = box.enrol(touch)
    ended = box.run(touch, bench / "evidence")
    assert ended.status == 0 and (bench / "evidence").exists()
    event = ended.exec
    assert (event.verdict, event.why, event.identity, event.tail) == (RAN, Why.POLICY, identity, os.fsencode(touch))
    assert event.exec_id and event.generation == 1 and event.pid


def test_an_unlisted_binary_never_runs_an_instruction(box: Box, touch: Path, bench: Path) -> None:
    ended = box.run(touch, bench / "evidence")
    assert ended.status == box.refusal and not (bench / "evidence").exists()
    assert (ended.exec.verdict, ended.exec.why, ended.exec.identity) == (DIED, Why.UNLISTED, 0)


def test_outside_the_box_nothing_changes(box: Box, touch: Path, bench: Path, cgroups: Path) -> None:
    neighbour = cgroups / f"box-{box.number}-neighbour"  # a longer name at the same level
    neighbour.mkdir()
    try:
        assert box.run(touch, bench / "evidence", cgroup=neighbour).status == 0
    finally:
        neighbour.rmdir()
    assert box.heard() == []


def test_a_copy_is_another_file(box: Box, touch: Path, bench: Path) -> None:
    box.enrol(touch)
    ended = box.run(shutil.copy2(touch, bench / "copy"), bench / "evidence")
    assert (ended.status, ended.said) == (box.refusal, [(DIED, Why.UNLISTED)])
    assert not (bench / "evidence").exists()


def test_a_hard_link_is_the_same_file(box: Box, touch: Path, bench: Path) -> None:
    """The inode is the identity: a link made before enrolment is the listed binary by another name."""
    os.link(touch, bench / "link")
    identity = box.enrol(touch)
    ended = box.run(bench / "link")
    assert ended.exec.identity == identity and ended.said == [(RAN, Why.POLICY)]


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(lambda file: os.link(file, file.with_name("new")), id="link"),
        pytest.param(lambda file: file.chmod(0o777), id="chmod"),
        pytest.param(lambda file: os.utime(file, ns=(1, 1)), id="utime"),
    ],
)
def test_whatever_moves_the_change_time_unlists(box: Box, touch: Path, bench: Path, tamper: Callable[[Path], None]) -> None:
    """ctime cannot be set back, so it stands for the content; what merely touches the inode is refused too, until it is hashed again."""
    box.enrol(touch)
    tamper(touch)
    ended = box.run(touch, bench / "evidence")
    assert (ended.status, ended.said) == (box.refusal, [(DIED, Why.CHANGED)])


def test_a_rename_takes_the_identity_along_and_needs_hashing_again(box: Box, touch: Path) -> None:
    box.enrol(touch)
    moved = touch.rename(touch.with_name("moved"))
    assert box.run(moved).said == [(DIED, Why.CHANGED)]
    identity = box.enrol(moved)
    assert (moved_event := box.run(moved).exec).why is Why.POLICY and moved_event.identity == identity


def test_another_file_under_a_listed_name_is_unlisted(box: Box, touch: Path, bench: Path) -> None:
    box.enrol(touch)
    shutil.copy("/usr/bin/touch", bench / "other")
    (bench / "other").rename(touch)
    assert box.run(touch, bench / "evidence").said == [(DIED, Why.UNLISTED)]


def test_an_overwrite_in_place_of_the_same_size_is_seen(box: Box, touch: Path, bench: Path) -> None:
    """Same device, inode, generation, size and modification time: the change time is what tells."""
    box.enrol(touch)
    before = touch.stat()
    other = Path("/usr/bin/touch").read_bytes().replace(b"GNU coreutils", b"gnu coreutils")
    with touch.open("r+b") as file:
        file.write(other)
    os.utime(touch, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = touch.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    ended = box.run(touch, bench / "evidence")
    assert (ended.status, ended.said) == (box.refusal, [(DIED, Why.CHANGED)]) and not (bench / "evidence").exists()


def test_a_symbolic_link_is_what_it_points_to(box: Box, touch: Path, bench: Path) -> None:
    identity = box.enrol(touch)
    (bench / "name").symlink_to(touch)
    assert box.run(bench / "name").exec.identity == identity


def test_the_name_given_to_the_program_is_nothing(box: Box, touch: Path, bench: Path) -> None:
    """argv[0] is the caller's to choose."""
    ended = box.run("/usr/bin/true", bench / "evidence", executable=touch)
    assert ended.status == box.refusal and ended.exec.tail == os.fsencode(touch)


def test_a_relative_path_is_the_same_file(box: Box, touch: Path, bench: Path) -> None:
    identity = box.enrol(touch)
    ended = box.run("./touch", "evidence", cwd=bench)
    assert (ended.exec.identity, ended.exec.tail) == (identity, b"./touch") and (bench / "evidence").exists()


def test_one_file_may_be_listed_in_one_box_and_not_in_the_next(box: Box, lenient: Box, touch: Path) -> None:
    box.enrol(touch)
    assert box.run(touch).said == [(RAN, Why.POLICY)]
    assert lenient.run(touch).said == [(RAN, Why.UNLISTED)]


# files without a name


FROM_MEMORY = """
fd = os.memfd_create("program", {flags})
with open({program!r}, "rb") as file:
    os.write(fd, file.read())
"""
FROM_DELETED = """
import shutil
shutil.copy({program!r}, {program!r} + ".deleted")
fd = os.open({program!r} + ".deleted", os.O_RDONLY)
os.unlink({program!r} + ".deleted")
"""
IN_CHILD = """
pid = os.fork()
if pid == 0:
    try:
        os.execve({file}, ["program", {evidence!r}], {{}})
    except OSError as error:
        os._exit(error.errno)
os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


@pytest.mark.parametrize("unlisted", ["refuse", "no-network"])
@pytest.mark.parametrize(
    ("make", "file"),
    [
        pytest.param(FROM_MEMORY.replace("{flags}", "0"), "fd", id="memfd"),
        pytest.param(FROM_MEMORY.replace("{flags}", "0"), "f'/proc/self/fd/{fd}'", id="memfd-proc"),
        pytest.param(FROM_DELETED, "fd", id="deleted"),
    ],
)
def test_an_anonymous_file_is_refused_under_both_settings(
    box: Box, lenient: Box, touch: Path, bench: Path, unlisted: str, make: str, file: str
) -> None:
    box = box if unlisted == "refuse" else lenient
    box.enrol(PYTHON)
    inside = box.actor()
    inside(make.format(program=str(touch)))
    box.heard()
    assert inside(IN_CHILD.format(file=file, evidence=str(bench / "evidence"))) == box.refusal
    (event,) = box.heard()
    assert (event.verdict, event.why) == (DIED, Why.ANONYMOUS)
    assert not (bench / "evidence").exists()


@pytest.mark.parametrize("unlisted", ["refuse", "no-network"])
def test_the_dynamic_loader_is_no_program(box: Box, lenient: Box, touch: Path, bench: Path, unlisted: str) -> None:
    """`ld.so PROGRAM` would run a file the kernel never exec'd."""
    box = box if unlisted == "refuse" else lenient
    loader = next(path for pattern in LOADERS for path in glob.glob(pattern))  # noqa: PTH207
    box.enrol(touch)
    box.enrol(loader, BinaryFlag.LOADER, identity=0)
    ended = box.run(loader, touch, bench / "evidence")
    assert (ended.status, ended.said) == (box.refusal, [(DIED, Why.ANONYMOUS)])
    assert not (bench / "evidence").exists()
    assert box.run(touch, bench / "evidence").status == 0  # as an interpreter of ELF files it goes on working


def test_an_unlisted_file_may_run_without_an_identity(lenient: Box, touch: Path, bench: Path) -> None:
    ended = lenient.run(touch, bench / "evidence")
    assert ended.status == 0 and (bench / "evidence").exists()
    assert (ended.exec.verdict, ended.exec.why, ended.exec.identity) == (RAN, Why.UNLISTED, 0)


def test_observe_records_and_lets_run(box: Box, touch: Path, bench: Path) -> None:
    box.switch(1, SandboxFlag.OBSERVE)
    ended = box.run(touch, bench / "evidence")
    assert ended.status == 0 and (bench / "evidence").exists()
    assert (ended.exec.verdict, ended.exec.why, ended.exec.identity) == (DIED, Why.UNLISTED, 0)


# exec keeps its promises in a flood of them


def test_every_exec_has_exactly_one_event_with_a_number_of_its_own(box: Box) -> None:
    shell, true = box.enrol("/bin/sh"), box.enrol("/usr/bin/true")
    ended = box.run("/bin/sh", "-c", "i=0; while [ $i -lt 200 ]; do /usr/bin/true; i=$((i+1)); done")
    assert ended.status == 0
    assert [event.identity for event in ended.events] == [shell, *[true] * 200]
    assert len({event.exec_id for event in ended.events}) == 201
    assert {event.parent_exec_id for event in ended.events[1:]} == {ended.events[0].exec_id}
    assert len({event.pid for event in ended.events}) == 201
