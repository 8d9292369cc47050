"""The writer: what is acknowledged is in the file, whatever dies; what is not, is not."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from stockade.audit import AuditError, Trail, verify
from stockade.settings import Audit, Checkpoint
from stockade.types import Action, Effect, Http, Level, Outcome, Reason, Record, StockadeError
from unit.audit.samples import BOX, connect
from unit.audit.samples import request as http_request

# Children are forked to be killed, not to run on: pytest's own watchdog thread does not matter to them.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def records(path: Path) -> list[dict[str, Any]]:
    return [line for line in lines(path) if "checkpoint" not in line]


def in_child(work: Callable[[], None]) -> int:
    """Run work in a forked child that is killed, never cleaned up, when it returns. Returns its wait status."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os.kill(os.getpid(), signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def test_a_record_is_the_design_s(path: Path) -> None:
    trail = Trail.open(path)
    record = replace(http_request(), http=Http("POST", "/api/chat.postMessage", 200, 12, 345), generation=3)
    assert trail.append(BOX, record) == 1
    trail.close()
    (one,) = records(path)
    assert list(one) == [*sorted(set(one) - {"hash"}), "hash"]
    assert one.pop("time")[-1] == "Z" and len(one.pop("hash")) == 64
    assert one == {
        "seq": 1,
        "prev": "0" * 64,
        "sandbox": {"id": "0d1f", "name": "box-7f", "labels": {"agent": "claude-code"}, "policy": "coding-agent", "generation": 3},
        "action": "http",
        "binary": {
            "name": "curl",
            "path": "/usr/bin/curl",
            "script": None,
            "sha256": "ab" * 32,
            "exec_id": 3,
            "identity": "strong",
        },
        "pid": 77,
        "ancestry": [],
        "destination": {"host": "index.example", "port": 443, "address": "151.101.0.223"},
        "http": {"method": "POST", "path": "/api/chat.postMessage", "status": 200, "request_bytes": 12, "response_bytes": 345},
        "decision": "allow",
        "effect": "pass",
        "enforced": True,
        "level": "path",
        "rule": "pypi",
        "reason": "rule_allow",
        "detail": {},
    }


def test_files_are_private(written: Path) -> None:
    modes = {name: oct(Path(f"{written}{name}").stat().st_mode & 0o777) for name in ("", ".head", ".journal", ".key", ".pub")}
    assert modes == {"": "0o600", ".head": "0o600", ".journal": "0o600", ".key": "0o600", ".pub": "0o644"}


def test_the_key_may_be_elsewhere(path: Path, tmp_path: Path) -> None:
    Trail.open(path, Audit(key=tmp_path / "site.key")).close()
    assert (tmp_path / "site.key").exists() and not Path(f"{path}.key").exists()
    assert Path(f"{path}.pub").exists()


