"""One sandbox reaches another where both policies say so, by `sandbox:NAME` alone; each half is refused without the other, and recorded."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from framework.machine import STOCKADE, Machine, Record, Result, Running, select, wait_for, worker_of
from framework.policy import Rule, http, relay, whole
from stockade.service.control import ask, running
from stockade.service.settings import Settings

pytestmark = pytest.mark.client("/usr/bin/python3")

CONTROL = Settings().control
PYTHON = "/usr/bin/python3"
PORT = 8123
ALLOW = ["python3", "sh", "coreutils", "curl"]


def calling(*rules: Rule, **sections: object) -> str:
    return whole(*rules, allow=ALLOW, **sections)


def visited(*sources: str, port: int = PORT) -> str:
    return calling(**({"inbound": [{"port": port, "from": list(sources)}]} if sources else {}))


class Box:
    """One of the sandboxes, by name."""

    def __init__(self, machine: Machine, inside: dict[str, str], name: str) -> None:
        self.machine, self.inside = machine, inside
        self.room = machine.room(inside)
        self.work, self.file = self.room / "work", self.room / "policy.yaml"
        self.name = f"{name}-{os.getpid()}-{self.room.name}"
        self.host = f"{self.name}.sandbox.stockade.internal"

    @property
    def spelt(self) -> str:
        return f"sandbox:{self.name}"

    @contextlib.contextmanager
    def start(self, command: Sequence[str] | str, policy: str, *options: str) -> Iterator[Running]:
        with self.machine.start(command, policy=policy, room=self.room, options=["--name", self.name, *options]) as self.running:
            yield self.running

    @contextlib.contextmanager
    def serving(self, policy: str, port: int = PORT, *options: str) -> Iterator[Running]:
        with self.start(f"{PYTHON} listens.py 127.0.0.1 {port}", policy, *options) as started:
            started.wait_for("listening", self.work / "listens.log")
            wait_for(lambda: self.name in running(CONTROL), "the control socket", running=started)
            yield started

    @contextlib.contextmanager
    def talking(self, to: Box, policy: str, port: int = PORT) -> Iterator[Running]:
        """Connected, over the relay."""
        with self.start(f"{PYTHON} converses.py {to.host} {port}", policy) as started:
            started.wait_for("connected", self.work / "converses.log")
            yield started

    def run(self, command: Sequence[str] | str, policy: str) -> Result:
        return self.machine.run(command, policy=policy, room=self.room, options=["--name", self.name])

    def say(self, text: str) -> None:
        """And hear it again."""
        (self.work / "say.new").write_text(text)
        (self.work / "say.new").rename(self.work / "say")
        self.hear(f"heard {text}")

    def hear(self, text: str) -> None:
        wait_for(lambda: text in self.calls, f"{text!r} in {self.calls}", running=self.running)

    @property
    def calls(self) -> str:
        return (self.work / "converses.log").read_text()

    def hang_up(self) -> Result:
        (self.work / "hang-up").touch()
        return self.running.finish()

    def stop(self) -> Result:
        (self.work / "stop").touch()
        return self.running.finish()

    def reload(self, policy: str) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(policy)
        new.rename(self.file)
        assert ask(CONTROL, self.name, "reload")["switched"]

    def inbound(self, count: int = 1) -> list[Record]:
        """The records of who came, once there are so many: one is complete when its connection is over."""

        def found() -> list[Record]:
            records = select(self.running.records(), action="inbound")
            return records if len(records) >= count else []

        return wait_for(found, f"{count} inbound records", running=self.running)

    @property
    def heard(self) -> str:
        return (self.work / "listens.log").read_text()


@pytest.fixture
def db(machine: Machine, inside: dict[str, str]) -> Box:
    return Box(machine, inside, "db")


@pytest.fixture
def caller(machine: Machine, inside: dict[str, str]) -> Box:
    return Box(machine, inside, "caller")


def web(to: Box, port: int = PORT, **more: object) -> Rule:
    return http("curl", to.spelt, port=[port], name="to-the-other", **more)  # type: ignore[arg-type]


def plain(to: Box, port: int = PORT) -> Rule:
    return relay("python3", to.spelt, port=[port], protocol="tcp", name="to-the-other")


def get(to: Box, path: str = "/", port: int = PORT) -> list[str]:
    return ["curl", "-sS", "-w", "\n%{http_code}", "--max-time", "30", f"http://{to.host}:{port}{path}"]


# both halves


def test_http_to_a_server_in_another_sandbox(db: Box, caller: Box) -> None:
    with db.serving(visited(caller.spelt)):
        result = caller.run(get(db, "/x"), calling(web(db), labels={"agent": "one"}))
        (came,) = db.inbound()
    assert result.stdout == "inside\n200", result
    (asked,) = result.select(action="http")
    assert asked["destination"]["host"] == db.host and asked["destination"]["port"] == PORT
    assert (asked["decision"], asked["http"]["path"], asked["http"]["status"]) == ("allow", "/x", 200)
    assert (came["decision"], came["effect"], came["reason"]) == ("allow", "relay", "rule_allow")
    assert came["binary"]["name"] == "python3", "who listens"
    assert came["destination"] == {"host": db.name, "port": PORT, "address": None}
    detail = came["detail"]
    assert (detail["source"], detail["source_id"]) == (caller.spelt, asked["sandbox"]["id"])
    assert detail["source_labels"] == ["agent=one"] and detail["source_program"].endswith("/curl")
    assert (detail["source_pid"], detail["bytes_sent"] > 6) == (asked["pid"], True)
    assert db.heard.splitlines()[1] == "connected 127.0.0.1", "it came over the loopback of its own"


def test_bytes_of_any_protocol_are_counted_on_both_sides(db: Box, caller: Box) -> None:
    with db.serving(visited(caller.spelt)), caller.talking(db, calling(plain(db))):
        caller.say("one")
        caller.say("two!")
        result = caller.hang_up()
        (came,) = db.inbound()
    assert result.status == 0, result
    assert result.select(action="connect", decision="allow", effect="relay", host=db.host, port=PORT), result
    assert (came["detail"]["bytes_received"], came["detail"]["bytes_sent"]) == (7, 7) and came["reason"] == "rule_allow"


def test_a_crowd_with_large_answers(db: Box, caller: Box) -> None:
    """A web server as it is, and 40 downloads at once: each whole, each one record of either side."""
    count, data = 40, os.urandom(1_000_000)
    (db.work / "data").write_bytes(data)
    script = f"""
