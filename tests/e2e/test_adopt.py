"""An agent is killed, and another takes its sandbox over. Seen from inside, by one process that lives through it, and in the one trail."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework.internet import ECHO, H1, Internet
from framework.machine import STOCKADE, Machine, Record, Running, read_records, select, wait_for, worker_of
from framework.policy import Rule, http, whole
from framework.programs import Programs
from stockade.kernel.load import mounted_bpffs
from stockade.sandbox.cgroup import PARENT, mounted
from stockade.service.control import ask, running
from stockade.service.settings import Settings
from stockade.service.state import FORMAT, StateFile

pytestmark = pytest.mark.client("/usr/bin/python3")

SETTINGS = Settings()
RUNS = ("/usr/bin/true", "sh")


def policy(*rules: Rule) -> str:
    return whole(*rules, allow=["python3", *RUNS])


class Held:
    """One sandbox and its agents, one after the other."""

    def __init__(self, machine: Machine, inside: dict[str, str], text: str, options: tuple[str, ...] = ()) -> None:
        self._machine, self.room = machine, machine.room(inside)
        self.work, self.audit = self.room / "work", self.room / "audit.jsonl"
        self.name = f"adopt-{os.getpid()}-{self.room.name}"
        self._orders = 0
        self.agents: list[subprocess.Popen[str]] = []
        # In this mount namespace, or the pins go with the one that the first agent was started in
        self.bpffs = mounted_bpffs(SETTINGS.run / "bpf")
        chosen = ["--name", self.name, *options]
        self.run: Running = machine.start("/usr/bin/python3 obeys.py", policy=text, room=self.room, options=chosen)
        self.agents.append(self.run.process)
        wait_for(lambda: self.name in running(SETTINGS.control), "the control socket", running=self.run)
        wait_for(lambda: self.number is not None, "what is kept", running=self.run)
        self.init = self.state["init"][0]

    def do(self, line: str) -> str:
        """What came of it, inside."""
        number, self._orders = self._orders, self._orders + 1
        part = self.work / f"order-{number}"
        part.write_text(line)
        part.rename(self.work / f"do-{number}")
        wait_for((self.work / f"done-{number}").exists, line)
        return (self.work / f"done-{number}").read_text()

    @property
    def number(self) -> int | None:
        for path in (SETTINGS.run / "slots").glob("*.json"):
            with contextlib.suppress(OSError):
                if self.name in path.read_text():
                    return int(path.stem)
        return None

    @property
    def file(self) -> Path:
        return SETTINGS.run / "slots" / f"{self.number}.json"

    @property
    def state(self) -> dict[str, list[int]]:
        state: dict[str, list[int]] = json.loads(json.loads(self.file.read_text())["state"])
        return state

    def kill_agent(self) -> None:
        self.agents[-1].kill()
        self.agents[-1].wait(10)

    def adopt(self) -> subprocess.Popen[str]:
        """Begin to."""
        command = self._machine.wrap([STOCKADE, "adopt", self.name, "-o", "json"])
        agent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.agents.append(agent)
        return agent

    def adopted(self) -> dict[str, object]:
        """What it says when it is done."""
        agent = self.adopt()
        assert agent.stdout is not None and agent.stderr is not None
        line = agent.stdout.readline()
        assert line, agent.stderr.read()
        said: dict[str, object] = json.loads(line)
        return said

    def refused(self, code: str) -> str:
        agent = self.adopt()
        _, stderr = agent.communicate(timeout=60)
        assert agent.returncode == 2 and f"[{code}]" in stderr, (agent.returncode, stderr)
        return stderr

    def records(self, **expected: object) -> list[Record]:
        return select(read_records(self.audit), **expected)

    @property
    def lives(self) -> bool:
        try:
            return Path(f"/proc/{self.init}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False

    def end(self) -> None:
        stockade("sandbox", "kill", self.name)
        if self.agents[-1].poll() is None:
            self.agents[-1].terminate()
        for agent in self.agents:
            agent.communicate(timeout=20)


def stockade(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([STOCKADE, *words], capture_output=True, text=True, timeout=60)


def listed(name: str) -> dict[str, object] | None:
    found: list[dict[str, object]] = json.loads(stockade("sandbox", "ls", "-o", "json").stdout)
    return next((each for each in found if each["name"] == name), None)


@pytest.fixture
def held(machine: Machine, inside: dict[str, str]) -> Iterator[Held]:
    sandbox = Held(machine, inside, policy(http("python3", ECHO)))
    yield sandbox
    sandbox.end()


def arrived(internet: Internet, host: str) -> int:
    return len([seen for seen in internet.nginx.requests(server=host) if seen["path"] == "/obeys"])


def verified(audit: Path) -> None:
    done = stockade("audit", "verify", str(audit))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_process_is_governed_again_and_its_policy_is_reloaded(held: Held, internet: Internet) -> None:
    assert held.do(f"GET https://{ECHO}/obeys") == "200"
    assert held.do(f"hold {ECHO}") == "200"
    before = arrived(internet, ECHO)
    assert before >= 2

    held.kill_agent()
    assert held.lives and (shown := listed(held.name)) and shown["state"] == "orphaned", shown
    assert held.do(f"GET https://{ECHO}/obeys").startswith("failed")
    assert held.do("again").startswith("failed"), "a connection outlived its agent"
    assert held.do("run /usr/bin/true") == "0", "what may run goes on to"
    assert held.do("run /usr/bin/id") != "0", "and what may not does not"
    assert arrived(internet, ECHO) == before

    said = held.adopted()
    assert (said["pid"], said["generation"], said["changed_binaries"]) == (held.init, 2, [])
    assert held.do("again").startswith("failed"), "adoption gave an old connection a new origin"
    assert held.do(f"GET https://{ECHO}/obeys") == "200"
    assert held.do(f"GET https://{H1}/obeys").startswith("failed")
    assert held.do("run /usr/bin/true") == "0"
    assert held.do("run /usr/bin/id") != "0"
    (shown,) = [listed(held.name)]
    assert shown and shown["state"] == "running"

    (held.room / "policy.yaml").write_text(policy(http("python3", H1)))
    done = stockade("reload", "--sandbox", held.name)
    assert done.returncode == 0, done.stderr
    assert held.do(f"GET https://{H1}/obeys") == "200"
    assert not held.do(f"GET https://{ECHO}/obeys").startswith("200")
    number, held._orders = held._orders, held._orders + 1
    (held.work / "last").write_text("exit 7")
    (held.work / "last").rename(held.work / f"do-{number}")
    assert held.agents[-1].wait(20) == 7, "the status of a command that is another's child"

    assert {record["sandbox"]["id"] for record in held.records() if record["sandbox"]["id"]} == {said["id"]}, "one sandbox throughout"
    (adoption,) = held.records(action="lifecycle", reason="adopted")
    assert adoption["detail"]["gap_seconds"] == said["gap_seconds"] and adoption["detail"]["init"] == held.init
    (allowed,) = held.records(action="http", host=ECHO, generation=2) or [
        record for record in held.records(action="http", host=ECHO, decision="allow") if record["seq"] > adoption["seq"]
    ]
    assert allowed["binary"]["name"] == "python3" and allowed["binary"]["sha256"], allowed
    assert allowed["ancestry"] == ["?"], "what it came from is not remembered, and that is said"
    assert [record["binary"]["name"] for record in held.records(action="exec", decision="deny")] == ["id", "id"], "also of the time between"
    assert next(record["decision"] for record in held.records(action="dns", host=H1)) == "deny"
    assert held.records(action="lifecycle")[-1]["reason"] == "stopped"
    verified(held.audit)
    assert listed(held.name) is None and held.number is None


def test_all_that_wait_are_adopted_and_a_hangup_reloads(machine: Machine, inside: dict[str, str], held: Held) -> None:
    other = Held(machine, inside, policy(http("python3", ECHO)))
    try:
        for each in (held, other):
            each.kill_agent()
        adopting = subprocess.Popen(machine.wrap([STOCKADE, "adopt", "--all", "-o", "json"]), stdout=subprocess.PIPE, text=True)
        for each in (held, other):
            each.agents.append(adopting)
        assert adopting.stdout is not None
        waiting = {held.name, other.name}
        while waiting:
            line = adopting.stdout.readline()
            assert line, f"{waiting} not adopted"
            waiting.discard(json.loads(line)["sandbox"])
        for each in (held, other):
            assert each.do(f"GET https://{ECHO}/obeys") == "200"
            (each.room / "policy.yaml").write_text(policy(http("python3", H1)))
            os.kill(ask(SETTINGS.control, each.name, "status")["pid"], signal.SIGHUP)
            wait_for(functools.partial(each.records, reason="reloaded"), "the reload")
            assert each.do(f"GET https://{H1}/obeys") == "200"
            assert stockade("sandbox", "kill", each.name).returncode == 0
        assert adopting.wait(20) == 0
        verified(other.audit)
    finally:
        other.end()


def test_agent_and_worker_are_killed_twice(held: Held, internet: Internet) -> None:
    """A worker that was stopped still holds the ports inside: it ends before others listen there."""
    assert held.do(f"GET https://{ECHO}/obeys") == "200"
    worker = worker_of(held.agents[-1].pid)
    os.kill(worker, signal.SIGSTOP)
    held.kill_agent()
    held.adopted()
    assert held.do(f"GET https://{ECHO}/obeys") == "200"
    os.kill(worker_of(held.agents[-1].pid), signal.SIGKILL)
    held.kill_agent()
    before = arrived(internet, ECHO)
    assert held.do(f"GET https://{ECHO}/obeys").startswith("failed")
    assert arrived(internet, ECHO) == before
    assert held.adopted()["generation"] == 3
    assert held.do(f"GET https://{ECHO}/obeys") == "200"
    assert len(held.records(reason="adopted")) == 2


def test_one_that_has_an_agent_is_nobody_elses(held: Held) -> None:
    assert "waiting" in held.refused("no_orphan")
    assert held.do(f"GET https://{ECHO}/obeys") == "200"


def test_the_policy_on_disk_counts_when_a_reload_would_take_it(held: Held) -> None:
    held.kill_agent()
    (held.room / "policy.yaml").write_text(policy(http("python3", ECHO), http("wget", H1)))
    held.adopted()
    (refused,) = held.records(reason="reload_refused")
    assert "wget" in refused["detail"]["why"]
    assert held.do(f"GET https://{ECHO}/obeys") == "200", "what it was started with stays in force"


@pytest.mark.parametrize("pin", ["link_*_connect4", "link_*_on_exec", "map_verdicts"])
def test_what_was_taken_away_meanwhile_ends_it(held: Held, internet: Internet, pin: str) -> None:
    assert held.do(f"GET https://{ECHO}/obeys") == "200"
    before = arrived(internet, ECHO)
    held.kill_agent()
    next((held.bpffs / str(held.number)).glob(pin)).unlink()
    held.refused("enforcement_lost")
    wait_for(lambda: not held.lives, "its end")
    (record,) = held.records(reason="enforcement_lost")
    assert "is no longer pinned" in record["detail"]["lost"][0] and record["decision"] == "deny"
    assert held.records(action="lifecycle")[-1]["reason"] == "stopped"
    assert arrived(internet, ECHO) == before
    verified(held.audit)


def test_a_state_that_is_not_what_was_written_opens_and_loses_nothing(held: Held) -> None:
    held.kill_agent()
    file, whole_state = held.file, held.file.read_text()
    for text, code in (
        (whole_state.replace(held.name, held.name[::-1], 1), "no_orphan"),
        (whole_state[: len(whole_state) // 2], "no_orphan"),
    ):
        file.write_text(text)
        held.refused(code)
        assert (shown := listed(f"box-{file.stem}")) and "not what an agent wrote" in str(shown["problem"]), shown
        assert held.lives and held.do(f"GET https://{ECHO}/obeys").startswith("failed")
    file.write_text(whole_state)
    file.chmod(0o644)
    held.refused("no_orphan")
    file.chmod(0o600)
    held.adopted()
    assert held.do(f"GET https://{ECHO}/obeys") == "200"


def rewrite(held: Held, **changes: object) -> None:
    """As an agent would: with the digest of it."""
    import hashlib

    text = json.dumps(held.state | changes)
    held.file.write_text(json.dumps({"format": FORMAT, "sha256": hashlib.sha256(text.encode()).hexdigest(), "state": text}))


def test_another_build_refuses_and_leaves_it_held(held: Held) -> None:
    held.kill_agent()
    build = held.state["build"]
    rewrite(held, build="0" * 64)
    assert "another build" in held.refused("other_build")
    assert held.lives and held.do(f"GET https://{ECHO}/obeys").startswith("failed")
    rewrite(held, build=build)
    held.adopted()
    assert held.do(f"GET https://{ECHO}/obeys") == "200"


def test_another_process_with_the_pid_of_init_is_not_it(held: Held) -> None:
    """The init that was written down is no more, so nothing that lives there is what was governed: it is swept."""
    held.kill_agent()
    number = held.number
    rewrite(held, init=[held.init, held.state["init"][1] + 1])
    assert listed(held.name) is None
    assert not held.lives and not (held.bpffs / str(number)).exists() and not StateFile(SETTINGS.run / "slots", number or 0).exists()
    assert not (mounted() / PARENT / f"sandbox-{number}").exists()
    assert held.records(action="lifecycle")[-1]["detail"]["why"] == "it ended while it had no agent"


def test_an_orphan_is_killed_by_name_and_recorded(held: Held) -> None:
    held.kill_agent()
    done = stockade("sandbox", "kill", held.name)
    assert done.returncode == 0, done.stderr
    assert not held.lives and listed(held.name) is None
    assert "sandbox kill" in held.records(action="lifecycle")[-1]["detail"]["why"]
    verified(held.audit)


def test_the_end_of_an_orphan_is_signed_as_its_own_settings_say(machine: Machine, inside: dict[str, str], tmp_path: Path) -> None:
    """The default ones would make a key beside the trail."""
    key, settings = tmp_path / "audit.key", tmp_path / "settings.yaml"
    settings.write_text(f"audit: {{key: {key}}}\n")
    held = Held(machine, inside, policy(), ("--settings", str(settings)))
    try:
        held.kill_agent()
        assert key.exists()
        done = stockade("sandbox", "kill", held.name)
        assert done.returncode == 0, done.stderr
        assert "sandbox kill" in held.records(action="lifecycle")[-1]["detail"]["why"]
        assert not [path for path in held.audit.parent.iterdir() if path.name.endswith(".key")]
        verified(held.audit)
    finally:
        held.end()


def test_a_program_that_changed_meanwhile_is_executed_by_nobody(machine: Machine, inside: dict[str, str], programs: Programs) -> None:
    tool = programs.directory / "tool"
    shutil.copy("/usr/bin/true", tool)
    held = Held(machine, inside, whole(http("python3", ECHO), allow=["python3", str(tool)]))
    try:
        assert held.do(f"run {tool}") == "0"
        held.kill_agent()
        assert held.do(f"run {tool}") == "0"
        with tool.open("r+b") as file:
            file.write(Path("/usr/bin/true").read_bytes())
        assert held.adopted()["changed_binaries"] == [str(tool)]
        assert held.do(f"run {tool}") != "0"
        assert held.do(f"GET https://{ECHO}/obeys") == "200", "the others are what they were"
        assert held.records(action="exec", decision="deny", binary_path=str(tool))
    finally:
        held.end()


def test_what_the_kernel_counted_meanwhile_is_told_once(held: Held) -> None:
    """A raw packet of a socket that nobody may have is no event of its own: it is counted, and the counts go on where they were told."""
    held.kill_agent()
    lock = SETTINGS.run / "slots" / str(held.number)
    said = json.loads(lock.read_text())
    assert said["counted"]["dropped"] == 0
    lock.write_text(json.dumps(said | {"counted": said["counted"] | {"dropped": -3}}).ljust(1024) + "\n")
    held.adopted()
    (lost,) = wait_for(lambda: held.records(reason="packet_dropped"), "what was counted")
    assert lost["detail"] == {"dropped": 3}


def test_ports_and_rules_on_ancestors_go_on(machine: Machine, inside: dict[str, str]) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    serve = f"import http.server as h; h.HTTPServer(('127.0.0.1', {port}), h.SimpleHTTPRequestHandler).serve_forever()"
    files = inside | {"serve.py": serve}
    rules = (http("python3", ECHO, ancestors=["python3"]), http("python3", H1))
    text = whole(*rules, allow=["python3"], inbound=[{"port": port, "from": ["127.0.0.0/8"]}])
    held = Held(machine, files, text)
    try:
        held.do("start /usr/bin/python3 serve.py")

        def status() -> int | None:
            with contextlib.suppress(OSError):
                return int(urllib.request.urlopen(f"http://127.0.0.1:{port}/obeys.py", timeout=10).status)
            return None

        wait_for(lambda: status() == 200, "the server inside")
        held.kill_agent()
        assert status() is None
        held.adopted()
        assert status() == 200
        assert held.do(f"GET https://{H1}/obeys") == "200"
        assert held.do(f"GET https://{ECHO}/obeys") != "200", "nobody remembers who started it"
    finally:
        held.end()


def test_what_it_writes_into_a_file_goes_on(machine: Machine, inside: dict[str, str]) -> None:
    """Nobody gets SIGPIPE because an agent died."""
    room = machine.room({"writes.sh": "n=0; while [ ! -e stop ]; do echo $n; n=$((n+1)); sleep 0.05; done; cat; echo end"})
    (room / "policy.yaml").write_text(whole(http("python3", ECHO), allow=["sh", "coreutils"]))
    (room / "stdin").write_text("what was on standard input\n")
    name = f"adopt-{os.getpid()}-{room.name}"
    mounted_bpffs(SETTINGS.run / "bpf")
    line: list[str | Path] = [STOCKADE, "run", "--policy", room / "policy.yaml", "--name", name, "--audit", room / "audit.jsonl"]
    line += ["--workdir", room / "work"]
    with (room / "out").open("w") as out, (room / "stdin").open() as given:
        command = machine.wrap([*line, "--", "sh", "writes.sh"])
        agent = subprocess.Popen(command, stdin=given, stdout=out, stderr=subprocess.DEVNULL)

    def lines() -> int:
        return len((room / "out").read_text().splitlines())

    wait_for(lambda: lines() > 2 and name in running(SETTINGS.control), "what it writes")
    agent.kill()
    agent.wait(10)
    then = lines()
    wait_for(lambda: lines() > then + 2, "what it writes without an agent")
    adopter = subprocess.Popen(machine.wrap([STOCKADE, "adopt", name]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: name in running(SETTINGS.control), "the next agent")
    (room / "work/stop").touch()
    _, stderr = adopter.communicate(timeout=30)
    assert adopter.returncode == 0, stderr
    wait_for(lambda: (room / "out").read_text().endswith("end\n"), "the last of it")
    written = (room / "out").read_text().splitlines()
    assert written[-2:] == ["what was on standard input", "end"] and written[:-2] == [str(n) for n in range(len(written) - 2)]


def test_a_name_means_after_adoption_what_it_meant_before(held: Held) -> None:
    """A program that keeps an address reaches what that address was given for."""
    script = "import socket,sys; print(socket.getaddrinfo(sys.argv[1], 443, socket.AF_INET)[0][4][0])"
    assert held.do(f"GET https://{ECHO}/obeys") == "200"
    (address,) = {record["destination"]["address"] for record in held.records(action="connect", host=ECHO, decision="allow")}
    held.kill_agent()
    held.adopted()
    (held.work / "look.py").write_text(script)
    assert held.do(f"run /usr/bin/python3 look.py {ECHO}") == "0"
    assert held.do(f"GET https://{ECHO}/obeys") == "200"
    assert {record["destination"]["address"] for record in held.records(action="connect", host=ECHO, decision="allow")} == {address}
