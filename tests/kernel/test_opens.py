"""What bpf/opens.c counts: every open that was let through, once, for the innermost directory that was asked about and for who opened."""

from __future__ import annotations

import errno
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernel.box import PYTHON, Actor, Box, Ear
from stockade.kernel import abi
from stockade.kernel.abi import Network
from stockade.kernel.load import Kernel
from stockade.sandbox import libc

OPENING = """
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def opens(times, path, flags=os.O_RDONLY, **words):
    for _ in range(times):
        os.close(os.open(path, flags, **words))
def call(number, *words):
    found = libc.syscall(ctypes.c_long(number), *words)
    if found >= 0:
        os.close(found)
    return found >= 0
def spread(threads, times, path):
    workers = [threading.Thread(target=opens, args=(times, path)) for _ in range(threads)]
    [each.start() for each in workers]
    [each.join() for each in workers]
"""
Counted = Callable[[], dict[str, int]]


@pytest.fixture(scope="module")
def counting(pins: Path) -> Iterator[Kernel]:
    loaded = Kernel(Network(), pins / "opens")
    loaded.attach_tracepoints()
    loaded.count_opens()
    yield loaded
    loaded.close()


@pytest.fixture
def counted_box(counting: Kernel, cgroups: Path) -> Iterator[Box]:
    ear = Ear(counting)
    with Box(counting, ear, cgroups) as made:
        yield made
    ear.ring.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """a, a/inner, a/inner/deep and b are there; a, a/inner and b are counted."""
    for name in ("a/inner/deep", "b", "c"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a/x", "a/inner/x", "a/inner/deep/x", "b/x", "c/x"):
        (tmp_path / name).write_text("x")
    return tmp_path


ASKED = ("a", "a/inner", "b")


@pytest.fixture
def actor(counted_box: Box, tree: Path) -> Actor:
    counted_box.enrol(PYTHON)
    counted_box.kernel.opens.ask(counted_box.number, [counted_box.facts(tree / name) for name in ASKED])
    made = counted_box.actor()
    made(OPENING)
    made(f"os.chdir({str(tree)!r})")
    return made


@pytest.fixture
def counted(counted_box: Box, actor: Actor) -> Counted:
    """What was counted since the last call, by directory; it is on record then."""

    def take() -> dict[str, int]:
        found: Counter[str] = Counter()
        for opened in counted_box.kernel.opens.news():
            if opened.sandbox == counted_box.number:
                found["?" if opened.directory is None else ASKED[opened.directory]] += opened.times
                counted_box.kernel.opens.recorded(opened)
        return dict(found)

    assert take() == {}
    return take


def test_threads_and_processes_are_counted_to_the_last_one(actor: Actor, counted: Counted) -> None:
    actor(
        """
        children = []
        for path in ("a/x", "b/x", "c/x"):
            child = os.fork()
            if child == 0:
                spread(4, 250, path)
                os._exit(0)
            children.append(child)
        [os.waitpid(child, 0) for child in children]
        None
        """
    )
    assert counted() == {"a": 1000, "b": 1000}
    assert counted() == {}


def test_none_is_lost_while_it_is_read(actor: Actor, counted: Counted) -> None:
    actor("worker = threading.Thread(target=spread, args=(4, 5000, 'a/x')); worker.start()")
    readings = [counted() for _ in range(100)]
    actor("worker.join()")
    readings.append(counted())
    assert sum(reading.get("a", 0) for reading in readings) == 20_000
    assert {name for reading in readings for name in reading} == {"a"}
    assert sum(bool(reading) for reading in readings) > 1, "it was read meanwhile"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("opens(3, 'a/x'); opens(5, 'a/inner/deep/x')", {"a": 3, "a/inner": 5}, id="the innermost counts"),
        pytest.param("opens(2, 'a'); opens(1, 'a/inner')", {"a": 2, "a/inner": 1}, id="the directory itself"),
        pytest.param("os.symlink('../a/x', 'c/link'); opens(2, 'c/link')", {"a": 2}, id="where a link leads"),
        pytest.param("os.link('a/x', 'b/hard'); opens(2, 'b/hard'); opens(1, 'a/x')", {"a": 1, "b": 2}, id="the name of a hard link"),
        pytest.param("opens(2, 'a/x', os.O_PATH)", {"a": 2}, id="O_PATH"),
        pytest.param("d = os.open('c', os.O_RDONLY); opens(2, '../b/x', dir_fd=d)", {"b": 2}, id="beside a directory"),
        pytest.param("opens(2, 'b', os.O_TMPFILE | os.O_WRONLY)", {"b": 2}, id="O_TMPFILE"),
        pytest.param("opens(1, 'b/new', os.O_CREAT | os.O_EXCL | os.O_WRONLY)", {"b": 1}, id="made"),
        pytest.param("[call(2, b'a/x', 0), call(85, b'b/c', 0o600), call(437, -100, b'a/x', bytes(24), 24)]", {"a": 2, "b": 1}, id="calls"),
        pytest.param("d = os.open('a/x', os.O_RDONLY); os.unlink('a/x'); opens(2, f'/proc/self/fd/{d}')", {"a": 3}, id="deleted"),
        pytest.param("os.rename('a', 'c/moved'); opens(2, 'c/moved/x')", {"a": 2}, id="the directory, wherever it is moved"),
        pytest.param("r, w = os.pipe(); opens(2, f'/proc/self/fd/{r}'); opens(2, '/dev/null'); opens(2, 'c/x')", {}, id="elsewhere"),
        pytest.param("os.dup(0); os.stat('a/x'); os.access('a/x', 4); os.listdir(os.open('c', 0)) and None", {}, id="no opens"),
    ],
)
def test_what_is_counted_where(actor: Actor, counted: Counted, code: str, expected: dict[str, int]) -> None:
    try:
        actor(code)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP or "O_TMPFILE" not in code:
            raise
        pytest.skip("this file system has no O_TMPFILE: overlays from Linux 6.3 on")
    assert counted() == expected


