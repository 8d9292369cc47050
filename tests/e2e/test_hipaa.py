"""The seed's healthcare policy, as it ships, live: the cases of its own policy tests, asked by python3 and by node, and the promise that no
connection to a cloud model is established whatever else allows it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from framework.internet import CLOUD, HOSPITAL, Internet
from framework.machine import Machine, Result, wait_for
from framework.policy import bare, http, whole
from stockade.audit import mask_path
from stockade.policy.cases.suite import Case, read_suite
from stockade.proxy.canonical import canonical_path
from stockade.resources import POLICIES

INSIDE = Path(__file__).parent / "inside"
HIPAA = POLICIES / "examples/hipaa.yaml"
RULE = "hipaa-clinical-notes"
CASES = [case for case in read_suite(POLICIES / "examples/hipaa_test.yaml").cases if case.target is not None]
MODEL_PORTS = (11434, 8000)
OPENAI = CLOUD[0]

both = pytest.mark.parametrize(
    ("binary", "command", "program"),
    [
        pytest.param("python3", "/usr/bin/python3", "ask.py", marks=pytest.mark.client("/usr/bin/python3")),
        pytest.param("node", "node", "ask.cjs", marks=pytest.mark.client("node")),
    ],
)


class Models:
    """The host's model servers, on its loopback. asked: port, method and path of each request."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str, str]] = []
        self.servers: list[ThreadingHTTPServer] = []

    def listen(self, port: int) -> int:
        """The port, which is another one when 0 is asked for. Raises OSError."""
        asked = self.asked

        class Model(BaseHTTPRequestHandler):
            server: ThreadingHTTPServer

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked.append((self.server.server_port, self.command, self.path))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", port), Model)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.servers.append(server)
        return server.server_port

    def listening(self, port: int) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.listen(port))
        return False


@pytest.fixture
def models() -> Iterator[Models]:
    up = Models()
    try:
        for port in MODEL_PORTS:
            try:
                wait_for(functools.partial(up.listening, port), f"port {port}", timeout=60)  # another suite may have it for a while
            except AssertionError:
                pytest.skip(f"port {port} of this host's loopback is taken")
        yield up
    finally:
        for server in up.servers:
            server.shutdown()
            server.server_close()


def ask(machine: Machine, command: str, program: str, asked: list[list[str | None]], **options: Any) -> tuple[list[Any], Result]:
    """What inside/ask.* got for each."""
    files = {program: (INSIDE / program).read_text(), "asked.json": json.dumps(asked)}
    result = machine.run([command, program], files=files, **({"policy": HIPAA} | options))
    assert result.status == 0, result
    return json.loads(result.stdout), result


def put(case: Case) -> list[str | None]:
    """A case as ask.* wants it."""
    assert case.target is not None
    return [case.method, case.asked.split()[-1]] if case.target.path is not None else [None, case.target.host]


def cases(binary: str, *, host: str | None = None, names: bool = False) -> list[Case]:
    """The requests of a binary to a host, or the names that it looks up."""
    mine = [case for case in CASES if case.binary == binary and case.target is not None]
    if names:
        return [case for case in mine if case.target and case.target.path is None and case.target.port is None]
    return [case for case in mine if case.target and case.target.path is not None and case.target.host == host]


@both
def test_the_record_system_is_reached_as_far_as_the_policy_says(
    machine: Machine, internet: Internet, binary: str, command: str, program: str
) -> None:
    """Its name resolves to a private address: it may, because it is named exactly."""
    asked = cases(binary, host=HOSPITAL)
    before = len(internet.nginx.requests(server=HOSPITAL))
    answers, result = ask(machine, command, program, [put(case) for case in asked])
    assert {case.expected.outcome for case in asked} == {"allow", "deny"}
    for case, (status, body) in zip(asked, answers, strict=True):
        assert status == (200 if case.expected.outcome == "allow" else 403), (case.asked, result)
        if status == 403:
            told = json.loads(body)
            assert (told["rule"], told["level"], told["reason"]) == (RULE, case.expected.level, case.expected.reason), (case.asked, told)
    for case in asked:
        assert case.target is not None and case.target.path is not None
        what = {"decision": case.expected.outcome, "level": case.expected.level, "rule": RULE, "binary": binary, "host": HOSPITAL}
        path = mask_path(canonical_path(case.target.path))
        assert result.select(action="http", method=case.method, path=path, **what), (case.asked, result)
    allowed = [case for case in asked if case.expected.outcome == "allow"]
    arrived = internet.nginx.requests(server=HOSPITAL)[before:]
    assert [[request["method"], f"https://{HOSPITAL}{request['path']}"] for request in arrived] == [put(case) for case in allowed]


@both
def test_no_name_of_a_cloud_model_resolves(machine: Machine, binary: str, command: str, program: str) -> None:
    asked = cases(binary, names=True)
    assert set(CLOUD) <= {case.target.host for case in asked if case.target}
    answers, result = ask(machine, command, program, [put(case) for case in asked])
    assert answers == ["NXDOMAIN"] * len(asked), result
    for case in asked:
        assert case.target is not None
        what = {"host": case.target.host, "level": "destination", "reason": case.expected.reason, "rule": RULE, "binary": binary}
        assert result.select(action="dns", decision="deny", **what), (case.asked, result)


