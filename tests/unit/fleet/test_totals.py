"""Counts of many hosts, added up by policy."""

from __future__ import annotations

from stockade.fleet.hosts import Host
from stockade.fleet.node import Node, Sandbox
from stockade.fleet.reach import Asked
from stockade.fleet.totals import Total, totals


def asked(name: str, *sandboxes: Sandbox) -> Asked:
    return Asked(Host(name), Node("1.0", name, "6.1", sandboxes))


def test_counts_of_a_policy_are_added_up_over_hosts_and_sandboxes() -> None:
    agent = Sandbox("a", policy="agent", allowed=10, denied=4, unenforced=1)
    other = Sandbox("b", policy="other", allowed=1, denied=9)
    found = totals([asked("one", agent, agent), asked("two", agent, other), Asked(Host("three"), None, "no answer"), asked("four")])
    assert found == [
        Total("agent", hosts=2, sandboxes=3, allowed=30, refused=9, unenforced=3),
        Total("other", hosts=1, sandboxes=1, allowed=1, refused=9, unenforced=0),
    ]


def test_of_nobody_there_is_nothing() -> None:
    assert totals([]) == [] and totals([Asked(Host("one"), None, "no answer")]) == []