def test_a_relative_path(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    Trail.open(Path(path.name)).close()
    assert verify(Path(path.name)).ok


def refuse_symlink(path: Path) -> None:
    path.symlink_to(path.with_name("target"))


def refuse_fifo(path: Path) -> None:
    os.mkfifo(path)


def refuse_loose(path: Path) -> None:
    path.touch()
    path.chmod(0o666)


def refuse_garbage(path: Path) -> None:
    path.write_text("not a trail\n")


def refuse_journal_symlink(path: Path) -> None:
    Path(f"{path}.journal").symlink_to(path.with_name("target"))


def refuse_readable_key(path: Path) -> None:
    Trail.open(path).close()
    Path(f"{path}.key").chmod(0o644)


def refuse_foreign_key(path: Path) -> None:
    Path(f"{path}.key").write_text("no key")
    Path(f"{path}.key").chmod(0o600)


REFUSED = [refuse_symlink, refuse_fifo, refuse_loose, refuse_garbage, refuse_journal_symlink, refuse_readable_key, refuse_foreign_key]


@pytest.mark.parametrize("prepare", REFUSED)
def test_what_is_not_opened(path: Path, prepare: Callable[[Path], None]) -> None:
    prepare(path)
    with pytest.raises(StockadeError) as refused:
        Trail.open(path)
    assert refused.value.hint
    assert not path.with_name("target").exists()


def test_a_missing_directory_is_said(path: Path) -> None:
    with pytest.raises(AuditError, match="No such file"):
        Trail.open(path / "deeper")


def test_two_agents_cannot_write_one_trail(path: Path) -> None:
    trail = Trail.open(path)
    with pytest.raises(AuditError, match="another agent"):
        Trail.open(path)
    verify(path)  # opening and closing the file elsewhere in this process must not give the lock away
    child = f"from pathlib import Path; from stockade.audit import Trail; Trail.open(Path({str(path)!r}))"
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "another agent" in done.stderr
    trail.close()
    Trail.open(path).close()


def test_a_chain_is_continued(written: Path) -> None:
    trail = Trail.open(written)
    assert trail.append(BOX, connect()) == 8
    trail.close()
    assert [one["seq"] for one in records(written)] == list(range(1, 9))
    assert verify(written).ok


def test_kill_9_loses_nothing_that_was_acknowledged(path: Path, tmp_path: Path) -> None:
    """A child appends as fast as it can, telling each seq after its append; it is killed in the middle, thrice."""
    told = torn = 0
    for _ in range(3):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            trail = Trail.open(path)
            while True:
                os.write(write, trail.append(BOX, connect()).to_bytes(8))
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            data = pipe.read(8 * 50)
            os.kill(child, signal.SIGKILL)
            data += pipe.read()
        os.waitpid(child, 0)
        told = int.from_bytes(data[len(data) // 8 * 8 - 8 : len(data) // 8 * 8])
        found = verify(path)
        # SIGKILL may end a write(2) between two pages: the line it was about was acknowledged to nobody
        assert found.ok or found.problem == "truncated: the line has no end", found
        assert told <= found.records <= told + 1
        torn += not found.ok  # the next open numbers a record of it, too
    Trail.open(path).close()
    assert verify(path).ok
    reasons = [one["reason"] for one in records(path)]
    assert reasons.count("events_lost") == torn and set(reasons) <= {"no_rule", "events_lost"}


@pytest.mark.parametrize("finished", [False, True])
def test_kill_9_in_mid_request(path: Path, finished: bool) -> None:
    def work() -> None:
        trail = Trail.open(path)
        trail.append(BOX, connect())
        lost, kept = trail.begin(BOX, http_request("/lost")), trail.begin(BOX, http_request("/kept"))
        trail.finish(kept, http=Http("GET", "/kept", 200, 0, 5))
        if finished:
            trail.finish(lost, http=Http("GET", "/lost", 404, 0, 6))

    assert os.WTERMSIG(in_child(work)) == signal.SIGKILL
    Trail.open(path).close()
    seen = [(one["http"]["path"], one["http"]["status"], one["reason"]) for one in records(path)[1:]]
    last = ("/lost", 404, "rule_allow") if finished else ("/lost", None, "interrupted")
    assert seen == [("/kept", 200, "rule_allow"), last]
    assert Path(f"{path}.journal").read_bytes() == b""
    assert verify(path).ok


def test_kill_9_between_the_record_and_its_strike_writes_no_second_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        trail = Trail.open(path)
        token = trail.begin(BOX, http_request("/once"))
        monkeypatch.setattr(trail._journal, "strike", lambda token: os.kill(os.getpid(), signal.SIGKILL))
        trail.finish(token, http=Http("GET", "/once", 200, 0, 5))

    in_child(work)
    Trail.open(path).close()
    assert [(one["http"]["path"], one["reason"]) for one in records(path)] == [("/once", "rule_allow")]


def test_a_restart_that_is_killed_itself_writes_no_second_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three requests were under way; the agent that finds them dies, or runs out of disk, after each in turn."""

    def work() -> None:
        trail = Trail.open(path)
        for name in ("/a", "/b", "/c"):
            trail.begin(BOX, http_request(name))

    in_child(work)
    real = os.pwrite
    for _ in range(3):
        written = 0

        def once(fd: int, data: bytes, offset: int) -> int:
            nonlocal written
            if len(data) > 200 and (written := written + 1) == 2:
                raise OSError(errno.ENOSPC, "full")
            return real(fd, data, offset)

        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", once)
            with contextlib.suppress(AuditError):
                Trail.open(path).close()
    Trail.open(path).close()
    assert [(one["http"]["path"], one["reason"]) for one in records(path)] == [(name, "interrupted") for name in ("/a", "/b", "/c")]
    assert verify(path).ok


def test_a_torn_line_is_taken_away_and_counted(written: Path) -> None:
    with written.open("ab") as file:
        file.write(b'{"action":"conn')
    assert not verify(written).ok
    Trail.open(written).close()
    last = records(written)[-1]
    assert (last["action"], last["reason"], last["detail"]) == (
        "lifecycle",
        "events_lost",
        {"torn_bytes": 15, "lost_records": 0, "end_replaced": 0},
    )
    assert verify(written).ok


def test_a_cut_tail_is_counted_when_the_trail_is_continued(written: Path) -> None:
    written.write_bytes(b"".join(written.read_bytes().splitlines(keepends=True)[:6]))
    Trail.open(written).close()
    assert records(written)[-1]["detail"] == {"torn_bytes": 0, "lost_records": 2, "end_replaced": 0}


def test_a_replaced_end_is_told_when_the_trail_is_continued(written: Path) -> None:
    written.write_bytes(b"".join(written.read_bytes().splitlines(keepends=True)[:8]))  # the last checkpoint is gone
    Trail.open(written).close()
    assert records(written)[-1]["detail"] == {"torn_bytes": 0, "lost_records": 0, "end_replaced": 1}


def test_a_deleted_trail_is_counted(written: Path) -> None:
    written.unlink()
    Trail.open(written).close()
    assert records(written)[0]["detail"]["lost_records"] == 7


def test_killed_between_a_line_and_its_pin(written: Path) -> None:
    """The pin is then one line behind: nothing was lost, and nothing is said to be."""
    for line in (7, 8):
        Trail.open(written).close()
        lines_ = written.read_bytes().splitlines(keepends=True)
        before = json.loads(lines_[line - 1])
        Path(f"{written}.head").write_text(json.dumps({"seq": 6 if line == 7 else 7, "hash": before["hash"]}) + "\n")
        written.write_bytes(b"".join(lines_[: line + 1]))
        assert verify(written).ok
        Trail.open(written).close()
        assert "events_lost" not in {one["reason"] for one in records(written)}


def test_finish_says_what_became_of_it(path: Path) -> None:
    trail = Trail.open(path)
    token = trail.begin(BOX, http_request("/x"))
    assert records(path) == []
    trail.finish(
        token,
        http=Http("GET", "/x", 502),
        outcome=Outcome.DENY,
        effect=Effect.REFUSE,
        level=Level.DESTINATION,
        reason=Reason.UPSTREAM_TLS,
    )
    with pytest.raises(ValueError, match="under way"):
        trail.finish(token)
    trail.close()
    (one,) = records(path)
    assert [one[name] for name in ("decision", "effect", "level", "reason")] == ["deny", "refuse", "destination", "upstream_tls"]
    assert one["detail"]["began"] <= one["time"]


def test_what_finish_adds_stands_beside_what_was_begun(path: Path) -> None:
    trail = Trail.open(path)
    begun = replace(http_request("/x"), detail={"source": "192.0.2.1", "bytes_sent": 0})
    trail.finish(trail.begin(BOX, begun), detail={"bytes_sent": 7, "error": "at https://user:secret@example.com/"})
    trail.close()
    (one,) = records(path)
    assert one["detail"].pop("began")
    assert one["detail"] == {"source": "192.0.2.1", "bytes_sent": 7, "error": "at https://***@example.com/"}
    assert verify(path).ok


def test_close_records_what_is_under_way(path: Path) -> None:
    trail = Trail.open(path)
    trail.begin(BOX, http_request("/x"))
    trail.close()
    trail.close()
    assert [one["reason"] for one in records(path)] == ["interrupted"]
    assert "checkpoint" in lines(path)[-1]
    with pytest.raises(AuditError, match="closed"):
        trail.append(BOX, connect())


def test_the_journal_is_compacted_while_one_stream_stays_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockade.audit.journal._COMPACT", 4096)
    trail = Trail.open(path)
    trail.begin(BOX, http_request("/stream"))
    for _ in range(50):
        trail.finish(trail.begin(BOX, http_request("/short")))
    assert 0 < Path(f"{path}.journal").stat().st_size < 3 * 4096
    other = trail.begin(BOX, http_request("/late"))
    trail.finish(other)
    trail.close()
    assert [one["http"]["path"] for one in records(path)] == ["/short"] * 50 + ["/late", "/stream"]


def test_checkpoints_come_by_count_and_by_time(path: Path) -> None:
    trail = Trail.open(path, Audit(checkpoint=Checkpoint(records=5, seconds=0.2)))
    for wanted, count in ((1, 5), (2, 1)):
        for _ in range(count):
            trail.append(BOX, connect())
        deadline = time.monotonic() + 10
        while verify(path).checkpoints < wanted and time.monotonic() < deadline:
            time.sleep(0.02)
        assert verify(path).checkpoints == wanted
    time.sleep(0.5)
    assert verify(path).checkpoints == 2, "nothing new, nothing signed"
    trail.close()


def test_threads_make_one_chain(path: Path) -> None:
    trail = Trail.open(path)
    seqs: list[int] = []

    def work() -> None:
        for _ in range(100):
            seqs.append(trail.append(BOX, connect()))
            seqs.append(trail.finish(trail.begin(BOX, http_request())))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trail.close()
    assert sorted(seqs) == list(range(1, 801))
    assert verify(path).records == 800


def test_everyone_who_listens_gets_the_record_and_can_break_nothing(path: Path) -> None:
    class Gone(StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    trail = Trail.open(path, human=Gone())
    seen: list[dict[str, Any]] = []

    def broken(record: dict[str, Any]) -> None:
        raise ZeroDivisionError

    trail.subscribers += [broken, seen.append]
    assert trail.append(BOX, connect()) == 1
    trail.close()
    assert seen[0] == records(path)[0]


# A disk that is full. The mount namespace belongs to a child, so nothing is left behind.

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


def test_a_lifecycle_record_needs_no_binary(path: Path) -> None:
    trail = Trail.open(path)
    trail.append(BOX, Record(Action.LIFECYCLE, Outcome.ALLOW, Effect.PASS, Level.STATIC, Reason.STARTED))
    trail.close()
    assert (records(path)[0]["binary"], records(path)[0]["destination"]) == (None, None)
