"""Addresses, answers of strangers, and what counts as drift."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path

import pytest

from stockade.fleet import hosts, node, reach
from stockade.fleet.drift import findings
from stockade.fleet.hosts import Host
from stockade.fleet.node import Node, Sandbox
from stockade.fleet.reach import ANSWER, COMPLAINT, Asked, Way
from stockade.types import StockadeError


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("local", Host("local")),
        ("ssh://gpu-1.example", Host("gpu-1.example", ("gpu-1.example", None))),
        ("ssh://ops@10.20.0.7:2222", Host("10.20.0.7", ("ops@10.20.0.7", 2222))),
        ("ssh://[2001:db8::1]", Host("[2001:db8::1]", ("2001:db8::1", None))),
        ("unix:///run/other", Host("unix:///run/other", None, Path("/run/other"))),
    ],
)
def test_an_address_says_how_a_host_is_asked(address: str, host: Host) -> None:
    assert hosts.parse(address) == host


@pytest.mark.parametrize(
    "address", ["gpu-1", "ssh://-oProxyCommand=x", "ssh://-l@host", "ssh://host:0", "ssh://host:99999", "ssh://a b", "http://x"]
)
def test_what_is_none_or_would_be_an_option_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        hosts.parse(address)


SANDBOX = Sandbox("box", "1.0", "agent", "aa" * 32, 3, "enforce", 10, 4, 1, ("no_rule × 3",), ())
NODE = Node("1.0", "gpu-1", "6.12", (SANDBOX,))


def test_an_answer_is_read_as_it_was_said() -> None:
    said = NODE.as_json()
    said["sandboxes"] = [each | {"refused": list(each["refused"]), "problems": list(each["problems"])} for each in said["sandboxes"]]
    assert node.read(said) == NODE and NODE.sandboxes[0].kept_out == 3
    assert node.read(said | {"daemon_version": "0.9", "daemon_pid": 7}) == dataclasses.replace(NODE, daemon_version="0.9", daemon_pid=7)
    older = {key: value for key, value in said.items() if not key.startswith("daemon_")}
    assert node.read(older) == NODE


@pytest.mark.parametrize(
    "said",
    [
        *([], None, {}, {"sandboxes": {}}),
        {"version": 1, "host": "a", "kernel": "b", "sandboxes": []},
        {"version": "1", "host": "a", "kernel": "b", "sandboxes": [{}]},
        {"version": "1", "host": "a", "kernel": "b", "sandboxes": [], "daemon_version": 1},
        {"version": "1", "host": "a", "kernel": "b", "sandboxes": [], "daemon_pid": "1"},
        {"version": "1", "host": "a", "kernel": "b", "sandboxes": [{"name": "x", "generation": True}]},
    ],
)
def test_another_answer_is_refused(said: object) -> None:
    with pytest.raises(ValueError, match="no "):
        node.read(said)


def asked(name: str, **changed: str) -> Asked:
    sandbox = dataclasses.replace(SANDBOX, **{key: value for key, value in changed.items() if key != "host_version"})  # type: ignore[arg-type]
    return Asked(Host(name), Node(changed.get("host_version", "1.0"), name, "6.12", (sandbox,)))


def test_alike_is_no_finding() -> None:
    assert findings([asked("a"), asked("b"), asked("c")]) == []


def test_what_differs_from_most_is() -> None:
    found = findings(
        [
            asked("a"),
            asked("b", host_version="0.9", version="0.9"),
            asked("c", policy_sha256="bb" * 32),
            asked("d", version="0.8"),
            Asked(Host("e"), None, "no answer in 30 seconds"),
        ]
    )
    assert [(each.kind, each.host, each.sandbox) for each in found] == [
        ("unreached", "e", ""),
        ("version", "b", ""),
        ("version", "d", "box"),
        ("policy", "c", "box"),
    ]


def test_a_daemon_that_was_not_replaced_is_named_apart_from_what_is_installed() -> None:
    found = findings([Asked(Host("a"), dataclasses.replace(NODE, daemon_version="0.9")), Asked(Host("b"), NODE)])
    assert [(each.kind, each.host, each.text) for each in found] == [("version", "a", "its daemon is 0.9, and 1.0 is installed")]


def test_another_generation_of_the_same_policy_is_no_drift() -> None:
    one = asked("a")
    assert one.node is not None
    later = dataclasses.replace(one.node, sandboxes=(dataclasses.replace(SANDBOX, generation=9),))
    assert findings([one, Asked(Host("b"), later)]) == []


def floods(tmp_path: Path, program: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ssh that runs this Python instead: it may say whatever the host that it leads to does. Its process number comes into the file."""
    pid, ssh = tmp_path / "pid", tmp_path / "ssh"
    words = shlex.join([sys.executable, "-c", f"import os, sys, time; {program}"])
    ssh.write_text(f"#!/bin/sh\necho $$ > {shlex.quote(str(pid))}\nexec {words}\n")
    ssh.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return pid


def test_an_answer_without_an_end_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused for its length while whoever says it would go on, and that process is gone."""
    pid = floods(tmp_path, f"sys.stdout.write('x' * {2 * ANSWER}); sys.stdout.flush(); time.sleep(3600)", monkeypatch)
    (asked,) = reach.ask_all([Host("big", ("big", None))], Way(seconds=60), lambda _: [])
    assert asked.node is None and asked.why == "what it says is no answer of `stockade fleet node`: it is too long"
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


def test_of_a_long_complaint_the_first_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    floods(tmp_path, "sys.stderr.write('no\\n' * 2**20); sys.exit(7)", monkeypatch)
    status, answer, complaint = reach._heard(["ssh"], 60)
    assert (status, answer, complaint) == (7, b"", (b"no\n" * COMPLAINT)[:COMPLAINT])
    with pytest.raises(StockadeError, match=r"^no$"):
        reach._by_ssh(("big", None), Way(seconds=60))


def test_who_says_nothing_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = floods(tmp_path, "os.close(1); os.close(2); time.sleep(3600)", monkeypatch)
    (asked,) = reach.ask_all([Host("mute", ("mute", None))], Way(seconds=2), lambda _: [])
    assert asked.node is None and asked.why == "no answer in 2 seconds"
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()
