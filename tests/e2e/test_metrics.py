"""A real Prometheus scrapes live agents: what it says of a known workload, of every panel, and of every fault that is made.

The alerts are the product's own with shorter times; promtool has them with the real ones.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from framework.internet import CLOUD, ECHO, H1, RELAYED
from framework.machine import STOCKADE, Machine, Running, wait_for, worker_of
from framework.policy import http, relay, whole
from framework.prometheus import DEPLOY, Prometheus, shortened
from stockade.service.settings import Settings

pytestmark = [pytest.mark.client("prometheus", "promtool", "curl", "/usr/bin/python3")]

TARGETS = Settings().run / "metrics"
DASHBOARDS = DEPLOY.parent / "grafana/dashboards"
_numbers = itertools.count(1)

KNOWN = f"""
import pathlib, socket, subprocess, threading, time
def floods():  # beside the rest, which waits while the agent is stopped
    while True:
        time.sleep(0.05)
        if pathlib.Path("flood").exists():
            pathlib.Path("flood").unlink()
            for number in range(45_000):
                with socket.socket() as sock:
                    sock.setblocking(False)
                    try: sock.connect(("192.0.2.1", 9))
                    except OSError: pass
            pathlib.Path("flooded").touch()
threading.Thread(target=floods, daemon=True).start()
def curl(*words): subprocess.run(["curl", "-sS", "-o", "/dev/null", *words], stderr=subprocess.DEVNULL)
for number in range(7): curl("https://{ECHO}/%d" % number)
for number in range(3): curl("-X", "DELETE", "https://{ECHO}/")
for number in range(2): curl("--http1.1", "https://{RELAYED[0]}/")
chat = '{{"model": "gpt-4o", "messages": [{{"role": "user", "content": "Rosalind Achterberg, %d"}}]}}'
for number in (1, 2, 2): curl("-H", "content-type: application/json", "-d", chat % number, "https://{CLOUD[0]}/v1/chat/completions")
pathlib.Path("known").touch()
for turn in range(10**9):  # from here on until it is told to stop, so that there is a rate of everything
    if pathlib.Path("stop").exists(): break
    curl("https://{ECHO}/")
    curl("-X", "DELETE", "https://{ECHO}/")
    curl("--http1.1", "https://{RELAYED[0]}/")
    curl("-H", "content-type: application/json", "-d", chat % turn, "https://{CLOUD[0]}/v1/chat/completions")
