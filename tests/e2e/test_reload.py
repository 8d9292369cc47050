"""Hot reload: by file, by signal and by command; whole or not at all; and nothing is decided by half a policy on the way."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from framework.internet import ECHO, H1, RELAYED, STREAM
from framework.machine import STOCKADE, Machine, Record, Running, wait_for
from framework.policy import Rule, http, relay, whole
from stockade.policy import Policy, decide, load
from stockade.service.control import ask, running
from stockade.service.settings import Settings
from stockade.types import Binary, Decision, Request, StockadeError

pytestmark = pytest.mark.client("/usr/bin/python3")

RUNS = ("python3", "sh", "coreutils")
CONTROL = Settings().control


def policy(*rules: Rule, name: str = "test", **sections: object) -> str:
    """What may run is always the same."""
    return whole(*rules, allow=RUNS, **sections).replace("name: test", f"name: {name}", 1)


FIRST = policy(http("python3", ECHO))


class Reloading:
    """A run that is given one policy after the other, by its own name among those of other tests."""

    def __init__(self, machine: Machine, inside: dict[str, str]) -> None:
        self._machine = machine
        self.room = machine.room(inside)
        self.work, self.file = self.room / "work", self.room / "policy.yaml"
        self.name = f"reload-{os.getpid()}-{self.room.name}"

    def start(self, command: str, text: str = FIRST, *, options: Sequence[str] = ()) -> Running:
        self.run = self._machine.start(command, policy=text, room=self.room, options=["--name", self.name, *options])
        return self.run

    def started(self) -> None:
        """The control socket answers once there is something to reload."""
        wait_for(lambda: self.name in running(CONTROL), "the control socket", running=self.run)
        self.verb("status")

    def verb(self, verb: str) -> dict[str, object]:
        return ask(CONTROL, self.name, verb)

    def put(self, text: str) -> None:
        """As an editor does: written beside, and renamed."""
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.rename(self.file)

    def records(self, reason: str) -> list[Record]:
        return [record for record in self.run.records() if record["reason"] == reason]

    def command(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([STOCKADE, "reload", "--sandbox", self.name, *options], capture_output=True, text=True, timeout=60)


@pytest.fixture
def reloading(machine: Machine, inside: dict[str, str]) -> Reloading:
    return Reloading(machine, inside)


# one switch


def test_no_request_is_decided_by_half_a_policy(reloading: Reloading) -> None:
    """200 reloads under requests that the policy allows in turns: each record holds under the very generation that it names."""
    sides = {
        "even": (http("python3", ECHO, paths=["/even/**"], name="even"), http("python3", H1, paths=["/even/**"], name="even-foreign")),
        "odd": (http("python3", ECHO, paths=["/odd/**"], name="odd"),),
    }
    texts = {f"p{number}": policy(*sides["odd" if number % 2 else "even"], name=f"p{number}") for number in range(1, 202)}
    with reloading.start(f"/usr/bin/python3 alternate.py {ECHO} {H1}", texts["p1"]) as run:
        reloading.started()
        log = reloading.work / "alternate.log"
        run.wait_for(" 200", log)
        for number in range(2, 202):
            reloading.put(texts[f"p{number}"])
            assert reloading.verb("reload")["switched"]
            if number % 4:  # else the next one follows at once
                before = len(log.read_text().splitlines())
                wait_for(lambda: len(log.read_text().splitlines()) > before + 2, "requests", running=run)  # noqa: B023
        (reloading.work / "stop").touch()
        result = run.finish()
    assert result.status == 0, result

    reloads = [record for record in result.records if record["action"] == "policy"]
    in_force = {record["sandbox"]["generation"]: record["sandbox"]["policy"] for record in reloads}
    assert len(reloads) == len(in_force) >= 200 and {record["reason"] for record in reloads} == {"reloaded"}
    in_force[1] = "p1"
    policies = _loaded(reloading.room, in_force, texts)
    for record in result.records:
        if record["action"] in ("dns", "connect", "http"):
            _check(record, policies[record["sandbox"]["generation"]])

    said = [line.split() for line in log.read_text().splitlines()]
    outcomes = Counter(outcome for _, outcome in said)
    assert outcomes["200"] > 50 and outcomes["403"] > 50, outcomes
    seen = {}
    for record in result.select(action="http"):
        if record["reason"] != "policy_changed" or record["effect"] == "cut":  # begun under one policy and judged again under the next
            assert record["http"]["path"] not in seen, "one request, one record"
            seen[record["http"]["path"]] = record["decision"]
    for path, outcome in said:
        if outcome in ("200", "403"):
            assert seen.get(path) == {"200": "allow", "403": "deny"}[outcome], (path, outcome)


def _loaded(room: Path, in_force: dict[int, str], texts: dict[str, str]) -> dict[int, Policy]:
    policies, file = {}, room / "again.yaml"
    for generation, name in in_force.items():
        file.write_text(texts[name])
        policies[generation] = load([file], generation=generation)
    return policies


def _check(record: Record, policy: Policy) -> None:
    destination, seen = record["destination"], record["http"] or {}
    request = Request(Binary.named("python3"), destination["host"], destination["port"], seen.get("method"), seen.get("path"))
    decision: Decision = decide(request, policy)
    assert (decision.outcome.value, decision.rule) == (record["decision"], record["rule"]), (record, decision)
    if record["reason"] not in ("policy_changed", "interrupted", "record_type"):
        assert decision.reason.value == record["reason"], (record, decision)


@pytest.mark.parametrize("trigger", ["file", "signal", "command"])
def test_each_trigger_switches_once(reloading: Reloading, trigger: str) -> None:
    with reloading.start(f"/usr/bin/python3 keepalive.py {ECHO} 2") as run:
        reloading.started()
        reloading.put(policy(http("python3", ECHO, paths=["/elsewhere"])))
        if trigger == "signal":
            run.reload()
        elif trigger == "command":
            done = reloading.command("-o", "json")
            assert done.returncode == 0, done.stderr
            (answer,) = json.loads(done.stdout)
            assert (answer["sandbox"], answer["generation"], answer["switched"]) == (reloading.name, 2, True)
        (record,) = wait_for(lambda: reloading.records("reloaded"), "a reload", running=run)
        assert [cause.partition(" ")[0] for cause in record["detail"]["cause"]] == [trigger]
        assert record["detail"]["sources"] == [str(reloading.file)]
        (reloading.work / "go-0").touch()
        assert run.wait_for("403", reloading.work / "answer-0")
        time.sleep(1.5)  # a file that was read on command is not read once more by the watch
        assert len(reloading.records("reloaded")) == 1
        assert reloading.verb("status")["generation"] == 2


# what changes nothing

REFUSED: dict[str, tuple[str, str]] = {
    "invalid": ("- name: nonsense\n  binaries: {allow: [curl]}\n", "policy.yaml:2:3: a rule has no key `binaries`"),
    "exec": (FIRST.replace("- coreutils", "- coreutils\n  - curl"), "policy.yaml:3:1: `exec.allow` cannot change while the sandbox runs"),
    "filesystem": (policy(http("python3", ECHO), filesystem={"hide": ["/opt"]}), "`filesystem.hide` cannot change"),
    "binary": (policy(http(["python3", "wget"], ECHO)), "names `wget`, which was in no rule"),
    "inside": (FIRST + "extends: [./work/base.yaml]\n", "would be writable from inside the sandbox"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refused_policy_changes_nothing_and_says_where_and_why(reloading: Reloading, kind: str) -> None:
    text, said = REFUSED[kind]
    (reloading.work / "base.yaml").write_text("version: 1\n")
    with reloading.start(f"/usr/bin/python3 keepalive.py {ECHO} 2") as run:
        reloading.started()
        reloading.put(text)
        done = reloading.command()
        assert done.returncode == 1 and said in done.stderr and "generation 1 stays in force" in done.stderr, done.stderr
        records = reloading.records("reload_refused")
        assert said in records[0]["detail"]["why"] and records[0]["sandbox"]["generation"] == 1, records
        (reloading.work / "go-0").touch()
        assert run.wait_for("200", reloading.work / "answer-0")
        reloading.put(policy(http("python3", ECHO, H1)))
        wait_for(lambda: reloading.records("reloaded"), "the policy that is mended", running=run)
        (reloading.work / "go-1").touch()
        assert run.wait_for("200", reloading.work / "answer-1")
        assert run.finish().select(action="http", decision="deny") == []


def test_a_deleted_policy_stays_in_force_and_is_read_when_it_is_back(reloading: Reloading) -> None:
    with reloading.start(f"/usr/bin/python3 keepalive.py {ECHO} 2") as run:
        reloading.started()
        reloading.file.unlink()
        (refused,) = wait_for(lambda: reloading.records("reload_refused"), "a refusal", running=run)
        assert "cannot read" in refused["detail"]["why"] and refused["detail"]["cause"] == ["file"]
        (reloading.work / "go-0").touch()
        assert run.wait_for("200", reloading.work / "answer-0")
        time.sleep(1.5)
        assert len(reloading.records("reload_refused")) == 1, "refused once, not at every look"
        reloading.put(policy(http("python3", ECHO, paths=["/elsewhere"])))
        wait_for(lambda: reloading.records("reloaded"), "a reload", running=run)
        (reloading.work / "go-1").touch()
        assert run.wait_for("403", reloading.work / "answer-1")


def test_a_file_that_is_being_written_is_read_when_it_is_whole(reloading: Reloading) -> None:
    text = policy(http("python3", ECHO, paths=["/elsewhere"]))
    with reloading.start(f"/usr/bin/python3 keepalive.py {ECHO} 1") as run:
        reloading.started()
        with reloading.file.open("w") as file:
            for line in text.splitlines(keepends=True):  # every prefix of it is another policy, or none
                file.write(line)
                file.flush()
                time.sleep(0.2)
        wait_for(lambda: reloading.records("reloaded"), "a reload", running=run)
        assert len(reloading.records("reloaded")) == 1 and reloading.records("reload_refused") == []


def test_a_config_map_is_exchanged_as_a_whole(reloading: Reloading) -> None:
    """As kubelet does: the names are links through ..data, which is renamed over."""
    mounted = reloading.room / "mounted"
    for version, paths in (("..1", ["/**"]), ("..2", ["/elsewhere"])):
        (mounted / version).mkdir(parents=True)
        (mounted / version / "base.yaml").write_text(policy(http("python3", ECHO, paths=paths)))
        (mounted / version / "policy.yaml").write_text("version: 1\nextends: [./base.yaml]\n")
    (mounted / "..data").symlink_to("..1")
    for name in ("base.yaml", "policy.yaml"):
        (mounted / name).symlink_to(f"..data/{name}")
    run = reloading._machine.start(
        f"/usr/bin/python3 keepalive.py {ECHO} 1",
        policy=mounted / "policy.yaml",
        room=reloading.room,
        options=["--name", reloading.name],
    )
    reloading.run = run
    with run:
        reloading.started()
        (mounted / "..data.new").symlink_to("..2")
        (mounted / "..data.new").rename(mounted / "..data")
        wait_for(lambda: reloading.records("reloaded"), "a reload", running=run)
        (reloading.work / "go-0").touch()
        assert run.wait_for("403", reloading.work / "answer-0")


# what is under way


def test_a_tunnel_that_is_denied_is_cut_and_recorded(reloading: Reloading) -> None:
    host = RELAYED[0]
    with reloading.start(f"/usr/bin/python3 tunnel.py {host}", policy(relay("python3", host, tls="passthrough"))) as run:
        reloading.started()
        run.wait_for("up", reloading.work / "tunnel.log")
        reloading.put(policy(http("python3", ECHO)))
        reloading.verb("reload")
        run.wait_for("cut", reloading.work / "tunnel.log", timeout=5)
        (record,) = run.finish().select(action="connect", effect="cut")
    assert record["reason"] == "policy_changed" and record["sandbox"]["generation"] == 2 and record["decision"] == "deny"
    assert record["destination"]["host"] == host and record["detail"]["bytes_received"] > 0


def test_a_tunnel_that_stays_allowed_is_left_alone(reloading: Reloading) -> None:
    host = RELAYED[0]
    with reloading.start(f"/usr/bin/python3 tunnel.py {host}", policy(relay("python3", host, tls="passthrough"))) as run:
        reloading.started()
        run.wait_for("up", reloading.work / "tunnel.log")
        for number in range(5):
            reloading.put(policy(relay("python3", host, tls="passthrough"), name=f"again-{number}"))
            assert reloading.verb("reload")["switched"]
        time.sleep(0.3)
        assert (reloading.work / "tunnel.log").read_text() == "up\n"


def test_a_download_that_stays_allowed_ends_whole_and_one_that_is_denied_is_cut(reloading: Reloading) -> None:
    kept, denied = "/ticks/40", "/hold/denied"
    log = reloading.work / "downloads.log"
    both = policy(http("python3", STREAM, paths=["/ticks/*", "/hold/*"]))
    with reloading.start(f"/usr/bin/python3 downloads.py https://{STREAM}{kept} https://{STREAM}{denied}", both) as run:
        reloading.started()
        run.wait_for(f"{kept} begun", log)
        run.wait_for(f"{denied} begun", log)
        for number in range(5):
            reloading.put(policy(http("python3", STREAM, paths=["/ticks/*"]), name=f"narrower-{number}"))
            assert reloading.verb("reload")["switched"]
        run.wait_for(f"{denied} cut", log, timeout=2)
        assert f"{kept} whole" not in log.read_text(), "the reload came too late for this test"
        result = run.finish()
    assert f"{kept} whole 200" in log.read_text()
    (cut,) = result.select(action="http", path=denied)
    assert (cut["effect"], cut["reason"], cut["decision"]) == ("cut", "policy_changed", "allow")
    (through,) = result.select(action="http", path=kept)
    assert (through["effect"], through["reason"], through["sandbox"]["generation"]) == ("pass", "rule_allow", 1)


# who may ask


def test_a_name_is_one_sandboxs(reloading: Reloading, machine: Machine) -> None:
    with reloading.start("sleep 30"):
        reloading.started()
        second = machine.run("true", policy=FIRST, options=["--name", reloading.name])
        assert second.status == 125 and "name_taken" in second.stderr, second
        assert reloading.verb("status")["sandbox"] == reloading.name, "the first one still answers"


def test_the_socket_of_a_dead_agent_is_replaced(reloading: Reloading, machine: Machine) -> None:
    with reloading.start("sleep 3") as run:
        reloading.started()
        run.process.kill()
        run.process.wait(10)
    assert (CONTROL / f"{reloading.name}.sock").exists()
    with pytest.raises(StockadeError, match="no sandbox called"):
        ask(CONTROL, reloading.name, "status")
    assert reloading.command().returncode == 2
    again = machine.run("true", policy=FIRST, options=["--name", reloading.name])
    assert again.status == 0, again
    assert not (CONTROL / f"{reloading.name}.sock").exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "x" * 64])
def test_a_name_that_would_lead_elsewhere_is_none(machine: Machine, name: str) -> None:
    result = machine.run("true", policy=FIRST, options=[f"--name={name}"])
    assert result.status == 125 and "bad_name" in result.stderr, result


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child execs nothing and touches no lock
def test_nobody_but_root_is_answered(reloading: Reloading, machine: Machine) -> None:
    def as_nobody(work: Callable[[], object]) -> int:
        child = os.fork()
        if child == 0:
            os.setresuid(65534, 65534, 65534)
            try:
                work()
            except StockadeError as error:
                os._exit(13 if error.code == "not_root" else 1)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    with reloading.start("sh -c 'ls -A /run /run/stockade; ls -lA /run/stockade/control; sleep 30'", options=["--bind", "/run:/run:ro"]):
        reloading.started()
        assert CONTROL.stat().st_mode & 0o777 == 0o700 and (CONTROL / f"{reloading.name}.sock").stat().st_mode & 0o777 == 0o600
        assert as_nobody(lambda: ask(CONTROL, reloading.name, "status")) == 13
        assert as_nobody(lambda: running(CONTROL)) == 13
        reloading.run.process.terminate()
        result = reloading.run.finish()
    assert reloading.name not in result.stdout and "control" not in result.stdout.replace("/run/stockade/control", ""), result