@pytest.mark.client("/usr/bin/python3")
def test_no_address_of_a_cloud_model_is_reached(machine: Machine, internet: Internet, inside: dict[str, str]) -> None:
    """A client that needs no name, because it has the address: EPERM from connect(), and not a packet at the other end."""
    words = [f"tcp,{address},443" for name in CLOUD for address in (internet.hosts[name].v4, internet.hosts[name].v6)]
    before = {name: len(internet.cloud[name].connections) for name in CLOUD}
    result = machine.run(["/usr/bin/python3", "attempt.py", *words], policy=HIPAA, files=inside)
    assert json.loads(result.stdout) == dict.fromkeys(words, "EPERM"), result
    assert len(result.select(action="connect", decision="deny", level="destination", binary="python3", port=443)) == len(words), result
    assert {name: len(internet.cloud[name].connections) for name in CLOUD} == before


@pytest.mark.client("/usr/bin/python3")
def test_the_veto_wins_over_every_policy_beside_it(machine: Machine, internet: Internet, inside: dict[str, str], tmp_path: Path) -> None:
    """The other policy alone opens the way, so it is the veto that closes it: at DNS, and at connect for whoever was told the address."""
    opening = tmp_path / "opening.yaml"
    opening.write_text(bare(http(["python3", "getent"], OPENAI, methods=["GET", "POST"], name="cloud-models")))
    server = internet.cloud[OPENAI]
    [answer], _ = ask(machine, "/usr/bin/python3", "ask.py", [["POST", f"https://{OPENAI}/v1/responses"]], policy=opening)
    assert answer[0] == 200
    before = len(server.connections)
    assert before

    beside: list[str | Path] = ["--policy", opening, "--preset", "openai"]
    names, result = ask(machine, "/usr/bin/python3", "ask.py", [[None, name] for name in CLOUD], options=beside)
    assert names == ["NXDOMAIN"] * len(CLOUD), result
    assert result.select(action="dns", decision="deny", host=OPENAI, level="destination", reason="rule_deny", rule=RULE), result

    # getent is under no veto: it is told the synthetic address that *is* the name, and hands it on.
    script = f"set -- $(getent ahostsv4 {OPENAI}) && exec python3 attempt.py tcp,$1,443 tcp,{internet.hosts[OPENAI].v4},443"
    result = machine.run(["sh", "-c", script], policy=HIPAA, files=inside, options=beside)
    assert result.select(action="dns", decision="allow", host=OPENAI, rule="cloud-models", binary="getent"), result
    said = json.loads(result.stdout)
    assert len(said) == 2 and any(word.startswith("tcp,198.18.") for word in said), result
    assert set(said.values()) == {"EPERM"}, result
    vetoed = {"host": OPENAI, "port": 443, "binary": "python3", "level": "destination", "reason": "rule_deny", "rule": RULE}
    assert result.select(action="connect", decision="deny", **vetoed), result
    assert len(server.connections) == before


@both
def test_localhost_is_the_hosts_model_on_the_model_ports(machine: Machine, models: Models, binary: str, command: str, program: str) -> None:
    """As far as the paths of the policy go, which are the record system's."""
    requests = [["POST", f"http://localhost:{port}/api/v1/patients/1/{what}"] for port in MODEL_PORTS for what in ("notes", "billing")]
    requests += [["POST", f"http://localhost:{port}/v1/chat/completions"] for port in MODEL_PORTS]
    answers, result = ask(machine, command, program, [list(request) for request in requests])
    assert [status for status, _ in answers] == [200, 403, 200, 403, 403, 403], result
    assert models.asked == [(port, "POST", "/api/v1/patients/1/notes") for port in MODEL_PORTS]
    for port in MODEL_PORTS:
        passed = {"host": "localhost", "port": port, "path": "/api/v1/patients/***/notes", "status": 200, "rule": RULE, "binary": binary}
        assert result.select(action="http", decision="allow", level="path", **passed), result
        refused = {"host": "localhost", "port": port, "rule": RULE, "level": "path", "binary": binary}
        assert result.select(action="http", decision="deny", reason="rule_deny", path="/api/v1/patients/***/billing", **refused), result
        assert result.select(action="http", decision="deny", reason="no_rule", path="/v1/chat/completions", **refused), result


@pytest.mark.client("/usr/bin/python3")
def test_no_other_port_of_the_host_is_localhost(machine: Machine, models: Models, inside: dict[str, str]) -> None:
    """Any other port of 127.0.0.1 is the sandbox's own, where nobody listens; the host's service there hears nothing."""
    other = models.listen(0)
    words = [f"tcp,{address},{other}" for address in ("127.0.0.1", "::1")]
    result = machine.run(["/usr/bin/python3", "attempt.py", *words], policy=HIPAA, files=inside)
    assert json.loads(result.stdout) == dict.fromkeys(words, "ECONNREFUSED"), result
    assert models.asked == []


@pytest.mark.client("/usr/bin/python3", "curl")
def test_the_model_ports_are_no_other_binarys(machine: Machine, models: Models, tmp_path: Path) -> None:
    curl = tmp_path / "curl.yaml"
    curl.write_text(whole(http("curl", HOSPITAL, name="curl"), allow=["curl"]))
    script = f"for port in {MODEL_PORTS[0]} {MODEL_PORTS[1]}; do curl -sS http://127.0.0.1:$port/api/v1/patients/1/notes; echo $?; done"
    result = machine.run(["sh", "-c", script], policy=HIPAA, options=["--policy", curl])
    assert result.stdout.split() == ["7", "7"], result  # CURLE_COULDNT_CONNECT
    assert models.asked == []
    for port in MODEL_PORTS:
        assert result.select(action="connect", decision="deny", host="localhost", port=port, binary="curl"), result
