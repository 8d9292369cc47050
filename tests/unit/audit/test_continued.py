"""A trail is continued: after its writer was killed anywhere, and after somebody damaged it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
from pathlib import Path

import pytest

from stockade.audit import AuditError, Trail, verify
from stockade.types import Http
from unit.audit.samples import BOX, connect
from unit.audit.samples import request as http_request
from unit.audit.trails import in_child, records

# Children are forked to be killed, not to run on: pytest's own watchdog thread does not matter to them.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


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
