"""`scan` of a rule, live: what may not leave does not reach the server, in whatever part of a request it travels."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import textwrap
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from framework.internet import CLOUD, STREAM, Internet
from framework.machine import Machine, Result
from framework.policy import bare, http
from stockade.privacy.patterns import canary

INSIDE = Path(__file__).parent / "inside"
PYTHON = "/usr/bin/python3"
KEY = "AKIA" + "Q3EGRTSY5ZPWN7VU"
URL = f"https://{STREAM}/upload"

pytestmark = pytest.mark.client(PYTHON)


def say(machine: Machine, requests: list[dict[str, Any]], **more: Any) -> tuple[list[dict[str, Any]], Result]:
    rule = http("python3", STREAM, methods=["GET", "PUT", "POST"], name="scanned", scan=["credential.*"], **more)
    files = {"says.py": (INSIDE / "says.py").read_text(), "requests.json": json.dumps(requests)}
    result = machine.run([PYTHON, "says.py", "requests.json"], policy=bare(rule), files=files)
    assert result.status == 0, result
    return [json.loads(line) for line in result.stdout.splitlines()], result


def test_a_credential_leaves_in_no_part_of_a_request(machine: Machine, internet: Internet) -> None:
    ways: list[dict[str, Any]] = [
        {"url": URL, "body": f"the key is {KEY}"},
        {"url": URL, "body": json.dumps({"key": KEY}), "headers": {"Content-Type": "application/json"}},
        {"url": URL, "body": f"the key is {KEY}", "pieces": True},
        {"url": URL, "packed": base64.b64encode(gzip.compress(KEY.encode())).decode(), "headers": {"Content-Encoding": "gzip"}},
        {"url": f"{URL}?q={KEY}", "method": "GET"},
        {"url": f"{URL}?q={quote(quote(KEY))}", "method": "GET"},
        {"url": URL, "method": "GET", "headers": {"X-Note": KEY}},
    ]
    uploads, paths = len(internet.stream.uploads), len(internet.stream.paths)
    answers, result = say(machine, [*ways, {"url": URL, "body": "nothing of the kind"}, {"url": URL, "method": "GET"}])
    assert [answer["status"] for answer in answers] == [403] * len(ways) + [200, 200], result
    assert len(internet.stream.uploads) == uploads + 1
    assert internet.stream.paths[paths:] == ["/upload"]
    refused = result.select(level="privacy", decision="deny")
    assert len(refused) == len(ways)
    for record in refused:
        assert (record["reason"], record["effect"], record["rule"]) == ("scan_found", "refuse", "scanned")
        assert any(each.startswith("credential.") for each in record["detail"]["categories"])
        assert any(each.startswith("credential=") for each in record["detail"]["detectors"])
    assert KEY not in result.audit.read_text()
    assert json.loads(answers[0]["body"])["level"] == "privacy"


def test_ones_own_token_is_no_leak_and_a_canary_always_is(machine: Machine) -> None:
    marked = canary.make()
    hidden = [marked, base64.b64encode(marked.encode()).decode(), marked.encode().hex()]
    own = "ghp_" + "Ab3dEf6hIj" * 3 + "abcdef"
    answers, result = say(
        machine,
        [
            {"url": URL, "method": "GET", "headers": {"Authorization": f"token {own}"}},
            {"url": URL, "method": "GET", "headers": {"X-Api-Key": own}},
            {"url": URL, "method": "GET", "headers": {"X-Note": own}},
            *({"url": URL, "method": "GET", "headers": {"Authorization": f"Bearer {each}"}} for each in hidden),
            *({"url": URL, "body": f"x={each}"} for each in hidden),
        ],
    )
    assert [answer["status"] for answer in answers] == [200, 200, 403] + [403] * 6, result
    noted, *refused = result.select(level="privacy")
    assert not any(each.startswith("credential.canary") for each in noted["detail"]["categories"]), noted
    assert len(refused) == 6
    for record in refused:
        assert "credential.canary=1" in record["detail"]["categories"], record


def test_a_classifier_that_was_killed_lets_nothing_pass_and_another_takes_its_place(machine: Machine, internet: Internet) -> None:
    rule = http("python3", STREAM, methods=["GET", "POST"], name="scanned", scan=["credential.*"])
    program = textwrap.dedent("""
        import sys, time, urllib.error, urllib.request
        def ask():
            try:
                return urllib.request.urlopen(sys.argv[1], data=b"harmless", timeout=60).status
            except urllib.error.HTTPError as error:
                return (error.code, error.read().decode())
        said = open("said", "w", buffering=1)
        print(ask(), file=said)
        while True:
            try:
                open("killed").close()
                break
            except FileNotFoundError:
                time.sleep(0.005)
        print(ask(), file=said)
        while ask() != 200:
            time.sleep(0.05)
        print("again", file=said)
    """)
    room = machine.room({"program.py": program})
    with machine.start([PYTHON, "program.py", URL], policy=bare(rule), room=room) as running:
        running.wait_for("200", room / "work" / "said")
        (classifier,) = [int(each) for each in children(running.process.pid) if b"privacy.serve.process" in command_line(each)]
        os.kill(classifier, signal.SIGKILL)
        (room / "work" / "killed").touch()
        result = running.finish()
    said = (room / "work" / "said").read_text().splitlines()
    assert said[-1] == "again", result
    refused = result.select(reason="privacy_failure")
    assert len(refused) == len(result.select(level="privacy", decision="deny")), result
    assert all(record["effect"] == "refuse" for record in refused)


def children(pid: int) -> list[str]:
    return [child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


def command_line(pid: str) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_what_is_found_is_masked_where_the_rule_says_so_and_a_canary_is_refused_all_the_same(machine: Machine, internet: Internet) -> None:
    cloud = CLOUD[0]
    url, marked = f"https://{cloud}/v1/chat/completions", canary.make()
    kind = {"Content-Type": "application/json"}

    def chat(text: object) -> str:
        return json.dumps(
            {"model": "m", "messages": [{"role": "user", "content": str(text)}], "seed": text if isinstance(text, int) else 1}
        )

    packed = base64.b64encode(gzip.compress(chat(f"gzip {KEY}").encode())).decode()
    masked: list[dict[str, Any]] = [
        {"url": url, "body": chat(f"the key is {KEY}"), "headers": kind},
        {"url": url, "packed": packed, "headers": kind | {"Content-Encoding": "gzip"}},
        {"url": f"{url}?a=1&q=x%20{KEY}&b=2", "body": chat("query"), "headers": kind},
        {"url": url, "body": chat("header"), "headers": kind | {"X-Note": f"see {KEY}", "X-Other": "kept"}},
    ]
    refused: list[dict[str, Any]] = [
        {"url": f"https://{cloud}/v1/{KEY}/x", "body": chat("path"), "headers": kind},
        {"url": f"{url}?{KEY}=1&q={KEY[:9]}", "body": chat(f"{marked}"), "headers": kind},
        {"url": url, "body": chat(4111111111111111), "headers": kind},
        {"url": url, "body": chat("x"), "headers": kind | {"X-Note": f"{marked[:20]} {marked[20:]}"}},
    ]
    rule = http("python3", cloud, methods=["GET", "POST"], name="scanned", scan=["credential.*", "financial.card"], on_found="redact")
    files = {name: (INSIDE / name).read_text() for name in ("says.py", "websocket.py")}
    before = len(internet.heard[cloud])
    spoken = " ".join(["hello", KEY, marked[:20], marked[20:]])
    files["run.sh"] = f"{PYTHON} says.py requests.json; exec {PYTHON} websocket.py {cloud} /ws {spoken}"  # its words are on no record
    result = machine.run(
        ["/bin/sh", "run.sh"],
        policy=bare(rule | {"binary": {"allow": ["python3"]}}),
        files=files | {"requests.json": json.dumps([*masked, *refused])},
    )
    answers, echoed = result.stdout.splitlines()[: len(masked) + len(refused)], result.stdout.splitlines()[len(masked) + len(refused) :]
    assert [json.loads(line)["status"] for line in answers] == [200] * len(masked) + [403] * len(refused), result
    first, second, third, fourth = internet.heard[cloud][before:]
    assert b"the key is ********" in first.body
    assert b"gzip ********" in second.body
    assert "content-encoding" not in second.headers
    assert third.path == "/v1/chat/completions?a=1&q=********&b=2"
    assert (fourth.headers["x-note"], fourth.headers["x-other"]) == ("see ********", "kept")
    assert echoed[:3] == ["101", "hello", "********"]
    assert marked[20:] not in result.stdout
    assert KEY not in result.audit.read_text()
    assert marked[20:] not in result.audit.read_text()
    redacted = result.select(reason="scan_found", effect="redact")
    assert [record["decision"] for record in redacted] == ["allow"] * len(masked)
    assert all(any(each.startswith("credential.") for each in record["detail"]["redacted"]) for record in redacted)
    denied = result.select(reason="scan_found", effect="refuse")
    assert [record["detail"].get("canaries") for record in denied] == [None, ["unregistered"], None, ["unregistered"]]
    (cut,) = result.select(reason="scan_found", effect="cut")
    assert cut["detail"]["canaries"] == ["unregistered"]


def test_a_credential_said_a_letter_at_a_time_on_a_websocket_is_cut_off_before_it_is_whole(machine: Machine) -> None:
    cloud = CLOUD[0]
    rule = http("python3", cloud, methods=["GET"], name="scanned", scan=["credential.*"])
    files = {"websocket.py": (INSIDE / "websocket.py").read_text(), "run.sh": f"exec {PYTHON} websocket.py {cloud} /ws hi= {' '.join(KEY)}"}
    result = machine.run(["/bin/sh", "run.sh"], policy=bare(rule | {"binary": {"allow": ["python3"]}}), files=files)
    status, first, *echoed = result.stdout.split()
    assert (status, first) == ("101", "hi="), result
    assert "".join(echoed) == KEY[:-1], result
    (cut,) = result.select(reason="scan_found", effect="cut")
    assert any(each.startswith("credential.") for each in cut["detail"]["categories"])
    assert KEY not in result.audit.read_text()


def test_what_cannot_be_read_is_refused(machine: Machine, internet: Internet) -> None:
    uploads = len(internet.stream.uploads)
    bomb = gzip.compress(bytes(200 << 20), 9)
    answers, result = say(
        machine,
        [
            {"url": URL, "packed": base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").decode(), "headers": {"Content-Type": "image/png"}},
            {"url": URL, "packed": base64.b64encode(b"\x1f\x8bnot gzip").decode(), "headers": {"Content-Encoding": "gzip"}},
            {"url": URL, "packed": base64.b64encode(bomb).decode(), "headers": {"Content-Encoding": "gzip"}},
            {"url": URL, "packed": base64.b64encode(b"x" * (17 << 20)).decode()},
        ],
    )
    assert [answer["status"] for answer in answers] == [403] * 4, result
    assert [record["detail"]["unreadable"] for record in result.select(reason="scan_unreadable")] == [
        "binary",
        "encoding",
        "too_large",
        "too_large",
    ]
    assert len(internet.stream.uploads) == uploads


@pytest.mark.client("curl")
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_client_that_waits_to_be_asked_for_its_body_is_asked_and_hears_the_refusal(machine: Machine, version: str) -> None:
    rule = http("curl", STREAM, methods=["POST"], name="scanned", scan=["credential.*"])
    command = ["/usr/bin/curl", "-sS", version, "-H", "Expect: 100-continue", "-d", "@body", "-w", " %{http_code}", URL]
    refused = machine.run(command, policy=bare(rule), files={"body": f"key {KEY}"})
    assert refused.stdout.endswith(" 403"), refused
    assert '"reason": "scan_found"' in refused.stdout
    passed = machine.run(command, policy=bare(rule), files={"body": "harmless"})
    assert passed.stdout.endswith(" 200"), passed