def test_what_is_refused_is_not_counted(actor: Actor, counted: Counted, tree: Path) -> None:
    (tree / "a/x").chmod(0)
    tree.chmod(0o755)
    actor("os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)")
    for path in ("a/x", "a/nothing"):
        with pytest.raises(OSError):
            actor(f"opens(1, {path!r})")
    assert counted() == {}


def test_a_mount_is_seen_through_by_the_path_it_is_opened_by(actor: Actor, counted: Counted) -> None:
    actor(
        f"""
        os.unshare({libc.CLONE_NEWNS})
        none = ctypes.c_char_p(b"none")
        def mount(source, target, kind, flags):
            assert libc.mount(source, target, kind, flags, None) == 0, ctypes.get_errno()
        mount(b"none", b"/", None, {libc.MS_REC | libc.MS_PRIVATE})
        mount(b"c", b"b", None, 4096)       # MS_BIND: over b, which is not seen any more
        opens(2, "b/x")
        mount(b"a", b"c", None, 4096)       # a is a, also there
        opens(3, "c/x")
        opens(5, "c/inner/x")
        mount(b"none", b"a/inner/deep", b"tmpfs", 0)
        opens(7, "a/inner/deep/y", os.O_CREAT | os.O_WRONLY)
        None
        """
    )
    assert counted() == {"a": 3, "a/inner": 12}


def test_below_more_directories_than_are_walked_it_is_unknown(actor: Actor, counted: Counted) -> None:
    actor(
        f"""
        os.chdir("a")
        for level in range({abi.OPEN_STEPS + 6}):
            if level == {abi.OPEN_STEPS - 2}:
                opens(3, "made", os.O_CREAT | os.O_WRONLY)  # its own step, and those of the directories up to a
            os.mkdir("d")
            os.chdir("d")
        opens(5, "made", os.O_CREAT | os.O_WRONLY)
        """
    )
    assert counted() == {"a": 3, "?": 5}


