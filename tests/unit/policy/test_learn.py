"""What is learnt of a trail, what is not and is said, and the verb on a sealed trail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from stockade.cli import main
from stockade.policy import Policy, decide, load
from stockade.policy.making.learn import Learnt, learn
from stockade.policy.making.writing import as_yaml
from stockade.types import UNKNOWN_BINARY, Action, Binary, Effect, Reason, Request
from unit.policy.trails import CURL, PIP, http, record, trail

Read = Callable[[Iterable[dict[str, Any]]], tuple[Learnt, Policy]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def learnt(records: Iterable[dict[str, Any]]) -> tuple[Learnt, Policy]:
        found = learn(records, name="learnt")
        file = tmp_path / "learnt.yaml"
        file.write_text(as_yaml(found.policy))
        return found, load([file])

    return learnt


def allowed(policy: Policy, method: str | None, host: str, path: str | None, *, port: int = 443, binary: Binary = CURL) -> bool:
    return decide(Request(binary, host, port, method, path), policy).allowed


def test_a_method_is_allowed_on_the_paths_it_was_seen_with_and_on_no_other(read: Read) -> None:
    found, policy = read([http("POST", "/a"), http("GET", "/b"), http("GET", "/both"), http("POST", "/both"), http("GET", "/b")])
    asked = [(method, path) for method in ("GET", "POST", "HEAD") for path in ("/a", "/b", "/both")]
    passing = [f"{method} {path}" for method, path in asked if allowed(policy, method, "api.example.com", path)]
    assert passing == ["GET /b", "GET /both", "POST /a", "POST /both"]
    assert "- /b  # 2 requests" in as_yaml(found.policy)
    assert found.remarks == ()


def test_neither_another_binary_nor_host_nor_port(read: Read) -> None:
    _, policy = read([http("GET", "/a"), http("GET", "/a", "other.example.com", 80, binary=PIP)])
    assert allowed(policy, "GET", "api.example.com", "/a")
    assert allowed(policy, "GET", "other.example.com", "/a", port=80, binary=PIP)
    assert not allowed(policy, "GET", "api.example.com", "/a", port=80)
    assert not allowed(policy, "GET", "other.example.com", "/a")
    assert not allowed(policy, "GET", "www.api.example.com", "/a")
    assert not allowed(policy, "GET", "api.example.com", "/a", binary=Binary.named("wget"))


def test_what_was_allowed_counts_as_what_was_observed(read: Read) -> None:
    _, policy = read([http("GET", "/a", allowed=True, reason=Reason.RULE_ALLOW)])
    assert allowed(policy, "GET", "api.example.com", "/a")


def test_what_was_refused_is_left_out_and_said_unless_it_was_allowed_later(read: Read) -> None:
    found, policy = read(
        [
            http("GET", "/a"),
            http("GET", "/a", enforced=True, reason=Reason.POLICY_CHANGED, effect=Effect.REFUSE),
            http("GET", "/%00", enforced=True, reason=Reason.PATH_INVALID, effect=Effect.REFUSE),
            http("GET", "/%00", enforced=True, reason=Reason.PATH_INVALID, effect=Effect.REFUSE),
        ]
    )
    assert [str(remark) for remark in found.remarks] == [
        "not learnt: curl to api.example.com:443 GET /%00: path_invalid (2 times) [refused]"
    ]
    assert len(policy.rules) == 1


def test_what_is_known_only_in_part_is_said(read: Read) -> None:
    found, policy = read(
        [
            record(Action.DNS, "name.example.com", type="A"),
            record(Action.CONNECT, "quiet.example.com", 443),
            record(Action.CONNECT, "127.0.0.1", 8080, allowed=True, reason=Reason.LOCAL_LISTENER),
            record(Action.CONNECT, "169.254.169.254", 80),
            record(Action.CONNECT, "x.example.com", 443, binary=UNKNOWN_BINARY),
            http("FROB_IT", "/"),
        ]
    )
    assert [remark.code for remark in found.remarks] == ["host", "method", "name_only", "no_request", "unknown_binary"]
    assert policy.rules == ()


def test_relays(read: Read) -> None:
    relayed = {"effect": Effect.RELAY}
    found, policy = read(
        [
            record(Action.CONNECT, "tls.example.com", 8443, **relayed),
            record(Action.CONNECT, "tls.example.com", 8443, **relayed),
            record(Action.CONNECT, "raw.example.com", 5432, **relayed),
            record(Action.CONNECT, "raw.example.com", 5432, enforced=True, reason=Reason.PROTOCOL_ERROR, effect=Effect.REFUSE),
            record(Action.CONNECT, "db.example.com", 5432, allowed=True, reason=Reason.RULE_ALLOW, **relayed),
            record(Action.CONNECT, "pinned.example.com", 443, allowed=True, reason=Reason.RULE_ALLOW, **relayed),
        ]
    )
    rules = {rule.destination.allow[0].text: (rule.ports, rule.tls, rule.protocol) for rule in policy.rules}
    assert rules == {
        "tls.example.com": ((8443,), "passthrough", "http"),
        "raw.example.com": ((5432,), "inspect", "tcp"),
        "db.example.com": ((5432,), "inspect", "tcp"),
        "pinned.example.com": ((443,), "passthrough", "http"),
    }
    assert "# 2 connections" in as_yaml(found.policy)
    assert found.remarks == ()


def test_what_runs_is_listed(read: Read) -> None:
    unlisted = {"sha256": "", "names": frozenset[str]()}
    tool = Binary("tool", path="/opt/own/bin/tool", **unlisted)
    false_curl = Binary("curl", path="/opt/own/bin/curl", **unlisted)
    found, policy = read(
        [
            record(Action.EXEC, reason=Reason.EXEC_UNLISTED),
            record(Action.EXEC, reason=Reason.EXEC_ALLOWED, allowed=True),
            record(Action.EXEC, binary=Binary("date", path="/usr/bin/date", **unlisted), reason=Reason.EXEC_UNLISTED),
            record(Action.EXEC, binary=tool, reason=Reason.EXEC_UNLISTED),
            record(Action.EXEC, binary=false_curl, reason=Reason.EXEC_UNLISTED),
            record(Action.EXEC, binary=PIP, reason=Reason.LOADER_VARIABLE, variable="LD_PRELOAD"),
            http("GET", "/", binary=PIP),
        ]
    )
    assert policy.exec.allow == ("/opt/own/bin/curl", "/opt/own/bin/tool", "curl", "date", "pip")  # date, not all of coreutils
    assert "- curl               # 2 starts" in as_yaml(found.policy)
    assert [str(remark) for remark in found.remarks] == ["not learnt: exec of pip: loader_variable, LD_PRELOAD [exec]"]


def test_a_rule_is_for_a_family_where_the_kernel_saw_one_of_its_files(read: Read) -> None:
    helper = Binary("git-remote-https", frozenset(), "/usr/lib/git-core/git-remote-https")
    python = Binary("python3.13", frozenset(), "/usr/bin/python3.13")
    started = [record(Action.EXEC, binary=each, reason=Reason.EXEC_UNLISTED) for each in (helper, python, python)]
    found, policy = read([*started, http("GET", "/a", binary=helper), http("GET", "/b", binary=python)])
    assert [rule.binary.allow for rule in policy.rules] == [("git",), ("python3",)]
    assert policy.exec.allow == ("git", "python3")
    assert "- python3  # 2 starts" in as_yaml(found.policy)


def test_a_refused_address_is_not_opened_by_learning_it(read: Read) -> None:
    """To name the host would open it: a public name that answers with a private address must not get there by being observed."""
    found, policy = read([http("GET", "/a", enforced=True, reason=Reason.ADDRESS_REFUSED, effect=Effect.REFUSE)])
    assert policy.rules == ()
    assert "address_refused; if it is meant to lie in a private network, name it" in str(found.remarks[0])


def test_a_path_is_learnt_with_every_reading_of_it(read: Read) -> None:
    _, policy = read([http("GET", "/@scope%2Fname")])
    assert allowed(policy, "GET", "api.example.com", "/@scope%2Fname")
    assert allowed(policy, "GET", "api.example.com", "/@scope/name")


def test_a_credential_that_the_trail_masked_is_a_star(read: Read) -> None:
    _, policy = read([http("POST", "/bot123456:secret/sendMessage")])
    assert allowed(policy, "POST", "api.example.com", "/bot123456:secret/sendMessage")
    assert not allowed(policy, "POST", "api.example.com", "/bot123456:secret/getUpdates")


def test_the_same_trail_gives_the_same_text(read: Read) -> None:
    records = [http("GET", f"/x/{number}/{name}") for number in range(20) for name in ("a", "b")]
    assert as_yaml(read(records)[0].policy) == as_yaml(read(reversed(records))[0].policy)


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = trail(tmp_path / "audit.jsonl", [http("GET", "/a"), http("GET", "/b"), http("GET", "/c")])
    out = tmp_path / "learnt.yaml"
    assert main(["policy", "learn", str(file), "--name", "mine", "--out", str(out)]) == 0
    assert load([out]).name == "mine"
    assert "# Learnt from 3 records of audit.jsonl, 2026-11-27T09:01:00.000000Z to 2026-11-27T09:03:00.000000Z." in out.read_text()
    assert main(["policy", "check", str(out)]) == 0
    capsys.readouterr()
    assert main(["policy", "learn", str(file), "--since", "2026-11-27T09:02:00Z", "--until", "2026-11-27T10:03+01:00", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["policy"]["network"][0]["path"] == {"allow": ["/b"]}
    assert main(["policy", "learn", str(file), "--sandbox", "box-7f"]) == 0
    assert main(["policy", "learn", str(file), "--sandbox", "other"]) == 2
    assert main(["policy", "learn", str(file), "--since", "yesterday"]) == 2
    assert main(["policy", "learn", str(tmp_path / "absent")]) == 2
    assert "[bad_time]" in capsys.readouterr().err


def test_a_damaged_trail_is_said_and_nothing_of_the_damage_is_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = trail(tmp_path / "audit.jsonl", [http("GET", "/a"), http("GET", "/b"), http("GET", "/c")])
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[1].replace(b'"/b"', b'"/x"') + lines[2])
    assert main(["policy", "learn", str(file)]) == 1
    captured = capsys.readouterr()
    assert "/a" in captured.out
    assert "/x" not in captured.out
    assert f"{file}:2: changed" in captured.err
    file.write_bytes(lines[0] + lines[2])
    assert main(["policy", "learn", str(file)]) == 1
    assert f"{file}:2: " in capsys.readouterr().err
