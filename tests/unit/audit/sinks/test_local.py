"""Sinks of this machine: files, standard output, journald."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest

from stockade.audit import Trail
from stockade.audit.sinks.cursor import Position
from stockade.audit.sinks.deliver import Delivery
from stockade.audit.sinks.file import FileSink
from stockade.audit.sinks.journald import JournaldSink
from stockade.audit.sinks.sink import Sink
from stockade.audit.sinks.stream import StreamSink
from stockade.settings import Rotate
from stockade.settings.sinks import Batch
from stockade.settings.sinks import Sink as Rules
from unit.audit.samples import BOX, connect
from unit.audit.samples import request as http_request
from unit.audit.sinks.conftest import Journal, until


def run(path: Path, sink: Sink, form: str = "json", drain: float = 20, **batch: int) -> Delivery:
    delivery = Delivery(path, Rules("file", "local", format=form, batch=Batch(wait=0.02, **batch)), sink, Position())
    delivery.stop(drain)
    delivery.run()
    return delivery


@pytest.fixture
def trail(path: Path) -> Path:
    found = Trail.open(path)
    for number in range(40):
        found.append(BOX, connect(f"host{number}.example"))
        if number == 20:
            found.rotate(now=True)
    found.close()
    return path


def seqs(*files: Path) -> list[int]:
    return [json.loads(line)["seq"] for file in files for line in file.read_bytes().splitlines()]


def test_a_file_is_rotated_and_the_oldest_goes(trail: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run(trail, FileSink(out, Rotate(size=4000, keep=2)), records=5)
    files = sorted(tmp_path.glob("out.jsonl.0*"))
    assert [file.name for file in files] == ["out.jsonl.000002", "out.jsonl.000003"]
    assert seqs(*files, out) == list(range(11, 41))
    assert oct(out.stat().st_mode & 0o777) == "0o600"


def test_a_line_that_was_torn_is_written_again(trail: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run(trail, FileSink(out, Rotate()))
    with out.open("ab") as file:
        file.write(b'{"torn":')
    found = Trail.open(trail)
    found.append(BOX, connect("last.example"))
    found.close()
    run(trail, FileSink(out, Rotate()))
    assert seqs(out) == list(range(1, 42))


def test_a_file_that_cannot_be_written_holds_nothing_up_and_loses_nothing(trail: Path, tmp_path: Path) -> None:
    out = tmp_path / "absent" / "out.jsonl"
    delivery = run(trail, FileSink(out, Rotate()), drain=0.2)
    assert (delivery.sent, delivery.lost) == (0, 0) and "No such file" in delivery.failing
    out.parent.mkdir()
    assert run(trail, FileSink(out, Rotate())).sent == 40
    assert seqs(out) == list(range(1, 41))


def test_standard_output_gets_lines(trail: Path) -> None:
    read, write = os.pipe()
    run(trail, StreamSink(write), form="cef", records=3)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        lines = pipe.read().splitlines()
    assert len(lines) == 40 and all(line.startswith(b"CEF:0|") for line in lines)


def test_journald_keeps_every_record_with_its_fields(path: Path, journal: Journal) -> None:
    """Among them one that no datagram holds, and one that would begin a field of its own."""
    found = Trail.open(path)
    found.append(BOX, connect("evil.example\nPRIORITY=0\nSTOCKADE_DECISION=allow"))
    found.append(BOX, http_request("/" + "x" * 300_000))
    found.append(BOX, http_request("/last"))
    found.close()
    before = len(journal.entries())
    assert run(path, JournaldSink(journal.socket)).sent == 3
    until(lambda: len(journal.entries()) == before + 3, "three entries")
    entries = journal.entries()[before:]
    wanted = [json.loads(line) for line in path.read_bytes().splitlines()][:3]
    assert [json.loads(entry["MESSAGE"]) for entry in entries] == wanted
    assert [(entry["PRIORITY"], entry["STOCKADE_DECISION"], entry["STOCKADE_ACTION"]) for entry in entries] == [
        ("5", "deny", "connect"),
        ("6", "allow", "http"),
        ("6", "allow", "http"),
    ]
    assert [entry["STOCKADE_HASH"] for entry in entries] == [one["hash"] for one in wanted]


def test_where_there_is_no_journald_records_wait(trail: Path, tmp_path: Path) -> None:
    delivery = run(trail, JournaldSink(tmp_path / "socket"), drain=0.2)
    assert (delivery.sent, delivery.lost) == (0, 0) and "No such file" in delivery.failing


def test_a_sink_begins_again_where_it_stood_over_files_that_are_gone(path: Path, tmp_path: Path) -> None:
    found = Trail.open(path)
    out = tmp_path / "out"
    for number in range(30):
        found.append(BOX, connect(f"host{number}.example"))
        if number % 10 == 9:
            found.rotate(now=True)
            if number == 9:
                run(path, FileSink(out, Rotate()))
    found.close()
    path.with_name("audit.jsonl.000001").unlink()
    path.with_name("audit.jsonl.000002").unlink()
    delivery = run(path, FileSink(out, Rotate()))
    assert seqs(out) == [*range(1, 11), *range(21, 31)]
    assert (delivery.lost, delivery.sent) == (10, 20)


def test_another_trail_in_the_same_place_is_delivered_from_its_beginning(trail: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(trail, FileSink(out, Rotate()))
    for file in trail.parent.glob("audit.jsonl*"):
        if not file.name.endswith(".sink"):
            file.unlink()
    found = Trail.open(trail)
    for _ in range(3):
        found.append(BOX, connect())
    found.close()
    assert run(trail, FileSink(out, Rotate())).lost == 0
    assert seqs(out) == [*range(1, 41), 1, 2, 3]


def test_a_line_that_somebody_damaged_is_counted_and_passed_over(trail: Path, tmp_path: Path) -> None:
    lines = trail.read_bytes().splitlines(keepends=True)
    trail.write_bytes(b"".join([lines[0], b"hello\n", *lines[2:]]))
    out = tmp_path / "out"
    delivery = run(trail, FileSink(out, Rotate()))
    assert delivery.lost == 1 and seqs(out) == [seq for seq in range(1, 41) if seq != 23]


def test_two_processes_do_not_deliver_for_one_sink(trail: Path, tmp_path: Path) -> None:
    from stockade.audit import AuditError

    first = Delivery(trail, Rules("file", "local"), FileSink(tmp_path / "out", Rotate()), Position())
    with pytest.raises(AuditError, match="being written"):
        Delivery(trail, Rules("file", "local"), FileSink(tmp_path / "out", Rotate()), Position())
    with contextlib.closing(first._cursor):
        pass
