"""Rotation, keys and the second place of the pin: one chain over all files, whatever dies in between."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stockade.audit import AuditError, Trail, verify
from stockade.audit.keys import replace_key
from stockade.audit.parts import closed, numbered, trail_of, trails
from stockade.audit.pin import copy_of
from stockade.settings import Audit, Checkpoint, Rotate
from unit.audit.samples import BOX, connect
from unit.audit.samples import request as http_request
from unit.audit.trails import in_child, lines, records

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def until(probe: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not probe():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def test_a_trail_is_rotated_by_size(path: Path) -> None:
    trail = Trail.open(path, Audit(rotate=Rotate(size=20_000)))
    for _ in range(100):
        trail.append(BOX, connect())
        if path.stat().st_size >= 20_000:  # give the other thread the time that a sandbox would
            until(lambda: path.stat().st_size < 20_000)
    trail.close()
    assert len(closed(path)) >= 3 and trail.counters.rotations == len(closed(path))
    assert [one["seq"] for one in records(path)] == list(range(1, 101))
    assert all("checkpoint" in json.loads(numbered(path, number).read_bytes().splitlines()[-1]) for number in closed(path))
    assert {oct(numbered(path, number).stat().st_mode & 0o777) for number in closed(path)} == {"0o600"}
    assert verify(path).files == len(closed(path)) + 1 and verify(path).ok


def test_a_trail_is_rotated_by_the_age_of_its_first_record(path: Path) -> None:
    rules = Audit(rotate=Rotate(age=0.4), checkpoint=Checkpoint(seconds=0.1))
    trail = Trail.open(path, rules)
    time.sleep(0.6)
    assert closed(path) == [], "a file without a record has no age"
    trail.append(BOX, connect())
    until(lambda: closed(path) == [1])
    trail.append(BOX, connect())
    trail.close()
    again = Trail.open(path, rules)  # the age is the record's, not the agent's
    until(lambda: closed(path) == [1, 2])
    again.close()
    assert verify(path).ok and len(records(path)) == 2


def test_the_chain_goes_on_over_a_restart_behind_an_empty_file(path: Path) -> None:
    trail = Trail.open(path)
    trail.append(BOX, connect())
    trail.rotate(now=True)
    trail.close()
    assert path.stat().st_size == 0
    trail = Trail.open(path)
    assert trail.append(BOX, connect()) == 2
    trail.close()
    assert verify(path).ok and "events_lost" not in {one["reason"] for one in records(path)}


def test_killed_between_the_two_steps_of_a_rotation(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        trail = Trail.open(path)
        trail.append(BOX, connect())
        real = Path.rename

        def once(self: Path, target: Path) -> Path:
            done = real(self, target)
            os.kill(os.getpid(), signal.SIGKILL)
            return done

        monkeypatch.setattr(Path, "rename", once)
        trail.rotate(now=True)

    assert os.WTERMSIG(in_child(work)) == signal.SIGKILL
    assert not path.exists() and closed(path) == [1]
    assert verify(path).ok
    trail = Trail.open(path)
    assert trail.append(BOX, connect()) == 2
    trail.rotate(now=True)
    trail.close()
    assert verify(path).ok and closed(path) == [1, 2] and not path.with_name("audit.jsonl.new").exists()


def test_a_rotation_that_fails_leaves_everything_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trail = Trail.open(path)
    trail.append(BOX, connect())
    real = Path.rename

    def fail_second(self: Path, target: Path) -> Path:
        if self.name.endswith(".new"):
            raise OSError(5, "I/O error")
        return real(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fail_second)
        with pytest.raises(AuditError, match="cannot rotate"):
            trail.rotate(now=True)
    assert trail.append(BOX, connect()) == 2
    assert closed(path) == [] and verify(path).ok
    trail.rotate(now=True)
    trail.close()
    assert closed(path) == [1] and verify(path).ok


def test_rotation_under_load_and_kill_9_lose_nothing(path: Path) -> None:
    """Three threads append as fast as they can while files are rotated, each told when its record is acknowledged; then kill -9."""
    rules = Audit(rotate=Rotate(size=30_000), checkpoint=Checkpoint(records=50, seconds=0.05))
    for _ in range(2):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            trail = Trail.open(path, rules)

            def work(trail: Trail = trail, write: int = write) -> None:
                while True:
                    os.write(write, trail.append(BOX, connect()).to_bytes(8))
                    trail.finish(trail.begin(BOX, http_request()))

            for _ in range(3):
                threading.Thread(target=work, daemon=True).start()
            while True:
                trail.rotate(now=True)
                time.sleep(0.02)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            data = pipe.read(8 * 300)
            while len(closed(path)) < 3:  # on a busy machine records come faster than rotations
                data += pipe.read(8 * 50)
            os.kill(child, signal.SIGKILL)
            data += pipe.read()
        os.waitpid(child, 0)
        told = {int.from_bytes(data[at : at + 8]) for at in range(0, len(data) // 8 * 8, 8)}
        Trail.open(path, rules).close()
        assert verify(path).ok, verify(path)
        assert told <= {one["seq"] for one in records(path)}
        assert len(closed(path)) > 2
    seqs = [one["seq"] for one in records(path)]
    assert seqs == list(range(1, len(seqs) + 1))


def test_readers_and_verifiers_go_on_while_files_are_rotated(path: Path) -> None:
    trail = Trail.open(path)

    def work() -> None:
        for _ in range(150):
            trail.append(BOX, connect())
            trail.rotate(now=True)

    writer = threading.Thread(target=work)
    writer.start()
    alive = True
    while alive:
        alive = writer.is_alive()
        found = verify(path)
        assert found.ok, found
        seqs = [one["seq"] for one in records(path)]
        assert seqs == list(range(1, len(seqs) + 1))
    writer.join()
    trail.close()
    assert verify(path).records == 150


def test_the_key_is_replaced_under_a_running_agent(path: Path) -> None:
    trail = Trail.open(path, Audit(checkpoint=Checkpoint(seconds=0.1)))
    trail.append(BOX, connect())
    fresh = replace_key(Path(f"{path}.key"))
    until(lambda: "key_replaced" in {one["reason"] for one in records(path)})
    trail.append(BOX, connect())
    trail.close()
    assert lines(path)[-1]["checkpoint"]["key"] == fresh
    assert Path(f"{path}.pub").read_text().count("BEGIN") == 2 and verify(path).ok
    assert oct(Path(f"{path}.key").stat().st_mode & 0o777) == "0o600"


def test_a_key_that_cannot_be_read_is_said_and_the_old_one_goes_on(path: Path) -> None:
    trail = Trail.open(path, Audit(checkpoint=Checkpoint(seconds=0.1)))
    trail.append(BOX, connect())
    Path(f"{path}.key").write_text("no key")
    until(lambda: trail.counters.failures > 0)
    trail.append(BOX, connect())
    trail.close()
    assert verify(path).ok


def test_the_pin_in_a_second_place_outlives_the_directory_of_the_trail(path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "pins"
    with pytest.raises(AuditError, match="No such file"):
        Trail.open(path, Audit(pin=elsewhere))
    elsewhere.mkdir()
    trail = Trail.open(path, Audit(pin=elsewhere))
    for _ in range(3):
        trail.append(BOX, connect())
        trail.rotate(now=True)
    trail.append(BOX, connect())
    trail.close()
    pin = copy_of(path, elsewhere)
    assert pin.parent == elsewhere and json.loads(pin.read_text())["seq"] == 4
    assert verify(path, head=pin).ok
    path.unlink()
    numbered(path, 3).unlink()
    Path(f"{path}.head").write_text("")
    assert verify(path).ok, "what is beside the trail was cut alike"
    assert (verify(path, head=pin).file, verify(path, head=pin).first_bad_line) == (str(numbered(path, 2)), 3)


def test_names(tmp_path: Path) -> None:
    for name in (
        "a.jsonl",
        "a.jsonl.head",
        "a.jsonl.000002",
        "a.jsonl.000010",
        "a.jsonl.1",
        "b.jsonl.000001",
        "c.log",
        "c.log.head",
        "d.ocsf",
        "d.ocsf.000001",
        "e.jsonl.key",
    ):
        (tmp_path / name).touch()
    assert closed(tmp_path / "a.jsonl") == [2, 10]
    assert trail_of(tmp_path / "a.jsonl.000002") == tmp_path / "a.jsonl" == trail_of(tmp_path / "a.jsonl")
    assert trails(tmp_path) == [tmp_path / name for name in ("a.jsonl", "b.jsonl", "c.log")]
    assert trails(tmp_path / "a.jsonl.000010") == [tmp_path / "a.jsonl"]


# A disk that becomes read-only under open files, as ext4 does after an error. The mount belongs to a child.

READ_ONLY = """
import contextlib, errno, json, os, subprocess, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from unit.audit.samples import BOX, connect, request
from stockade.audit import AuditError, Trail, verify
from stockade.settings import Audit
disk, image, pins = Path({disk!r}), {image!r}, Path({pins!r})
def mount():
    subprocess.run(["mount", "-o", "loop,errors=remount-ro", image, disk], check=True)
    return subprocess.run(["losetup", "-j", image], capture_output=True, text=True, check=True).stdout.split(":")[0]
