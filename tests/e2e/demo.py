"""`make demo`: what Stockade is for, in one transcript that checks its own claims. Exit status 1 when one of them does not hold.

On the real PyPI when it can be reached. Otherwise (or with --offline) it says so, and the same runs against a server of the tests' own that
answers under PyPI's names.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from framework import packages, probes
from framework.internet import RAW_PORT, Internet
from framework.machine import STOCKADE, Machine, Record, brief, read_records, select
from framework.netns import Namespace
from framework.web import Sink
from stockade.resources import POLICIES

INSIDE = Path(__file__).parent / "inside"


class Demo:
    """One trail of several runs, and whether every claim held."""

    def __init__(self, room: Path, machine: Machine | None) -> None:
        self.work, self.audit, self.policy = room / "work", room / "audit.jsonl", room / "demo.yaml"
        self.work.mkdir()
        self._machine = machine
        self._seen = 0
        self.failed = 0

    def run(
        self, title: str, options: Sequence[str | Path], command: Sequence[str]
    ) -> tuple[subprocess.CompletedProcess[str], list[Record]]:
        """Runs it as typed, shows what was said, and returns that with the records it left."""
        line = [STOCKADE, "run", *options, "--workdir", self.work, "--audit", self.audit, "--", *command]
        shown = ["stockade", *map(str, line[1:])]
        print(f"\n=== {title}\n$ {shlex.join(shown)}")
        done = subprocess.run(
            self._machine.wrap(line) if self._machine else list(map(str, line)), cwd=self.work, capture_output=True, text=True, timeout=180
        )
        for text in (done.stdout, done.stderr):
            if text.strip():
                print(text.strip())
        print(f"[exit {done.returncode}]")
        every = read_records(self.audit)
        records, self._seen = every[self._seen :], len(every)
        return done, records

    def claim(self, holds: object, text: str) -> None:
        print(f"  {'ok  ' if holds else 'FAIL'}  {text}")
        self.failed += not holds


def install(demo: Demo, index: str, package: str) -> None:
    pip = ["/usr/bin/pip", "--isolated", "--no-cache-dir", "install", "--target", "site", package]
    done, records = demo.run("pip installs a package, under the preset that allows just that", ["--preset", "pypi"], pip)
    fetched = select(records, action="http", decision="allow", method="GET", status=200)
    print(brief(fetched))
    page = select(fetched, host=index, path=f"/simple/{package}/")
    files = [record for record in fetched if record["http"]["path"].startswith("/packages/")]
    demo.claim(done.returncode == 0 and list(demo.work.glob("site/*.py")), f"{package} is installed")
    demo.claim(_bytes(page), f"the index page is on record: 200, {_bytes(page)} bytes")
    demo.claim(_bytes(files), f"the file is on record: 200, {_bytes(files)} bytes")


def wrong_binary(demo: Demo, index: str, package: str) -> None:
    done, records = demo.run("curl asks the same host", ["--preset", "pypi"], ["curl", "-sS", f"https://{index}/simple/{package}/"])
    print(brief(select(records, decision="deny")))
    demo.claim(done.returncode != 0 and not done.stdout, "curl got nothing")
    demo.claim(select(records, decision="deny", level="binary", host=index, binary="curl"), "refused by binary, on record")


def upload(demo: Demo, index: str) -> None:
    rule = {
        "name": "curl-reads-the-index",
        "binary": {"allow": ["curl"]},
        "destination": {"allow": [index]},
        "method": {"allow": ["GET"]},
        "path": {"allow": ["/**"]},
    }
    policy = {"version": 1, "name": "demo", "extends": ["presets/pypi"], "network": [rule]}
    demo.policy.write_text(yaml.safe_dump(policy, sort_keys=False))
    print(f"\n$ cat {demo.policy}\n{demo.policy.read_text().strip()}")
    curl = ["curl", "-sS", "-w", "%{http_code}", "--data", "secret", f"https://{index}/simple/"]
    done, records = demo.run("by that policy curl may read here; it tries to upload", ["--policy", demo.policy], curl)
    print(brief(select(records, decision="deny")))
    demo.claim(done.stdout.endswith("403"), "the upload got a 403")
    demo.claim(
        select(records, action="http", decision="deny", level="method", method="POST", binary="curl"), "refused by method, on record"
    )


def plain_connect(demo: Demo) -> None:
    with Namespace() as namespace, socket.create_server(("127.0.0.1", 0)) as loopback:
        sink = Sink(namespace, "outside", namespace.address(), RAW_PORT)
        targets = [(sink.addresses.v4, RAW_PORT), (sink.addresses.v6, RAW_PORT), ("127.0.0.1", loopback.getsockname()[1])]
        shutil.copy(INSIDE / "attempt.py", demo.work)
        python = ["/usr/bin/python3", "attempt.py", *(f"tcp,{address},{port}" for address, port in targets)]
        done, records = demo.run("a plain connect() to listeners outside the sandbox", ["--preset", "pypi"], python)
        print(brief(select(records, action="connect")))
        said = json.loads(done.stdout) if done.stdout.startswith("{") else {}
        demo.claim(len(said) == len(targets) and set(said.values()) <= {"EPERM", "ECONNREFUSED"}, "every connect() failed")
        demo.claim(not sink.connections and not _accepted(loopback), "nothing arrived at any listener")
        demo.claim(select(records, action="connect", decision="deny", address=sink.addresses.v4), "refused, on record")


def unlisted(demo: Demo) -> None:
    done, records = demo.run("a binary that the policy does not list", ["--preset", "pypi"], ["sh", "-c", "/usr/bin/id"])
    print(brief(select(records, action="exec")))
    demo.claim("uid=" not in done.stdout, "it did not run")
    demo.claim(select(records, action="exec", decision="deny", reason="exec_unlisted", binary_path="/usr/bin/id"), "refused, on record")


def audit(demo: Demo) -> None:
    print(f"\n=== the audit of all of it\n$ cat {demo.audit}\n{demo.audit.read_text().strip()}")
    verify = subprocess.run([STOCKADE, "audit", "verify", demo.audit], capture_output=True, text=True)
    print(f"\n$ stockade audit verify {demo.audit}\n{(verify.stdout + verify.stderr).strip()}")
    demo.claim(verify.returncode == 0, "the trail verifies")


def _bytes(records: list[Record]) -> int:
    return sum(record["http"]["response_bytes"] or 0 for record in records)


def _accepted(listener: socket.socket) -> bool:
    listener.settimeout(0.2)
    try:
        listener.accept()[0].close()
    except TimeoutError:
        return False
    return True


def preset_hosts() -> tuple[str, str]:
    """The index host and the files host, as the preset names them."""
    rules = {rule["name"]: rule for rule in yaml.safe_load((POLICIES / "presets/pypi.yaml").read_text())["network"]}
    return rules["pypi-index"]["destination"]["allow"][0], rules["pypi-files"]["destination"]["allow"][0]


def reachable(host: str) -> str:
    """Empty, or why the real index does not answer."""
    try:
        with urllib.request.urlopen(f"https://{host}/simple/six/", timeout=15):
            return ""
    except (OSError, urllib.error.URLError) as error:
        return str(error)


@contextlib.contextmanager
def stand_in(room: Path, index: str, files: str) -> Iterator[Machine]:
    """A machine for which PyPI's names are servers of the tests' own."""
    tree, place = room / "pypi", room / "internet"
    place.mkdir()
    packages.pypi(tree, f"https://{files}")
    with Internet(place, trees={index: tree, files: tree}) as internet:
        yield Machine(internet, room)


def main() -> int:
    if missing := probes.governing():
        print(f"demo: this machine cannot govern a sandbox: {missing}", file=sys.stderr)
        return 2
    index, files = preset_hosts()
    offline = "asked for" if "--offline" in sys.argv else reachable(index)
    with tempfile.TemporaryDirectory(prefix="stockade-demo-", dir="/var/tmp") as directory, contextlib.ExitStack() as stack:
        room = Path(directory)
        room.chmod(0o755)
        if offline:
            print(f"No network ({index}: {offline}): the same against a local server that answers under PyPI's names.")
            demo = Demo(room, stack.enter_context(stand_in(room, index, files)))
        else:
            print(f"On the real PyPI ({index}).")
            demo = Demo(room, None)
        package = packages.PACKAGE if offline else "six"
        install(demo, index, package)
        wrong_binary(demo, index, package)
        upload(demo, index)
        plain_connect(demo)
        unlisted(demo)
        audit(demo)
        print(f"\n{'every claim holds' if not demo.failed else f'{demo.failed} claims do not hold'}")
        return 1 if demo.failed else 0


if __name__ == "__main__":
    sys.exit(main())