def test_a_descriptor_that_is_closed_at_once_by_another_thread_is_counted_all_the_same(actor: Actor, counted: Counted) -> None:
    times = 20_000
    actor(
        f"""
        over = []
        spare = os.open("c/x", os.O_RDONLY)
        number = os.dup(spare)
        os.close(number)  # the next open gets this number
        def close():
            while not over:
                libc.close(number)
        other = threading.Thread(target=close)
        other.start()
        for _ in range({times}):
            found = libc.open(b"a/x", 0)
            assert found >= 0
            if found != number:
                libc.close(found)
        over.append(1)
        other.join()
        """,
        timeout=120,
    )
    found = counted()
    assert sum(found.values()) == times, found
    assert found.keys() <= {"a", "?"}


def test_who_opened_is_told_apart(actor: Actor, counted_box: Box, counted: Counted, tree: Path) -> None:
    number = counted_box.enrol(os.path.realpath("/bin/cat"))
    actor("opens(3, 'a/x')")
    assert counted_box.run("/bin/cat", tree / "a/x", tree / "a/x", tree / "c/x").status == 0
    task = counted_box.maps.task(actor.pid)
    assert task is not None and task.identity != number
    told = [opened for opened in counted_box.kernel.opens.news() if opened.sandbox == counted_box.number]
    assert {(opened.directory, opened.identity): opened.times for opened in told} == {(0, task.identity): 3, (0, number): 2}


def test_without_a_tag_it_is_nobodys_and_before_the_first_exec_nobody_is_there(
    counting: Kernel, counted_box: Box, tree: Path, cgroups: Path
) -> None:
    def attempt() -> None:
        os.close(os.open(tree / "a/x", os.O_RDONLY))

    counted_box.enrol(PYTHON)
    counting.opens.ask(counted_box.number, [counted_box.facts(tree / "a")])
    assert counted_box.untagged(attempt) == 0
    assert [opened for opened in counting.opens.news() if opened.sandbox == counted_box.number] == []
    counted_box.actor()("None")
    assert counted_box.untagged(attempt) == 0
    [opened] = [opened for opened in counting.opens.news() if opened.sandbox == counted_box.number]
    assert (opened.directory, opened.identity, opened.times) == (0, 0, 1)


def test_whoever_is_not_in_the_cgroup_is_not_meant(counted: Counted, tree: Path) -> None:
    subprocess.run(["cat", tree / "a/x"], check=True, capture_output=True)
    assert counted() == {}


def test_a_full_map_counts_as_nobodys(tight: Callable[..., Box], tree: Path) -> None:
    box = tight(opened=3)  # those of the one directory, of the room, and of what is unknown
    box.kernel.count_opens()
    box.enrol(PYTHON)
    box.kernel.opens.ask(box.number, [box.facts(tree / "a")])
    actor = box.actor()
    actor(OPENING)
    actor(f"opens(7, {str(tree / 'a/x')!r})")
    [opened] = box.kernel.opens.news()
    assert (opened.directory, opened.identity, opened.times) == (0, 0, 7)
    assert box.maps.failures()["open"] == 0


def test_the_next_agent_goes_on_where_the_last_one_stopped(pins: Path, cgroups: Path, tree: Path) -> None:
    """What was on record is not told again, and what nobody read is not lost."""
    first = Kernel(Network(), pins / "opens-left")
    kernels = [first]
    try:
        first.attach_tracepoints()
        first.count_opens()
        ear = Ear(first)
        with Box(first, ear, cgroups) as box:
            box.enrol(PYTHON)
            first.opens.ask(box.number, [box.facts(tree / "a")])
            actor = box.actor()
            actor(OPENING)
            path = str(tree / "a/x")
            actor(f"opens(3, {path!r})")
            [told] = first.opens.news()
            first.opens.recorded(told)
            actor(f"opens(2, {path!r})")
            second = Kernel.adopt(Network(), first.pins, first.held_by(), first.backend)
            kernels.append(second)
            actor(f"opens(4, {path!r})")
            assert [(each.directory, each.times) for each in (told, *second.opens.news())] == [(0, 3), (0, 6)]
        ear.ring.close()
    finally:
        for kernel in kernels:
            kernel.close()