loop = mount()
path = disk / "audit.jsonl"
trail = Trail.open(path, Audit(pin=pins))
for _ in range(3):
    trail.append(BOX, connect())
trail.checkpoint()
token = trail.begin(BOX, request("/under/way"))  # not synced: with the disk it is lost, as its end is, which is counted
Path("/sys/fs/ext4", Path(loop).name, "trigger_fs_error").write_text("1")
for _ in range(4):
    try:
        trail.append(BOX, connect())
    except AuditError as error:
        assert error.errno in (errno.EROFS, errno.EIO), error
    else:
        raise AssertionError("written")
assert trail.finish(token, required=False) == 0
for work in (lambda: trail.begin(BOX, request()), lambda: trail.rotate(now=True), trail.recover):
    with contextlib.suppress(AuditError):
        work()
        raise AssertionError("it goes on")
assert verify(path).ok and verify(path).records == 3 and trail.counters.missed == 5
with contextlib.suppress(AuditError):
    trail.close()
subprocess.run(["umount", disk], check=True)
subprocess.run(["e2fsck", "-fy", image], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
mount()
Trail.open(path, Audit(pin=pins)).close()
records = [one for one in map(json.loads, path.read_bytes().splitlines()) if "checkpoint" not in one]
assert [one["detail"]["missed"] for one in records if one["reason"] == "audit_unavailable"] == [5], records
assert verify(path).ok, verify(path)
subprocess.run(["umount", disk], check=True)
print("held")
"""


@pytest.mark.root
def test_a_disk_that_becomes_read_only_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """What is missed meanwhile is counted in the second place of the pin, and told by the next agent."""
    disk, pins, image = tmp_path / "disk", tmp_path / "pins", tmp_path / "image"
    disk.mkdir()
    pins.mkdir()
    image.write_bytes(b"")
    os.truncate(image, 16 << 20)
    if shutil.which("mkfs.ext4", path="/usr/sbin:/sbin") is None or not Path("/dev/loop-control").exists():
        pytest.skip("no mkfs.ext4 or no loop devices")
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True, env=os.environ | {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"})

    def private() -> None:
        os.unshare(os.CLONE_NEWNS)
        if ctypes.CDLL(None, use_errno=True).mount(b"none", b"/", None, 0x44000, None):  # MS_REC | MS_PRIVATE
            raise OSError(ctypes.get_errno(), "mount")

    code = READ_ONLY.format(tests=str(Path(__file__).parents[2]), disk=str(disk), image=str(image), pins=str(pins))
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    done = subprocess.run([sys.executable, "-c", code], preexec_fn=private, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0 and done.stdout == "held\n", done.stderr
