"""Two sandboxes at once: nothing of one is in the other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bypass import battery
from framework.internet import ECHO, H1, TLS12
from framework.machine import Machine, wait_for
from framework.policy import http, whole

pytestmark = pytest.mark.client(battery.PYTHON)
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")


@pytest.mark.attack(
    *("neighbour-processes", "neighbour-tmp", "neighbour-unix", "neighbour-abstract", "neighbour-loopback"),
    *("neighbour-synthetic", "neighbour-ca"),
)
@pytest.mark.parametrize("user", ["its own", "root"])
def test_nothing_of_one_is_in_another(machine: Machine, user: str, root_inside: str | None) -> None:
    """The first has one of each; that each is there at all, it shows to itself before the second one reaches for them."""
    room = machine.room({"neighbour.py": battery.FILES["neighbour.py"], "visitor.py": battery.FILES["visitor.py"]})
    work = room / "work"
    if user == "root" and root_inside:
        pytest.skip(root_inside)
    process = {"process": {"user": "root"}} if user == "root" else {}
    policy = whole(http("python3", ECHO, H1), allow=["python3", "sh"], **process)
    visit = f"while [ ! -e facts.json ]; do :; done; {battery.PYTHON} visitor.py facts.json {ECHO} >own.json"
    script = f"{battery.PYTHON} neighbour.py {H1} & {visit}; wait"
    with machine.start(["sh", "-c", script], policy=policy, room=room) as first:
        wait_for((work / "have.json").exists, "what the neighbour has", running=first)
        have = json.loads((work / "have.json").read_text())
        host_pid = next(
            int(process.name)
            for process in Path("/proc").glob("[0-9]*")
            if (process / "cmdline").exists() and (process / "cmdline").read_bytes().startswith(b"/usr/bin/python3\0neighbour.py")
        )
        system = Path("/etc/ssl/certs/ca-certificates.crt").read_text()
        [*_, authority] = [text for text in CERTIFICATE.findall(have["bundle"]) if text not in system and "tests" not in text]
        given = have | {"workdir": str(work), "host_pid": host_pid, "authority": authority}
        (work / "facts.part").write_text(json.dumps(given))
        (work / "facts.part").rename(work / "facts.json")
        wait_for(lambda: (work / "own.json").exists() and (work / "own.json").read_text().strip(), "the control", running=first)
        own = json.loads((work / "own.json").read_text())
        for what in ("unix", "abstract", "loopback4", "loopback6"):
            assert own[what] == "reached", own  # the positive control: in the same sandbox they are reached
        assert own["tmp"] == own["shm"] == "mine" and own["processes"].startswith("reached") and own["ca"] == "the same", own
        log = work / "heard.log"
        wait_for(
            lambda: log.read_text().count("\n") == 4, "the control, heard at all four", running=first
        )  # what was sent may be read later
        heard = log.read_text()

        files = {"visitor.py": battery.FILES["visitor.py"], "facts.json": json.dumps(given)}
        narrow = whole(http("python3", TLS12), allow=["python3"], **process)
        second = machine.run([battery.PYTHON, "visitor.py", "facts.json", TLS12], policy=narrow, files=files)
        found = json.loads(second.stdout)
        assert (work / "heard.log").read_text() == heard, "the neighbour heard the visitor"
        (work / "done").touch()
        first.finish()
    assert found["pid"] == found["processes"] == "ESRCH", found
    assert found["tmp"] == found["shm"] == found["workdir"] == found["unix"] == "ENOENT", found
    assert found["abstract"] == found["loopback4"] == found["loopback6"] == "ECONNREFUSED", found
    assert found["ca"] == "another", found
    # The same address is another name here: what is recorded, and decided, is this sandbox's own.
    hosts = {record["destination"]["host"] for record in second.select(action="connect", port=80)}
    assert H1 not in hosts and ECHO not in hosts, second
    assert second.select(action="connect", address="127.0.0.1", port=8123, reason="local_listener"), second
