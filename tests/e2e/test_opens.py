"""`filesystem.count`: opens that succeed are on record by directory and binary, to the last one; and nothing of it when nobody asks."""

from __future__ import annotations

from collections import Counter

import pytest

from framework.machine import Machine, Record
from framework.policy import whole

pytestmark = pytest.mark.client("/usr/bin/python3")

OPENER = """
import os, threading
here, usr = "made", "/usr/lib/os-release"
def opens(times, path, flags=os.O_RDONLY):
    for _ in range(times):
        os.close(os.open(path, flags, 0o600))
opens(1, here, os.O_CREAT | os.O_WRONLY)
child = os.fork()
workers = [threading.Thread(target=opens, args=(125, here)) for _ in range(4)]
[each.start() for each in workers]
[each.join() for each in workers]
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
for path in ("absent", "/usr/lib/absent"):
    try:
        opens(1, path)
    except FileNotFoundError:
        pass
try:
    opens(1, "/usr/lib/planted", os.O_CREAT | os.O_WRONLY)
except OSError as error:
    print(error.errno, end=" ", flush=True)
os.system("cat made made made")
opens(40, "/usr/share/.", os.O_RDONLY | os.O_DIRECTORY)
print("done")
"""


def _counted(records: list[Record]) -> dict[tuple[str, str], int]:
    found: Counter[tuple[str, str]] = Counter()
    for record in records:
        assert (record["effect"], record["level"]) == ("pass", "static"), record
        found[record["detail"]["prefix"], record["binary"]["name"]] += record["detail"]["times"]
    return dict(found)


def test_every_open_below_a_counted_directory_is_on_record(machine: Machine) -> None:
    room = machine.room({"opener.py": OPENER})
    work = room / "work"
    policy = whole(allow=["python3", "sh", "coreutils"], filesystem={"count": [str(work), "/usr/share"]})
    result = machine.run(["/usr/bin/python3", "-S", "-E", "opener.py"], policy=policy, room=room)
    assert result.stdout == "30 done\n", result
    records = result.select(action="file", decision="allow", reason="opens_counted")
    counted = _counted(records)
    # python3 reads opener.py itself, and looks beside it for what it imports: measured below
    own = _of_the_script_itself(machine)
    assert counted[str(work), "python3"] == 1 + 2 * 4 * 125 + own, result
    assert counted[str(work), "coreutils"] == 3, result
    assert counted["/usr/share", "python3"] >= 40, result
    assert not result.select(reason="opens_unknown"), result
    assert [record["detail"]["path"] for record in result.select(reason="file_refused")] == ["/usr/lib/planted"], result


def _of_the_script_itself(machine: Machine) -> int:
    room = machine.room({"opener.py": "import os, threading\n"})
    work = room / "work"
    policy = whole(allow=["python3"], filesystem={"count": [str(work)]})
    result = machine.run(["/usr/bin/python3", "-S", "-E", "opener.py"], policy=policy, room=room)
    return _counted(result.select(action="file", reason="opens_counted"))[str(work), "python3"]


def test_nothing_is_counted_when_nobody_asks(machine: Machine) -> None:
    result = machine.run(["cat", "/usr/lib/os-release"], policy=whole(allow=["coreutils"]))
    assert result.status == 0, result
    assert not result.select(action="file"), result


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/tmp", "nothing of this machine is shown there"),
        ("/etc/ssl", "nothing of this machine is shown there"),
        ("/usr/lib/there/is/no/such", "No such file or directory"),
        ("WORK/below", "is writable"),
    ],
)
def test_what_cannot_be_counted_is_refused_where_it_stands(machine: Machine, path: str, said: str) -> None:
    room = machine.room()
    (room / "work/below").mkdir()
    path = path.replace("WORK", str(room / "work"))
    policy = whole(allow=["coreutils"], filesystem={"count": [path]})
    result = machine.run(["true"], policy=policy, room=room)
    assert result.status != 0
    assert f"filesystem.count: opens below {path} cannot be counted" in result.stderr, result
    assert said in result.stderr, result
    assert ".yaml:" in result.stderr, result