"""


def policy(**more: Any) -> str:
    rules = (
        http("curl", ECHO, name="echo"),
        http("curl", CLOUD[0], methods=["POST"], name="model"),
        relay("curl", RELAYED[0], name="relayed", tls="passthrough"),
    )
    privacy = {"detect": {"custom": [{"name": "patients", "pattern": "Rosalind Achterberg", "category": "phi.identifier"}]}}
    return whole(*rules, allow=["curl", "python3"], privacy=privacy | {"on_failure": "pass"}, **more)


class Watched:
    """A sandbox that exports its metrics under a name of its own, and a Prometheus that finds it."""

    def __init__(self, name: str, run: Running, prometheus: Prometheus) -> None:
        self.name, self.run, self.prometheus = name, run, prometheus
        self.work = run.audit.parent / "work"

    def until(self, fires: str, make: Callable[[], object], timeout: float = 90) -> None:
        """The fault is made again until its alert fires: one that is mended at once is seen only if it goes on."""
        deadline = time.monotonic() + timeout
        while not self.prometheus.firing(fires, sandbox=self.name):
            assert time.monotonic() < deadline, f"{fires} does not fire: {self.prometheus.ask('ALERTS')}"
            make()
            time.sleep(0.3)


@contextlib.contextmanager
def watched(machine: Machine, text: str, command: list[str], files: dict[str, str], place: Path, **options: Any) -> Iterator[Watched]:
    name = f"metrics-{os.getpid()}-{next(_numbers)}"
    targets = options.pop("targets", TARGETS)
    change = options.pop("change", {})
    more = options.pop("options", ["--metrics", "127.0.0.1:0"])
    with (
        machine.start(command, policy=text, files=files, options=["--name", name, *more], **options) as run,
        Prometheus(place / name, targets, change) as prometheus,
    ):
        yield Watched(name, run, prometheus)


@pytest.fixture(scope="module")
def known(machine: Machine, place: Path) -> Iterator[Watched]:
    """Alive through the tests that ask for it; the last one ends it."""
    with watched(machine, policy(), ["/usr/bin/python3", "known.py"], {"known.py": KNOWN}, place) as found:
        wait_for((found.work / "known").exists, "the known workload", 60, found.run)
        yield found


def panels() -> Iterator[tuple[str, str]]:
    """(where, query) of every target of every panel."""
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]


def test_a_known_workload_is_what_prometheus_says_of_it_and_every_panel_has_data(known: Watched) -> None:
    ask, box = known.prometheus, f'sandbox="{known.name}"'
    ask.wait_for(f"stockade_workers{{{box}}}", 1)
    ask.wait_for(f'stockade_decisions_total{{{box},action="inference"}} >= 3')
    at_least = {
        f'sum(stockade_decisions_total{{{box},action="http",decision="allow",reason="rule_allow"}})': 7,
        f'sum(stockade_decisions_total{{{box},action="http",decision="deny",reason="no_rule"}})': 3,
        f'stockade_latency_seconds_count{{{box},stage="classification"}}': 3,
        f'stockade_latency_seconds_count{{{box},stage="exec"}}': 15,
        f'stockade_latency_seconds_count{{{box},stage="first_byte"}}': 10,
        f'stockade_sent_bytes_total{{{box},kind="relayed"}}': 2 * 200,
        f'stockade_received_bytes_total{{{box},kind="relayed"}}': 2 * 1000,
        f'stockade_received_bytes_total{{{box},kind="inspected"}}': 7,
        f"stockade_classifier_cached_total{{{box}}}": 1,
        f"stockade_processes{{{box}}}": 1,
    }
    for expression, value in at_least.items():
        ask.wait_for(f"{expression} >= {value}")
    for where, expression in panels():
        if "$namespace" in expression:
            continue  # of pods: the test after this one
        asked = shortened(expression.replace("$sandbox", known.name))
        wait_for(lambda asked=asked: ask.ask(asked), f"data of {where}: {asked}", 60)  # type: ignore[misc]


def test_a_pod_is_counted_by_its_namespace_alone_and_every_panel_has_data(machine: Machine, place: Path) -> None:
    """A sandbox whose labels are those of a pod, as the agent of a node gives them."""
    requests = f"curl -sS -o out https://{ECHO}/; curl -sS -o out -X DELETE https://{ECHO}/"
    command = ["/bin/sh", "-c", f"while [ ! -e stop ]; do {requests}; done"]
    labels = ("namespace=team-a", "pod=agent-0", "pod_uid=0b5a1c7e-4a52-4c0f-9d5e-6f2f0b1e8c11", "node=node1")
    options = ["--metrics", "127.0.0.1:0", *itertools.chain.from_iterable(("--label", label) for label in labels)]
    text = whole(http("curl", ECHO, name="echo"), allow=["curl", "sh"])
    with watched(machine, text, command, {}, place, options=options) as pod:
        ask = pod.prometheus
        ask.wait_for('stockade_pods{namespace="team-a"}', 1)
        ask.wait_for('sum(stockade_decisions_total{namespace="team-a",action="http",decision="deny",reason="no_rule"}) >= 2')
        for where, expression in panels():
            if "$namespace" in expression:
                asked = shortened(expression.replace("$namespace", "team-a"))
                wait_for(lambda asked=asked: ask.ask(asked), f"data of {where}: {asked}", 60)  # type: ignore[misc]
        named = ask.ask(f'{{__name__=~"stockade_.+",sandbox="{pod.name}"}}')
        told = ask.ask('{__name__=~"stockade_.+",namespace="team-a"}')
        assert not named and told and not any("agent-0" in str(each) or "node1" in str(each) for each in told)
        (pod.work / "stop").touch()
        result = pod.run.finish()
    denied = result.select(action="http", decision="deny")
    assert denied and all(record["sandbox"]["labels"]["namespace"] == "team-a" for record in denied)
    filters = ("--namespace", "team-*", "--decision", "deny", "--action", "http")
    found = subprocess.run([STOCKADE, "audit", "grep", result.audit, *filters, "-o", "json"], capture_output=True, text=True, check=True)
    assert len(found.stdout.splitlines()) == len(denied)


def test_alerts_fire_when_their_fault_is_made(known: Watched) -> None:
    box = f'sandbox="{known.name}"'
    known.prometheus.wait_for(f"stockade_classifier_up{{{box}}}", 1)
    wait_for(lambda: not known.prometheus.firing("StockadeClassifierFallback"), "that it is loaded")
    for alert in ("StockadeReloadFailed", "StockadeWorkerDown", "StockadeRingDrops"):
        assert not known.prometheus.firing(alert), alert

    # what is refused every second now was refused never before
    known.until("StockadeRefusalSpike", lambda: None)

    source = known.run.audit.parent / "policy.yaml"
    good = source.read_text()
    source.write_text(good + "\nnonsense: 1\n")
    known.until("StockadeReloadFailed", lambda: None)
    source.write_text(good)
    known.prometheus.wait_for(f'stockade_policy_reload_failed{{sandbox="{known.name}"}}', 0)

    def without_classifier() -> None:
        for pid in classifiers(known.run.process.pid):
            os.kill(pid, signal.SIGKILL)

    known.until("StockadeClassifierFallback", without_classifier)

    os.kill(worker_of(known.run.process.pid), signal.SIGKILL)
    known.until("StockadeWorkerDown", lambda: None)

    def flood() -> None:
        """The agent is stopped while more happens than the ring holds."""
        (known.work / "flooded").unlink(missing_ok=True)
        os.kill(known.run.process.pid, signal.SIGSTOP)
        try:
            (known.work / "flood").touch()
            wait_for((known.work / "flooded").exists, "the flood", 60)
        finally:
            os.kill(known.run.process.pid, signal.SIGCONT)

    flood()
    known.until("StockadeRingDrops", lambda: None)
    assert [record for record in known.run.records() if record["reason"] == "events_lost"]

    def told() -> bool:
        said = subprocess.run([STOCKADE, "status", known.name], capture_output=True, text=True)
        return said.returncode == 1 and "on no record of their own" in said.stdout

    wait_for(told, "the word of status")


def test_series_end_with_their_sandbox_and_counted_what_its_trail_has(known: Watched) -> None:
    ask, box = known.prometheus, f'sandbox="{known.name}"'
    (known.work / "stop").touch()
    result = known.run.finish()
    # the counts at the end, of the same run, beside its own trail
    refused = len(result.select(action="http", decision="deny", reason="no_rule"))
    assert refused >= 3 and result.select(action="inference")
    assert not (TARGETS / f"{known.name}.json").exists(), "who ends well takes its target away"
    wait_for(lambda: not ask.ask(f"stockade_workers{{{box}}}"), "the end of its series")
    counted = ask.number(
        f'max_over_time(stockade_decisions_total{{{box},action="http",decision="deny",reason="no_rule",level="method"}}[2m])'
    )
    assert counted is not None and refused - 3 <= counted <= refused, (counted, refused)


def classifiers(agent: int) -> list[int]:
    """Children of the agent that run as the classifier's user."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = (process / "status").read_text()
            if f"PPid:\t{agent}\n" in status and f"Uid:\t{Settings().classifier_user}\t" in status:
                found.append(int(process.name))
    return found


