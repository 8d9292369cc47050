"""Who signs what a sandbox is shown: keys that follow each other under one root, an organisation's CA, and one whose key is in a token."""

from __future__ import annotations

import base64
import itertools
import json
import os
import pickle
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from framework.ca import pem
from framework.hsm import PIN, Organisation
from framework.internet import ECHO, H1
from framework.machine import STOCKADE, Machine, wait_for, worker_of
from framework.policy import http, whole
from framework.programs import Programs
from stockade.policy import load
from stockade.proxy.leaves import LeafKeys, Leaves
from stockade.service.settings import Settings
from stockade.signing import Ca, begin, issue

pytestmark = pytest.mark.client("curl", "openssl")
_numbers = itertools.count(1)

ALL = ("curl", "/usr/bin/python3", "node", "openssl")
ISSUER = "Stockade tests ec below 0"

# Asks whenever it is told to, on a connection that stays and on new ones: its trust store was read once, before the first key.
LASTING = f"""
import pathlib, requests, time
lasting = requests.Session()
def ask(session): return session.get("https://{ECHO}/page", timeout=30).status_code
print(ask(lasting), flush=True)
for number in range(1, 10**6):
    pathlib.Path(f"ready{{number}}").touch()
    while not pathlib.Path(f"go{{number}}").exists():
        if pathlib.Path("stop").exists(): raise SystemExit
        time.sleep(0.05)
    said = []
    for session in (lasting, requests.Session()):
        try: said.append(str(ask(session)))
        except requests.exceptions.SSLError as error: said.append("SSLError")
        except requests.exceptions.ConnectionError as error: said.append("ConnectionError")
    pathlib.Path(f"said{{number}}.tmp").write_text(" ".join(said))
    pathlib.Path(f"said{{number}}.tmp").rename(f"said{{number}}")
"""


class Lasting:
    """A sandbox that runs on, with one program that asks when it is told to."""

    def __init__(self, machine: Machine, section: dict[str, object], env: dict[str, str] | None = None, policy: str = "") -> None:
        self.name = f"ca-{os.getpid()}-{next(_numbers)}"
        self.room = machine.room({"lasting.py": LASTING})
        self.settings = self.room / "settings.yaml"
        self.settings.write_text(yaml.safe_dump({"version": 1, "ca": section}))
        policy = policy or whole(http(["python3", "curl", "openssl"], ECHO), allow=["python3", "curl", "openssl"])
        options: list[str | Path] = ["--settings", self.settings, "--name", self.name]
        self.run = machine.start(["/usr/bin/python3", "lasting.py"], policy=policy, options=options, room=self.room, env=env)
        self._asked = itertools.count(1)

    def ready(self) -> None:
        number = next(self._asked)
        wait_for(lambda: (self.room / "work" / f"ready{number}").exists(), "the program", 60, self.run)
        self._asked = itertools.count(number)

    def ask(self) -> str:
        """What the lasting connection and a new one were answered."""
        self.ready()
        number, work = next(self._asked), self.room / "work"
        (work / f"go{number}").touch()
        return wait_for(lambda: said.read_text() if (said := work / f"said{number}").exists() else "", "an answer", 60, self.run)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([STOCKADE, *words], capture_output=True, text=True, check=False)

    def shown(self) -> dict[str, Any]:
        (found,) = json.loads(self.command("ca", "show", self.name, "-o", "json").stdout)
        assert isinstance(found, dict)
        return found

    def records(self, reason: str) -> list[dict[str, Any]]:
        return [record for record in self.run.records() if record["reason"] == reason]

    def metrics(self) -> dict[str, Any]:
        return dict(json.loads(self.command("status", self.name, "-o", "json").stdout)[0])

    def __enter__(self) -> Lasting:
        self.run.__enter__()
        self.ready()
        return self

    def __exit__(self, *_: object) -> None:
        (self.room / "work/stop").touch()
        self.run.__exit__()