import concurrent.futures, hashlib, urllib.request
def get(_):
    with urllib.request.urlopen("http://{db.host}:{PORT}/data", timeout=60) as answer:
        return hashlib.sha256(answer.read()).hexdigest()
with concurrent.futures.ThreadPoolExecutor({count}) as pool:
    print(*sorted(set(pool.map(get, range({count})))))
"""
    (caller.work / "crowd.py").write_text(script)
    command = ["sh", "-c", f"{PYTHON} -m http.server --bind ::1 {PORT} & while [ ! -e stop ]; do sleep 0.1; done; kill $!"]
    with db.start(command, visited(caller.spelt)):
        wait_for(lambda: db.name in running(CONTROL), "the control socket", running=db.running)
        rule = http("python3", db.spelt, port=[PORT], name="to-the-other")
        wait_for(lambda: listens_inside(db, PORT), "the server", running=db.running)
        result = caller.run(f"{PYTHON} crowd.py", calling(rule))
        assert result.stdout.split() == [hashlib.sha256(data).hexdigest()], result
        assert len(result.select(action="http", status=200)) == count
        came = db.inbound(count)
        assert all(record["detail"]["bytes_sent"] > len(data) and record["reason"] == "rule_allow" for record in came)
        assert {record["binary"]["name"] for record in came} == {"python3"}
        db.stop()


def listens_inside(box: Box, port: int) -> bool:
    """Whether a process of the sandbox has a listener on a port of its loopback."""
    init = ask(CONTROL, box.name, "status")["pid"]
    found = subprocess.run(["pgrep", "-P", str(init)], capture_output=True, text=True, check=False).stdout.split()
    tables = [Path(f"/proc/{pid}/net/tcp6").read_text() for pid in found if Path(f"/proc/{pid}/net/tcp6").exists()]
    return any(f":{port:04X} " in line and line.split()[3] == "0A" for table in tables for line in table.splitlines()[1:])


def test_tls_passes_as_it_is_for_that_name_alone(db: Box, caller: Box) -> None:
    key, certificate = certified(db.host)
    (db.work / "key.pem").write_bytes(key)
    (db.work / "cert.pem").write_bytes(certificate)
    (caller.work / "cert.pem").write_bytes(certificate)
    serve = f"""
