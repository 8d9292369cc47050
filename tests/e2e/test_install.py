"""A release is made, served, installed, replaced and taken away again, each as somebody with a shell does it.

In a mount namespace whose /run/stockade, /etc/stockade and trails are its own: what is installed on the machine is not touched. Packages of
pip's come from wherever pip fetches them.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework.machine import wait_for

REPOSITORY = Path(__file__).parents[2]
OWN = ("/run/stockade", "/etc/stockade", "/var/log/stockade", "/var/cache/stockade")
SECONDS = 600


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_words: object) -> None:
        pass


class Place:
    """A machine to install on, and a server that has the release. Removes what it made."""

    def __init__(self, room: Path, release: Path) -> None:
        self.release, self.prefix, self.command = release, room / "opt", room / "bin/stockade"
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(release)))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        for path in OWN:
            Path(path).mkdir(parents=True, exist_ok=True)
        mounts = " && ".join(f"mount -t tmpfs none {path}" for path in OWN)
        holder = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", f"{mounts} && echo ready && exec sleep infinity"]
        self._holder = subprocess.Popen(holder, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None and self._holder.stdout.readline() == "ready\n"

    def start(self, *command: str | Path, **options: object) -> subprocess.Popen[str]:
        inside = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", f"--wdns={self.prefix.parent}", "--", *map(str, command)]
        return subprocess.Popen(inside, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]

    def run(self, *command: str | Path) -> tuple[int, str, str]:
        with self.start(*command) as process:
            stdout, stderr = process.communicate(timeout=SECONDS)
            return process.returncode, stdout, stderr

    def install(self, *words: str) -> tuple[int, str, str]:
        """As the first line of the guide has it."""
        where = f"--from {self.url} --prefix {self.prefix} --command {self.command}"
        line = f"curl -fsSL {self.url}/install.sh | bash -s -- {where} {' '.join(words)}"
        return self.run("bash", "-o", "pipefail", "-c", line)

    def uninstall(self, *words: str) -> tuple[int, str, str]:
        return self.run(self.prefix / "install.sh", "--uninstall", "--prefix", self.prefix, "--command", self.command, *words)

    def sandboxes(self) -> list[str]:
        return [each["name"] for each in json.loads(self.run(self.command, "sandbox", "ls", "-o", "json")[1])]

    @property
    def current(self) -> Path:
        return (self.prefix / "current").readlink()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._holder.kill()
        self._holder.communicate()


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("release")
    subprocess.run([REPOSITORY / "deploy/release.sh", directory], check=True, timeout=SECONDS)
    return directory


@pytest.fixture
def place(tmp_path: Path, release: Path) -> Iterator[Place]:
    found = Place(tmp_path, release)
    yield found
    found.close()


def test_a_release_is_installed_replaced_and_taken_away(place: Place) -> None:
    status, _, said = place.install()
    assert status == 0, said
    first = place.current
    assert place.run(place.command, "--version")[1].startswith("stockade ")
    work = place.prefix.parent / "work"
    work.mkdir()
    under = ("--workdir", work, "--name", "short", "--preset", "pypi")
    status, _, said = place.run(place.command, "run", *under, "--", "/usr/bin/pip", "--version")
    assert status == 0, said

    # a sandbox that lives through an upgrade is held by what it was started with, which stays for as long
    policy = place.prefix.parent / "policy.yaml"
    policy.write_text("version: 1\nname: long\nexec: {allow: [sleep, sh]}\n")
    running = place.start(place.command, "run", "--policy", policy, "--workdir", work, "--name", "long", "--", "sleep", "600")
    wait_for(lambda: running.poll() is not None or place.sandboxes() == ["long"], "the sandbox")
    assert running.poll() is None, running.communicate()
    status, _, said = place.install()
    assert status == 0, said
    assert running.poll() is None, running.communicate()
    assert place.current != first and first.exists() and f"{first} is kept" in said
    assert place.sandboxes() == ["long"] and running.poll() is None, "the new command sees the old one's sandbox"

    status, _, said = place.uninstall()
    assert status == 1 and "these sandboxes live: long" in said and place.command.exists(), said
    status, _, said = place.uninstall("--force", "--purge")
    assert status == 0, said
    _, said = running.communicate(timeout=30)
    assert running.returncode == 137 and "Traceback" not in said, said
    assert not place.prefix.exists() and not os.path.lexists(place.command)
    left = place.run("sh", "-c", f"ls -A {' '.join(OWN)} 2>/dev/null | grep -v ':$'; grep -c ' bpf ' /proc/self/mounts")[1]
    assert not [line for line in left.split() if not line.isdecimal()], left


def test_what_is_not_the_release_is_not_installed(place: Place, release: Path) -> None:
    wheel = next(release.glob("*.whl"))
    whole = wheel.read_bytes()
    try:
        wheel.write_bytes(whole + b".")
        status, _, said = place.install()
        assert status == 1 and "is not the file whose SHA-256 is" in said, said
    finally:
        wheel.write_bytes(whole)
    status, _, said = place.install("--sha256", hashlib.sha256(b"another").hexdigest())
    assert status == 1 and "nothing was installed" in said, said
    assert not os.path.lexists(place.command) and not (place.prefix / "current").exists()


def test_a_mistake_is_told_in_a_line(place: Place, release: Path) -> None:
    for words, wanted in (
        (("--from",), "--from wants a value"),
        (("--frm", "x"), "unknown argument: --frm"),
        ((), "from where?"),
        (("--from", str(release / "nowhere")), "there is no"),
        (("--from", str(release), "--prefix", "opt"), "an absolute path is wanted"),
    ):
        status, _, said = place.run(release / "install.sh", *words)
        assert status == 1 and wanted in said, (words, said)