@pytest.mark.client("/usr/bin/python3")
def test_another_key_takes_over_under_the_root_that_programs_have_read(machine: Machine) -> None:
    """By command: the connection that is open stays, new ones are shown the new key; a worker that dies does not bring the old one back."""
    with Lasting(machine, {}) as box:
        before = box.shown()
        assert box.ask() == "200 200"
        ended = box.command("ca", "rotate", box.name)
        assert ended.returncode == 0, ended
        after = box.shown()
        assert after["serial"] != before["serial"] and after["root_sha256"] == before["root_sha256"] and after["renewed"] == 1
        assert box.ask() == "200 200"
        (record,) = box.records("authority_renewed")
        assert (record["action"], record["decision"]) == ("lifecycle", "allow")
        assert record["detail"]["serial"] == after["serial"] and record["detail"]["cause"].startswith("command of uid 0")
        os.kill(worker_of(box.run.process.pid), signal.SIGKILL)
        wait_for(lambda: box.records("worker_lost"), "the next worker", 30, box.run)
        assert box.ask().split()[1] == "200"
        assert box.shown()["serial"] == after["serial"]
    (started,) = box.records("started")
    assert started["detail"]["authority_serial"] == before["serial"]


@pytest.mark.client("/usr/bin/python3")
def test_a_key_is_renewed_before_it_expires(machine: Machine) -> None:
    """Two keys later the first has expired, and the program that has read its trust store once still reaches what it may."""
    with Lasting(machine, {"life": "10s"}) as box:
        (started,) = box.records("started")
        first = started["detail"]
        wait_for(lambda: len(box.records("authority_renewed")) >= 2, "two more keys", 90, box.run)
        assert box.shown()["root_sha256"] == first["authority_root_sha256"] and box.ask() == "200 200"
        assert {record["detail"]["cause"] for record in box.records("authority_renewed")} == {"due"}
        serials = [record["detail"]["serial"] for record in box.records("authority_renewed")]
        assert len({first["authority_serial"], *serials}) == len(serials) + 1


@pytest.mark.client("/usr/bin/python3")
def test_a_worker_has_the_key_that_signs_and_not_that_of_the_root(machine: Machine) -> None:
    """Looked for in its memory as OpenSSL keeps a key, so that whoever takes the worker over finds no more either."""
    with Lasting(machine, {}) as box:
        assert box.ask() == "200 200"
        states = [json.loads(json.loads(file.read_text())["state"]) for file in (Settings().run / "slots").glob("*.json")]
        (kept,) = [state["kept"] for state in states if state["sandbox"]["name"] == box.name]
        authority = pickle.loads(base64.b64decode(kept))[0].authority  # noqa: S301 - this build's own
        worker = worker_of(box.run.process.pid)
        found = {name: _in_memory(worker, key) for name, key in (("root", authority.root_key), ("signing", authority.signing.key))}
        assert found == {"root": False, "signing": True}


def _in_memory(pid: int, key: bytes) -> bool:
    """Whether the number that is the key lies there, least significant octet first."""
    loaded: Any = load_pem_private_key(key, None)
    wanted = loaded.private_numbers().private_value.to_bytes(32, "little")
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            area, rights, *_ = line.split()
            start, end = (int(text, 16) for text in area.split("-"))
            if not rights.startswith("rw") or "[v" in line:
                continue
            memory.seek(start)
            if wanted in memory.read(end - start):
                return True
    return False


@pytest.fixture
def organisation(place: Path) -> Organisation:
    return Organisation.found(place / f"organisation-{next(_numbers)}")


@pytest.fixture(params=["file", "token"])
def section(request: pytest.FixtureRequest, organisation: Organisation) -> dict[str, object]:
    if request.param == "file":
        return organisation.in_file()
    organisation.move_into_token()
    return organisation.in_token()


CLIENTS = f"""
set -x
curl -sS -o /dev/null -w '%{{http_code}} %{{ssl_verify_result}}\\n' https://{ECHO}/curl
/usr/bin/python3 -c 'import requests; print(requests.get("https://{ECHO}/requests").status_code)'
node -e 'fetch("https://{ECHO}/node").then(r => console.log(r.status))'
printf 'GET /openssl HTTP/1.1\\r\\nHost: {ECHO}\\r\\nConnection: close\\r\\n\\r\\n' |
    openssl s_client -connect {ECHO}:443 -servername {ECHO} -verify_return_error -showcerts -ign_eof -ignore_unexpected_eof
"""


