"""The agent's end: a process that delivers while records are written, is started again when it dies, and whose losses are on record."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.audit import Trail, verify
from stockade.audit.sinks import Shipper
from stockade.settings import Audit, Checkpoint, Rotate
from stockade.settings.sinks import Batch
from stockade.settings.sinks import Sink as Rules
from stockade.types import StockadeError
from unit.audit.samples import BOX, connect
from unit.audit.sinks import receivers
from unit.audit.sinks.conftest import until
from unit.audit.sinks.receivers import Receiver

QUICK = Batch(records=50, wait=0.02)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("STOCKADE_TEST_TOKEN", "s3cret")
    found = Receiver(receivers.webhook)
    yield found
    found.close()


def hook(receiver: Receiver, **more: Any) -> Rules:
    about = {"url": f"{receiver.url}/hook?team=a", "headers": {"X-Org": "7"}, "token": "env:STOCKADE_TEST_TOKEN", "batch": QUICK} | more
    return Rules("http", "hook", product="webhook", **about)


def test_records_arrive_while_they_are_written_and_the_rest_before_it_ends(path: Path, receiver: Receiver, tmp_path: Path) -> None:
    """Over rotation, to two sinks, one of which is a file."""
    trail = Trail.open(path, Audit(rotate=Rotate(size=50_000), checkpoint=Checkpoint(records=100)))
    trail.append(BOX, connect("before.example"))
    shipper = Shipper(trail, [hook(receiver), Rules("file", "copy", path=str(tmp_path / "copy"), format="ecs", batch=QUICK)], drain=30)
    for number in range(500):
        trail.append(BOX, connect(f"host{number}.example"))
    until(lambda: receiver.records, "the first")
    trail.rotate(now=True)
    for number in range(500):
        trail.append(BOX, connect(f"late{number}.example"))
    shipper.close()
    trail.close()
    assert receiver.seqs() == list(range(2, 1002)), "a sink that is new to a trail begins with the next record"
    assert len((tmp_path / "copy").read_bytes().splitlines()) == 1000
    assert {name: (one.sent, one.lost, one.failing) for name, one in shipper.standing.items()} == {
        "hook": (1000, 0, ""),
        "copy": (1000, 0, ""),
    }
    assert verify(path).ok and verify(path).files > 1


def test_nothing_waits_for_a_receiver_that_does_not_answer(path: Path, receiver: Receiver) -> None:
    """It takes connections and says nothing. Records are written as ever; what it did not take waits for the next agent."""
    gate = threading.Event()
    judge = receiver.judge

    def silent(at: Receiver, path: str, headers: dict[str, str], body: bytes) -> Any:
        gate.wait(20)
        return judge(at, path, headers, body)

    receiver.judge = silent
    trail = Trail.open(path)
    shipper = Shipper(trail, [hook(receiver, timeout=0.5)], drain=0.2)
    for _ in range(2000):
        trail.append(BOX, connect())
    until(lambda: "timed out" in shipper.standing["hook"].failing, "it is said")
    shipper.close()
    trail.close()
    gate.set()
    receiver.judge = judge
    receiver.records.clear()
    trail = Trail.open(path)
    shipper = Shipper(trail, [hook(receiver)], drain=30)
    shipper.close()
    trail.close()
    assert sorted(set(receiver.seqs())) == list(range(1, 2001))


def test_a_process_that_is_killed_is_started_again_and_loses_nothing(path: Path, receiver: Receiver) -> None:
    trail = Trail.open(path)
    shipper = Shipper(trail, [hook(receiver)], drain=30)
    for number in range(300):
        trail.append(BOX, connect())
        if number == 100:
            until(lambda: receiver.records, "the first")
            os.kill(shipper._process.pid, signal.SIGKILL)
    until(lambda: shipper._process.poll() is None and len(set(receiver.seqs())) == 300, "all of them")
    shipper.close()
    trail.close()
    assert sorted(set(receiver.seqs())) == list(range(1, 301))


@pytest.mark.root
def test_the_process_can_do_nothing_that_root_can_but_read_its_files(path: Path, receiver: Receiver) -> None:
    trail = Trail.open(path)
    shipper = Shipper(trail, [hook(receiver)], drain=30)
    trail.append(BOX, connect())
    until(lambda: receiver.records, "the first")
    status = dict(line.split(":", 1) for line in Path(f"/proc/{shipper._process.pid}/status").read_text().splitlines())
    shipper.close()
    trail.close()
    sets = [int(status[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")]
    assert sets == [0] * 5 and status["NoNewPrivs"].strip() == "1"


def test_what_a_sink_gives_up_is_a_record(path: Path, receiver: Receiver) -> None:
    judge = receiver.judge

    def picky(at: Receiver, path: str, headers: dict[str, str], body: bytes) -> Any:
        return (400, b"never") if b'"odd.example"' in body or b"sink_lost" in body else judge(at, path, headers, body)

    receiver.judge = picky
    trail = Trail.open(path)
    shipper = Shipper(trail, [hook(receiver)], drain=30)
    for name in ("a.example", "odd.example", "b.example"):
        trail.append(BOX, connect(name))
    seen: list[dict[str, Any]] = []
    trail.subscribers.append(seen.append)
    until(lambda: seen, "the record of the loss")
    time.sleep(2.5)  # it is refused itself, and that is no reason for another one
    shipper.close()
    trail.close()
    assert [(one["action"], one["reason"], one["detail"]["sink"], one["detail"]["lost"]) for one in seen] == [
        ("lifecycle", "sink_lost", "hook", 1)
    ]
    assert receiver.seqs() == [1, 3] and shipper.standing["hook"].lost == 2


def test_a_sink_that_cannot_be_made_is_an_error_before_anything_runs(path: Path) -> None:
    trail = Trail.open(path)
    with pytest.raises(StockadeError) as error:
        Shipper(trail, [Rules("http", "x", product="splunk", url="https://127.0.0.1", token="env:STOCKADE_NO_SUCH")], drain=1)
    trail.close()
    assert error.value.code == "sink_secret"
    assert json.dumps(error.value.message).count("STOCKADE_NO_SUCH") == 1
