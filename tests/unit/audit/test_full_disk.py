"""A disk that takes nothing more: what cannot be recorded is refused, counted, and told when it can be again."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stockade.audit import AuditError, Trail, verify
from stockade.types import Http
from unit.audit.samples import BOX, connect
from unit.audit.samples import request as http_request
from unit.audit.trails import in_child, records

# Children are forked to be killed, not to run on: pytest's own watchdog thread does not matter to them.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

# Runs in a mount namespace of its own, so nothing is left behind.
TINY = """
import errno, sys
from pathlib import Path
sys.path.insert(0, {samples!r})
from unit.audit.samples import BOX, connect, request
from stockade.audit import AuditError, Trail, verify
from stockade.types import Http
path = Path({mount!r}) / "audit.jsonl"
trail = Trail.open(path)
token = trail.begin(BOX, request("/under/way"))
count = 0
def refused(work):
    try:
        work()
    except AuditError as error:
        assert error.errno == errno.ENOSPC, error
        return True
while not refused(lambda: trail.append(BOX, connect("x" * 40))):
    count += 1
assert 20 < count < 200, count
for _ in range(3):
    assert refused(lambda: trail.append(BOX, connect())), "still full"
    assert refused(lambda: trail.finish(token, http=Http("GET", "/under/way", 200)))
assert verify(path).ok, verify(path)
assert verify(path).records == count
(Path({mount!r}) / "ballast").unlink()
assert trail.finish(token, http=Http("GET", "/under/way", 200)) == count + 2, "the token stayed open"
assert trail.append(BOX, connect()) == count + 3
trail.close()
import json
told = [json.loads(line) for line in path.read_bytes().splitlines()][-4]
assert (told["reason"], told["detail"]["missed"], told["seq"]) == ("audit_unavailable", 4, count + 1), told
assert "No space left" in told["detail"]["error"], told
assert verify(path).ok and verify(path).unsigned == 0
print("held", count)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a mount namespace")
def test_a_full_disk_denies_and_leaves_the_trail_whole(tmp_path: Path) -> None:
    mount = tmp_path / "tiny"
    mount.mkdir()

    def unshare() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        ms_rec_private = 0x4000 | 0x40000
        os.unshare(os.CLONE_NEWNS)
        if libc.mount(b"none", b"/", None, ms_rec_private, None) or libc.mount(b"tmpfs", bytes(mount), b"tmpfs", 0, b"size=96k"):
            raise OSError(ctypes.get_errno(), "mount")
        (mount / "ballast").write_bytes(b"x" * 16384)

    code = TINY.format(samples=str(Path(__file__).parents[2]), mount=str(mount))
    done = subprocess.run([sys.executable, "-c", code], preexec_fn=unshare, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("held"), done.stderr


def test_a_key_that_the_disk_does_not_take_is_not_in_the_way_of_the_next_start(path: Path) -> None:
    start = f"from pathlib import Path; from stockade.audit import Trail; Trail.open(Path({str(path)!r}))"
    full = subprocess.run(["prlimit", "--fsize=0", sys.executable, "-c", start], capture_output=True, text=True, check=False)
    assert full.returncode == 1 and "cannot use the audit key" in full.stderr, full
    assert not path.with_name(f"{path.name}.key").exists()
    room = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=False)
    assert room.returncode == 0, room


def test_a_short_write_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trail = Trail.open(path)
    trail.append(BOX, connect())
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:100], offset))
    with pytest.raises(AuditError) as refused:
        trail.append(BOX, connect())
    assert refused.value.errno == errno.ENOSPC and isinstance(refused.value, OSError)
    monkeypatch.undo()
    assert verify(path).ok
    assert trail.append(BOX, connect()) == 3
    trail.close()
    told = records(path)[1]
    assert (told["reason"], told["detail"]["missed"], told["sandbox"]["id"]) == ("audit_unavailable", 1, "")


def test_what_was_missed_is_counted_over_kill_9(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        trail = Trail.open(path)
        trail.append(BOX, connect())
        real = os.pwrite
        monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: 0 if len(data) > 200 else real(fd, data, offset))
        for _ in range(3):
            with contextlib.suppress(AuditError):
                trail.append(BOX, connect())

    assert os.WTERMSIG(in_child(work)) == signal.SIGKILL
    Trail.open(path).close()
    Trail.open(path).close()
    told = [one["detail"] for one in records(path) if one["reason"] == "audit_unavailable"]
    assert [one["missed"] for one in told] == [3]
    assert verify(path).ok


def test_whoever_goes_on_without_a_record_is_counted_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`on_audit_failure: continue`: a request that began while nothing could be written gets its record if the disk is back at its end."""
    trail = Trail.open(path)
    real = os.pwrite
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", lambda fd, data, offset: 0 if len(data) > 200 else real(fd, data, offset))
        with pytest.raises(AuditError):
            trail.begin(BOX, http_request("/refused"))
        kept, lost = (trail.begin(BOX, http_request(f"/{name}"), required=False) for name in ("kept", "lost"))
        assert trail.finish(lost, required=False) == 0
        with pytest.raises(AuditError):
            trail.recover()
    trail.recover()
    trail.finish(kept, http=Http("GET", "/kept", 200))
    with pytest.raises(ValueError, match="under way"):
        trail.finish(lost)
    trail.close()
    assert [(one["reason"], one["detail"].get("missed")) for one in records(path)] == [("audit_unavailable", 1), ("rule_allow", None)]
    assert trail.counters.missed == 1 and Path(f"{path}.journal").read_bytes() == b""


def test_a_file_that_cannot_be_mended_takes_nothing_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trail = Trail.open(path)

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "pwrite", fail)
    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(AuditError):
        trail.append(BOX, connect())
    monkeypatch.undo()
    with pytest.raises(AuditError):
        trail.append(BOX, connect())
    trail.close()
