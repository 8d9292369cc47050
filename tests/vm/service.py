"""The service under a real systemd: installed, started, restarted, killed, left hanging, stopped, removed. Looks, and judges nothing.

Runs beside the service, as root, where systemd is PID 1: in the box of debian13.py and in the namespace of pid1.py. What it saw goes into
a file of JSON, step by step; test_service.py says what must be in there. The standard library alone, so that any python3 will do.

    service.py CHECKOUT PREFIX COMMAND RESULTS [WATCHDOG CGROUPS]

WATCHDOG: seconds, where what is quick need not be waited for; drop-ins then make the service restart at once, and the watchdog impatient.
CGROUPS: with what the names of its cgroups begin.
"""

from __future__ import annotations

import contextlib
import functools
import grp
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME, PORT, ELSEWHERE = "serviced", 18_431, "10.9.9.9"  # an address of this machine that the policy does not name
UNIT = Path("/etc/systemd/system/stockade.service")
RUN, TRAIL = Path("/run/stockade"), Path("/var/log/stockade/daemon.jsonl")
PYTHON = "/usr/bin/python3"
PATIENCE = float(os.environ.get("STOCKADE_PATIENCE", "1"))
SHOWN = (
    *("ActiveState", "SubState", "Type", "MainPID", "NRestarts", "Result", "StatusText", "UnitFileState", "WatchdogUSec"),
    *("NotifyAccess", "LimitCORE"),
)
POLICY = f"""\
version: 1
name: service
exec: {{allow: [{PYTHON}]}}
process: {{pids: 100, memory: 256M, cpu: 0.5}}
best_effort: [limits, lsm]
network:
  - name: server
    binary: {{allow: [{PYTHON}]}}
    destination: {{allow: ["localhost:{PORT}"]}}
    method: {{allow: [GET]}}
    path: {{allow: ["/allowed/**"]}}
"""


def run(*words: str | Path) -> dict[str, Any]:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return {"status": done.returncode, "said": done.stdout + done.stderr}


def wait_for[T](probe: Callable[[], T], what: str, seconds: float = 60) -> T:
    until = time.monotonic() + seconds * PATIENCE
    while not (value := probe()):
        if time.monotonic() > until:
            raise TimeoutError(f"waited {seconds * PATIENCE:.0f} s for {what}")
        time.sleep(0.05)
    return value


def systemctl(*words: str) -> dict[str, Any]:
    return run("systemctl", *words)


def shown() -> dict[str, str]:
    said = run("systemctl", "show", "stockade", *(f"--property={name}" for name in SHOWN))["said"]
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def answers() -> bool:
    """Whether a daemon says what it serves."""
    try:
        with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rwb") as lines:
            sock.settimeout(20 * PATIENCE)
            sock.connect(str(RUN / "daemon.sock"))
            lines.write(b'{"v": 1, "verb": "node"}\n')
            lines.flush()
            return "answer" in json.loads(lines.readline())
    except (OSError, ValueError):
        return False


def process(pid: int) -> str:
    """Which process of that number: its start. Empty when there is none, or it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else f"{pid} {fields[19]}"


class Server:
    """Answers on every address of the machine, and knows what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        seen = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(f"{self.request.getsockname()[0].removeprefix('::ffff:')} {self.path}")
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_words: object) -> None:
                pass

        class Both(http.server.ThreadingHTTPServer):
            address_family = socket.AF_INET6

        threading.Thread(target=Both(("::", PORT), Handler).serve_forever, daemon=True).start()


