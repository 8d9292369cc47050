"""What process.user makes of the command."""

from __future__ import annotations

import pytest

from stockade.sandbox.person import Person
from stockade.types import StockadeError


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (None, Person("agent", "/home/agent", None)),
        ("builder", Person("builder", "/home/builder", None)),
        ("root", Person("root", "/root", 0)),
        ("0", Person("root", "/root", 0)),
        ("1000", Person("agent", "/home/agent", 1000)),
        ("4294967294", Person("agent", "/home/agent", 4294967294)),
    ],
)
def test_a_name_keeps_the_number_and_a_number_the_name(user: str | None, expected: Person) -> None:
    assert Person.named(user) == expected


@pytest.mark.parametrize("user", ["4294967295", "9999999999"])
def test_a_number_that_no_user_has_is_refused(user: str) -> None:
    with pytest.raises(StockadeError, match="no user"):
        Person.named(user)


@pytest.mark.parametrize(("user", "number"), [(None, 4711), ("builder", 4711), ("root", 0), ("1000", 1000)])
def test_the_password_file_knows_each_name_once(user: str | None, number: int) -> None:
    person = Person.named(user)
    files = {path: content.decode().splitlines() for path, content in person.files(4711).items()}
    people = {line.split(":")[0]: line.split(":") for line in files["/etc/passwd"]}
    assert len(people) == len(files["/etc/passwd"])
    assert people[person.name][2:4] == [str(number)] * 2 and people[person.name][5] == person.home
    assert people["root"][2] == "0"
    assert f"{person.name}:x:{number}:" in files["/etc/group"]
