"""The process that delivers, held to what it needs: seen by trying what it may not, and by every kind of sink delivering all the same."""

from __future__ import annotations

import ast
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from stockade.audit import Trail
from stockade.audit.sinks import Shipper
from stockade.audit.sinks.shipper import _plain
from stockade.sandbox import landlock
from stockade.settings import Audit
from stockade.settings.rotate import Rotate
from stockade.settings.sinks import Batch, Tls
from stockade.settings.sinks import Sink as Rules
from unit.audit.samples import BOX, connect
from unit.audit.samples import request as http_request
from unit.audit.sinks import receivers
from unit.audit.sinks.conftest import Journal, Rsyslog, until
from unit.audit.sinks.receivers import Receiver

pytestmark = pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")

QUICK = Batch(records=5, wait=0.02)

TRY = """
import json, mmap, os, signal, socket, sys, threading
from pathlib import Path
from stockade.audit.sinks.confine import confine, drop
from stockade.audit.sinks.journald import JournaldSink
from stockade.audit.sinks.process import made, rules_of
from stockade.audit.sinks.sink import Item

order = json.loads(sys.stdin.readline())
trail, room, rules = Path(order["trail"]), Path(order["room"]), [rules_of(one) for one in order["sinks"]]
drop()
for one in rules:
    made(one, trail).close()
confine(trail, rules)

def thread():
    ran = []
    one = threading.Thread(target=lambda: ran.append(1))
    one.start()
    one.join()
    assert ran

def listen():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()

def fork():
    if os.fork() == 0:
        os._exit(0)

def connect(family, kind, to):
    with socket.socket(family, kind) as one:
        one.connect(to)

def turn():
    (room / "out" / "x").write_text("x")
    (room / "out" / "x").rename(room / "out" / "y")
    (room / "out" / "y").unlink()

def journal():
    sink = JournaldSink()
    for line in trail.read_bytes().splitlines():
        record = json.loads(line)
        if "seq" in record:
            sink.send([Item(line, record, "json")])

tries = {
    "read the trail": lambda: trail.read_bytes(),
    "read a secret of the settings": lambda: Path(order["token"]).read_bytes(),
    "read what lies beside that secret": lambda: Path(order["token"]).with_name("other").read_bytes(),
    "read another file": lambda: (room / "other" / "file").read_bytes(),
    "list another directory": lambda: os.listdir(room / "other"),
    "write the cursor": lambda: Path(f"{trail}.copy.sink").open("r+b").close(),
    "write the trail": lambda: trail.open("ab").close(),
    "truncate the trail": lambda: os.truncate(trail, 0),
    "remove the trail": lambda: trail.unlink(),
    "write beside the trail": lambda: Path(f"{trail}.more").touch(),
    "rotate a sink's file": turn,
    "write into another directory": lambda: (room / "other" / "new").touch(),
    "write into /tmp": lambda: Path("/tmp/stockade-confined").touch(),
    "give a file another mode": lambda: (room / "out" / "copy").chmod(0o666),
    "start a program": lambda: os.execv("/bin/true", ["true"]),
    "fork": fork,
    "start a thread": thread,
    "signal the agent": lambda: os.kill(os.getppid(), 0),
    "listen": listen,
    "call a receiver": lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", order["port"])),
    "resolve a name": lambda: socket.getaddrinfo("localhost", 443),
    "speak to a unix socket": lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, "/run/docker.sock"),
    "send to a unix socket": lambda: connect(socket.AF_UNIX, socket.SOCK_DGRAM, "/run/systemd/notify"),
    "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "map memory that is executable": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "tell journald": journal,
}
said = {}
for name in order["only"] or [name for name in tries if name != "tell journald"]:
    try:
        tries[name]()
        said[name] = 0
    except OSError as error:
        said[name] = error.errno
print(repr(said))
"""

ALLOWED = [
    "read the trail",
    "read a secret of the settings",
    "write the cursor",
    "rotate a sink's file",
    "start a thread",
    "call a receiver",
    "resolve a name",
]


@pytest.fixture
def room(tmp_path: Path) -> Path:
    for name in ("trail", "out", "other", "secrets"):
        (tmp_path / name).mkdir()
    for name in ("other/file", "secrets/token", "secrets/other", "out/copy"):
        (tmp_path / name).write_text("s3cret\n")
        (tmp_path / name).chmod(0o600)
    return tmp_path


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver(receivers.webhook)
    yield found
    found.close()


def written(room: Path) -> Trail:
    trail = Trail.open(room / "trail" / "box.jsonl", Audit())
    trail.append(BOX, connect("a.example"))
    trail.append(BOX, http_request("/" + "x" * 300_000))
    return trail