class Box:
    """A sandbox that was started through the daemon; a process in it does what it is told (tests/e2e/inside/obeys.py)."""

    def __init__(self, room: Path, command: Path, obeys: Path, server: Server) -> None:
        self._server, self._orders, self._work = server, 0, room / "work"
        self._work.mkdir(mode=0o777)
        shutil.copy(obeys, self._work)
        (room / "policy.yaml").write_text(POLICY)
        line = [command, "run", "--policy", room / "policy.yaml", "--name", NAME, "--workdir", self._work, "--", PYTHON, "obeys.py"]
        self._said = room / "said"
        with self._said.open("wb") as said:
            self.client = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=room)
        self.pid = wait_for(self._found, "the sandbox", 90)

    def _found(self) -> int:
        if self.client.poll() is not None:
            raise RuntimeError(f"the client ended with {self.client.returncode}: {self.said}")
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if line.read_bytes() == f"{PYTHON}\0obeys.py\0".encode():
                    return int(line.parent.name)
            except OSError:
                continue
        return 0

    @property
    def said(self) -> str:
        return self._said.read_text(errors="replace")

    def tell(self, order: str) -> Path:
        number, self._orders = self._orders, self._orders + 1
        part = self._work / f"order-{number}"
        part.write_text(order)
        part.rename(self._work / f"do-{number}")
        return self._work / f"done-{number}"

    def do(self, order: str) -> str:
        done = self.tell(order)
        wait_for(done.exists, order, 90)
        return done.read_text()

    def tried(self, step: str) -> dict[str, Any]:
        """One request that the policy allows, one whose path it refuses, one to where nobody may go; and what is on record of them."""
        known, served = TRAIL.stat().st_size, len(self._server.asked)
        found: dict[str, Any] = {
            "process": process(self.pid),
            "allowed": self.do(f"GET http://localhost:{PORT}/allowed/{step}"),
            "path": self.do(f"GET http://localhost:{PORT}/refused/{step}"),
            "address": self.do(f"GET http://{ELSEWHERE}:{PORT}/allowed/{step}"),
            "served": self._server.asked[served:],
            "limits": self.limits(),
        }
        with contextlib.suppress(TimeoutError):  # as while there is no daemon
            wait_for(
                lambda: {("http", "allow"), ("http", "deny"), ("connect", "deny")} <= {(*each[:2],) for each in records(known)}, "", 10
            )
        return found | {"records": records(known)}

    def limits(self) -> dict[str, str]:
        """As its own cgroup, or one above, has them: those of the kernel's v2 controllers."""
        own = next(line[3:] for line in Path(f"/proc/{self.pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
        found = {}
        for place in (Path("/sys/fs/cgroup" + own), Path("/sys/fs/cgroup" + own).parent):
            for name in ("pids.max", "memory.max", "cpu.max"):
                if (place / name).exists() and not (place / name).read_text().startswith("max"):
                    found.setdefault(name, (place / name).read_text().strip())
        return found

    def exit(self, status: int) -> int:
        self.tell(f"exit {status}")
        return self.client.wait(120 * PATIENCE)


def records(known: int) -> list[list[Any]]:
    """Of the sandbox, from that octet of the trail on: action, decision, reason, host, path."""
    with TRAIL.open("rb") as file:
        file.seek(known)
        lines = file.read().rpartition(b"\n")[0].splitlines()
    found = [each for each in map(json.loads, lines) if each.get("sandbox") and each["sandbox"]["name"] == NAME]
    return [
        [each["action"], each["decision"], each["reason"], (each["destination"] or {}).get("host"), (each["http"] or {}).get("path")]
        for each in found
    ]


def left(cgroups: str) -> list[str]:
    """What an uninstalled Stockade would have left behind."""
    found = [str(path) for path in (UNIT, RUN, Path("/var/cache/stockade"), Path("/etc/stockade"), TRAIL.parent) if _holds(path)]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{cgroups}*")]
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if "stockade/bpf" in line]
    found += [each for each in run("pgrep", "-a", "stockade")["said"].splitlines() if "service.py" not in each]
    found += ["group stockade" for each in grp.getgrall() if each.gr_name == "stockade"]
    found += [line.strip() for line in run("systemctl", "list-unit-files", "stockade*")["said"].splitlines() if line.startswith("stockade")]
    return found


def _holds(path: Path) -> bool:
    return path.exists() and not (path.is_mount() and not any(path.iterdir()))


def links() -> int:
    """Programs attached to cgroups, on the whole machine."""
    said = subprocess.run(["bpftool", "-j", "link", "list"], capture_output=True, text=True, check=False).stdout
    return sum("cgroup_id" in each for each in json.loads(said or "[]"))


class Seen:
    """What was seen, in a file that is whole after each step."""

    def __init__(self, path: Path) -> None:
        self._path, self._steps = path, dict[str, Any]()

    def add(self, name: str, value: Any) -> None:
        self._steps[name] = value
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self._steps, indent=1))
        new.rename(self._path)
        print(f"service: {name}", flush=True)


def started(seen: Seen) -> None:
    """Without waiting for it: whatever systemd says of it meanwhile, beside whether it answers. The state is read first."""
    samples = []
    systemctl("start", "--no-block", "stockade")

    def active() -> bool:
        state = shown()["ActiveState"]
        samples.append([state, answers()])
        return state == "active"

    wait_for(active, "the service", 90)
    seen.add("samples", samples)


def dropped(line: str) -> None:
    """A drop-in of this one line, in place of the one before."""
    place = Path("/run/systemd/system/stockade.service.d/test.conf")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"[Service]\n{line}\n")
    systemctl("daemon-reload")


def alone(before: dict[str, str]) -> bool:
    """Another process is the daemon, ready or not."""
    return shown()["MainPID"] not in ("0", before["MainPID"])


def returned(before: dict[str, str]) -> bool:
    """Another process is the daemon, and ready."""
    now = shown()
    return now["ActiveState"] == "active" and now["MainPID"] not in ("0", before["MainPID"])


