"""What the kernel is told is what decide() says: no verdict more, none less, in every generation."""

from __future__ import annotations

import ipaddress
import itertools
from pathlib import Path

import pytest

from stockade.kernel.abi import NAME_LOCALHOST, BinaryFlag, SandboxFlag, Verdict
from stockade.policy import decide
from stockade.service.governed import Governed
from stockade.types import FORGOTTEN, Effect, Outcome, Request
from unit.service.samples import CURL, GIT, LS, NUMBERS, POLICY, FakeMaps, governed, policy

HOSTS = ["api.example.com", "bad.example.com", "git.example.com", "example.com", "x.y.example.com", "example.org"]
PORTS = [22, 80, 443, 8000, 9418, 11434]
OTHER = POLICY.replace("*.example.com", "*.example.org").replace("port: [443, 9418]", "port: [22]").replace("203.0.113.7]", "203.0.113.80]")


def expected(box: Governed, identity: int, host: str, port: int) -> Verdict:
    binary = box.roster.enrolments[identity].binary
    decision = decide(Request(binary, host, port), box.policy)
    if decision.outcome is Outcome.DENY:
        return Verdict.DENY
    return {Effect.RELAY: Verdict.RELAY, Effect.PASS: Verdict.INSPECT}[decision.effect]


def check(box: Governed, maps: FakeMaps) -> set[Verdict]:
    """Every binary, name, literal and port of these tests; returns the verdicts that occurred."""
    generation, seen = box.policy.generation, set()
    for identity, port in itertools.product(NUMBERS.values(), PORTS):
        for index, name in box.table:
            verdict = maps.named(generation, identity, index, port)
            assert verdict == expected(box, identity, name, port), (identity, name, port)
            seen.add(verdict)
        assert maps.named(generation, identity, NAME_LOCALHOST, port) == expected(box, identity, "localhost", port)
        for address in addresses():
            verdict = maps.literal(generation, identity, address, port)
            assert verdict == expected(box, identity, address, port), (identity, address, port)
            seen.add(verdict)
    return seen


def addresses() -> list[str]:
    """Both sides of every border that the policies draw."""
    networks = ["203.0.113.0/24", "203.0.113.64/26", "203.0.113.7/32", "203.0.113.80/32", "2001:db8::/32"]
    found = set()
    for network in map(ipaddress.ip_network, networks):
        for address in (network[0], network[-1]):
            found |= {address - 1, address, address + 1}
    return sorted(map(str, found))


@pytest.mark.parametrize("text", [POLICY, OTHER])
def test_what_is_published_is_what_is_decided(tmp_path: Path, text: str) -> None:
    box, maps = governed(tmp_path, text)
    for name in HOSTS:
        box.publish(box.table.allocate(name), name)
    assert check(box, maps) == {Verdict.DENY, Verdict.RELAY, Verdict.INSPECT}
    assert Verdict.DENY not in maps.verdicts.values(), "silence denies: a name costs what it opens"
    assert {port for _, port in maps.services} == set(box.policy.host_services()) == {11434, 8000}


def test_a_name_is_published_before_it_is_dialled_and_once(tmp_path: Path) -> None:
    box, maps = governed(tmp_path)
    index = box.table.allocate("api.example.com")
    assert maps.named(1, 1, index, 443) is Verdict.DENY
    box.publish(index, "api.example.com")
    written = dict(maps.verdicts)
    maps.verdicts.clear()
    box.publish(index, "api.example.com")
    assert maps.verdicts == {} and written == {**written, (1, 1, index, 443): Verdict.INSPECT}


def test_a_full_map_publishes_again(tmp_path: Path) -> None:
    """The resolver answers SERVFAIL; when there is room the name must not count as published."""
    maps = FakeMaps()
    box, _ = governed(tmp_path, maps=maps)
    index = box.table.allocate("api.example.com")
    maps._room = 0
    with pytest.raises(OSError, match="full"):
        box.publish(index, "api.example.com")
    maps._room = 100
    box.publish(index, "api.example.com")
    assert maps.named(1, 1, index, 443) is Verdict.INSPECT


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("mode: enforce", SandboxFlag.SEALED),
        ("mode: observe", SandboxFlag.OBSERVE | SandboxFlag.SEALED),
        ("exec: {allow: [curl], unlisted: no-network}", SandboxFlag.UNLISTED_RUNS | SandboxFlag.SEALED),
        ("exec: {allow: [curl], writable: true}", SandboxFlag.NONE),
    ],
)
def test_flags(tmp_path: Path, line: str, flags: SandboxFlag) -> None:
    text = POLICY.replace(
        "exec: {allow: [curl, git, ls], deny: [nc]}", line if line.startswith("exec") else "exec: {allow: [curl]}\n" + line
    )
    box, _ = governed(tmp_path, text)
    assert box.flags == flags


def test_loader_variables_are_refused_to_those_that_have_network_rules_now(tmp_path: Path) -> None:
    """Before the verdicts of the new generation count; and no longer to those that had some."""
    box, maps = governed(tmp_path)
    box.enrol()
    assert {number for number, flags in maps.enrolled.items() if flags & BinaryFlag.NETWORK} == {NUMBERS[CURL], NUMBERS[GIT]}
    maps.order.clear()
    text = POLICY.replace("binary: {allow: [git]}", "binary: {allow: [ls]}")
    box.compile(loaded := policy(tmp_path, text, 2))
    box.switch(loaded)
    assert {number for number, flags in maps.enrolled.items() if flags & BinaryFlag.NETWORK} == {NUMBERS[CURL], NUMBERS[LS]}
    assert all(flags & BinaryFlag.RUNS for flags in maps.enrolled.values())
    assert sorted(maps.order[:-1]) == ["enrol 2", "enrol 3"] and maps.order[-1] == "switch"


# who


def test_an_identity_is_its_binary_and_an_unknown_one_what_it_executed(tmp_path: Path) -> None:
    from stockade.types import UNKNOWN_BINARY, Binary

    box, _ = governed(tmp_path)
    built = Binary("a.out", frozenset(), "/srv/a.out")
    box.executed(9, built, 0)
    assert [box.binary(2, 9), box.binary(0, 9), box.binary(0, 8)] == [GIT, built, UNKNOWN_BINARY]


def test_what_is_remembered_of_execs_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stockade.service import governed as module

    monkeypatch.setattr(module, "_EXECS_REMEMBERED", 3)
    box, _ = governed(tmp_path)
    for exec_id in range(1, 10):
        box.executed(exec_id, GIT, exec_id - 1)
    assert list(box._execs) == [7, 8, 9]


def test_what_goes_on_starting_programs_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stockade.service import governed as module

    monkeypatch.setattr(module, "_EXECS_REMEMBERED", 3)
    box, _ = governed(tmp_path)
    box.executed(1, GIT, 0)
    for exec_id in range(2, 10):
        box.executed(exec_id, GIT, 1)
    assert box.ancestry(9) == (GIT.path,) and box.knows(1)


def test_a_parent_that_is_forgotten_leaves_a_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stockade.service import governed as module

    monkeypatch.setattr(module, "_EXECS_REMEMBERED", 3)
    box, _ = governed(tmp_path)
    for exec_id in range(1, 6):
        box.executed(exec_id, GIT, 0)
    box.executed(6, GIT, 1)
    assert box.ancestry(6) == (FORGOTTEN,)
    box.executed(7, GIT, 0)
    assert box.ancestry(7) == ()
