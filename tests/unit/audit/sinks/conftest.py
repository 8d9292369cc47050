"""Programs that receive: a real rsyslogd on loopback, and a real journald in a mount namespace of its own."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.ca import Authority, Leaf, pem

_RSYSLOG = """
global(workDirectory="{directory}" maxMessageSize="256k" defaultNetstreamDriverCAFile="{directory}/ca.pem"
       defaultNetstreamDriverCertFile="{leaf.chain}" defaultNetstreamDriverKeyFile="{leaf.key}")
main_queue(queue.type="Direct")
module(load="imudp")
module(load="imtcp")
input(type="imudp" address="127.0.0.1" port="{udp}")
input(type="imtcp" address="127.0.0.1" port="{tcp}" ruleset="all")
input(type="imtcp" address="127.0.0.1" port="{tls}" ruleset="all"
      StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
template(name="fields" type="list" option.jsonf="on") {{
  property(outname="pri" name="pri" format="jsonf")
  property(outname="version" name="protocol-version" format="jsonf")
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="pid" name="procid" format="jsonf")
  property(outname="id" name="msgid" format="jsonf")
  property(outname="data" name="structured-data" format="jsonf")
  property(outname="text" name="msg" format="jsonf")
}}
ruleset(name="all") {{ action(type="omfile" file="{directory}/received" template="fields") }}
call all
"""


class Rsyslog:
    """The ports of one that runs, and what it understood of each message."""

    def __init__(self, directory: Path, ca: Authority, leaf: Leaf) -> None:
        self.directory, self.ca, self.leaf = directory, directory / "ca.pem", leaf
        self.ca.write_bytes(pem(ca.certificate))
        self.udp, self.tcp, self.tls = _free(socket.SOCK_DGRAM), _free(socket.SOCK_STREAM), _free(socket.SOCK_STREAM)
        config = directory / "rsyslog.conf"
        config.write_text(_RSYSLOG.format(directory=directory, leaf=leaf, udp=self.udp, tcp=self.tcp, tls=self.tls))
        self._command = ["/usr/sbin/rsyslogd", "-n", "-f", str(config), "-i", str(directory / "pid")]
        self.start()

    def start(self) -> None:
        self._said = (self.directory / "said").open("a")
        self._process = subprocess.Popen(self._command, stdout=self._said, stderr=self._said)
        for port in (self.tcp, self.tls):
            until(lambda port=port: _listens(port), f"rsyslogd on {port}: {(self.directory / 'said').read_text()}")  # type: ignore[misc]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._said.close()

    def freeze(self, *, die: bool = False) -> None:
        """Its kernel goes on taking what comes; it reads nothing more, and with die it never will."""
        self._process.send_signal(signal.SIGSTOP)
        if die:
            self._process.send_signal(signal.SIGKILL)

    def received(self) -> list[dict[str, str]]:
        """The whole lines: rsyslogd writes a long one in parts."""
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line) for line in (self.directory / "received").read_bytes().split(b"\n")[:-1]]
        return []

    def forget(self) -> None:
        """Everything so far: by offset, for the file is rsyslogd's."""
        self._from = len(self.received())

    def news(self) -> list[dict[str, str]]:
        return self.received()[self._from :]


def until(probe: Callable[[], object], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not probe():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def _free(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def rsyslogd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rsyslog]:
    if not Path("/usr/sbin/rsyslogd").exists():
        pytest.skip("no rsyslogd")
    directory = tmp_path_factory.mktemp("rsyslog")
    ca = Authority.root()
    found = Rsyslog(directory, ca, ca.issue(directory, "localhost"))
    yield found
    found.stop()


@pytest.fixture
def rsyslog(rsyslogd: Rsyslog) -> Rsyslog:
    rsyslogd.forget()
    return rsyslogd


class Journal:
    def __init__(self, pid: int) -> None:
        self.pid, self.root = pid, Path(f"/proc/{pid}/root")
        self.socket = self.root / "run/systemd/journal/socket"

    def entries(self) -> list[dict[str, Any]]:
        command = [
            "journalctl",
            "-D",
            str(self.root / "run/log/journal"),
            "-o",
            "json",
            "--all",
            "--no-pager",
            "SYSLOG_IDENTIFIER=stockade",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="session")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journal]:
    """/run and /var/log are its own: nothing of it reaches this machine's journal."""
    program = Path("/usr/lib/systemd/systemd-journald")
    if os.geteuid() != 0 or not program.exists() or shutil.which("journalctl") is None:
        pytest.skip("needs root, systemd-journald and journalctl")
    identity = tmp_path_factory.mktemp("journal") / "machine-id"
    identity.write_text("0123456789abcdef0123456789abcdef\n")

    def private() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        os.unshare(os.CLONE_NEWNS)
        if libc.mount(b"none", b"/", None, 0x44000, None):  # MS_REC | MS_PRIVATE
            raise OSError(ctypes.get_errno(), "mount")
        for target in (b"/run", b"/var/log"):
            if libc.mount(b"tmpfs", target, b"tmpfs", 0, None):
                raise OSError(ctypes.get_errno(), "mount")
        for directory in ("/run/systemd/journal", "/run/log/journal"):
            Path(directory).mkdir(parents=True)
        if Path("/etc/machine-id").exists():
            libc.mount(bytes(identity), b"/etc/machine-id", None, 0x1000, None)  # MS_BIND

    process = subprocess.Popen([program], preexec_fn=private, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = Journal(process.pid)
    try:
        until(lambda: found.socket.exists(), "journald does not begin")
        yield found
    finally:
        process.terminate()
        process.wait(20)
