"""Whose refusal a message of the kernel is, and the one record of it; without a kernel: `tests/e2e/test_landlock_told.py` has one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from stockade.audit.record import Json, describe
from stockade.kernel.denials import Denial, Domain, Ended, Told
from stockade.service.governed import Governed
from stockade.service.landlocked import APART, DOMAINS, Landlocked
from unit.service.samples import NUMBER, governed

FIRST, INIT, OURS, OTHERS = 1000, 4711, 0x1AA35C22C, 0x1AA35C22D
USER = FIRST + NUMBER
DENIED = Denial(OURS, ("fs.ioctl_dev",), b"/dev/null")
DOMAIN = Domain(OURS, INIT, USER)


@pytest.fixture
def box(tmp_path: Path) -> Governed:
    found, _ = governed(tmp_path)
    found.init = INIT
    return found


def told(landlocked: Landlocked, box: Governed, said: Iterable[Told]) -> list[Json]:
    records = landlocked.records(said, {NUMBER: box})
    assert all(whose is box for whose, _ in records)
    return [describe(box.sandbox, record) for _, record in records]


def test_one_record_for_what_was_refused_in_the_same_way(box: Governed) -> None:
    landlocked = Landlocked(FIRST, None)
    signal = Denial(OURS, ("scope.signal",))
    first, second = told(landlocked, box, [DENIED, DOMAIN, DENIED, signal, DENIED])
    assert first["detail"] == {"blockers": ["fs.ioctl_dev"], "path": "/dev/null", "at_least": 3, "ruleset": "sandbox"}
    assert second["detail"] == {"blockers": ["scope.signal"], "at_least": 1, "ruleset": "sandbox"}
    assert (first["action"], second["action"]) == ("file", "syscall")
    for record in (first, second):
        assert (record["reason"], record["decision"], record["effect"], record["level"]) == ("landlock_refused", "deny", "refuse", "static")
        assert (record["binary"], record["pid"], record["enforced"]) == (None, None, True)
    assert told(landlocked, box, []) == []
    assert [each["detail"]["at_least"] for each in told(landlocked, box, [DENIED])] == [1], (
        "the domain is told once, and known from then on"
    )


def test_a_ruleset_that_a_program_puts_on_itself_is_told_apart(box: Governed) -> None:
    said = [DENIED, DOMAIN, Denial(OTHERS, ("fs.write_file",), b"/x"), Domain(OTHERS, 4712, USER)]
    assert [each["detail"]["ruleset"] for each in told(Landlocked(FIRST, None), box, said)] == ["sandbox", "program"]


def test_a_domain_may_be_told_a_turn_later_and_no_more(box: Governed) -> None:
    landlocked = Landlocked(FIRST, None)
    assert told(landlocked, box, [DENIED]) == []
    assert [each["detail"]["at_least"] for each in told(landlocked, box, [DOMAIN])] == [1]
    late = Landlocked(FIRST, None)
    assert told(late, box, [DENIED]) == told(late, box, []) == told(late, box, [DOMAIN]) == []


@pytest.mark.parametrize("user", [FIRST, USER + 1, USER - 1, 0, 4294967295])
def test_what_another_user_was_refused_is_not_told_here(box: Governed, user: int) -> None:
    """The audit is the machine's: other sandboxes, the sinks, a browser of its owner. Also with the PID of this one's init."""
    landlocked = Landlocked(FIRST, None)
    assert told(landlocked, box, [DENIED, Domain(OURS, INIT, user)]) == told(landlocked, box, [DENIED]) == []


def test_a_sandbox_that_is_just_being_started_is_waited_for(box: Governed) -> None:
    landlocked = Landlocked(FIRST, None)
    box.init = None
    assert told(landlocked, box, [DENIED, DOMAIN]) == told(landlocked, box, []) == []
    box.init = INIT
    assert [each["detail"]["ruleset"] for each in told(landlocked, box, [])] == ["sandbox"]


def test_a_domain_that_ended_or_whose_sandbox_did_is_nobodys(box: Governed) -> None:
    landlocked = Landlocked(FIRST, None)
    assert len(told(landlocked, box, [DENIED, DOMAIN, Ended(OURS)])) == 1, "what it was refused before counts"
    assert told(landlocked, box, [DENIED]) == []
    assert len(told(landlocked, box, [DENIED, DOMAIN])) == 1
    landlocked.forget(NUMBER)
    assert told(landlocked, box, [DENIED]) == []
    landlocked.forget(NUMBER)


def test_the_next_agent_knows_the_sandboxs_own_ruleset(box: Governed) -> None:
    """The kernel tells of a domain once."""
    before, after = Landlocked(FIRST, None), Landlocked(FIRST, None)
    assert before.own(box) is None
    told(before, box, [Denial(OTHERS, ("fs.execute",)), Domain(OTHERS, 4712, USER), DENIED, DOMAIN])
    assert before.own(box) == OURS
    after.again(NUMBER, OURS)
    [record] = told(after, box, [DENIED])
    assert record["detail"]["ruleset"] == "sandbox" and after.own(box) == OURS
    after.forget(NUMBER)
    assert told(after, box, [DENIED]) == []


def test_a_flood_is_few_records_and_nothing_of_it_is_lost(box: Governed) -> None:
    flood = [Denial(OURS, ("fs.read_file",), b"/%d" % number) for number in range(5000)]
    records = told(Landlocked(FIRST, None), box, [DENIED, DOMAIN, *flood])
    assert sum(each["detail"]["at_least"] for each in records) == 5001
    assert len(records) == APART + 1
    assert "path" not in records[-1]["detail"]


def test_any_number_of_domains_does_not_hide_the_sandboxs_own(box: Governed) -> None:
    many = [Domain(OTHERS + number, 5000 + number, USER) for number in range(4 * DOMAINS)]
    landlocked = Landlocked(FIRST, None)
    [record] = told(landlocked, box, [*many, DENIED, DOMAIN])
    assert record["detail"]["ruleset"] == "sandbox"
    assert len(told(landlocked, box, [Denial(each.domain, ("fs.execute",), b"/%d" % each.pid) for each in many])) == min(APART + 1, DOMAINS)


def test_messages_without_a_domain_take_no_room_for_good(box: Governed) -> None:
    landlocked = Landlocked(FIRST, None)
    assert told(landlocked, box, [Denial(number, ("fs.execute",)) for number in range(100_000)]) == []
    assert told(landlocked, box, [DOMAIN]) == told(landlocked, box, []) == []
    assert len(told(landlocked, box, [DENIED])) == 1


def test_a_path_of_any_octets_is_one_string(box: Governed) -> None:
    [record] = told(Landlocked(FIRST, None), box, [DOMAIN, Denial(OURS, ("fs.read_file",), b"/a\n\xff\0b")])
    assert record["detail"]["path"] == "/a\n\udcff\0b"
