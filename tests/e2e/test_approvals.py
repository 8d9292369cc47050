"""A refused request waits for a person: what the sandbox is told, what an answer opens and for how long, and who may see it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import pytest

from framework.internet import ECHO, H1, OTHER, STREAM, Internet
from framework.machine import STOCKADE, Machine, Record, Running, wait_for
from framework.policy import Rule, http, whole
from stockade.service.control import ask, running
from stockade.service.settings import Settings

pytestmark = pytest.mark.client("/usr/bin/python3")

CONTROL = Settings().control
POST = f"https://{ECHO}/v1/items"
FIRST = http("python3", ECHO, paths=["/**"])


class Begging:
    """A sandbox that asks for what the test tells it to, and a person who answers."""

    def __init__(self, machine: Machine, inside: dict[str, str]) -> None:
        self.machine, self.room = machine, machine.room(inside)
        self.name = f"approvals-{os.getpid()}-{self.room.name}"
        self._number = 0

    def start(self, *rules: Rule, options: Sequence[str] = (), **sections: Any) -> Running:
        text = whole(*(rules or (FIRST,)), allow=["python3"], **sections)
        self.run = self.machine.start("/usr/bin/python3 begging.py", policy=text, room=self.room, options=["--name", self.name, *options])
        wait_for(lambda: self.name in running(CONTROL), "the agent", running=self.run)
        return self.run

    def stop(self) -> None:
        (self.room / "work" / "stop").touch()
        self.run.finish()

    def fetches(self, order: str) -> list[list[Any]]:
        work = self.room / "work"
        (work / f"do-{self._number}.part").write_text(order)
        (work / f"do-{self._number}.part").rename(work / f"do-{self._number}")
        done = work / f"done-{self._number}"
        wait_for(done.exists, order, running=self.run)
        self._number += 1
        found: list[list[Any]] = json.loads(done.read_text())
        return found

    def fetch(self, method: str, url: str) -> tuple[Any, Any]:
        """The status and the body, parsed when it is JSON."""
        ((status, body),) = self.fetches(f"{method} {url}")
        try:
            return status, json.loads(body)
        except ValueError:
            return status, body

    def refused(self, method: str = "POST", url: str = POST) -> str:
        """The id that the 403 carries."""
        status, body = self.fetch(method, url)
        assert status == 403, (status, body)
        identifier: str = body["approval"]
        return identifier

    def state(self, identifier: str) -> str:
        status, page = self.fetch("GET", f"http://stockade.internal/approvals/{identifier}")
        assert status == 200 and page["id"] == identifier, (status, page)
        found: str = page["state"]
        return found

    def says(self, *words: str, status: int = 0) -> str:
        done = subprocess.run([STOCKADE, "approvals", *words, "--sandbox", self.name], capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout if status == 0 else done.stderr

    def listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.says("list", "-o", "json"))
        return found

    def records(self, reason: str) -> list[Record]:
        return [record for record in self.run.records() if record["reason"] == reason]


@pytest.fixture
def begging(machine: Machine, inside: dict[str, str]) -> Begging:
    return Begging(machine, inside)


def arrived(internet: Internet, method: str, path: str, server: str = ECHO) -> int:
    return len([seen for seen in internet.nginx.requests(server=server) if (seen["method"], seen["path"]) == (method, path)])


# once


def test_a_refused_request_is_approved_and_passes_once(begging: Begging, internet: Internet) -> None:
    url, path = f"https://{ECHO}/once/{begging.name}", f"/once/{begging.name}"
    with begging.start():
        status, body = begging.fetch("POST", url)
        identifier = body["approval"]
        assert status == 403 and body["reason"] == "no_rule" and f"poll http://stockade.internal/approvals/{identifier}" in body["hint"]
        assert begging.refused("POST", url) == identifier, "the same question, not another one"
        assert begging.state(identifier) == "pending"
        (row,) = begging.listed()
        assert (row["id"], row["count"], row["method"], row["path"], row["host"], row["port"]) == (identifier, 2, "POST", path, ECHO, 443)
        assert f"{identifier} is approved (once): python3 -> {ECHO}:443 POST {path}; generation 2" in begging.says("approve", identifier)
        assert begging.state(identifier) == "approved"
        assert begging.fetch("PUT", url)[0] == 403, "another method is another question"
        assert begging.fetch("POST", url)[0] == 200
        assert begging.state(identifier) == "consumed"
        assert begging.refused("POST", url) != identifier
        assert arrived(internet, "POST", path) == 1
        begging.stop()
    refusals = [record["detail"]["approval"] for record in begging.records("no_rule") if record["http"]["method"] == "POST"]
    assert refusals[:2] == [identifier, identifier] and refusals[2] != identifier
    (approved,), (consumed,) = begging.records("approved"), begging.records("approval_consumed")
    assert approved["rule"] == consumed["rule"] == f"approval-{identifier}" and approved["detail"]["by"].startswith("uid 0")
    assert (approved["detail"]["term"], approved["sandbox"]["generation"]) == ("once", 2)
    (passed,) = [record for record in begging.run.records() if record["rule"] == f"approval-{identifier}" and record["action"] == "http"]
    assert (passed["decision"], passed["effect"], passed["http"]["status"], passed["sandbox"]["generation"]) == ("allow", "pass", 200, 2)


def test_of_two_at_once_one_passes(begging: Begging, internet: Internet) -> None:
    url, path = f"https://{ECHO}/parallel/{begging.name}", f"/parallel/{begging.name}"
    with begging.start():
        for round_ in range(1, 4):
            begging.says("approve", begging.refused("POST", url))
            outcomes = [status for status, _ in begging.fetches(f"parallel 8 POST {url}")]
            assert sorted(outcomes) == [200] + [403] * 7, outcomes
            assert arrived(internet, "POST", path) == round_
        begging.stop()


def test_the_one_request_is_not_cut_by_the_end_of_its_approval(begging: Begging) -> None:
    """Its rule is gone before its answer has begun: it goes on. A policy that denies it cuts it."""
    url = f"https://{STREAM}/ticks/15"
    with begging.start(FIRST, http("python3", STREAM, paths=["/none"])) as run:
        begging.says("approve", begging.refused("GET", url))
        assert begging.fetch("GET", url) == (200, "tick\n" * 15)
        assert begging.fetch("GET", url)[0] == 403

        held = f"https://{STREAM}/hold/{begging.name}"
        begging.says("approve", begging.refused("GET", held))
        work = begging.room / "work"
        (work / f"do-{begging._number}").write_text(f"GET {held}")
        wait_for(lambda: begging.records("approval_consumed")[1:], "the request", running=run)
        time.sleep(0.5)
        stricter = http("python3", STREAM, paths=["/none"]) | {"path": {"allow": ["/none"], "deny": ["/hold/*"]}}
        (begging.room / "policy.yaml").write_text(whole(FIRST, stricter, allow=["python3"]))
        ask(CONTROL, begging.name, "reload")
        wait_for(begging.run.audit.exists, "records")
        cut = wait_for(lambda: [record for record in run.records() if record["effect"] == "cut"], "the cut", running=run)
        assert cut[0]["reason"] == "policy_changed" and cut[0]["http"]["path"] == f"/hold/{begging.name}"


# for a time, for always


def test_for_a_time_and_then_no_more(begging: Begging) -> None:
    with begging.start():
        identifier = begging.refused()
        begging.says("approve", identifier, "--for", "4s")
        began = time.monotonic()
        assert [begging.fetch("POST", POST)[0] for _ in range(3)] == [200, 200, 200]
        assert begging.state(identifier) == "approved" and time.monotonic() - began < 4, "too slow for this test"
        wait_for(lambda: begging.records("approval_expired"), "the end", running=begging.run)
        assert begging.fetch("POST", POST)[0] == 403
        assert begging.state(identifier) == "expired"
        begging.stop()


def test_for_a_time_and_taken_back(begging: Begging) -> None:
    with begging.start():
        identifier = begging.refused()
        begging.says("approve", identifier, "--for", "1h")
        assert begging.fetch("POST", POST)[0] == 200
        begging.says("deny", identifier)
        assert begging.refused() == identifier, "it is not asked again"
        assert begging.state(identifier) == "denied"
        begging.stop()
    assert begging.records("approval_denied")[0]["detail"]["by"].startswith("uid 0")


def test_an_approval_outlives_a_reload_and_not_a_deny(begging: Begging) -> None:
    with begging.start():
        begging.says("approve", begging.refused(), "--for", "1h")
        (begging.room / "policy.yaml").write_text(whole(FIRST, http("python3", H1), allow=["python3"]))
        assert ask(CONTROL, begging.name, "reload")["switched"]
        assert begging.fetch("POST", POST)[0] == 200
        denying = FIRST | {"method": {"allow": ["GET"], "deny": ["POST"]}}
        (begging.room / "policy.yaml").write_text(whole(denying, allow=["python3"]))
        assert ask(CONTROL, begging.name, "reload")["switched"]
        status, body = begging.fetch("POST", POST)
        assert status == 403 and body["reason"] == "rule_deny" and "approval" not in body and "no approval lifts that" in body["hint"]
        begging.stop()


def test_for_always_is_kept_in_the_file_and_holds_after_a_restart(begging: Begging, machine: Machine, inside: dict[str, str]) -> None:
    file = begging.room / "approved.yaml"
    with begging.start(options=["--approvals", str(file)]):
        assert file.stat().st_mode & 0o777 == 0o600
        identifier = begging.refused()
        begging.says("approve", identifier, "--always")
        assert begging.fetch("POST", POST)[0] == 200 and begging.fetch("POST", POST)[0] == 200
        assert f"name: approval-{identifier}" in file.read_text()
        time.sleep(1.5)  # what was read on approval is not read once more by the watch
        assert begging.records("reloaded")[-1]["detail"]["cause"] == ["approval of uid 0"]
        begging.stop()
    again = Begging(machine, inside)
    with again.start(options=["--approvals", str(file)]) as run:
        assert again.fetch("POST", POST)[0] == 200
        text = file.read_text()
        file.write_text(text[: text.index("- name")])
        wait_for(lambda: again.records("reloaded"), "a reload", running=run)
        assert again.fetch("POST", POST)[0] == 403, "who deletes the rule takes the approval back"
        again.stop()


def test_for_always_needs_a_file(begging: Begging) -> None:
    with begging.start():
        said = begging.says("approve", begging.refused(), "--always", status=1)
        assert "no_approvals_file" in said and "--approvals FILE" in said
        assert begging.fetch("POST", POST)[0] == 403
        begging.stop()


def test_for_always_while_the_policy_is_broken_changes_nothing(begging: Begging) -> None:
    file = begging.room / "approved.yaml"
    with begging.start(options=["--approvals", str(file)]):
        identifier, before = begging.refused(), file.read_text()
        good = (begging.room / "policy.yaml").read_text()
        (begging.room / "policy.yaml").write_text("- name: nonsense\n")
        said = begging.says("approve", identifier, "--always", status=1)
        assert "approval_failed" in said and "policy.yaml:1:3" in said
        assert file.read_text() == before and begging.state(identifier) == "pending"
        begging.says("approve", identifier)
        assert begging.fetch("POST", POST)[0] == 200, "once needs no file"
        (begging.room / "policy.yaml").write_text(good)
        begging.stop()


def test_a_file_of_approvals_that_the_sandbox_could_write_is_refused(begging: Begging) -> None:
    file = begging.room / "work" / "approved.yaml"
    result = begging.machine.run("true", policy=whole(FIRST, allow=["true"]), room=begging.room, options=["--approvals", file])
    assert result.status == 125 and "writable_source" in result.stderr, result


# names and connections


def test_a_name_that_was_refused_is_approved_with_a_method_and_a_path(begging: Begging) -> None:
    with begging.start():
        failure, _ = begging.fetch("GET", f"https://{OTHER}/x")
        assert failure == "URLError"
        (row,) = begging.listed()
        assert (row["host"], row["port"], row["method"], row["path"]) == (OTHER, None, None, None)
        assert "approval_vague" in begging.says("approve", row["id"], status=1)
        begging.says("approve", row["id"], "--for", "1h", "--method", "GET", "--path", "/x")
        assert begging.fetch("GET", f"https://{OTHER}/x")[0] == 200
        assert begging.fetch("GET", f"https://{OTHER}/y")[0] == 403
        begging.says("deny", row["id"])
        assert begging.fetch("GET", f"https://{OTHER}/x")[0] == "URLError"
        begging.stop()


# who may see it


def test_another_sandbox_cannot_read_it_and_nobody_more_than_read(begging: Begging, machine: Machine, inside: dict[str, str]) -> None:
    other = Begging(machine, inside)
    with begging.start(), other.start():
        identifier = begging.refused()
        page = "http://stockade.internal/approvals/"
        assert begging.state(identifier) == "pending"
        assert other.fetch("GET", page + identifier)[0] == 404
        assert begging.fetch("GET", page + "nobody")[0] == 404
        refused = {
            "POST": page + identifier,
            "DELETE": page + identifier,
            "GET": page + identifier + "/approve",
            "HEAD": page + identifier,
        }
        for method, url in refused.items():
            assert begging.fetch(method, url)[0] == 403, method
        for url in ("http://stockade.internal/", "http://stockade.internal/approvals/", "http://stockade.internal/approvals/../x"):
            assert begging.fetch("GET", url)[0] == 403, url
        for url in ("https://stockade.internal/approvals/x", "http://stockade.internal:8080/approvals/x"):
            assert begging.fetch("GET", url)[0] == "URLError", url
        assert begging.fetch("GET", "http://x.stockade.internal/")[0] == "URLError"
        hosts = {row["host"] for row in begging.listed()}
        assert "stockade.internal" not in hosts, "there is nothing to approve"
        begging.stop()
        other.stop()
    pages = [
        record for record in begging.run.records() if record["action"] == "http" and record["destination"]["host"] == "stockade.internal"
    ]
    read = [record["http"]["status"] for record in pages if record["decision"] == "allow"]
    assert read == [200, 404] and {record["http"]["status"] for record in pages if record["decision"] == "deny"} == {403}
    assert {record["rule"] for record in pages} == {"stockade.internal"}


def test_under_observe_nothing_waits(begging: Begging) -> None:
    with begging.start(options=["--observe"]):
        assert begging.fetch("POST", POST)[0] == 200
        assert begging.listed() == []
        begging.stop()
    assert begging.records("no_rule")[0]["enforced"] is False


def test_a_binary_with_a_rule_of_its_own_is_not_the_one_that_was_approved(begging: Begging) -> None:
    """What is approved is that binary, that method, that path: nothing else gets through the same hole."""
    with begging.start():
        begging.says("approve", begging.refused(), "--for", "1h")
        for method, url in (("POST", POST + "/x"), ("POST", POST + "?"), ("PUT", POST)):
            assert begging.fetch(method, url)[0] == (200 if url.endswith("?") else 403), (method, url)
        begging.stop()