def test_tls_and_a_token_are_what_prometheus_brings_and_their_end_is_an_alert_as_is_a_sink_that_nobody_hears(
    machine: Machine, place: Path
) -> None:
    keys = place / f"keys-{next(_numbers)}"
    keys.mkdir(mode=0o755)
    made = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=m -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*made.split(), "-keyout", keys / "own.key", "-out", keys / "own.pem"], check=True, capture_output=True)
    (keys / "token").write_text("a-token-of-the-tests\n")
    settings = {
        "version": 1,
        "metrics": {
            "listen": "127.0.0.1:0",
            "certificate": f"{keys}/own.pem",
            "key": f"{keys}/own.key",
            "token": f"file:{keys}/token",
            "targets": f"{keys}/targets",
        },
        "audit": {"sinks": [{"type": "http", "url": "http://127.0.0.1:9/", "name": "nobody"}], "drain": "1s"},
    }
    (keys / "settings.yaml").write_text(yaml.safe_dump(settings))
    change = {"authorization": {"credentials_file": f"{keys}/token"}, "tls_config": {"ca_file": f"{keys}/own.pem"}}
    command = ["sh", "-c", "while [ ! -e stop ]; do sleep 0.1; done"]
    text = whole(allow=["sh", "coreutils"])
    with watched(
        machine, text, command, {}, place, options=["--settings", keys / "settings.yaml"], targets=keys / "targets", change=change
    ) as found:
        found.prometheus.wait_for(f'stockade_workers{{sandbox="{found.name}"}}', 1)
        wait_for(lambda: found.prometheus.firing("StockadeCertificateExpiry", certificate="metrics"), "the alert", 60)
        assert not found.prometheus.firing("StockadeCertificateExpiry", certificate="authority")
        wait_for(lambda: found.prometheus.firing("StockadeAuditSinkFailing", sink="nobody", type="http"), "the alert", 60)
        assert found.prometheus.number(f'stockade_audit_sink_behind_bytes{{sandbox="{found.name}",sink="nobody"}}')
        [group] = json.loads((keys / "targets" / f"{found.name}.json").read_text())
        plain: list[str | Path] = [
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--cacert",
            keys / "own.pem",
            f"https://{group['targets'][0]}/metrics",
        ]
        assert subprocess.run(plain, capture_output=True, text=True).stdout == "401"
        (found.work / "stop").touch()
        result = found.run.finish()
    assert result.status == 0, result
    assert "a-token-of-the-tests" not in result.audit.read_text() + result.stderr


