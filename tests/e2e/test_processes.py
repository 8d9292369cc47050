"""The processes of a sandbox: who is reaped, what a signal reaches, and that nothing of it is left when it ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from framework.machine import Machine
from framework.policy import whole

pytestmark = pytest.mark.client("/usr/bin/python3")
POLICY = whole(allow=["python3", "sleep", "sh"])
MANY = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT, signal.SIGINT)

ORPHANS = """
import os, pathlib, time
for _ in range(20):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.05)  # outlives its parent, and ends as nobody's child
        os._exit(0)
for _ in range(20):
    os.wait()
def states():
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            found.append(path.read_text().rpartition(")")[2].split()[0])
        except OSError:
            pass
    return found
deadline = time.monotonic() + 20
while len(states()) > 2 and time.monotonic() < deadline:
    time.sleep(0.02)
print(sorted(states()))
"""
DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in range(1, 32):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_IGN)
        open("daemon", "w").write("up")
        time.sleep(600)
    os._exit(0)
while not os.path.exists("daemon"):
    time.sleep(0.01)
if len(sys.argv) > 1:
    time.sleep(600)
"""
SIGNALS = """
import os, signal, sys, time
log = os.open("told", os.O_WRONLY | os.O_CREAT, 0o644)
def told(number, _):
    os.write(log, f"{signal.Signals(number).name} ".encode())  # print() is not reentrant, and handlers come within handlers
    if number == signal.SIGTERM:
        sys.exit(3)

for name in ("TERM", "QUIT", "USR1", "USR2", "INT"):
    signal.signal(getattr(signal, "SIG" + name), told)
os.write(log, b"ready ")
while True:
    time.sleep(0.05)  # one that comes in the moment before a pause() would be told with the next one only
"""


def living(work: Path) -> list[str]:
    """Processes whose working directory is the run's own: all that a sandbox started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == work:
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_orphans_are_reaped(machine: Machine) -> None:
    """What is left is init and the command, and neither is a zombie."""
    result = machine.run(["python3", "orphans.py"], policy=POLICY, files={"orphans.py": ORPHANS})
    assert result.stdout == "['R', 'S']\n", result


def test_what_went_into_the_background_ends_with_the_command(machine: Machine) -> None:
    """A session of its own, no parent, and deaf to every signal that can be ignored."""
    room = machine.room({"daemon.py": DAEMON})
    result = machine.run(["python3", "daemon.py"], policy=POLICY, room=room)
    assert result.status == 0 and (room / "work/daemon").exists(), result
    assert living(room / "work") == []


def test_what_went_into_the_background_ends_when_the_agent_is_told_to_end(machine: Machine) -> None:
    room = machine.room({"daemon.py": DAEMON})
    with machine.start(["python3", "daemon.py", "stay"], policy=POLICY, room=room) as running:
        running.wait_for("up", room / "work/daemon")
        running.process.terminate()
        assert running.finish().status == 143
    assert living(room / "work") == []


def test_signals_reach_the_command(machine: Machine) -> None:
    room = machine.room({"signals.py": SIGNALS})
    with machine.start(["python3", "signals.py"], policy=POLICY, room=room) as running:
        log = room / "work/told"
        running.wait_for("ready", log)
        for number in MANY:
            running.process.send_signal(number)
        for number in MANY:  # a Python that has not yet told one may tell SIGTERM, and end, before it
            running.wait_for(number.name, log)
        running.process.send_signal(signal.SIGTERM)
        result = running.finish()
    assert result.status == 3, result
    ready, *told, last = log.read_text().split()
    assert (ready, sorted(told), last) == ("ready", sorted(number.name for number in MANY), "SIGTERM"), result


def test_no_descriptor_comes_along(machine: Machine) -> None:
    """Whatever whoever starts the agent left open."""
    room = machine.room({"look.py": "import os\nprint(sorted(os.listdir('/proc/self/fd')))\n", "secret": "secret"})
    with (room / "work/secret").open() as secret:
        os.set_inheritable(secret.fileno(), True)
        result = machine.run(["python3", "look.py"], policy=POLICY, room=room, pass_fds=[secret.fileno()])
    assert result.stdout == "['0', '1', '2', '3']\n", result  # 3 is the directory that is being listed