import http.server, pathlib, ssl
server = http.server.HTTPServer(("127.0.0.1", {PORT}), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
pathlib.Path("listens.log").write_text("listening")
server.serve_forever()
"""
    (db.work / "tls.py").write_text(serve)
    with db.start(f"{PYTHON} tls.py", visited(caller.spelt)) as started:
        started.wait_for("listening", db.work / "listens.log")
        wait_for(lambda: db.name in running(CONTROL), "the control socket", running=started)
        rule = relay("curl", db.spelt, port=[PORT], tls="passthrough", name="to-the-other")
        url = f"https://{db.host}:{PORT}/cert.pem"
        lying = f"curl -sS --max-time 20 -k --connect-to ::{db.host}:{PORT} https://other.example.com/"
        command = f"curl -sS --max-time 20 --cacert cert.pem {url}; {lying}"
        result = caller.run(["sh", "-c", command], calling(rule))
        assert result.stdout.encode() == certificate, result
        assert result.select(action="connect", host=db.host, effect="relay", decision="allow"), result
        assert result.select(action="connect", host=db.host, effect="refuse", reason="sni_mismatch"), result
        assert len(db.inbound()) == 1


def certified(host: str) -> tuple[bytes, bytes]:
    """A key, and a certificate for a host that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "db")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    return key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain), made.public_bytes(pem)


def test_path_and_method_are_the_callers_policys_to_hold(db: Box, caller: Box) -> None:
    with db.serving(visited(caller.spelt)):
        result = caller.run(get(db, "/other"), calling(web(db, paths=["/only"])))
        assert result.stdout.endswith("403") and result.select(action="http", decision="deny", level="path", host=db.host), result
        assert db.heard == "listening\n" and select(db.running.records(), action="inbound") == []


def test_nothing_is_opened_on_the_host(db: Box, caller: Box) -> None:
    with db.serving(visited(caller.spelt)):
        listening = subprocess.run(["ss", "-Hltn", f"sport = :{PORT}"], capture_output=True, text=True, check=True).stdout
        assert listening == ""


# one half alone


def test_the_callers_half_alone_lets_nobody_in(db: Box, caller: Box) -> None:
    with db.serving(visited("sandbox:another", "127.0.0.1/32")):
        result = caller.run(get(db), calling(web(db)))
        (came,) = db.inbound()
        raw = caller_of(db, "raw").run(f"{PYTHON} converses.py {db.host} {PORT}", calling(plain(db)))
        second = db.inbound(2)[1]
        assert db.heard == "listening\n"
    assert "inside" not in result.stdout and '"reason": "source_refused"' in result.stdout, result
    assert result.select(action="http", host=db.host, effect="refuse", reason="source_refused"), result
    assert (came["decision"], came["effect"], came["reason"], came["enforced"]) == ("deny", "refuse", "source_refused", True)
    assert came["detail"]["source"] == caller.spelt
    assert "heard" not in (raw.audit.parent / "work/converses.log").read_text()
    assert raw.select(action="connect", host=db.host, effect="refuse", reason="source_refused"), raw
    assert second["reason"] == "source_refused"


