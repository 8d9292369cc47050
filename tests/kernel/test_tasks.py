"""Tags: copied by fork, one per process, gone when the whole group is dead, whatever way a process was made or ended."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kernel.box import PYTHON, Actor, Box, wait_for
from stockade.kernel import abi, syscall
from stockade.kernel.abi import Verdict, Why

CHILD = """
def child(become):
    pid = os.fork()
    if pid == 0:
        try:
            become()
        except OSError as error:
            os._exit(error.errno)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


@pytest.fixture
def python(box: Box) -> int:
    return box.enrol(PYTHON)


@pytest.fixture
def inside(box: Box, python: int) -> Actor:
    actor = box.actor()
    actor(CHILD)
    return actor


@pytest.fixture
def unlisted(bench: Path) -> Path:
    return Path(shutil.copy("/usr/bin/true", bench / "unlisted"))


IN_A_THREAD = """
def in_a_thread(path):
    def become():
        try:
            os.execv(path, ["x"])
        except OSError as error:
            os._exit(error.errno)
    threading.Thread(target=become).start()
    os.read(os.pipe()[0], 1)
"""


def tag_of(box: Box, pid: int) -> tuple[int, ...] | None:
    """struct task: sandbox, identity, exec id, parent exec id, inode, device, generation, flags, script."""
    raw = syscall.map_lookup(box.maps._fd["tasks"], pid.to_bytes(4, "little"), abi.TASK.size)
    return abi.TASK.unpack(raw) if raw else None


# where tags come from


def test_exec_tags_with_the_file_and_a_number(box: Box, python: int, inside: Actor) -> None:
    facts = box.facts(PYTHON)
    (event,) = box.heard()
    assert tag_of(box, inside.pid) == (box.number, python, event.exec_id, 0, facts.ino, facts.dev, facts.generation, 0, 0)
    assert box.tasks == 1


def test_fork_copies_the_tag(box: Box, inside: Actor) -> None:
    pid = inside("gate = os.pipe(); pid = os.fork()\nif pid == 0: os.read(gate[0], 1); os._exit(0)\npid")
    assert tag_of(box, pid) == tag_of(box, inside.pid) is not None
    assert box.tasks == 2
    inside("os.write(gate[1], b'1'); os.waitpid(pid, 0)[1]")
    assert tag_of(box, pid) is None and box.tasks == 1


def test_a_fork_from_outside_has_none(box: Box) -> None:
    """Joining the cgroup is no exec: such a process reaches nothing."""
    assert box.untagged(lambda: None) == 0
    assert box.tasks == 0 and box.heard() == []


def test_the_chain_of_execs(box: Box, inside: Actor) -> None:
    box.enrol("/bin/sh")
    box.enrol("/usr/bin/true")
    (start,) = box.heard()
    assert inside("child(lambda: os.execv('/bin/sh', ['sh', '-c', '/usr/bin/true; exec /usr/bin/true']))") == 0
    shell, first, second = box.heard()
    assert [e.parent_exec_id for e in (start, shell, first, second)] == [0, start.exec_id, shell.exec_id, shell.exec_id]
    assert second.pid == shell.pid != first.pid


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn({path!r}, ['x'], {{}}), 0)[1])", id="posix_spawn"),
        pytest.param("__import__('subprocess').run([{path!r}]).returncode", id="vfork"),
        pytest.param("child(lambda: os.execv({path!r}, ['x']))", id="fork"),
        pytest.param("child(lambda: in_a_thread({path!r}))", id="thread"),
    ],
)
def test_every_way_to_exec_is_judged_and_counted_once(box: Box, inside: Actor, unlisted: Path, how: str) -> None:
    """An exec by a thread that is not the leader takes over the leader's pid."""
    listed = box.enrol("/usr/bin/true")
    inside(IN_A_THREAD)
    box.heard()
    assert inside(how.format(path="/usr/bin/true")) == 0
    assert [(e.identity, e.why) for e in box.heard()] == [(listed, Why.POLICY)]
    assert box.tasks == 1
    try:
        status = inside(how.format(path=str(unlisted)))
    except PermissionError as refused:
        status = refused.errno
    assert status == box.refusal
    assert [(e.verdict, e.why) for e in box.heard()] == [(Verdict.DENY, Why.UNLISTED)]
    assert box.tasks == 1