@pytest.mark.client("/usr/bin/python3", "node", "softhsm2-util")
def test_clients_trust_the_organisations_root(machine: Machine, organisation: Organisation, section: dict[str, object]) -> None:
    """Whole chains, verified by the clients themselves; the sandbox's certificate is for what the policy names and nothing else."""
    room = machine.room({"clients.sh": CLIENTS})
    (room / "settings.yaml").write_text(yaml.safe_dump({"ca": section}))
    policy = whole(http(list(ALL), ECHO, H1, "*.below.example", "10.20.0.0/16", name="all"), allow=["sh", *ALL])
    options = ["--settings", room / "settings.yaml"]
    result = machine.run("sh clients.sh", policy=policy, room=room, options=options, env=organisation.environment)
    assert result.status == 0, result
    assert result.stdout.splitlines()[:3] == ["200 0", "200", "200"], result
    assert "Verify return code: 0 (ok)" in result.stdout and "HTTP/1.1 200 OK" in result.stdout, result
    for path in ("/curl", "/requests", "/node", "/openssl"):
        assert result.select(action="http", decision="allow", status=200, host=ECHO, path=path), result
    (started,) = result.select(reason="started")
    assert started["detail"]["authority_signed_by"] == f"CN={ISSUER}"
    assert started["detail"]["authority_good_for"] == f"below.example {ECHO} {H1} 10.20.0.0/16"
    chain = result.stdout.split("-----BEGIN CERTIFICATE-----")
    assert len(chain) == 1 + 3  # leaf, the sandbox's, the organisation's: the root is the client's own