def caller_of(db: Box, name: str) -> Box:
    return Box(db.machine, db.inside, name)


def test_the_targets_half_alone_lets_nobody_out(db: Box, caller: Box) -> None:
    with db.serving(visited(caller.spelt)):
        result = caller.run(get(db), calling(http("curl", "sandbox:another", name="elsewhere")))
        assert result.status != 0 and "inside" not in result.stdout, result
        assert result.select(action="dns", decision="deny", reason="no_rule", host=db.host), result
        literal = caller_of(db, caller.name.partition("-")[0]).run(
            ["curl", "-sS", "--max-time", "10", "--resolve", f"{db.host}:{PORT}:198.18.1.0", f"http://{db.host}:{PORT}/"],
            calling(http("curl", "sandbox:another", name="elsewhere")),
        )
        assert literal.status != 0 and "inside" not in literal.stdout, literal
        assert db.heard == "listening\n" and select(db.running.records(), action="inbound") == []


def test_observing_opens_the_observers_half_alone(db: Box, caller: Box) -> None:
    """What a caller is only observed in is still let in by the other policy, or not."""
    with db.serving(visited(caller.spelt)):
        observed = calling(web(db, paths=["/only"]), mode="observe")
        result = caller.run(get(db), observed)
        assert result.stdout == "inside\n200", result
        assert result.select(action="http", enforced=False, decision="deny", level="path", host=db.host), result
        stranger = caller_of(db, "stranger").run(get(db), observed)
        assert "inside" not in stranger.stdout and stranger.select(action="http", effect="refuse", reason="source_refused"), stranger


def test_a_third_sandbox_and_another_port_stay_out(db: Box, caller: Box) -> None:
    other = PORT + 1
    third = caller_of(db, "third")
    with db.serving(visited(caller.spelt)):
        result = third.run(get(db), calling(web(db)))
        assert '"source_refused"' in result.stdout, result
        (came,) = db.inbound()
        assert came["detail"]["source"] == third.spelt and came["reason"] == "source_refused"
        wrong = caller.run(get(db, port=other), calling(web(db, port=other)))
        assert '"source_refused"' in wrong.stdout, wrong
        assert db.inbound(2)[1]["destination"]["port"] == other
        assert db.heard == "listening\n"


# who is not there


def test_a_sandbox_that_does_not_run_has_a_name_and_nobody_behind_it(db: Box, caller: Box) -> None:
    result = caller.run(get(db), calling(web(db)))
    assert '"upstream_unreachable"' in result.stdout and f"no sandbox called {db.name} is running" in result.stdout, result
    assert result.select(action="dns", decision="allow", host=db.host), result
    assert result.select(action="http", host=db.host, effect="refuse", reason="upstream_unreachable"), result


def test_a_port_on_which_nobody_listens(db: Box, caller: Box) -> None:
    with db.serving(visited(caller.spelt, port=PORT + 1)):
        result = caller.run(get(db, port=PORT + 1), calling(web(db, port=PORT + 1)))
        (came,) = db.inbound()
    assert '"upstream_unreachable"' in result.stdout and "nobody listens" in result.stdout, result
    assert (came["decision"], came["effect"], came["reason"]) == ("deny", "refuse", "upstream_unreachable")


def test_who_takes_over_a_name_is_asked_by_its_own_policy(db: Box, caller: Box) -> None:
    policy = calling(web(db))
    with db.serving(visited(caller.spelt)):
        assert caller.run(get(db), policy).stdout == "inside\n200"
        taken = caller_of(db, "x")
        taken.name = db.name
        refused = taken.run("true", visited(caller.spelt))
        assert refused.status == 125 and "name_taken" in refused.stderr, "while it runs, the name is its own"
        db.stop()
    other = caller_of(db, "y")
    other.name = db.name
    with other.serving(visited()):
        again = caller_of(db, "z")
        again.name = caller.name
        result = again.run(get(db), policy)
        (came,) = other.inbound()
        assert other.heard == "listening\n"
    assert '"source_refused"' in result.stdout, result
    assert came["sandbox"]["id"] != db.inbound()[0]["sandbox"]["id"] and came["detail"]["source_id"] == result.records[0]["sandbox"]["id"]


