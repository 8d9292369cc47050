"""One daemon ends, however it ends, and the next takes over: what its sandboxes may meanwhile, and what is on record of it."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from framework.daemon import SETTINGS, Daemon, Obeying, allowed, fetch, name_of
from framework.internet import ECHO, H1, STREAM, Internet
from framework.machine import STOCKADE, select, wait_for, worker_of
from framework.policy import http, whole
from stockade.service.state import FORMAT

pytestmark = [pytest.mark.client("/usr/bin/python3"), pytest.mark.client("bash")]

PORT = 18_431
ROOT = Path(__file__).parents[2]


def inbound(port: int) -> dict[str, Any]:
    return {"port": port, "protocol": "tcp", "from": ["127.0.0.1/32"]}


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