def test_a_certificate_is_good_for_no_other_name(organisation: Organisation, tmp_path: Path) -> None:
    """A signing key that is stolen makes nobody believe it beyond what the policy names: said by openssl, not by us."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(whole(http("curl", "api.example.com", "*.below.example", "10.20.0.0/16", name="all"), allow=["curl"]))
    ca = Ca(certificate=organisation.chain, key=organisation.key)
    stolen = begin("box", ca, load([policy])).signing
    (tmp_path / "untrusted.pem").write_bytes(stolen.certificate_pem + stolen.above_pem)
    (tmp_path / "root.pem").write_bytes(pem(organisation.root))
    leaves = Leaves(stolen, LeafKeys.generate(), 9)

    def believed(name: str) -> bool:
        made = leaves._mint(name, leaves._keys.elliptic.public_key())
        (tmp_path / "leaf.pem").write_bytes(pem(made))
        words = ["openssl", "verify", "-CAfile", "root.pem", "-untrusted", "untrusted.pem", "-purpose", "sslserver", "leaf.pem"]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, check=False).returncode == 0

    good = ("api.example.com", "a.below.example", "10.20.1.2")
    bad = ("example.com", "bank.example", "10.21.0.1", "192.0.2.1", "2001:db8::1", "localhost")
    assert {name: believed(name) for name in good + bad} == dict.fromkeys(good, True) | dict.fromkeys(bad, False)
    below = issue.below("more", x509.load_pem_x509_certificate(stolen.certificate_pem), load_pem_private_key(stolen.key, None), 3600)
    (tmp_path / "untrusted.pem").write_bytes(below.certificate_pem + stolen.certificate_pem + stolen.above_pem)
    leaves = Leaves(below, LeafKeys.generate(), 9)
    assert not believed("api.example.com"), "no authority may be made below it"


@pytest.fixture
def token(organisation: Organisation) -> Organisation:
    organisation.move_into_token()
    return organisation


@pytest.mark.client("/usr/bin/python3", "softhsm2-util")
def test_without_its_token_a_sandbox_does_not_start(machine: Machine, token: Organisation) -> None:
    room = machine.room()
    token.pull()
    (room / "settings.yaml").write_text(yaml.safe_dump({"ca": token.in_token()}))
    policy = whole(http("curl", ECHO), allow=["touch"])
    result = machine.run("touch ran", policy=policy, room=room, options=["--settings", room / "settings.yaml"], env=token.environment)
    assert result.status == 125 and "no token is labelled stockade tests [ca_unavailable]" in result.stderr, result
    assert not (room / "work/ran").exists() and not result.select(reason="started"), result


@pytest.mark.client("/usr/bin/python3", "softhsm2-util")
def test_a_token_that_is_away_keeps_nothing_from_running_on(machine: Machine, token: Organisation) -> None:
    """And is asked again; neither the agent nor its worker has the module in its memory."""
    with Lasting(machine, token.in_token(), token.environment) as box:
        before = box.shown()
        token.pull()
        ended = box.command("ca", "rotate", box.name)
        assert ended.returncode == 1 and "no token is labelled stockade tests [ca_unavailable]" in ended.stderr, ended
        assert box.ask() == "200 200" and box.shown()["serial"] == before["serial"]
        (record,) = box.records("authority_not_renewed")
        assert record["decision"] == "deny" and "no token is labelled stockade tests" in record["detail"]["why"]
        shown = box.command("ca", "show", box.name)
        assert shown.returncode == 1 and "! not renewed: " in shown.stdout, shown
        assert any("could not be renewed" in problem for problem in box.metrics()["problems"])
        token.plug()
        assert box.command("ca", "rotate", box.name).returncode == 0
        assert box.shown()["serial"] != before["serial"] and box.ask() == "200 200" and not box.metrics()["problems"]
        agent = box.run.process.pid
        assert "softhsm" not in Path(f"/proc/{agent}/maps").read_text() + Path(f"/proc/{worker_of(agent)}/maps").read_text()


@pytest.mark.client("/usr/bin/python3", "softhsm2-util")
def test_a_wrong_pin_is_tried_once_and_not_until_the_token_locks(machine: Machine, token: Organisation) -> None:
    """While the token is away, an attempt that fails for the PIN is one that did not ask it."""
    with Lasting(machine, token.in_token(), token.environment) as box:
        before = box.shown()
        token.pin.write_text("not it\n")
        ended = box.command("ca", "rotate", box.name)
        assert ended.returncode == 1 and "does not take the PIN" in ended.stderr and "[ca_pin]" in ended.stderr, ended
        assert "no other sandbox was asked" in ended.stderr, ended
        token.pull()
        (box.room / "policy.yaml").write_text(whole(http(["python3", "curl", "openssl"], ECHO, H1), allow=["python3", "curl", "openssl"]))
        ended = box.command("reload", "--sandbox", box.name)
        assert ended.returncode == 1 and "is not asked with it again" in ended.stderr, ended
        ended = box.command("ca", "rotate", box.name)
        assert ended.returncode == 1 and "no token is labelled stockade tests [ca_unavailable]" in ended.stderr, ended
        token.plug()
        assert box.shown()["serial"] == before["serial"] and box.ask() == "200 200"
        token.pin.write_text("not it either\n")
        assert "does not take the PIN" in box.command("reload", "--sandbox", box.name).stderr
        token.pin.write_text(f"{PIN}\n")
        ended = box.command("reload", "--sandbox", box.name)
        assert ended.returncode == 0 and box.shown()["good_for"] == " ".join(sorted((ECHO, H1))), ended
        said = [record["detail"]["why"] for record in box.records("authority_not_renewed")]
        assert [sum(part in why for why in said) for part in ("does not take", "is not asked", "no token is")] == [2, 1, 1], said


@pytest.mark.client("/usr/bin/python3", "softhsm2-util")
def test_past_its_time_a_key_shows_nothing_and_the_next_one_is_taken(machine: Machine, token: Organisation) -> None:
    with Lasting(machine, token.in_token() | {"life": "10s"}, token.environment) as box:
        token.pull()
        wait_for(lambda: box.ask().split()[1] != "200" and box.records("authority_expired"), "a key that has expired", 90, box.run)
        (first, *_) = box.records("authority_expired")
        assert (first["action"], first["decision"], first["destination"]["host"]) == ("connect", "deny", ECHO)
        assert box.records("authority_not_renewed")
        renewed = len(box.records("authority_renewed"))
        token.plug()
        wait_for(lambda: len(box.records("authority_renewed")) > renewed, "the next key", 60, box.run)
        wait_for(lambda: box.ask().split()[1] == "200", "an answer", 60, box.run)


@pytest.mark.client("/usr/bin/python3", "softhsm2-util")
def test_a_policy_that_names_more_needs_a_key_that_is_good_for_it(machine: Machine, token: Organisation) -> None:
    """Without one the old policy stays in force; with it the new host is reached, and believed."""
    with Lasting(machine, token.in_token(), token.environment) as box:
        assert box.shown()["good_for"] == ECHO
        more = whole(http(["python3", "curl", "openssl"], ECHO, H1), allow=["python3", "curl", "openssl"])
        token.pull()
        (box.room / "policy.yaml").write_text(more)
        ended = box.command("reload", "--sandbox", box.name)
        assert ended.returncode == 1 and "no token is labelled" in ended.stderr, ended
        assert box.shown()["good_for"] == ECHO
        token.plug()
        ended = box.command("reload", "--sandbox", box.name)
        assert ended.returncode == 0, ended
        assert box.shown()["good_for"] == " ".join(sorted((ECHO, H1)))
        assert "policy" in {record["detail"]["cause"] for record in box.records("authority_renewed")}


@pytest.mark.client("/usr/bin/python3", "softhsm2-util")
def test_a_policy_that_names_less_gets_a_key_that_is_good_for_less(machine: Machine, token: Organisation) -> None:
    """Soon after, and the policy is in force whether or not there is one: what is taken away must not have to wait for a token."""

    def naming(*hosts: str) -> str:
        return whole(http(["python3", "curl", "openssl"], *hosts), allow=["python3", "curl", "openssl"])

    with Lasting(machine, token.in_token(), token.environment, naming(ECHO, H1)) as box:
        both = " ".join(sorted((ECHO, H1)))
        assert box.shown()["good_for"] == both and box.ask() == "200 200"
        (box.room / "policy.yaml").write_text(naming(ECHO))
        assert box.command("reload", "--sandbox", box.name).returncode == 0
        wait_for(lambda: box.shown()["good_for"] == ECHO, "a key for less", 60, box.run)
        assert box.ask() == "200 200"
        (box.room / "policy.yaml").write_text(naming(ECHO, H1))
        assert box.command("reload", "--sandbox", box.name).returncode == 0 and box.shown()["good_for"] == both
        assert [record["detail"]["cause"] for record in box.records("authority_renewed")] == ["policy", "policy"]
        token.pull()
        (box.room / "policy.yaml").write_text(naming(ECHO))
        assert box.command("reload", "--sandbox", box.name).returncode == 0
        (record,) = wait_for(lambda: box.records("authority_not_renewed"), "an attempt that fails", 60, box.run)
        assert record["detail"]["cause"] == "policy" and box.shown()["good_for"] == both and box.ask() == "200 200"
        token.plug()
        assert box.command("ca", "rotate", box.name).returncode == 0 and box.shown()["good_for"] == ECHO


@pytest.mark.client("/usr/bin/python3", "softhsm2-util")
def test_an_adopted_sandbox_goes_on_under_the_same_root(machine: Machine, token: Organisation) -> None:
    """The key that signed last was kept for the next agent; the token is needed for the one after it."""
    box = Lasting(machine, token.in_token(), token.environment)
    with box:
        box.command("ca", "rotate", box.name)
        before = box.shown()
        os.kill(box.run.process.pid, signal.SIGKILL)
        box.run.process.wait()
        adopting = subprocess.Popen(
            machine.wrap([STOCKADE, "adopt", box.name]), env=os.environ | token.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            wait_for(lambda: box.records("adopted"), "the next agent", 60)
            after = wait_for(lambda: box.shown() if box.command("ca", "show", box.name).returncode == 0 else {}, "its answer", 60)
            assert (after["serial"], after["root_sha256"]) == (before["serial"], before["root_sha256"])
            (box.room / "work/go1").touch()
            said = box.room / "work/said1"
            wait_for(said.exists, "an answer", 60)
            assert said.read_text().split()[1] == "200"
            assert box.command("ca", "rotate", box.name).returncode == 0
        finally:
            (box.room / "work/stop").touch()
            adopting.wait(60)


@pytest.mark.client("softhsm2-util")
def test_doctor_signs_once_and_says_whether_that_works(machine: Machine, token: Organisation) -> None:
    room = machine.room()
    etc = room / "etc/stockade"
    etc.mkdir(parents=True)
    (etc / "stockade.yaml").write_text(yaml.safe_dump({"ca": token.in_token()}))
    script = f'mount -t overlay -o lowerdir={etc.parent}:/etc etc /etc; exec "$@"'
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", str(STOCKADE), "doctor", "-o", "json"]

    def asked() -> tuple[int, dict[str, Any]]:
        ended = subprocess.run(words, env=os.environ | token.environment, capture_output=True, text=True, check=False)
        return ended.returncode, next(each for each in json.loads(ended.stdout) if each["name"] == "signing CA")

    status, found = asked()
    assert (status, found["answer"], found["detail"]) == (0, "available", f"CN={ISSUER}, its key in stockade tests, labelled issuing")
    token.pull()
    status, found = asked()
    assert (status, found["answer"]) == (1, "missing") and "no token is labelled stockade tests" in found["detail"]


@pytest.mark.parametrize("words", [("doctor",), ("daemon", "--check")])
def test_the_settings_that_are_asked_about_are_the_ones_tried(machine: Machine, organisation: Organisation, words: tuple[str, ...]) -> None:
    """Not the machine's own, of whose CA nothing was asked."""
    room = machine.room()
    said = organisation.in_file()
    key = Path(str(said["key"]))
    (room / "settings.yaml").write_text(yaml.safe_dump({"ca": said}))

    def asked() -> tuple[int, str]:
        line = [str(STOCKADE), *words, "--settings", str(room / "settings.yaml")]
        ended = subprocess.run(line, capture_output=True, text=True, check=False)
        return ended.returncode, next(each for each in ended.stdout.splitlines() if "signing CA" in each)

    status, found = asked()
    assert status == 0 and found.startswith("available ") and f"CN={ISSUER}, its key in file {key}" in found
    key.chmod(0o644)
    try:
        status, found = asked()
    finally:
        key.chmod(0o600)
    assert status == 1 and found.startswith("missing ") and "not root's alone" in found


@pytest.mark.client("java", "javac", "git")
def test_strict_clients_believe_a_constrained_chain(machine: Machine, organisation: Organisation, programs: Programs) -> None:
    """Java has its own judgement of chains and constraints, and so has git's GnuTLS, where the distribution builds it with that."""
    room = machine.room()
    (room / "settings.yaml").write_text(yaml.safe_dump({"ca": organisation.in_file()}))
    java = shlex.join(["java", "-Xint", "-cp", str(programs.java()), "Fetch", f"https://{ECHO}/java"])
    rule = http(["java", "git"], ECHO, "10.20.0.0/16", methods=["GET", "POST"], name="all")
    policy = whole(rule, allow=["sh", "java", "git"], filesystem={"read": [str(programs.directory)]})
    options = ["--settings", room / "settings.yaml"]
    result = machine.run(["sh", "-c", f"{java}; git ls-remote https://{ECHO}/repository.git"], policy=policy, room=room, options=options)
    assert result.stdout.startswith("200 HTTP_2 "), result
    assert result.select(action="http", decision="allow", status=200, binary="java", path="/java"), result
    assert "certificate" not in result.stderr, result
    assert result.select(action="http", decision="allow", binary="git", path="/repository.git/info/refs"), result
