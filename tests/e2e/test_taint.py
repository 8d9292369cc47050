"""A connection that one program opened and another speaks on: what is asked there is decided for both."""

from __future__ import annotations

import pytest

from framework.internet import ECHO, RELAY_PORT, RELAYED, Internet
from framework.machine import Machine
from framework.policy import http, relay, whole
from stockade.kernel import backend

pytestmark = pytest.mark.client("/usr/bin/python3")
HOWS = ["inherit", "exec", "pass"]
BOTH = ["python3", "sh"]


@pytest.fixture(autouse=True)
def senders_are_named() -> None:
    if not backend.tells_senders():
        pytest.skip("this kernel has neither the tracepoint sock_send_length (6.3) nor BPF LSM")


def arrived(internet: Internet, server: str, how: str) -> int:
    return len([seen for seen in internet.nginx.requests(server=server) if seen["path"].startswith(f"/foreign/{how}/")])


@pytest.mark.parametrize("how", HOWS)
def test_what_the_other_may_not_ask_does_not_go_out(machine: Machine, internet: Internet, inside: dict[str, str], how: str) -> None:
    """Thirty first words, each on a connection of its own: the kernel tells of each before it is answered."""
    before = arrived(internet, ECHO, how)
    policy = whole(http("python3", ECHO), allow=BOTH)
    result = machine.run(f"/usr/bin/python3 hands.py {how} {ECHO} 80 30", policy=policy, files=inside)
    assert arrived(internet, ECHO, how) == before, result
    assert result.stdout.count("HTTP/1.1 403 Forbidden") == 30, result
    assert result.stdout.count("HTTP/1.1 200 OK") == (30 if how == "inherit" else 0), result
    refused = result.select(action="http", decision="deny", reason="socket_tainted")
    assert len(refused) == 30, result
    for record in refused:
        assert record["binary"]["name"] == "python3" and record["binary"]["identity"] == "tainted", record
        assert record["detail"]["speaker"].endswith("sh"), record
        assert (record["detail"]["speaker_pid"] == record["pid"]) == (how == "exec"), record


@pytest.mark.parametrize("how", HOWS)
def test_what_both_may_ask_goes_out_and_the_record_names_both(
    machine: Machine, internet: Internet, inside: dict[str, str], how: str
) -> None:
    before = arrived(internet, ECHO, how)
    policy = whole(http(BOTH, ECHO), allow=BOTH)
    result = machine.run(f"/usr/bin/python3 hands.py {how} {ECHO} 80 3", policy=policy, files=inside)
    assert arrived(internet, ECHO, how) == before + 3, result
    passed = [record for record in result.select(action="http", decision="allow", effect="pass") if "speaker" in record["detail"]]
    assert len(passed) == 3 and all(record["binary"]["identity"] == "tainted" for record in passed), result


def test_the_program_that_connected_is_held_to_the_other_from_then_on(machine: Machine, inside: dict[str, str]) -> None:
    """It may be the other's words that it now sends."""
    policy = whole(http("python3", ECHO), allow=BOTH)
    result = machine.run(f"/usr/bin/python3 hands.py mixed {ECHO} 80 1", policy=policy, files=inside)
    assert result.stdout.splitlines() == ["HTTP/1.1 200 OK", "HTTP/1.1 403 Forbidden"], result
    assert [record["http"]["path"] for record in result.select(action="http", reason="socket_tainted")] == ["/own/0"], result


def test_a_program_and_its_own_threads_and_children_are_one(machine: Machine, inside: dict[str, str]) -> None:
    policy = whole(http("python3", ECHO), allow=BOTH)
    result = machine.run(f"/usr/bin/python3 hands.py own {ECHO} 80 3", policy=policy, files=inside)
    assert result.stdout.count("200 OK") == 6, result
    assert result.select(reason="socket_tainted") == [], result
    assert {record["binary"]["identity"] for record in result.select(action="http")} == {"strong"}, result


@pytest.mark.parametrize("how", HOWS)
def test_a_relay_is_cut_when_somebody_else_speaks(machine: Machine, internet: Internet, inside: dict[str, str], how: str) -> None:
    host = RELAYED[0]
    policy = whole(relay("python3", host, protocol="tcp", port=[RELAY_PORT]), allow=BOTH)
    own = machine.run(f"/usr/bin/python3 hands.py own {host} {RELAY_PORT} 1", policy=policy, files=inside)
    assert own.stdout.count("200 OK") == 2 and own.select(reason="socket_tainted") == [], own
    result = machine.run(f"/usr/bin/python3 hands.py {how} {host} {RELAY_PORT} 1", policy=policy, files=inside)
    (record,) = result.select(action="connect", reason="socket_tainted")
    assert record["effect"] == "cut" and record["binary"]["identity"] == "tainted", record
    assert record["detail"]["speaker"].endswith("sh"), record


def test_observing_lets_it_pass_and_says_so(machine: Machine, internet: Internet, inside: dict[str, str]) -> None:
    before = arrived(internet, ECHO, "inherit")
    policy = whole(http("python3", ECHO), allow=BOTH)
    result = machine.run(f"/usr/bin/python3 hands.py inherit {ECHO} 80 2", policy=policy, files=inside, options=["--observe"])
    assert arrived(internet, ECHO, "inherit") == before + 2, result
    seen = [record for record in result.select(action="http", decision="deny") if "speaker" in record["detail"]]
    assert len(seen) == 2 and not any(record["enforced"] for record in seen), result