def went(seen: Seen, checkout: Path, prefix: Path, command: Path, watchdog: str | None, cgroups: str) -> None:
    asks = [f"SAYS=install SERVICE=yes PREFIX={prefix} COMMAND={command} UNIT={UNIT}; . {checkout}/deploy/install.sh; serviced"]
    seen.add("systemd", [Path("/proc/1/comm").read_text().strip(), run("systemctl", "--version")["said"].splitlines()[0]])
    seen.add("links", [links()])
    seen.add("installed", run("bash", "-euo", "pipefail", "-c", *asks) | {"shown": shown(), "answers": answers(), "unit": UNIT.read_text()})
    seen.add("group", [each.gr_name for each in grp.getgrall() if each.gr_name == "stockade"])
    seen.add("verify", run("systemd-analyze", "verify", UNIT))
    seen.add("security", run("systemd-analyze", "security", "--no-pager", "stockade"))
    systemctl("stop", "stockade")
    started(seen)
    seen.add("core", [line for line in Path(f"/proc/{shown()['MainPID']}/limits").read_text().splitlines() if "core file" in line])

    run("ip", "address", "add", f"{ELSEWHERE}/32", "dev", "lo")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        room = Path(directory)
        room.chmod(0o755)
        server = Server()
        box = Box(room, command, checkout / "tests/e2e/inside/obeys.py", server)
        try:
            seen.add("first", box.tried("first"))
            seen.add("listed", run(command, "status"))
            seen.add("reload", [systemctl("daemon-reload"), systemctl("reload", "stockade"), shown()])
            seen.add("reloaded", box.tried("reloaded"))
            wait_for(lambda: "serves 1 sandbox" in shown()["StatusText"], "what the service says of itself", 60)
            seen.add("status", systemctl("status", "--no-pager", "stockade"))

            before = shown()
            seen.add("restart", [before, systemctl("restart", "stockade"), shown(), answers()])
            seen.add("restarted", box.tried("restarted"))

            before = shown()
            os.kill(int(before["MainPID"]), signal.SIGKILL)
            wait_for(functools.partial(returned, before), "the daemon after kill -9", 90)
            seen.add("kill", [before, shown(), answers()])
            seen.add("killed", box.tried("killed"))

            if watchdog is not None:
                dropped("RestartSec=100ms")
            before = shown()
            for _ in range(8):  # more often, and faster, than systemd starts a service by itself
                os.kill(int(before["MainPID"]), signal.SIGKILL)
                wait_for(functools.partial(alone, before), "another daemon", 30)
                before = shown()
            wait_for(lambda: shown()["ActiveState"] == "active", "the daemon after all of them", 90)
            seen.add("often", [shown(), answers()])
            seen.add("oftener", box.tried("oftener"))

            if watchdog is not None:  # a shorter one: a namespace is quick
                dropped(f"WatchdogSec={watchdog}")
                systemctl("restart", "stockade")
            before = shown()
            os.kill(int(before["MainPID"]), signal.SIGSTOP)
            wait_for(functools.partial(returned, before), "the daemon after its watchdog", 180)
            seen.add("hang", [before, shown(), answers(), run("journalctl", "--no-pager", "-o", "cat", "-u", "stockade")["said"]])
            seen.add("hung", box.tried("hung"))
            seen.add("cores", [str(path) for path in pathlib.Path("/").glob("core*")])

            seen.add("stop", [systemctl("stop", "stockade"), shown(), process(box.pid)])
            seen.add("stopped", box.tried("stopped"))
            seen.add("held", run(command, "sandbox", "ls"))
            seen.add("refuses", run("bash", prefix / "install.sh", "--uninstall", "--prefix", prefix, "--command", command))
            seen.add("start", [systemctl("start", "stockade"), shown(), answers()])
            seen.add("again", box.tried("again"))
            seen.add("end", {"kernel": os.uname().release, "status": box.exit(7), "process": process(box.pid), "said": box.said})
        finally:
            if box.client.poll() is None:
                box.client.kill()
    ended = ("bash", prefix / "install.sh", "--uninstall", "--purge", "--prefix", prefix, "--command", command)
    seen.add("uninstalled", run(*ended) | {"left": left(cgroups), "links": links(), "shown": shown(), "command": command.exists()})


def main() -> int:
    checkout, prefix, command, results = map(Path, sys.argv[1:5])
    seen = Seen(results)
    try:
        watchdog, cgroups = sys.argv[5:7] or (None, "stockade")
        went(seen, checkout, prefix, command, watchdog, cgroups)
    except Exception as error:  # whatever it is, the tests tell it
        said = run("journalctl", "--no-pager", "-o", "cat", "-u", "stockade", "-n", "60")["said"]
        last = "\n".join(map(str, records(0)[-12:])) if TRAIL.exists() else ""
        seen.add("failed", f"{error!r}\n{said}\nrecords: {last}\nsandboxes: {run(command, 'status')['said']}")
        raise
    seen.add("over", True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