def test_an_agent_that_was_killed_is_an_alert_and_so_is_the_gap_it_left(machine: Machine, place: Path) -> None:
    command = ["sh", "-c", "while [ ! -e stop ]; do sleep 0.1; done"]
    with watched(machine, whole(allow=["sh", "coreutils"]), command, {}, place) as found:
        found.prometheus.wait_for(f'stockade_workers{{sandbox="{found.name}"}}', 1)
        target = TARGETS / f"{found.name}.json"
        [address] = json.loads(target.read_text())[0]["targets"]
        os.kill(found.run.process.pid, signal.SIGKILL)
        found.run.process.wait(30)
        try:
            wait_for(lambda: found.prometheus.firing("StockadeAgentDown", instance=address), "the alert", 60)
            agent = subprocess.Popen(
                machine.wrap([STOCKADE, "adopt", found.name]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            wait_for(lambda: found.prometheus.firing("StockadeEnforcementGap", sandbox=found.name), "the alert", 60)
            (found.work / "stop").touch()
            agent.communicate(timeout=60)
        finally:
            subprocess.run([STOCKADE, "sandbox", "kill", found.name], capture_output=True)
            target.unlink(missing_ok=True)


HOLDS = f"""
import os, pathlib, socket, time
def wait(name):
    while not pathlib.Path(name).exists(): time.sleep(0.05)
address = socket.getaddrinfo("{ECHO}", 443, socket.AF_INET, socket.SOCK_STREAM)[0][4]
pathlib.Path("ready").touch()
wait("fill")
def hold():
    held = [socket.socket() for _ in range(900)]
    for sock in held:
        sock.setblocking(False)
        try: sock.connect(address)
        except OSError: pass
    pathlib.Path("holds-%d" % os.getpid()).touch()
    wait("stop")
for _ in range(15):
    if os.fork() == 0:
        hold()
        os._exit(0)
for _ in range(15): os.wait()
"""


def test_a_quota_that_fills_is_an_alert_and_so_is_what_it_then_denies(machine: Machine, place: Path) -> None:
    """13,500 connections that nobody accepts: 4,097 wait in the listener's queue, and of the rest the kernel keeps 8,192 origins."""
    text = whole(http("python3", ECHO), allow=["python3"])
    with watched(machine, text, ["/usr/bin/python3", "holds.py"], {"holds.py": HOLDS}, place) as found:
        box = f'sandbox="{found.name}"'
        wait_for((found.work / "ready").exists, "the sandbox", running=found.run)
        found.prometheus.wait_for(f'stockade_helper_failures_total{{{box},helper="quota"}}', 0)
        assert found.prometheus.number(f'stockade_map_entries{{{box},map="origins"}}') == 0
        worker = worker_of(found.run.process.pid)
        os.kill(worker, signal.SIGSTOP)
        try:
            (found.work / "fill").touch()
            wait_for(lambda: len(list(found.work.glob("holds-*"))) == 15, "that they are held", 60, found.run)
            found.prometheus.wait_for(f'stockade_map_entries{{{box},map="origins"}} == stockade_map_capacity{{{box},map="origins"}}')
            wait_for(lambda: found.prometheus.firing("StockadeMapFilling", sandbox=found.name, map="origins"), "the alert", 60)
            wait_for(lambda: found.prometheus.firing("StockadeHelperFailures", sandbox=found.name, helper="quota"), "the alert", 60)
        finally:
            os.kill(worker, signal.SIGCONT)
        (found.work / "stop").touch()
        found.run.finish()


def test_a_trail_that_cannot_be_written_is_an_alert(machine: Machine, place: Path) -> None:
    """Its disk is full."""
    room = machine.room()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", room], check=True)
    try:
        (room / "work").mkdir()
        script = "while [ ! -e full ]; do sleep 0.1; done; while [ ! -e stop ]; do curl -s http://nowhere.test/; sleep 0.1; done"
        text = whole(http("curl", H1), allow=["sh", "coreutils", "curl"])
        with watched(machine, text, ["sh", "-c", script], {}, place, room=room) as found:
            found.prometheus.wait_for(f'stockade_audit_broken{{sandbox="{found.name}"}}', 0)
            (room / "work/full").touch()
            with contextlib.suppress(OSError), (room / "filler").open("wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(4096))
            found.until("StockadeAuditFailure", lambda: None)
            said = subprocess.run([STOCKADE, "status", found.name, "-o", "json"], capture_output=True, text=True)
            assert said.returncode == 1 and json.loads(said.stdout)[0]["problems"], said
            (room / "filler").unlink()
            (room / "work/stop").touch()
            found.run.finish()
    finally:
        subprocess.run(["umount", "-l", room], check=True)


def test_a_second_run_on_the_same_port_is_refused_before_its_command_runs(machine: Machine) -> None:
    command = ["sh", "-c", "touch ran; while [ ! -e stop ]; do sleep 0.1; done"]
    text = whole(allow=["sh", "coreutils"])
    with machine.start(command, policy=text, options=["--metrics", "127.0.0.1:0", "--name", f"port-{os.getpid()}"]) as first:
        wait_for((first.audit.parent / "work/ran").exists, "the first", running=first)
        [address] = json.loads((TARGETS / f"port-{os.getpid()}.json").read_text())[0]["targets"]
        second = machine.run(command, policy=text, options=["--metrics", address])
        assert second.status == 125 and "is taken [port_taken]" in second.stderr and "127.0.0.1:0" in second.stderr, second
        assert not (second.audit.parent / "work/ran").exists()
        (first.audit.parent / "work/stop").touch()
        result = first.finish()
    assert re.search(r"metrics at http://127\.0\.0\.1:\d+/metrics", result.stderr), result


@pytest.mark.parametrize("file", sorted(path.name for path in (DEPLOY / "tests").glob("*.yml")))
def test_the_rules_hold_with_their_real_times(file: str) -> None:
    done = subprocess.run(["promtool", "test", "rules", DEPLOY / "tests" / file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_unit_test() -> None:
    alerts = [rule["alert"] for group in yaml.safe_load((DEPLOY / "stockade.alerts.yml").read_text())["groups"] for rule in group["rules"]]
    tested = (DEPLOY / "tests/alerts.yml").read_text()
    assert [alert for alert in alerts if f'alertname="{alert}"' not in tested] == []


def test_the_dashboards_are_those_of_the_code() -> None:
    before = {path.name: path.read_text() for path in DASHBOARDS.glob("*.json")}
    code = "import json, dashboards; print(json.dumps(dashboards.written()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=DASHBOARDS.parent, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == before


def test_what_is_provisioned_fits_together() -> None:
    source = yaml.safe_load((DASHBOARDS.parent / "provisioning/datasources/stockade.yaml").read_text())["datasources"][0]
    for path in DASHBOARDS.glob("*.json"):
        assert f'"uid": "{source["uid"]}"' in path.read_text()


def test_the_commands_of_the_guide_do_what_it_says(machine: Machine, place: Path) -> None:
    """As they stand there, but for the port, the sandbox's name and the directories, which may be somebody else's."""
    guide = (DEPLOY.parents[1] / "docs/observability.md").read_text()
    name, work = f"metrics-{os.getpid()}-guide", place / f"guide-{next(_numbers)}"
    work.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = "\n".join(re.findall(r"```bash\n(.*?)```", guide, re.S))
    for there, here in (("9090", str(port)), ("demo", name), ("prometheus-data", f"{work}/data"), ("prometheus.log", f"{work}/log")):
        assert there in script
        script = script.replace(there, here)
    script = script.replace(f"{name}.log", f"{work}/{name}.log")
    command = ["timeout", "120", "bash", "-uc", f"trap 'kill $(jobs -p)' EXIT\n{script}\n.venv/bin/stockade sandbox kill {name}"]
    done = subprocess.run(machine.wrap(command), cwd=DEPLOY.parents[1], capture_output=True, text=True)
    assert done.returncode == 0 and '"reason":"file_refused"' in done.stdout, done
    assert "127.0.0.1" in done.stdout and f"{name}: killed" in done.stdout, done
