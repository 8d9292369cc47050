"""`stockade audit tail|grep|show|stats`: what is shown, what is left out, and what is said of a line that is no record."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from stockade.audit import Trail
from stockade.audit.read import Broken, Filter, read
from stockade.cli import main
from unit.audit.samples import BOX, connect, request


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
    ],
)
def test_filters(mixed: Path, capsys: pytest.CaptureFixture[str], words: list[str], seqs: list[int]) -> None:
    status = main(["audit", words[0], str(mixed), *words[1:], "-o", "json"])
    assert [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()] == seqs
    assert status == (1 if words[0] == "grep" and not seqs else 0)


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
