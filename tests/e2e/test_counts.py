"""A known workload, counted: every connect has one record, and no connection has another one's."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from framework.internet import ECHO, INSPECTED, RELAY_PORT, RELAYED
from framework.machine import Machine
from framework.policy import bare, http, relay

pytestmark = pytest.mark.client("/usr/bin/python3")


def test_23_connects_are_23_records(machine: Machine, inside: dict[str, str]) -> None:
    """getaddrinfo's own UDP probes of every answer are no attempts, and are not counted."""
    result = machine.run(f"/usr/bin/python3 connects.py {ECHO} 443 23", policy=bare(http("python3", ECHO)), files=inside)
    assert result.stdout.split() == ["23"], result
    connects = result.select(action="connect")
    assert len(connects) == 23, result
    assert {(record["decision"], record["destination"]["host"], record["binary"]["name"]) for record in connects} == {
        ("allow", ECHO, "python3")
    }


def test_6000_connects_half_inspected_half_relayed(machine: Machine, inside: dict[str, str]) -> None:
    """Every server says its own name and the path it was asked for: an origin taken from another connection would show in either half."""
    count = 6000
    targets = [
        target
        for pair in zip((f"{host}:80" for host in INSPECTED), (f"{host}:{RELAY_PORT}" for host in RELAYED), strict=True)
        for target in pair
    ]
    policy = bare(http("python3", *INSPECTED), relay("python3", *RELAYED, protocol="tcp", port=[RELAY_PORT]))
    result = machine.run(["/usr/bin/python3", "crowd.py", "32", str(count), *targets], policy=policy, files=inside, timeout=240)
    assert json.loads(result.stdout) == {"right": count, "wrong": [], "wrong_count": 0}, result.stdout + result.stderr
    each = count // len(targets)
    connects = Counter((record["destination"]["host"], record["effect"]) for record in result.select(action="connect", decision="allow"))
    assert {host: count for (host, effect), count in connects.items() if effect == "relay"} == dict.fromkeys(RELAYED, each)
    assert sum(connects[host, "pass"] for host in INSPECTED) == each * len(INSPECTED), connects
    requests = result.select(action="http", decision="allow", status=200)
    assert Counter(record["destination"]["host"] for record in requests) == dict.fromkeys(INSPECTED, each)
    strangers = [record for record in requests if not record["http"]["path"].startswith(f"/{record['destination']['host']}/")]
    assert strangers == []
    assert len({record["http"]["path"] for record in requests}) == count // 2
