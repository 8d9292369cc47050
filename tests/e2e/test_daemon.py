"""A daemon serves the sandboxes of a machine: what each of them may, and what is left when one of them, or the daemon, has ended."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from framework.internet import ECHO, H1, STREAM, Internet
from framework.machine import STOCKADE, Machine, Record, read_records, select, wait_for, worker_of
from framework.policy import http, whole
from framework.terminal import Terminal
from stockade.daemon.unit import CAPABILITIES
from stockade.kernel.load import mounted_bpffs
from stockade.sandbox.cgroup import HOSTED, mounted
from stockade.service.control import running
from stockade.service.listening import answers
from stockade.service.settings import Settings
from stockade.service.state import FORMAT

pytestmark = [pytest.mark.client("/usr/bin/python3"), pytest.mark.client("bash")]

SETTINGS = Settings()
SOCKET = SETTINGS.daemon
TRAIL = SETTINGS.log / "daemon.jsonl"
PYTHON = "/usr/bin/python3"
PORT = 18_431
ROOT = Path(__file__).parents[2]
AS_THE_UNIT = ",".join(["-all", *("+" + name.removeprefix("CAP_").lower() for name, _ in CAPABILITIES)])  # every test below is its test


class Daemon:
    """One after the other: `start` is also what comes after `kill`."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        self._machine, self._log = machine, directory / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._known = TRAIL.stat().st_size if TRAIL.exists() else 0

    def start(self, package: Path | None = None) -> None:
        """package: the directory of another version's."""
        command = [STOCKADE] if package is None else [sys.executable, "-P", "-m", "stockade"]
        environment = os.environ | ({"PYTHONPATH": str(package)} if package is not None else {})
        with self._log.open("ab") as log:
            line = self._machine.wrap(["setpriv", "--bounding-set", AS_THE_UNIT, *command, "daemon"])
            self.process = subprocess.Popen(line, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        wait_for(lambda: answers(SOCKET) and self.node(), "the daemon", 60)

    def end(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(60)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def said(self) -> str:
        return self._log.read_text()

    def node(self) -> dict[str, Any]:
        found = asked({"v": 1, "verb": "node"})["answer"]
        assert isinstance(found, dict)
        return found

    def records(self, **expected: Any) -> list[Record]:
        """Of this test's daemons."""
        with TRAIL.open() as file:
            file.seek(self._known)
            whole = file.read().rpartition("\n")[0]
        return select([record for record in map(json.loads, whole.splitlines()) if "action" in record], **expected)

    def line(self, room: Path, policy: str, name: str, command: Sequence[str | Path]) -> list[str]:
        (room / "policy.yaml").write_text(policy)
        options = ["--policy", room / "policy.yaml", "--name", name, "--workdir", room / "work"]
        return [str(word) for word in (STOCKADE, "run", *options, "--", *command)]

    def run(self, command: Sequence[str | Path], policy: str, name: str, **files: str) -> subprocess.CompletedProcess[str]:
        room = self._machine.room({each.replace("_", "."): text for each, text in files.items()})
        line = self.line(room, policy, name, command)
        return subprocess.run(line, cwd=room / "work", capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def asked(request: dict[str, Any]) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rwb") as lines:
        sock.settimeout(20)
        sock.connect(str(SOCKET))
        lines.write(json.dumps(request).encode() + b"\n")
        lines.flush()
        found: dict[str, Any] = json.loads(lines.readline())
        return found


@pytest.fixture(scope="module")
def serving(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    mounted_bpffs(SETTINGS.run / "bpf")  # in this mount namespace, or the pins go with the daemon's own
    daemon = Daemon(machine, tmp_path_factory.mktemp("daemon"))
    daemon.start()
    try:
        yield daemon
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.end(signal.SIGTERM)


def name_of(request: pytest.FixtureRequest, number: int = 1) -> str:
    return f"{request.node.name.partition('[')[0][5:40]}-{os.getpid()}-{number}"


def fetch(host: str) -> list[str]:
    code = f"import urllib.request; print(urllib.request.urlopen('https://{host}/daemon', timeout=20).status)"
    return [PYTHON, "-c", code]


def allowed(*hosts: str) -> str:
    return whole(http("python3", *hosts), allow=["python3", "bash", "sleep", "stty", "cat", "sh"])


def test_two_sandboxes_are_each_held_to_their_own_policy(serving: Daemon, request: pytest.FixtureRequest) -> None:
    first, second = name_of(request, 1), name_of(request, 2)
    policies = {first: allowed(ECHO), second: allowed(H1)}
    for name, policy in policies.items():
        for host in (ECHO, H1):
            done = serving.run(fetch(host), policy, name)
            may = (name == first) == (host == ECHO)
            assert (done.returncode == 0, done.stdout == "200\n") == (may, may), (name, host, done)
    for name, host in ((first, ECHO), (second, H1)):
        own = [record for record in serving.records() if record["sandbox"]["name"] == name]
        assert [record["decision"] for record in select(own, action="http")] == ["allow"]
        assert {record["destination"]["host"] for record in select(own, action="http")} == {host}
        assert [record["reason"] for record in select(own, action="lifecycle")] == ["started", "stopped"] * 2
        assert select(own, action="dns", decision="deny")
    verify = subprocess.run([STOCKADE, "audit", "verify", TRAIL], capture_output=True, text=True)
    assert verify.returncode == 0, verify


def test_status_streams_and_words_come_back(serving: Daemon, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    name = name_of(request)
    done = serving.run(["sh", "-c", "echo out; echo err >&2; exit 7"], allowed(ECHO), name)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    done = serving.run(["/usr/bin/id"], allowed(ECHO).replace("exec:", "exec:\n  deny: [id]"), name)
    assert done.returncode == 126 and "the policy does not let it run" in done.stderr, done
    done = serving.run(["/usr/bin/true"], "version: 1\nnonsense: true\n", name)
    assert done.returncode == 125 and "policy.yaml:2:1" in done.stderr, done
    room = serving._machine.room()
    line = serving.line(room, allowed(ECHO), name, ["cat"])
    with (tmp_path / "in").open("w+") as given, (tmp_path / "out").open("w+") as taken:
        given.write("from a file\n" * 9999)
        given.seek(0)
        assert subprocess.run(line, cwd=room, stdin=given, stdout=taken, timeout=60).returncode == 0
    assert (tmp_path / "out").read_text() == "from a file\n" * 9999


def test_a_signal_reaches_the_command(serving: Daemon, request: pytest.FixtureRequest) -> None:
    room = serving._machine.room()
    script = "trap 'echo told; exit 9' USR1; echo ready; while :; do sleep 0.1; done"
    line = serving.line(room, allowed(ECHO), name_of(request), ["bash", "-c", script])
    with subprocess.Popen(line, cwd=room, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL) as client:
        assert client.stdout is not None and client.stdout.readline() == "ready\n"
        client.send_signal(signal.SIGUSR1)
        assert client.stdout.readline() == "told\n"
        assert client.wait(30) == 9


def test_a_signal_that_the_client_was_started_to_ignore_is_not_passed_on(serving: Daemon, request: pytest.FixtureRequest) -> None:
    """As under nohup. The next signal comes after it, so it would have come."""
    room = serving._machine.room()
    script = "trap 'echo hung up' HUP; trap 'echo told; exit 9' USR1; echo ready; while :; do sleep 0.1; done"
    line = ["nohup", *serving.line(room, allowed(ECHO), name_of(request), ["bash", "-c", script])]
    with subprocess.Popen(line, cwd=room, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL) as client:
        assert client.stdout is not None and client.stdout.readline() == "ready\n"
        client.send_signal(signal.SIGHUP)
        client.send_signal(signal.SIGUSR1)
        assert client.stdout.readline() == "told\n"
        assert client.wait(30) == 9


def test_a_terminal_is_the_commands_own(serving: Daemon, request: pytest.FixtureRequest) -> None:
    room = serving._machine.room()
    line = serving.line(room, allowed(ECHO), name_of(request), ["bash", "--norc", "--noprofile", "--noediting", "-i"])
    with Terminal(line, room / "work", 33, 77) as terminal:
        greeting = terminal.ask("PS1=")
        assert "job control" not in greeting and "terminal process group" not in greeting
        assert terminal.ask("stty size") == "33 77\n"
        terminal.resize(41, 99)
        wait_for(lambda: terminal.ask("stty size") == "41 99\n", "the new size, which the client passes on in its own time")
        terminal.type("echo begun; sleep 600\n")
        terminal.wait_for("begun\r\n")
        wait_for(functools.partial(has_terminal, "sleep"), "the job to have the terminal")
        terminal.type("\x03")
        assert terminal.ask("echo status $?").endswith("status 130\n")
        terminal.type("exit 5\n")
        assert terminal.process.wait(30) == 5


def has_terminal(command: str) -> bool:
    """Whether a process of this name, in a daemon's sandbox, is in the foreground of its terminal: who is gets the keyboard's signals."""
    for procs in mounted().glob(f"{HOSTED}-*/sandbox-*/cgroup.procs"):
        for pid in procs.read_text().split():
            with contextlib.suppress(OSError):
                name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
                fields = rest.split()
                if name == command and fields[2] == fields[5]:  # pgrp, tpgid
                    return True
    return False


def inbound(port: int) -> dict[str, Any]:
    return {"port": port, "protocol": "tcp", "from": ["127.0.0.1/32"]}


class Obeying:
    """A process inside that does what it is told, through files of its workdir, and lives through its agents."""

    def __init__(self, daemon: Daemon, inside: dict[str, str], policy: str, name: str) -> None:
        self.name, room = name, daemon._machine.room(inside)
        self.work = room / "work"
        line = daemon.line(room, policy, name, [PYTHON, "obeys.py"])
        self.client = subprocess.Popen(line, cwd=self.work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._orders = 0
        wait_for(lambda: name in running(SETTINGS.control), "the sandbox")

    def tell(self, line: str) -> Path:
        number, self._orders = self._orders, self._orders + 1
        part = self.work / f"order-{number}"
        part.write_text(line)
        part.rename(self.work / f"do-{number}")
        return self.work / f"done-{number}"

    def do(self, line: str) -> str:
        done = self.tell(line)
        wait_for(done.exists, line)
        return done.read_text()

    def exit(self, status: int) -> int:
        self.tell(f"exit {status}")
        return self.client.wait(60)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "replaced"])
def test_the_next_daemon_takes_over_what_it_finds(
    serving: Daemon, inside: dict[str, str], internet: Internet, request: pytest.FixtureRequest, end: signal.Signals
) -> None:
    boxes = [Obeying(serving, inside, allowed(host), f"{name_of(request, number)}-{end}") for number, host in enumerate((ECHO, H1))]
    for box, host, other in zip(boxes, (ECHO, H1), (H1, ECHO), strict=True):
        assert box.do(f"GET https://{host}/obeys") == "200"
        assert box.do(f"GET https://{other}/obeys").startswith("failed")
        assert box.do(f"hold {host}") == "200"
    serving.end(end)
    for box, host in zip(boxes, (ECHO, H1), strict=True):
        assert box.do(f"GET https://{host}/obeys").startswith("failed"), "nothing gets out while there is no daemon"
        assert box.do("again").startswith("failed"), "a connection outlived its agent"
        assert box.do("run /usr/bin/id") not in ("0", ""), "what may not run does not"
        assert box.client.poll() is None
    serving.start()
    for box, host, other in zip(boxes, (ECHO, H1), (H1, ECHO), strict=True):
        assert f"took over {box.name}" in serving.said
        assert box.do(f"GET https://{host}/obeys") == "200"
        assert box.do(f"GET https://{other}/obeys").startswith("failed")
        own = [record for record in serving.records() if record["sandbox"]["name"] == box.name]
        assert [record["reason"] for record in select(own, action="lifecycle") if record["reason"] != "worker_lost"] == [
            "started",
            "adopted",
        ]
        assert {record["sandbox"]["id"] for record in own} == {own[0]["sandbox"]["id"]}
    assert [box.exit(status) for box, status in zip(boxes, (3, 4), strict=True)] == [3, 4], "whose client is nobody's any more"


def has(path: Path, text: str) -> bool:
    return path.exists() and text in path.read_text()


BOXES = int(os.environ.get("STOCKADE_UPGRADED", "5"))  # the issue's own number is 20


def test_an_upgrade_lets_nothing_out(
    serving: Daemon, inside: dict[str, str], internet: Internet, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Sandboxes with open connections, and the daemon of another version: what is refused stays so, and what was under way is on record."""
    for part in ("agent/stockade", "bpf", "policies"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    package = tmp_path / "agent" / "stockade"
    (package / "__init__.py").write_text((package / "__init__.py").read_text() + '\n__version__ = "0.9.9"\n')
    decide = package / "policy" / "decide.py"
    decide.write_text(decide.read_text() + "\n\ndef of_the_next_version() -> None:\n    pass\n")
    policy = whole(http(["python3", "curl"], ECHO, STREAM), allow=["python3", "curl", "sh"])
    boxes = [Obeying(serving, inside, policy, name_of(request, number)) for number in range(BOXES)]
    for box in boxes:
        assert box.do(f"hold {ECHO}") == "200"
        assert box.do(f"start /usr/bin/curl -sN -o got https://{STREAM}/hold").isdecimal()
    for box in boxes:
        wait_for(functools.partial(has, box.work / "got", "tick"), "the download")
    before = len(internet.nginx.requests(server=H1))
    serving.end(signal.SIGTERM)
    for box in boxes:
        assert box.do(f"GET https://{H1}/obeys").startswith("failed")
    serving.start(package.parent)
    assert serving.node()["version"] == "0.9.9"
    for box in boxes:
        assert f"took over {box.name}" in serving.said
        assert box.do("again").startswith("failed")
        assert box.do(f"GET https://{H1}/obeys").startswith("failed")
        assert box.do(f"GET https://{ECHO}/obeys") == "200"
        own = [record for record in serving.records() if record["sandbox"]["name"] == box.name]
        (cut,) = select(own, action="http", host=STREAM)
        assert cut["reason"] == "interrupted" and cut["http"]["response_bytes"] > 0, cut
        assert not select(own, action="http", host=H1, decision="allow")
    assert len(internet.nginx.requests(server=H1)) == before
    assert [box.exit(0) for box in boxes] == [0] * len(boxes)
    serving.end(signal.SIGTERM)
    serving.start()


def test_what_cannot_be_taken_over_stays_held(serving: Daemon, inside: dict[str, str], request: pytest.FixtureRequest) -> None:
    """One whose state is of other classes, and one whose port somebody took: neither runs free meanwhile, and neither is ended."""
    other, door = name_of(request, 1), name_of(request, 2)
    boxes = [
        Obeying(serving, inside, allowed(ECHO), other),
        Obeying(serving, inside, whole(http("python3", ECHO), allow=["python3"], inbound=[inbound(PORT)]), door),
    ]
    for box in boxes:
        assert box.do(f"GET https://{ECHO}/obeys") == "200"
    serving.end(signal.SIGKILL)
    path = next(path for path in (SETTINGS.run / "slots").glob("*.json") if other in path.read_text())
    kept = path.read_text()
    state = json.loads(json.loads(kept)["state"])
    text = json.dumps(state | {"shapes": dict.fromkeys(state["shapes"], "0" * 16)})
    path.write_text(json.dumps({"format": FORMAT, "sha256": hashlib.sha256(text.encode()).hexdigest(), "state": text}))
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", PORT))
        taken.listen()
        serving.start()
        assert f"{other} was started by another build" in serving.said
        assert f"{door} was not taken over, and stays held" in serving.said
        assert not {other, door} & {each["sandbox"] for each in serving.node()["sandboxes"]}
        for box in boxes:
            assert box.client.poll() is None
            assert box.do("run /usr/bin/id") != "0", "what may not run does not"
            assert box.do(f"GET https://{ECHO}/obeys").startswith("failed")
    path.write_text(kept)
    serving.end(signal.SIGTERM)
    for box in boxes:
        assert box.do("run /usr/bin/id") != "0", "a daemon that ends takes nothing off them either"
    serving.start()
    for box in boxes:
        assert box.do(f"GET https://{ECHO}/obeys") == "200"
        own = [record for record in serving.records() if record["sandbox"]["name"] == box.name]
        assert len(select(own, action="exec", decision="deny")) == 1, "of the time when there was none"
    assert [box.exit(0) for box in boxes] == [0, 0]


def test_a_dead_worker_is_replaced_for_every_sandbox(serving: Daemon, inside: dict[str, str], request: pytest.FixtureRequest) -> None:
    boxes = [Obeying(serving, inside, allowed(ECHO), name_of(request, number)) for number in range(2)]
    assert [box.do(f"GET https://{ECHO}/obeys") for box in boxes] == ["200", "200"]
    os.kill(worker_of(serving.pid), signal.SIGKILL)
    assert [box.do(f"GET https://{ECHO}/obeys") for box in boxes] == ["200", "200"]
    for box in boxes:
        assert select([each for each in serving.records(reason="worker_lost") if each["sandbox"]["name"] == box.name], action="lifecycle")
    assert [box.exit(0) for box in boxes] == [0, 0]


def test_what_holds_everybody_is_taken_away(serving: Daemon, inside: dict[str, str], request: pytest.FixtureRequest) -> None:
    """One program of the daemon's is unpinned: nobody is left alive, and the next daemon begins anew."""
    boxes = [Obeying(serving, inside, allowed(ECHO), name_of(request, number)) for number in range(2)]
    assert [box.do(f"GET https://{ECHO}/obeys") for box in boxes] == ["200", "200"]
    (pins,) = (SETTINGS.run / "bpf").glob("daemon-*")
    next(pins.glob("link_*_connect4")).unlink()
    assert [box.client.wait(30) for box in boxes] == [125, 125]
    for box in boxes:
        assert select([each for each in serving.records(reason="enforcement_lost") if each["sandbox"]["name"] == box.name])
    assert serving.process is not None and serving.process.wait(30) == 2, "it begins nobody whom it could not hold"
    serving.start()
    assert serving.run(fetch(ECHO), allowed(ECHO), name_of(request, 3)).stdout == "200\n"


CYCLES = int(os.environ.get("STOCKADE_CYCLES", "12"))  # the issue's own number is 1,000


def standing(serving: Daemon, name: str) -> dict[str, int]:
    """How much there is of what sandboxes of this daemon are made of. name: begins theirs. Others on the machine may have their own."""
    children = [path.read_text().split() for path in Path(f"/proc/{serving.pid}/task").glob("*/children")]
    processes = [Path(f"/proc/{pid}") for pid in (serving.pid, *(pid for each in children for pid in each))]
    opened = [link for process in processes for path in (process / "fd").iterdir() if (link := pointed(path))]
    places = {link for process in processes for path in (process / "ns").iterdir() if (link := pointed(path))}
    return {
        "cgroups": len(list(Path("/sys/fs/cgroup").glob(f"**/{HOSTED}-*/sandbox-*"))),
        "namespaces": len(
            places.union(link for link in opened if re.fullmatch(r"[a-z_]+:\[\d+\]", link) and not link.startswith(("socket", "pipe")))
        ),
        "mounts": len(Path(f"/proc/{serving.pid}/mountinfo").read_text().splitlines()),
        "pins": len(list((SETTINGS.run / "bpf").glob("daemon-*/*"))),
        "sockets": len(list(SETTINGS.control.glob(f"{name}*"))),
        "slots": sum(is_nobodys(path) for path in (SETTINGS.run / "slots").iterdir()),
        "processes": len(processes),
        "descriptors": len(opened),
    }


def pointed(path: Path) -> str:
    """Where a link leads; nowhere when it is gone by now."""
    with contextlib.suppress(FileNotFoundError):
        return str(path.readlink())
    return ""


def is_nobodys(path: Path) -> bool:
    """Whether this is of a slot that no agent holds."""
    with contextlib.suppress(FileNotFoundError), path.with_name(path.name.partition(".")[0]).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return path.exists()


def grown(before: dict[str, int], now: dict[str, int]) -> list[str]:
    return [what for what, count in now.items() if count > before[what]]


def test_nothing_is_left_of_those_that_ended(serving: Daemon, request: pytest.FixtureRequest) -> None:
    """Of those that ended as they should, of one that was not let run, of one that was killed, and of one that left others behind."""
    name = name_of(request)
    serving.run(fetch(ECHO), allowed(ECHO), name)
    wait_for(lambda: not serving.node()["sandboxes"], "the end of what ran before")
    before, entries = standing(serving, name), serving.node()["entries"]
    for number in range(CYCLES):
        assert serving.run(fetch(ECHO), allowed(ECHO), f"{name}-{number}").stdout == "200\n"
    assert serving.run(["no-such-command"], allowed(ECHO), f"{name}-missing").returncode == 127
    assert serving.run(["/usr/bin/true"], "version: 1\nnonsense: true\n", f"{name}-refused").returncode == 125
    assert serving.run(["sh", "-c", "sleep 600 & sleep 600 & exit 3"], allowed(ECHO), f"{name}-others").returncode == 3
    room = serving._machine.room()
    with subprocess.Popen(serving.line(room, allowed(ECHO), f"{name}-killed", ["sleep", "600"]), cwd=room) as client:
        wait_for(lambda: f"{name}-killed" in running(SETTINGS.control), "the sandbox")
        killed = subprocess.run([STOCKADE, "sandbox", "kill", f"{name}-killed"], capture_output=True, text=True, timeout=60)
        assert killed.returncode == 0, killed
        assert client.wait(30) == 137
    wait_for(lambda: serving.node()["entries"] == entries, f"{entries}, and it is {serving.node()['entries']}")
    wait_for(lambda: grown(before, standing(serving, name)) == [], f"no more than {before}, and it is {standing(serving, name)}")
    assert not any(entries.values()), entries


def nursery_of(daemon: Daemon) -> int:
    """0 while it is not listed."""
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    return next((int(pid) for pid in children if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"stockade-nursery")), 0)


def test_one_that_hangs_while_it_ends_ends_all_the_same(serving: Daemon, inside: dict[str, str], request: pytest.FixtureRequest) -> None:
    """What it waits for stands still: its sandboxes would be without egress for as long, and an upgrade would not go on."""
    box = Obeying(serving, inside, allowed(ECHO), name_of(request))
    assert box.do(f"GET https://{ECHO}/obeys") == "200"
    nursery = wait_for(lambda: nursery_of(serving), "whoever makes sandboxes")
    os.kill(nursery, signal.SIGSTOP)
    try:
        serving.end(signal.SIGTERM)
        assert serving.process is not None and serving.process.returncode == 70, serving.said
    finally:
        os.kill(nursery, signal.SIGKILL)
    assert "as if killed" in serving.said and box.client.poll() is None
    assert box.do("run /usr/bin/id") not in ("0", ""), "what may not run does not"
    serving.start()
    assert f"took over {box.name}" in serving.said and box.do(f"GET https://{ECHO}/obeys") == "200"
    assert box.exit(3) == 3
    own = [record for record in serving.records(action="lifecycle") if record["sandbox"]["name"] == box.name]
    assert [record["reason"] for record in own] == ["started", "adopted", "stopped"]


def test_who_may_ask_what(serving: Daemon) -> None:
    as_nobody = (
        "import json, os, socket, sys\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "sock = socket.socket(socket.AF_UNIX)\n"
        f"sock.connect({str(SOCKET)!r})\n"
    )
    done = subprocess.run([PYTHON, "-c", as_nobody], capture_output=True, text=True)
    assert "PermissionError" in done.stderr, done
    assert asked({"v": 1, "verb": "nonsense"})["error"]["code"] == "no_verb"
    assert asked({"v": 9, "verb": "node"})["error"]["code"] == "version"
    assert asked({"v": 1, "verb": "run", "arguments": {"command": 3}})["error"]["code"] == "bad_request"
    second = subprocess.run([STOCKADE, "daemon"], capture_output=True, text=True, timeout=60)
    assert second.returncode == 2 and "daemon_running" in second.stderr
    assert serving.node()["pid"] == serving.pid


def test_its_trail_is_no_sandboxes(serving: Daemon, request: pytest.FixtureRequest) -> None:
    done = serving.run(["cat", TRAIL], allowed(ECHO), name_of(request))
    assert done.returncode != 0 and done.stdout == ""
    with contextlib.suppress(ProcessLookupError):
        assert read_records(TRAIL)


def test_the_unit_is_one_that_systemd_reads(tmp_path: Path) -> None:
    unit = tmp_path / "stockade.service"
    printed = subprocess.run([STOCKADE, "daemon", "--unit"], capture_output=True, text=True, check=True).stdout
    unit.write_text(printed)
    assert f"ExecStart={STOCKADE} daemon\n" in printed
    read = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert read.returncode == 0 and "Unknown" not in read.stderr, read
    rated = subprocess.run(["systemd-analyze", "security", "--offline=true", unit], capture_output=True, text=True)
    level = float(rated.stdout.rpartition(": ")[2].split()[0])
    assert level <= 7.3, rated.stdout  # what it cannot give up, and why, is said in the unit


def test_what_waits_for_a_daemon_can_be_ended_and_not_adopted(
    serving: Daemon, inside: dict[str, str], request: pytest.FixtureRequest
) -> None:
    box = Obeying(serving, inside, allowed(ECHO), name_of(request))
    assert box.do("run /usr/bin/id") != "0"
    serving.end(signal.SIGKILL)
    adopted = subprocess.run([STOCKADE, "adopt", box.name], capture_output=True, text=True, timeout=60)
    assert adopted.returncode == 2 and "[hosted]" in adopted.stderr, adopted
    killed = subprocess.run([STOCKADE, "sandbox", "kill", box.name], capture_output=True, text=True, timeout=60)
    assert killed.returncode == 0, killed
    assert box.client.wait(30) == 137
    serving.start()
    assert box.name not in serving.said.rpartition("took over")[2]
    own = [record for record in serving.records(action="lifecycle") if record["sandbox"]["name"] == box.name]
    assert [record["reason"] for record in own] == ["started", "stopped"]
    assert box.name not in {each["sandbox"] for each in serving.node()["sandboxes"]}


def test_in_the_background_it_leaves_the_terminal_alone(serving: Daemon, request: pytest.FixtureRequest) -> None:
    """A client that touched the terminal from there would be stopped, and the command with it in the dark."""
    room = serving._machine.room()
    line = shlex.join(serving.line(room, allowed(ECHO), name_of(request), ["sh", "-c", "echo from inside; sleep 1; echo and over"]))
    with Terminal(["bash", "--norc", "--noprofile", "--noediting", "-i"], room / "work") as terminal:
        terminal.ask("PS1=")
        terminal.type(f"{line} &\n")
        terminal.wait_for("and over\r")  # the line as it was typed goes on otherwise
        assert "Stopped" not in terminal.shown
        assert "status 0" in terminal.ask("wait; echo status $?")
        terminal.type("exit\n")
        assert terminal.process.wait(30) == 0
