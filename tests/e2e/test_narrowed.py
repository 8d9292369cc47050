"""Rules that ask for more of a binary than its name: who started it, and which file it is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from framework.internet import ECHO, Internet
from framework.machine import Machine
from framework.policy import http, whole

pytestmark = pytest.mark.client("curl", "bash")
ASK = "curl -sS -o /dev/null -w '%{http_code}\\n'"


def test_a_binary_counts_only_when_the_named_one_started_it(machine: Machine, internet: Internet) -> None:
    policy = whole(http("curl", ECHO, ancestors=["bash"], name="from-bash"), allow=["curl", "sh", "bash"])
    script = f"{ASK} https://{ECHO}/by-sh; bash -c '{ASK.replace(chr(39), chr(34))} https://{ECHO}/by-bash; :'"
    result = machine.run(["sh", "-c", script], policy=policy)
    assert result.stdout.split() == ["000", "200"], result
    assert result.select(action="dns", decision="deny", level="binary", reason="no_rule", binary="curl", host=ECHO), result
    (allowed,) = result.select(action="http", decision="allow", rule="from-bash", path="/by-bash")
    assert allowed["ancestry"][0].endswith("/bash"), allowed
    assert not [seen for seen in internet.nginx.requests(server=ECHO) if seen["path"] == "/by-sh"]


def test_a_name_that_bash_asked_for_does_not_open_it_to_others(machine: Machine, internet: Internet) -> None:
    """The kernel's verdict is for the binary, whoever started it: it is the worker that knows, and refuses what others connect to."""
    policy = whole(http("curl", ECHO, ancestors=["bash"], name="from-bash"), allow=["curl", "sh", "bash", "getent", "cut"])
    learn = f"bash -c 'curl -sS -o /dev/null -w \"%{{remote_ip}}\\n\" https://{ECHO}/first'"
    script = f"address=$({learn}); curl -sS --resolve {ECHO}:443:$address https://{ECHO}/second; echo $?"
    result = machine.run(["sh", "-c", script], policy=policy)
    assert result.select(action="http", decision="allow", path="/first"), result
    assert result.stdout.split()[-1] != "0", result
    assert result.select(action="connect", decision="deny", level="binary", reason="no_rule", binary="curl", host=ECHO), result
    assert not [seen for seen in internet.nginx.requests(server=ECHO) if seen["path"] == "/second"]


def test_a_veto_for_what_bash_started_cannot_be_left_behind_by_starting_more(machine: Machine, internet: Internet) -> None:
    policy = whole(
        http("curl", ECHO, name="anybody"),
        http("curl", ECHO, ancestors=["bash"], name="from-bash") | {"path": {"allow": ["/a"], "deny": ["/admin/*"]}},
        allow=["curl", "sh", "bash", "env"],
    )
    script = f"bash -c '{'env ' * 40}{ASK.replace(chr(39), chr(34))} https://{ECHO}/admin/x; :'; {ASK} https://{ECHO}/admin/y"
    result = machine.run(["sh", "-c", script], policy=policy)
    assert result.stdout.split() == ["403", "200"], result
    assert result.select(action="http", decision="deny", rule="from-bash", reason="rule_deny", path="/admin/x"), result


@pytest.mark.parametrize("pinned", [True, False])
def test_a_pinned_binary_is_that_file_and_no_other(pinned: bool, machine: Machine) -> None:
    file = hashlib.sha256(Path("/usr/bin/curl").read_bytes()).hexdigest()
    policy = whole(http("curl", ECHO, sha256=[file if pinned else "0" * 64], name="pinned"), allow=["curl", "sh"])
    result = machine.run(["sh", "-c", f"{ASK} https://{ECHO}/x; echo $?"], policy=policy)
    assert result.stdout.split() == (["200", "0"] if pinned else ["000", "6"]), result
    if pinned:
        assert result.select(action="http", decision="allow", rule="pinned"), result
    else:
        assert result.select(action="dns", decision="deny", level="binary", reason="no_rule", host=ECHO), result