def tried(room: Path, receiver: Receiver, *sinks: Rules, only: list[str] | None = None, within: Sequence[str] = ()) -> dict[str, int]:
    order = {
        "trail": str(room / "trail" / "box.jsonl"),
        "room": str(room),
        "sinks": [_plain(one) for one in sinks],
        "token": str(room / "secrets" / "token"),
        "port": receiver.server.server_port,
        "only": only,
    }
    command = [*within, sys.executable, "-P", "-c", TRY]
    done = subprocess.run(command, input=json.dumps(order) + "\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said: dict[str, int] = ast.literal_eval(done.stdout)
    return said


def test_it_reads_the_trail_writes_its_targets_and_nothing_else(room: Path, receiver: Receiver) -> None:
    written(room).close()
    before = (room / "trail" / "box.jsonl").read_bytes()
    token = f"file:{room / 'secrets' / 'token'}"
    sinks = Rules("file", "copy", path=str(room / "out" / "copy")), Rules("http", "hook", product="webhook", url=receiver.url, token=token)
    said = tried(room, receiver, *sinks)
    assert [name for name, error in said.items() if not error] == ALLOWED, said
    refused = {name: os.strerror(error) for name, error in said.items() if error}
    assert set(refused.values()) == {"Operation not permitted", "Permission denied"}, refused
    assert (room / "trail" / "box.jsonl").read_bytes() == before and not Path("/tmp/stockade-confined").exists()


def test_of_unix_sockets_it_has_journald_alone_where_a_sink_is_journald(room: Path, receiver: Receiver, journal: Journal) -> None:
    written(room).close()
    before = len(journal.entries())
    only = ["tell journald", "speak to a unix socket"]
    said = tried(room, receiver, Rules("journald", "journald"), only=only, within=["nsenter", "-t", str(journal.pid), "-m"])
    assert (said["tell journald"], os.strerror(said["speak to a unix socket"])) == (0, "Operation not permitted")
    until(lambda: len(journal.entries()) == before + 2, "both, one of which no datagram holds")


def test_every_kind_of_sink_delivers(room: Path, receiver: Receiver, rsyslog: Rsyslog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCKADE_TEST_KEY", "s3cret")
    collector = Receiver(receivers.otlp)
    url, token = f"{receiver.url.replace('127.0.0.1', 'localhost')}/hook?team=a", f"file:{room / 'secrets' / 'token'}"
    sinks = [
        Rules("file", "copy", path=str(room / "out" / "{trail}.log"), rotate=Rotate(size=4_000, keep=50), batch=QUICK, format="ocsf"),
        Rules("http", "hook", product="webhook", url=url, headers={"X-Org": "7"}, token=token, batch=QUICK),
        Rules("otlp", "otlp", url=collector.url, headers={"x-key": "env:STOCKADE_TEST_KEY"}, batch=QUICK),
        Rules("syslog", "tls", host="localhost", port=rsyslog.tls, tls=Tls(rsyslog.ca), batch=QUICK, format="cef"),
        Rules("syslog", "udp", host="localhost", port=rsyslog.udp, transport="udp", batch=QUICK, format="ecs"),
    ]
    trail = written(room)
    shipper = Shipper(trail, sinks, drain=30)
    for number in range(100):
        trail.append(BOX, connect(f"host{number}.example"))
        if number == 50:
            trail.rotate(now=True)
    shipper.close()
    trail.close()
    collector.close()
    assert {name: (one.sent, one.lost, one.failing) for name, one in shipper.standing.items()} == {
        one.name: (100, 0, "") for one in sinks
    }, shipper.standing
    assert receiver.seqs() == collector.seqs() == list(range(3, 103))
    files = list((room / "out").glob("box.jsonl.log*"))
    assert len(files) > 2 and sum(len(file.read_bytes().splitlines()) for file in files) == 100

    def came() -> bool:
        """All over TLS; of what goes over UDP the kernel may drop what a busy receiver does not fetch."""
        kinds = [one["text"].startswith("CEF:") for one in rsyslog.news()]
        return kinds.count(True) == 100 and False in kinds

    until(came, "what rsyslog got")


def test_a_secret_that_is_exchanged_is_read_by_a_process_that_begins_anew(
    room: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    token = room / "secrets" / "token"
    token.write_text("old")
    url = f"{receiver.url}/hook?team=a"
    rules = Rules("http", "hook", product="webhook", url=url, headers={"X-Org": "7"}, token=f"file:{token}", batch=QUICK)
    trail = written(room)
    shipper = Shipper(trail, [rules], drain=30)
    trail.append(BOX, connect())
    until(lambda: receiver.requests, "a request with the old one")
    fresh = token.with_name("fresh")
    fresh.write_text("s3cret")
    fresh.chmod(0o600)
    fresh.rename(token)
    until(lambda: receiver.records, "the record, with the new one")
    shipper.close()
    trail.close()
    assert receiver.seqs() == [3] and "begins anew" in caplog.text and "started again" not in caplog.text


def test_it_loads_nothing_from_the_directory_that_the_agent_was_started_in(
    room: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may be one that a sandbox writes."""
    for name in ("json.py", "logging.py", "ssl.py"):
        (room / "out" / name).write_text(f"open({str(room / 'loaded')!r}, 'w')\n")
    monkeypatch.chdir(room / "out")
    url, token = f"{receiver.url}/hook?team=a", f"file:{room / 'secrets' / 'token'}"
    trail = written(room)
    shipper = Shipper(
        trail, [Rules("http", "hook", product="webhook", url=url, headers={"X-Org": "7"}, token=token, batch=QUICK)], drain=30
    )
    trail.append(BOX, connect())
    shipper.close()
    trail.close()
    assert receiver.seqs() == [3] and not (room / "loaded").exists()
