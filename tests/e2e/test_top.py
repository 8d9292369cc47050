"""`stockade top` and `status` on live sandboxes: in a real terminal (tmux), as text, as JSON; and the screen itself, for any text."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.internet import ECHO
from framework.machine import STOCKADE, Machine, Running, wait_for
from framework.policy import http, whole
from stockade.cli import main
from stockade.cli.top.board import Board, Sample
from stockade.cli.top.screen import SORTS, VIEWS, Choice, draw
from stockade.cli.top.terminal import _split
from stockade.metrics.ledger import Ledger
from stockade.service import control
from stockade.types import Binary, Outcome
from unit.metrics.samples import busy, snapshot, written
from unit.metrics.samples import http as http_record

pytestmark = pytest.mark.client("tmux", "curl")

_sockets = itertools.count(1)
WORK = f"""
while [ ! -e stop ]; do
    curl -s -o /dev/null https://{ECHO}/; curl -s -o /dev/null -X DELETE https://{ECHO}/secret; curl -s http://nowhere.test/
    echo x >"/usr/evil$(printf '\\033[2J')" ; sleep 0.2
done
"""


class Screen:
    """A program in tmux, as a person sees it."""

    def __init__(self, command: list[str | Path], columns: int = 80, rows: int = 24) -> None:
        self._socket = f"stockade-test-{os.getpid()}-{next(_sockets)}"
        line = " ".join(map(str, command))
        self._tmux("-f", "/dev/null", "new-session", "-d", "-s", "it", "-x", str(columns), "-y", str(rows), f"{line}; echo ended-$?; cat")

    def _tmux(self, *words: str) -> str:
        return subprocess.run(["tmux", "-L", self._socket, *words], capture_output=True, text=True, check=True).stdout

    def keys(self, *keys: str) -> None:
        for key in keys:
            self._tmux("send-keys", "-t", "it", key)

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-t", "it", "-x", str(columns), "-y", str(rows))

    def lines(self) -> list[str]:
        return self._tmux("capture-pane", "-p", "-t", "it").splitlines()

    def wait_for(self, holds: Callable[[list[str]], bool], what: str) -> list[str]:
        found: list[str] = []

        def there() -> bool:
            found[:] = self.lines()
            return holds(found)

        try:
            wait_for(there, what, 30)
        except AssertionError:
            raise AssertionError(f"no {what}:\n" + "\n".join(found)) from None
        return found

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self._tmux("kill-server")


@pytest.fixture(scope="module")
def box(machine: Machine) -> Iterator[tuple[str, Running]]:
    name = f"top-{os.getpid()}"
    policy = whole(http("curl", ECHO, name="echo"), allow=["sh", "coreutils", "curl"])
    with machine.start(["sh", "-c", WORK], policy=policy, options=["--name", name]) as run:
        wait_for(lambda: len(run.records()) > 20, "records", running=run)
        yield name, run
        (run.audit.parent / "work/stop").touch()
        result = run.finish()
        assert result.select(action="http", decision="deny") and result.select(action="dns", decision="deny"), result


@pytest.mark.root
def test_a_person_drives_it(box: tuple[str, Running]) -> None:
    name, _ = box
    with Screen([STOCKADE, "top", name, "-i", "0.3"]) as screen:
        seen = screen.wait_for(lambda lines: any("http echo.web" in line for line in lines), "activity")
        assert seen[0].startswith("stockade top") and "1 sandbox " in seen[0] and name[:14] in seen[2]
        assert all(len(line) <= 80 for line in seen) and "q quit" in seen[23]
        assert not any("\x1b" in line for line in seen)
        screen.keys("2")
        screen.wait_for(
            lambda lines: "BINARY" in lines[4] and "DESTINATION" not in lines[4] and any(" curl " in line for line in lines), "binaries"
        )
        screen.keys("Tab")
        screen.wait_for(lambda lines: "DESTINATION" in lines[4] and "BINARY" not in lines[4], "destinations")
        screen.keys("4")
        refused = screen.wait_for(lambda lines: any("DELETE /secret" in line for line in lines), "refusals with reasons")
        assert any("no_rule" in line for line in refused)
        screen.wait_for(lambda lines: any("/usr/evil\\x1b[2J" in line for line in lines), "a hostile path, spelt out")
        screen.keys("5")
        screen.wait_for(lambda lines: any(re.search(r"decide +\d+ +[\d.]+[um]?s", line) for line in lines), "latency")
        screen.keys("1", "/", "n", "o", "w", "h", "Enter")
        filtered = screen.wait_for(lambda lines: "filter: nowh" in lines[23] and any("nowhere.test" in line for line in lines), "a filter")
        assert not any("http echo.web" in line for line in filtered)
        screen.keys("Escape", "s")
        screen.wait_for(lambda lines: "s sort (refused)" in lines[23] and any("http echo.web" in line for line in lines), "another order")
        screen.keys("p")
        paused = screen.wait_for(lambda lines: "[paused]" in lines[0], "a pause")
        time.sleep(1)
        assert screen.lines() == paused
        screen.keys("p", "?")
        screen.wait_for(lambda lines: any("Ctrl-C  quit" in line for line in lines), "help")
        screen.keys("?")
        screen.resize(120, 40)
        wide = screen.wait_for(lambda lines: len(lines) == 40 and "q quit" in lines[39] and max(map(len, lines)) > 85, "the larger size")
        assert max(map(len, wide)) <= 120
        screen.resize(60, 12)
        screen.wait_for(lambda lines: len(lines) == 12 and "q quit" in lines[11], "the smaller size")
        screen.keys("q")
        ended = screen.wait_for(lambda lines: any("ended-0" in line for line in lines), "the end")
        assert not any("stockade top" in line for line in ended), "the screen is as it was before"


@pytest.mark.root
def test_one_look_as_text_and_as_json_is_what_the_trail_has(box: tuple[str, Running]) -> None:
    name, run = box
    text = subprocess.run([STOCKADE, "top", name, "--once", "-i", "0.5", "--view", "refusals"], capture_output=True, text=True, check=True)
    assert "DELETE /secret" in text.stdout and "\x1b" not in text.stdout and "no_rule" in text.stdout
    before = len([record for record in run.records() if record["action"] == "http" and record["decision"] == "deny"])
    said = json.loads(subprocess.run([STOCKADE, "top", name, "--once", "-o", "json", "-i", "0.5"], capture_output=True, check=True).stdout)
    after = len([record for record in run.records() if record["action"] == "http" and record["decision"] == "deny"])
    [line] = [each for each in said["activity"] if (each["binary"], each["action"], each["destination"]) == ("curl", "http", f"{ECHO}:443")]
    assert before <= line["denied_total"] <= after and line["reason"] == "no_rule"
    assert said["sandboxes"][0]["sandbox"] == name and "decide" in said["sandboxes"][0]["latency"]


@pytest.mark.root
def test_status_says_what_runs_and_ends_with_1_where_something_is_wrong(box: tuple[str, Running]) -> None:
    name, run = box
    text = subprocess.run([STOCKADE, "status", name], capture_output=True, text=True)
    assert text.returncode == 0 and re.search(rf"^{name}\s+test\s+1 enforce  20\d\d-", text.stdout, re.M), text
    [said] = json.loads(subprocess.run([STOCKADE, "status", name, "-o", "json"], capture_output=True, text=True).stdout)
    assert said["pid"] == run.process.pid and said["workers"] == 1 and said["problems"] == [] and said["denied"] > 0
    source = run.audit.parent / "policy.yaml"
    good = source.read_text()
    source.write_text(good + "nonsense: 1\n")
    try:
        wait_for(lambda: subprocess.run([STOCKADE, "status", name], capture_output=True).returncode == 1, "the problem")
    finally:
        source.write_text(good)
    wait_for(lambda: subprocess.run([STOCKADE, "status", name], capture_output=True).returncode == 0, "that it is mended")


@pytest.mark.root
def test_an_agent_that_stands_still_is_a_problem_and_not_an_end(box: tuple[str, Running], monkeypatch: pytest.MonkeyPatch) -> None:
    name, run = box
    monkeypatch.setattr(control, "SECONDS", 1.0)
    os.kill(run.process.pid, signal.SIGSTOP)
    try:
        assert main(["status", name]) == 1
        assert main(["status", name, "-o", "json"]) == 1
    finally:
        os.kill(run.process.pid, signal.SIGCONT)
    wait_for(lambda: main(["status", name]) == 0, "that it goes on")


@pytest.mark.root
def test_what_cannot_be_shown_is_said() -> None:
    for words, code in ((["top", "nobody", "--once"], "no_sandbox"), (["status", "nobody"], "no_sandbox"), (["top"], "no_terminal")):
        done = subprocess.run([STOCKADE, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 2 and f"[{code}]" in done.stderr and "Traceback" not in done.stderr, done


# the screen, without a terminal


def sample(at: float, *ledgers: Ledger) -> Sample:
    answers = [
        snapshot(ledger, f"box-{number}").statistics() | {"id": str(number), "asked": time.time()} for number, ledger in enumerate(ledgers)
    ]
    return Sample(at, {answer["id"]: answer for answer in answers})


KEYS = ["1", "2", "3", "4", "5", "tab", "s", "r", "/", "x", "enter", "esc", "back", "up", "down", "pageup", "pagedown", "p", "?", "h", " "]


@given(
    st.lists(st.tuples(st.text(max_size=300), st.text(max_size=300)), max_size=20),
    st.lists(st.one_of(st.sampled_from(KEYS), st.characters(min_codepoint=32, max_codepoint=126)), max_size=12),
    st.integers(20, 200),
    st.integers(5, 60),
)
def test_any_text_at_any_size_stays_in_its_lines(names: list[tuple[str, str]], keys: list[str], columns: int, rows: int) -> None:
    ledger = busy()
    for number, (host, binary) in enumerate(names, 1):
        for outcome in Outcome:
            ledger.record(written(http_record(host, f"/{host}", outcome=outcome, binary=Binary.named(binary)), number))
    choice = Choice()
    for key in keys:
        choice = choice.pressed(key)
    shown = draw(Board(None, sample(1.0, ledger, busy())), choice, "12:00:00", columns, rows)
    assert len(shown) == rows
    for row in shown:
        assert len(row.text) <= columns and row.text.isascii() and row.text.isprintable(), row


def test_rates_are_of_what_lies_between_two_looks() -> None:
    ledger = Ledger()
    ledger.record(written(http_record(), 1))
    before = sample(10.0, ledger)
    for number in range(4):
        ledger.record(written(http_record(outcome=Outcome.DENY), 2 + number))
    board = Board(before, sample(12.0, ledger))
    [line] = board.lines(("binary", "destination"))
    assert (line.allowed, line.denied, line.allowed_total, line.denied_total, line.reason) == (0, 2.0, 1, 4, "no_rule")
    [box] = board.sandboxes()
    assert (box["allowed_per_second"], box["denied_per_second"]) == (0, 2.0)


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("view", VIEWS)
def test_every_order_of_every_view_is_drawn_and_turned_round(sort: str, view: str) -> None:
    ledger = busy()
    for number in range(30):
        ledger.record(written(http_record(f"host-{number:02}.test", outcome=[*Outcome][number % 2]), number + 1))
    board = Board(None, sample(1.0, ledger))
    one, other = (
        [row.text for row in draw(board, Choice(view=view, sort=sort, reverse=reverse), "12:00:00", 80, 60)][5:-1]
        for reverse in (False, True)
    )
    assert [line for line in one if line]
    if view not in ("latency", "binaries"):
        assert one != other


def test_keys_are_told_apart_however_they_arrive() -> None:
    assert _split(b"\x1b[A\x1b[Bq\t\r\x7f\x1b\xc3\xbc") == ["up", "down", "q", "tab", "enter", "back", "esc"]


def answers(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_statistics_are_plain_json() -> None:
    said = snapshot(busy()).statistics()
    assert answers(said) == said
