"""Where a sandbox is put: its cgroup, the slot of its agent, the directory it may write."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework import probes
from stockade.sandbox import cgroup, libc, view
from stockade.sandbox.cgroup import Cgroup
from stockade.service.settings import Settings
from stockade.service.slots import Slot
from stockade.types import StockadeError

governing = pytest.mark.skipif(bool(probes.root() or probes.cgroup2()), reason=str(probes.root() or probes.cgroup2()))

# the mount


HYBRID = (
    "30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n31 30 0:27 / /sys/fs/cgroup/uni\\040fied rw,nosuid shared:9 - cgroup2 cgroup rw\n"
)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("31 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "/sys/fs/cgroup"),
        (HYBRID, "/sys/fs/cgroup/uni fied"),
        ("31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n40 1 0:3 / /cgroup2 rw - cgroup2 none rw\n", "/cgroup2"),
    ],
)
def test_the_v2_hierarchy_is_looked_up(tmp_path: Path, lines: str, expected: str) -> None:
    (tmp_path / "mountinfo").write_text(lines)
    assert cgroup.mounted(tmp_path / "mountinfo") == Path(expected)


def test_no_v2_hierarchy_is_said(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text("31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n")
    with pytest.raises(StockadeError) as raised:
        cgroup.mounted(tmp_path / "mountinfo")
    assert raised.value.code == "no_cgroup2"


# cgroups


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(cgroup, "PARENT", f"stockade-tests-{os.getpid()}-unit")
    yield cgroup.mounted() / cgroup.PARENT
    made = Cgroup(cgroup.mounted() / cgroup.PARENT)
    if made.path.exists():
        made.kill()
        while made.populated():
            os.sched_yield()
        made.remove()


def sleeper(inside: Cgroup) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["sleep", "60"])
    inside.add(process.pid)
    return process


@governing
def test_a_cgroup(parent: Path) -> None:
    made = Cgroup.make("box")
    assert (made.path, made.level, made.id) == (parent / "box", 2, (parent / "box").stat().st_ino)
    assert Cgroup(made.path / "a" / "b").level == 4
    assert Cgroup.make("box") == made, "one that is there is taken as it is"
    (made.path / "deep").mkdir()
    with sleeper(Cgroup(made.path / "deep")) as process:
        assert made.populated()
        made.remove()
        assert (made.path / "deep").exists(), "one with processes stays"
        made.kill()
        assert process.wait() == -9
    while made.populated():
        os.sched_yield()
    made.remove()
    assert not made.path.exists() and not made.populated()


# slots


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(run=tmp_path / "run", slots=3)


@governing
def test_two_agents_have_different_numbers_users_and_cgroups(parent: Path, settings: Settings, tmp_path: Path) -> None:
    first, second = Slot.take(settings, tmp_path / "bpf"), Slot.take(settings, tmp_path / "bpf")
    assert (first.number, second.number) == (1, 2)
    assert len({first.user, second.user, settings.proxy_user, settings.classifier_user}) == 4
    assert len({first.pins, second.pins}) == len({first.sandbox, second.sandbox, first.listeners, second.listeners}) / 2 == 2
    first.release()
    assert not first.sandbox.path.exists() and not first.listeners.path.exists()
    third = Slot.take(settings, tmp_path / "bpf")
    assert third.number == 1
    third.release()
    second.release()


@governing
def test_a_dead_agents_sandbox_keeps_its_number_while_it_lives(parent: Path, settings: Settings, tmp_path: Path) -> None:
    dead = Slot.take(settings, tmp_path / "bpf")
    dead.pins.mkdir(parents=True)
    (dead.pins / "link_01_connect4").touch()
    with sleeper(dead.sandbox) as process:
        os.close(dead._lock)  # as kill -9 would
        other = Slot.take(settings, tmp_path / "bpf")
        assert other.number == 2
        assert list(dead.pins.iterdir()), "what holds a living sandbox stays"
        other.release()
        process.kill()
    while dead.sandbox.populated():
        os.sched_yield()
    again = Slot.take(settings, tmp_path / "bpf")
    assert again.number == 1 and not again.pins.exists(), "swept"
    again.release()


@governing
def test_no_slot_left_is_said(parent: Path, settings: Settings, tmp_path: Path) -> None:
    taken = [Slot.take(settings, tmp_path / "bpf") for _ in range(3)]
    with pytest.raises(StockadeError) as raised:
        Slot.take(settings, tmp_path / "bpf")
    assert raised.value.code == "no_slot"
    for slot in taken:
        slot.release()


# the workdir

REFUSED = ["/", "/etc", "/usr", "/usr/local", "/usr/bin", "/bin", "/lib", "/var", "/home", "/run", "/proc", "/sys", "/dev", "/boot"]


@pytest.mark.parametrize("directory", [name for name in REFUSED if Path(name).is_dir()])
def test_a_system_directory_is_no_workdir(directory: str) -> None:
    path = Path(directory)
    for spelling in (path, path / "." / ".." / path.name):
        with pytest.raises(StockadeError) as raised:
            view.workdir_bind(spelling, 1000, executable=False)
        assert raised.value.code == ("workdir" if path.resolve() == path else "symbolic_link")


@pytest.mark.parametrize("inside", ["", "deep/er"])
def test_no_link_leads_to_a_workdir(tmp_path: Path, inside: str) -> None:
    """Whoever can replace it would say what the sandbox may write."""
    (tmp_path / "real" / inside).mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(StockadeError) as raised:
        view.workdir_bind(tmp_path / "link" / inside, 1000, executable=False)
    assert raised.value.code == "symbolic_link" and str(tmp_path / "real" / inside) in raised.value.hint


@pytest.mark.parametrize("what", ["file", "absent"])
def test_what_is_no_directory_is_no_workdir(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StockadeError, match="not a directory"):
        view.workdir_bind(tmp_path / what, 1000, executable=False)


@pytest.mark.parametrize("executable", [False, True])
def test_a_workdir_is_writable(tmp_path: Path, executable: bool) -> None:
    bind = view.workdir_bind(tmp_path, 4711, executable=executable)
    assert (bind.source, bind.target) == (str(tmp_path),) * 2
    assert (bind.writable, bind.executable, bind.owner) == (True, executable, (os.getuid(), os.getgid()))
    assert view.workdir_bind(tmp_path, os.getuid(), executable=executable).owner is None, "already its own"


@governing
def test_an_id_mapped_mount_shows_the_owner_as_the_user_and_writes_as_the_owner(tmp_path: Path) -> None:
    """Files that the sandbox makes belong to the workdir's owner on disk, and the owner's appear as the sandbox's."""
    (tmp_path / "work").mkdir()
    (tmp_path / "shown").mkdir()
    (tmp_path / "work/kept").touch()
    for path in (tmp_path / "work", tmp_path / "work/kept"):
        os.chown(path, 1234, 1235)
    tmp_path.chmod(0o755)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.unshare(libc.CLONE_NEWNS)
            libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE)
            os.chdir(tmp_path)
            namespace = view.user_namespace((1234, 1235), 4711)
            libc.bind("work", "shown", libc.MOUNT_ATTR_NOEXEC | libc.MOUNT_ATTR_NOSUID, namespace)
            os.chdir("shown")
            os.setgroups([])
            os.setresgid(4711, 4711, 4711)
            os.setresuid(4711, 4711, 4711)
            state = os.stat("kept")  # noqa: PTH116
            Path("made").touch()
            os.write(write, f"{state.st_uid} {state.st_gid}".encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 99) == b"4711 4711"
    made = (tmp_path / "work/made").stat()
    assert (made.st_uid, made.st_gid) == (1234, 1235)
    os.close(read)
    os.close(write)


def test_the_system_is_read_only_and_keeps_its_links() -> None:
    binds, links = view.system_binds()
    assert not any(bind.writable or bind.owner for bind in binds)
    assert {bind.source for bind in binds}.isdisjoint(links)
    assert {*links, *(bind.target for bind in binds)} == {name for name in view.SYSTEM if os.path.lexists(name)}
