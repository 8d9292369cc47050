"""The writer: what is acknowledged is in the file, as it was told, once."""

from __future__ import annotations

import os
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
from unit.audit.trails import lines, records


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


def test_a_lifecycle_record_needs_no_binary(path: Path) -> None:
    trail = Trail.open(path)
    trail.append(BOX, Record(Action.LIFECYCLE, Outcome.ALLOW, Effect.PASS, Level.STATIC, Reason.STARTED))
    trail.close()
    assert (records(path)[0]["binary"], records(path)[0]["destination"]) == (None, None)
