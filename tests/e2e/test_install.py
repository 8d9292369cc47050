"""A release is made, served, installed, replaced and taken away again, each as somebody with a shell does it.

In a mount namespace whose /run/stockade, /etc and trails are its own: what is installed on the machine is not touched. Packages of
pip's come from wherever pip fetches them.
"""

from __future__ import annotations

import contextlib
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
from stockade.sandbox.cgroup import mounted

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
        etc = room / "etc"
        etc.mkdir()
        own_etc = (
            f"mount -t tmpfs none {etc} && mkdir {etc}/upper {etc}/work && cp -L /etc/hosts /etc/resolv.conf {etc}/upper",
            f"mount -t overlay overlay -o lowerdir=/etc,upperdir={etc}/upper,workdir={etc}/work /etc",
            "if [ -d /run/systemd/system ]; then mount -t tmpfs none /run/systemd; fi",  # no unit of the machine's is touched
        )
        mounts = " && ".join([*own_etc, *(f"mount -t tmpfs none {path}" for path in OWN)])
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


def test_a_release_is_installed_replaced_and_taken_away(place: Place, release: Path) -> None:
    (place.prefix.parent / "bash").write_text("#!/bin/sh\necho somebody else\n")  # what $0 says of a script that bash reads from a pipe
    status, _, said = place.install()
    assert status == 0, said
    first = place.current
    assert (place.prefix / "install.sh").read_bytes() == (release / "install.sh").read_bytes(), "and nothing that lay where it was started"
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


class Contained:
    """A process in a cgroup and a network namespace of its own, with a device: what `attach` needs of a container."""

    def __init__(self, name: str) -> None:
        self.cgroup = mounted() / name
        self.cgroup.mkdir()
        device = "ip link add outside type veth peer name other && ip link set outside up && echo ready && exec sleep 600"
        line = f"echo $$ >{self.cgroup}/cgroup.procs && exec unshare --net sh -ec '{device}'"
        self.process = subprocess.Popen(["sh", "-ec", line], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"

    def tables(self) -> str:
        listed = ["nsenter", "--net", f"--target={self.process.pid}", "nft", "list", "tables"]
        return subprocess.run(listed, capture_output=True, text=True, check=True).stdout

    def programs(self) -> str:
        return subprocess.run(["bpftool", "cgroup", "show", self.cgroup], capture_output=True, text=True, check=False).stdout

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        wait_for(lambda: "populated 0" in (self.cgroup / "cgroup.events").read_text(), "its end")
        self.cgroup.rmdir()


@pytest.fixture
def contained() -> Iterator[tuple[Contained, Contained]]:
    with contextlib.ExitStack() as stack:
        pair = Contained(f"led-{os.getpid()}"), Contained(f"left-{os.getpid()}")
        for each in pair:
            stack.callback(each.close)
        yield pair


def test_what_it_governs_is_not_let_go_without_a_word(place: Place, contained: tuple[Contained, Contained]) -> None:
    """A container whose agent lives, and one whose agent was killed; and a runtime that would ask for a command that is gone."""
    status, _, said = place.install("--service")
    assert status == 0, said
    unit, hook = "/etc/systemd/system/stockade.service", "/etc/containers/oci/hooks.d/stockade.json"
    assert f"{unit} is there; systemd does not run here" in said, said
    assert f"ExecStart={place.command} daemon\n" in place.run("cat", unit)[1]
    assert place.run("grep", "^stockade:", "/etc/group")[0] == 0
    status, _, said = place.run("sh", "-ec", f"mkdir -p {Path(hook).parent} && {place.command} oci-hook --install podman >{hook}")
    assert status == 0, said
    policy = place.prefix.parent / "policy.yaml"
    policy.write_text("version: 1\nname: held\nexec: {allow: [sleep]}\n")
    bare = [each.programs() for each in contained]

    def attach(to: Contained) -> subprocess.Popen[str]:
        agent = place.start(place.command, "attach", "--cgroup", to.cgroup, "--policy", policy, "--name", to.cgroup.name)
        assert agent.stdout is not None
        assert f"{to.cgroup.name}: governed" in agent.stdout.readline(), agent.communicate(timeout=60)
        return agent

    def governed() -> bool:
        return all("stockade" in each.tables() and each.programs() != programs for each, programs in zip(contained, bare, strict=True))

    led, left = contained
    with attach(led) as agent:
        with attach(left) as dead:
            dead.kill()
        assert governed()
        status, _, said = place.uninstall()
        assert status == 1 and "nothing was removed" in said, said
        assert f"these sandboxes live: {led.cgroup.name}" in said and f"{left.cgroup}" in said.partition("are held: ")[2], said
        assert place.command.exists() and governed() and place.run("test", "-e", hook)[0] == 0

        status, _, said = place.uninstall("--force", "--purge")
        assert status == 0 and f"{led.cgroup.name}: let go of" in said and f"{left.cgroup}: let go of" in said, said
        assert agent.wait(60) == 0
    assert [each.programs() for each in contained] == bare
    assert [each.tables() for each in contained] == ["", ""]
    assert [each.process.poll() for each in contained] == [None, None], "they run on"
    assert f"{hook} is removed" in said
    assert place.run("ls", hook, unit)[0] != 0 and place.run("grep", "^stockade:", "/etc/group")[0] != 0


def test_what_cannot_be_known_is_not_removed(place: Place) -> None:
    """An installation whose command fails, and one whose agent does not answer: nobody says what lives."""
    place.command.parent.mkdir(parents=True)
    place.prefix.mkdir()
    where = ("--prefix", place.prefix, "--command", place.command)
    for says in ("echo broken >&2; exit 1", "echo '[]'; echo 'box: the agent of box does not answer' >&2"):
        place.command.write_text(f"#!/bin/sh\n{says}\n")
        place.command.chmod(0o755)
        for words in ((), ("--force",)):
            status, _, said = place.run(place.release / "install.sh", "--uninstall", *where, *words)
            assert status == 1 and "cannot be known" in said and place.prefix.exists(), said


def test_what_is_not_the_release_is_not_installed(place: Place, release: Path) -> None:
    for file in (next(release.glob("*.whl")), release / "install.sh"):
        ours = file.read_bytes()
        try:
            file.write_bytes(ours + b"# another\n")
            status, _, said = place.install()
            assert status == 1 and f"{file.name} is not the file whose SHA-256 is" in said, said
        finally:
            file.write_bytes(ours)
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