def test_a_child_cgroup_is_inside_the_box(box: Box, python: int, unlisted: Path) -> None:
    deep = box.cgroup.path / "a" / "b"
    deep.mkdir(parents=True)
    assert box.run(unlisted, cgroup=deep).said == [(Verdict.DENY, Why.UNLISTED)]
    assert box.actor(cgroup=deep)("1 + 1") == 2
    assert box.tasks == 1


def test_leaving_the_cgroup_and_executing_clears_the_tag(box: Box, inside: Actor, cgroups: Path) -> None:
    """Only root can move it, and then it is no longer governed: neither tag nor share of the quota may linger under its pid."""
    (cgroups / "cgroup.procs").write_text(str(inside.pid))
    assert inside(f"child(lambda: os.execv({PYTHON!r}, ['python', '-ISc', '']))") == 0
    assert box.tasks == 1 and tag_of(box, inside.pid)
    inside.close()
    assert box.tasks == 0


def test_moving_to_another_box_and_executing_is_counted_there(box: Box, lenient: Box, inside: Actor) -> None:
    lenient.cgroup.add(inside.pid)
    assert inside(f"child(lambda: os.execv({PYTHON!r}, ['python', '-ISc', '']))") == 0
    (event,) = lenient.heard()
    assert (event.why, event.identity, event.parent_exec_id) == (Why.UNLISTED, 0, 0)
    assert (box.tasks, lenient.tasks) == (1, 0)


# where they go


LEADERLESS = """
def last(path, gate):
    os.read(gate, 1)
    os.execv(path, ["x"])

def leaderless(path):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        threading.Thread(target=last, args=(path, read)).start()
        ctypes.CDLL(None).syscall(EXIT, 0)
    return pid, write

EXIT = {"x86_64": 60}.get(os.uname().machine, 93)
"""


def test_the_leader_may_end_before_its_threads(box: Box, inside: Actor, unlisted: Path) -> None:
    """sched_process_exit fires for the leader while another thread lives: the tag stays, and what that thread executes is judged by it."""
    box.enrol("/usr/bin/true")
    box.heard()
    inside(LEADERLESS)
    pid, write = inside("leaderless('/usr/bin/true')")
    wait_for(lambda: "zombie" in Path(f"/proc/{pid}/status").read_text(), "the leader to end")
    assert tag_of(box, pid) == tag_of(box, inside.pid)
    assert box.tasks == 2
    assert inside(f"os.write({write}, b'1'); os.waitstatus_to_exitcode(os.waitpid({pid}, 0)[1])") == 0
    assert [e.why for e in box.heard()] == [Why.POLICY]
    assert tag_of(box, pid) is None and box.tasks == 1


def test_a_process_without_its_leader_is_killed_with_the_others(box: Box, inside: Actor) -> None:
    """cgroup.kill alone misses it, and a sandbox would outlive its end."""
    inside(LEADERLESS)
    pid, _ = inside("leaderless('/nowhere')")
    wait_for(lambda: "zombie" in Path(f"/proc/{pid}/status").read_text(), "the leader to end")
    box.cgroup.kill()
    wait_for(lambda: not box.cgroup.populated(), "an empty cgroup")
    assert box.tasks == 0


@pytest.mark.parametrize("ending", ["os._exit(0)", "os.kill(os.getpid(), 9)", "os.abort()", "(lambda: 1 / 0)()"])
def test_however_a_process_ends_its_tag_goes(box: Box, inside: Actor, ending: str) -> None:
    for _ in range(10):
        inside(f"child(lambda: {ending})")
    assert box.tasks == 1


def test_a_box_that_is_killed_leaves_nothing(box: Box, inside: Actor) -> None:
    inside("for _ in range(20):\n    if os.fork() == 0: os.read(os.pipe()[0], 1)")
    assert box.tasks == 21
    box.cgroup.kill()
    inside.process.wait()
    wait_for(lambda: not box.cgroup.populated(), "an empty cgroup")
    assert box.tasks == 0


def test_a_storm_of_forks_leaves_nothing(box: Box) -> None:
    def forks() -> int:
        return next(int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("processes "))

    box.enrol("/bin/sh")
    before = forks()
    ended = box.run("/bin/sh", "-c", "i=0; while [ $i -lt 1000 ]; do (exit 0) & (exit 0); i=$((i+1)); done; wait")
    assert ended.status == 0 and len(ended.events) == 1
    assert forks() - before >= 2000
    assert box.tasks == 0
    assert all(count == 0 for name, count in box.maps.failures().items() if name in ("task_tag", "quota", "signal", "scratch"))
