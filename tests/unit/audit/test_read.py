"""`stockade audit tail|grep|show|stats`: what is shown, what is left out, and what is said of a line that is no record."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.audit import Trail
from stockade.audit.explain import WHY
from stockade.audit.read import Broken, Filter, backwards, read
from stockade.audit.record import Json, record_id
from stockade.cli import main
from stockade.types import Reason
from unit.audit.samples import BOX, POD, connect, request
from unit.audit.test_lines import HOSTILE, everywhere


@pytest.fixture
def mixed(path: Path) -> Path:
    trail = Trail.open(path)
    for record in (connect("a.example"), request("/x"), connect("b.example"), connect("b.test")):
        trail.append(BOX, record)
    trail.close()
    return path


@pytest.mark.parametrize(
    ("words", "seqs"),
    [
        (["grep"], [1, 2, 3, 4]),
        (["tail", "-n", "2"], [3, 4]),
        (["tail", "-n", "0"], []),
        (["tail", "-n", "1", "--host", "*.example"], [3]),
        (["grep", "--action", "http"], [2]),
        (["grep", "--decision", "deny", "--host", "b.*"], [3, 4]),
        (["grep", "--binary", "cur?", "--reason", "no_rule"], [1, 3, 4]),
        (["grep", "--binary", "/usr/bin/*", "--sandbox", "box-7f"], [1, 2, 3, 4]),
        (["grep", "--sandbox", "other"], []),
        (["grep", "--rule", "py*"], [2]),
        (["grep", "--since", "1h"], [1, 2, 3, 4]),
        (["grep", "--until", "1h"], []),
        (["grep", "--since", "2020-01-01", "--until", "2020-02-01"], []),
    ],
)
def test_filters(mixed: Path, capsys: pytest.CaptureFixture[str], words: list[str], seqs: list[int]) -> None:
    status = main(["audit", words[0], str(mixed), *words[1:], "-o", "json"])
    assert [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()] == seqs
    assert status == (1 if words[0] == "grep" and not seqs else 0)


@pytest.mark.parametrize(
    ("words", "seqs"),
    [
        (["--namespace", "team-a"], [2, 3]),
        (["--namespace", "team-*", "--decision", "deny"], [2]),
        (["--pod", "agent-?"], [2, 3]),
        (["--pod", "agent-0", "--namespace", "team-b"], []),
        (["--namespace", "*"], [2, 3]),  # what is no pod has none
    ],
)
def test_filters_of_pods(path: Path, capsys: pytest.CaptureFixture[str], words: list[str], seqs: list[int]) -> None:
    trail = Trail.open(path)
    for box, record in ((BOX, connect()), (POD, connect()), (POD, request())):
        trail.append(box, record)
    trail.close()
    assert main(["audit", "grep", str(path), *words, "-o", "json"]) == (0 if seqs else 1)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["seq"] for record in found] == seqs
    assert all(Filter(**{words[0][2:]: words[1]}).matches(record) for record in found)
    assert main(["audit", "stats", str(path), "--by", "namespace,decision", "-o", "json"]) == 0
    assert {(one["namespace"], one["decision"], one["records"]) for one in json.loads(capsys.readouterr().out)} == {
        ("-", "deny", 1),
        ("team-a", "deny", 1),
        ("team-a", "allow", 1),
    }


def test_text_form(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "tail", str(mixed), "-n", "1"]) == 0
    seq, _, line = capsys.readouterr().out.split(" ", 2)
    assert (seq, line) == ("4", "NET DENY curl(4242) box-7f -> b.test:443 reason=no_rule gen=12\n")


def test_show_and_stats(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "show", "2", str(mixed), "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["record"]["http"]["path"], shown["line"]) == ("/x", 2)
    assert main(["audit", "show", "99", str(mixed)]) == 1
    capsys.readouterr()
    assert main(["audit", "stats", str(mixed), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0] == {"action": "connect", "decision": "deny", "reason": "no_rule", "records": 3}


def test_a_line_that_is_no_record_is_named_and_not_shown(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = mixed.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"allow"', b'"deny"')
    mixed.write_bytes(b"".join(lines) + b"\x1b[31m half")
    assert main(["audit", "grep", str(mixed), "-o", "json"]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["seq"] for line in out.splitlines()] == [1, 3, 4]
    assert f"{mixed}:2: changed" in err and "\x1b" not in err


def test_follow_goes_on_with_records_that_come(path: Path) -> None:
    trail = Trail.open(path)
    trail.append(BOX, connect("first.example"))
    got = read(path, Filter(), last=10, follow=True)
    first = next(got)
    assert not isinstance(first, Broken) and first["destination"]["host"] == "first.example"
    threading.Timer(0.1, lambda: trail.append(BOX, connect("second.example"))).start()
    second = next(got)
    assert not isinstance(second, Broken) and second["destination"]["host"] == "second.example"
    trail.close()


# across files


@pytest.fixture
def rotated(path: Path) -> Path:
    """Records 1 and 2 in the first closed file, 3 and 4 in the second, 5 in the file that is written."""
    trail = Trail.open(path)
    for number in range(1, 6):
        trail.append(BOX, connect(f"h{number}.example"))
        if number in (2, 4):
            trail.rotate(now=True)
    trail.close()
    assert [each.name for each in sorted(path.parent.glob("audit.jsonl.0*"))] == ["audit.jsonl.000001", "audit.jsonl.000002"]
    return path


def seqs(found: Iterable[Json | Broken]) -> list[int]:
    return [each["seq"] for each in found if not isinstance(each, Broken)]


@pytest.mark.parametrize(("last", "expected"), [(None, [1, 2, 3, 4, 5]), (1, [5]), (2, [4, 5]), (4, [2, 3, 4, 5]), (9, [1, 2, 3, 4, 5])])
def test_a_trail_is_read_over_all_of_its_files(rotated: Path, last: int | None, expected: list[int]) -> None:
    assert seqs(read(rotated, Filter(), last=last)) == expected
    assert seqs(read(rotated, Filter(host="h2.*"), last=last)) == [2]
    assert seqs(read(rotated.with_name("audit.jsonl.000002"), Filter(), last=last)) == [3, 4][-(last or 2) :]


def test_follow_goes_on_behind_a_rotation(path: Path) -> None:
    trail = Trail.open(path)
    trail.append(BOX, connect("h1.example"))
    got = read(path, Filter(), last=1, follow=True)
    assert seqs([next(got)]) == [1]
    trail.append(BOX, connect("h2.example"))
    for number in (3, 4):
        trail.rotate(now=True)
        trail.append(BOX, connect(f"h{number}.example"))
    trail.close()
    assert seqs(next(got) for _ in range(3)) == [2, 3, 4]


def test_nothing_is_shown_twice_or_lost_between_the_last_and_those_that_come(path: Path) -> None:
    """What is written after the end was looked at, and before the last ones were found, comes with the rest."""
    trail = Trail.open(path)
    for number in range(3):
        trail.append(BOX, connect(f"h{number}.example"))
    got = read(path, Filter(), last=2, follow=True)
    first = next(got)
    trail.append(BOX, connect("later.example"))
    assert seqs([first, next(got), next(got)]) == [2, 3, 4]
    trail.close()


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.binary(max_size=40).filter(lambda each: b"\n" not in each), max_size=30), torn=st.booleans(), block=st.integers(1, 64)
)
def test_lines_are_the_same_from_the_end(lines: list[bytes], torn: bool, block: int) -> None:
    data = b"".join(each + b"\n" for each in lines) + b"half" * torn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stockade.audit.read._BLOCK", block)
        assert list(backwards(io.BytesIO(data))) == lines[::-1]


def test_a_large_trail_is_read_in_little_memory(path: Path, tmp_path: Path) -> None:
    """What a reader holds does not grow with the file: 20 MB here, and not a fifth of that in memory."""
    trail = Trail.open(path)
    trail.append(BOX, connect("first.example"))
    trail.close()
    line = path.read_bytes().splitlines(keepends=True)[0]
    big = tmp_path / "big.jsonl"
    with big.open("wb") as file:
        for _ in range(20):
            file.write(line * (1_000_000 // len(line)))
    script = (
        "import resource, sys, stockade.audit.formats, stockade.cli.audit; from stockade.cli import main; "
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "main(['audit', sys.argv[1], sys.argv[2], *sys.argv[3:]]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, file=sys.stderr)"
    )
    for words in (
        ["show", "999999", big],
        ["tail", big, "-n", "3"],
        ["stats", big],
        ["export", big, "--format", "cef", "--host", "nobody"],
    ):
        done = subprocess.run([sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True)
        grown = int(done.stderr.strip().splitlines()[-1])
        assert grown < 4_000, (words, grown, done.stderr[-500:])  # kB


# what a person types


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["grep", "--reason", "no_rul"], "accepted: no_rule"),
        (["grep", "--decision", "denied"], "accepted: allow, deny"),
        (["grep", "--action", "htp"], "accepted: exec, dns"),
        (["grep", "--since", "yesterday"], "--since yesterday is no time"),
        (["show", "x y"], "x y is no name of a record"),
        (["report", "--until", "now"], "--until now is no time"),
    ],
)
def test_what_no_record_can_have_is_refused(mixed: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert main(["audit", *words, str(mixed)]) == 2
    assert said in capsys.readouterr().err


def test_a_record_is_found_by_each_of_its_names(rotated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = json.loads(rotated.with_name("audit.jsonl.000002").read_text().splitlines()[0])
    name = record_id(whole)
    for spelt in (name, name.upper(), whole["hash"], whole["hash"][:12], "3"):
        assert main(["audit", "show", spelt, str(rotated.parent), "-o", "json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["id"], told["file"], told["line"]) == (name, f"{rotated}.000002", 1)
    assert main(["audit", "show", f"4-{whole['hash'][:12]}", str(rotated)]) == 1
    said = capsys.readouterr().err
    assert f"no record 4-{whole['hash'][:12]} in {rotated}\n" == said, "the trail was named"


def test_of_a_trail_elsewhere_it_is_said_that_it_has_to_be_named(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stockade.cli.audit.chosen._known", lambda: [mixed, tmp_path / "other.jsonl"])
    (tmp_path / "other.jsonl").touch()
    assert main(["audit", "show", "9-0123456789ab"]) == 1
    said = capsys.readouterr().err
    assert "in the 2 trails that were looked through" in said and "stockade audit show 9-0123456789ab TRAIL" in said


def test_a_name_that_stands_in_the_text_of_another_record_is_not_its_own(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trail = Trail.open(path)
    trail.append(BOX, replace(connect('"seq":7,"hash":"abcdef012345')))
    trail.close()
    assert main(["audit", "show", "7-abcdef012345", str(path)]) == 1


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_show_is_printable_whatever_is_in_a_record(path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    trail = Trail.open(path)
    trail.append(*everywhere(text))
    trail.append(*everywhere("x"))
    trail.close()
    assert main(["audit", "show", "1", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(re.fullmatch("[ -~]*", line) for line in lines)
    assert main(["audit", "show", "2", str(path)]) == 0
    assert len(lines) == len(capsys.readouterr().out.splitlines()), "no line was added"


def test_every_reason_has_its_sentence() -> None:
    assert set(WHY) == set(Reason)
    assert all(sentence and not sentence.endswith(".") for sentence, _ in WHY.values())


def test_export_writes_a_new_file_for_its_owner(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.cef"
    assert main(["audit", "export", str(mixed), "--format", "cef", "--decision", "deny", "--to", str(out)]) == 0
    assert len(out.read_text().splitlines()) == 3 and out.stat().st_mode & 0o777 == 0o600
    assert main(["audit", "export", str(mixed), "--to", str(out)]) == 2
    assert "not there yet" in capsys.readouterr().err


def test_stats_by_other_fields(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "stats", str(mixed), "--by", "host", "--top", "1", "--decision", "allow", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"host": "index.example", "records": 1}]
    with pytest.raises(SystemExit):
        main(["audit", "stats", str(mixed), "--by", "hosts"])