# while it runs


def test_a_reload_of_the_visited_cuts_and_lets_in_again(db: Box, caller: Box) -> None:
    with db.serving(visited(caller.spelt)):
        with caller.talking(db, calling(plain(db))):
            caller.say("here")
            db.reload(visited())
            caller.hear("cut: ConnectionResetError")
            caller.running.finish()
        (came,) = db.inbound()
        assert (came["effect"], came["reason"], came["detail"]["bytes_received"]) == ("cut", "policy_changed", 4)
        assert '"source_refused"' in caller_of(db, "second").run(get(db), calling(web(db))).stdout
        second = caller_of(db, "third")
        db.reload(visited(second.spelt))
        assert second.run(get(db), calling(web(db))).stdout == "inside\n200"


def test_a_reload_of_the_caller_cuts(db: Box, caller: Box) -> None:
    with db.serving(visited(caller.spelt)), caller.talking(db, calling(plain(db))):
        caller.say("here")
        caller.reload(calling(relay("python3", "sandbox:another", port=[PORT], protocol="tcp", name="elsewhere")))
        caller.hear("cut: ConnectionResetError")
        result = caller.running.finish()
        assert result.select(action="connect", effect="cut", reason="policy_changed", host=db.host), result
        (came,) = db.inbound()
        assert came["detail"]["bytes_received"] == 4
        wait_for(lambda: "heard 4" in db.heard, "the end, at the server", running=db.running)


@pytest.mark.parametrize("whom", ["worker", "agent", "sandbox"])
def test_the_visited_dies(db: Box, caller: Box, whom: str) -> None:
    with db.serving(visited(caller.spelt)), caller.talking(db, calling(plain(db))):
        caller.say("here")
        if whom == "sandbox":
            (db.work / "stop").touch()
        else:
            os.kill(worker_of(db.running.process.pid) if whom == "worker" else db.running.process.pid, signal.SIGKILL)
        wait_for(lambda: "cut" in caller.calls or "ended" in caller.calls, "the end, at the caller", running=caller.running)
        caller.running.finish()
        (db.work / "stop").touch()
        if whom == "worker":
            (came,) = db.inbound()
            assert (came["effect"], came["reason"]) == ("cut", "worker_lost")


def test_a_caller_that_dies_is_gone_on_the_other_side(db: Box, caller: Box) -> None:
    with db.serving(visited(caller.spelt)), caller.talking(db, calling(plain(db))):
        caller.say("here")
        os.kill(worker_of(caller.running.process.pid), signal.SIGKILL)
        (came,) = db.inbound()
        assert came["detail"]["bytes_received"] == 4
        wait_for(lambda: "heard 4" in db.heard, "the end, at the server", running=db.running)


# the commands


def test_what_is_learnt_names_the_other_sandbox_and_loads(db: Box, caller: Box, tmp_path: Path) -> None:
    with db.serving(visited(caller.spelt)):
        caller.run(get(db, "/v1/x"), calling(web(db)))
        raw = caller_of(db, "raw")
        db.reload(visited(caller.spelt, raw.spelt))
        with raw.talking(db, calling(plain(db))):
            raw.say("x")
            raw.hang_up()
    learnt = []
    for box in (caller, raw):
        text = stockade("policy", "learn", box.room / "audit.jsonl").stdout
        assert f"[{db.spelt}]" in text or f'["{db.spelt}"]' in text, text
        learnt.append(tmp_path / f"{box.name}.yaml")
        learnt[-1].write_text(text)
        checked = stockade("policy", "check", learnt[-1])
        assert checked.returncode == 0, checked


def stockade(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run([STOCKADE, *map(str, arguments)], capture_output=True, text=True, check=check)
