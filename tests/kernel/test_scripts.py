"""May this script run? It is the pair of itself and its interpreter, whether the kernel starts that or env(1) does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.box import DIED, RAN, RUNS, Box
from kernel.scripts import Scripted
from stockade.kernel.abi import BinaryFlag, Why


@pytest.fixture
def scripted(box: Box, bench: Path) -> Scripted:
    return Scripted(box, bench)


def test_a_script_is_the_pair_of_it_and_its_interpreter(box: Box, scripted: Scripted) -> None:
    ended = box.run(scripted.path, scripted.evidence)
    assert ended.status == 0 and scripted.evidence.exists()
    assert (ended.exec.identity, ended.exec.why, ended.exec.tail) == (scripted.pair, Why.POLICY, os.fsencode(scripted.path))


def test_the_interpreter_started_by_hand_is_not_the_script(box: Box, scripted: Scripted) -> None:
    """`interpreter script` may carry any code: -c, stdin, another working directory."""
    ended = box.run(scripted.interpreter, scripted.path, scripted.evidence)
    assert (ended.status, ended.said, ended.exec.identity) == (box.refusal, [(DIED, Why.UNLISTED)], 0)
    assert not scripted.evidence.exists()


def test_an_interpreter_that_may_run_is_itself_when_started_by_hand(box: Box, scripted: Scripted) -> None:
    box.enrol(scripted.interpreter, RUNS, identity=scripted.bare)
    assert box.run(scripted.interpreter, scripted.path, scripted.evidence).exec.identity == scripted.bare
    assert box.run(scripted.path, scripted.evidence).exec.identity == scripted.pair


def test_another_script_of_the_same_interpreter_is_not_listed(box: Box, scripted: Scripted) -> None:
    other = Path(shutil.copy(scripted.path, scripted.bench / "other"))
    assert box.run(other, scripted.evidence).said == [(DIED, Why.UNLISTED)]


def test_the_script_with_another_interpreter_is_not_listed(box: Box, scripted: Scripted) -> None:
    other = Path(shutil.copy(scripted.interpreter, scripted.bench / "interp-2"))
    box.enrol(other, BinaryFlag.NONE)
    scripted.path.write_text(scripted.path.read_text().replace(str(scripted.interpreter), str(other)))
    assert box.run(scripted.path, scripted.evidence).said == [(DIED, Why.UNLISTED)]


@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param(lambda s: "./script", id="relative"),
        pytest.param(lambda s: f"{s.bench}/./script", id="dot"),
        pytest.param(lambda s: f"{s.bench}//script", id="double-slash"),
        pytest.param(lambda s: str(s.link), id="symlink"),
    ],
)
def test_a_script_by_a_spelling_that_is_not_enrolled_is_refused(box: Box, scripted: Scripted, spelling: Callable[[Scripted], str]) -> None:
    """The kernel knows a script by the path execve got; the roster enrols the path of every PATH entry that leads to it."""
    ended = box.run(spelling(scripted), scripted.evidence, cwd=scripted.bench)
    assert (ended.status, ended.said) == (box.refusal, [(DIED, Why.UNLISTED)]) and not scripted.evidence.exists()


def test_every_enrolled_spelling_is_the_same_pair(box: Box, scripted: Scripted) -> None:
    scripted.enrol(scripted.link)
    assert (
        box.run(scripted.link, scripted.evidence).exec.identity == scripted.pair == box.run(scripted.path, scripted.evidence).exec.identity
    )


def test_a_script_path_that_does_not_fit_is_refused(box: Box, scripted: Scripted) -> None:
    """256 bytes and more: a truncated path must not match one that begins like it."""
    directory = scripted.bench / ("d" * 200)
    directory.mkdir()
    long = directory / ("s" * (256 - len(str(directory)) - 1))
    shutil.copy(scripted.path, long)
    assert len(os.fsencode(long)) == 256
    with pytest.raises(ValueError, match="longer than 255"):
        scripted.enrol(long)
    scripted.enrol(Path(str(long)[:255]))
    assert box.run(long, scripted.evidence).said == [(DIED, Why.UNLISTED)]


def test_a_changed_interpreter_changes_every_script(box: Box, scripted: Scripted) -> None:
    scripted.interpreter.chmod(0o777)
    assert box.run(scripted.path, scripted.evidence).said == [(DIED, Why.CHANGED)]


class Carried:
    """`#!ENV NAME`, as npm and pip have it: env(1) is started by the kernel for the script, and passes it on to NAME, found in PATH."""

    def __init__(self, box: Box, bench: Path) -> None:
        self.box, self.bench = box, bench
        self.env = Path(shutil.copy("/usr/bin/env", bench / "env"))
        self.interpreter = Path(shutil.copy(os.path.realpath("/bin/sh"), bench / "interp"))
        self.path, self.evidence = bench / "script", bench / "evidence"
        self.path.write_text(f'#!{self.env} interp\n: > "$1"\n')
        self.path.chmod(0o755)
        self.env_bare, self.bare = box.enrol(self.env, BinaryFlag.NONE), box.enrol(self.interpreter, BinaryFlag.NONE)
        self.carrying, self.pair = 51, 52
        self.enrol(self.path, 1, self.carrying, self.pair)

    def enrol(self, path: Path, script: int, carrying: int, pair: int) -> None:
        maps, number = self.box.maps, self.box.number
        maps.enrol_script(number, self.env_bare, str(path), carrying, RUNS | BinaryFlag.CARRIES, script, carried=False)
        maps.enrol_script(number, self.bare, str(path), pair, RUNS, script, carried=True)

    @property
    def search(self) -> dict[str, str]:
        return {"PATH": str(self.bench)}


@pytest.fixture
def carried(box: Box, bench: Path) -> Carried:
    return Carried(box, bench)


def test_env_carries_the_script_to_its_interpreter(box: Box, carried: Carried) -> None:
    ended = box.run(carried.path, carried.evidence, env=carried.search)
    assert ended.status == 0 and carried.evidence.exists(), ended
    assert [(event.identity, event.why) for event in ended.events] == [(carried.carrying, Why.POLICY), (carried.pair, Why.POLICY)]
    assert ended.events[1].parent_exec_id == ended.events[0].exec_id


def test_env_by_hand_carries_nothing(box: Box, carried: Carried) -> None:
    box.enrol(carried.env, RUNS, identity=carried.env_bare)
    ended = box.run(carried.env, "interp", carried.path, carried.evidence, env=carried.search)
    assert ended.said == [(RAN, Why.POLICY), (DIED, Why.UNLISTED)] and not carried.evidence.exists()


def test_a_carried_pair_is_not_had_by_a_shebang_of_its_interpreter(box: Box, carried: Carried) -> None:
    carried.path.write_text(f'#!{carried.interpreter}\n: > "$1"\n')
    assert box.run(carried.path, carried.evidence).said == [(DIED, Why.UNLISTED)]


def test_env_carries_its_own_script_and_no_other(box: Box, carried: Carried) -> None:
    """A second listed script whose shebang names the first's path as the argument must not become the first."""
    second = carried.bench / "second"
    second.write_text(f"#!{carried.env} -S interp {carried.path}\n")
    second.chmod(0o755)
    carried.enrol(second, 2, 61, 62)
    ended = box.run(second, carried.evidence, env=carried.search)
    assert ended.said == [(RAN, Why.POLICY), (DIED, Why.UNLISTED)] and not carried.evidence.exists()


def test_env_finds_only_what_is_listed(box: Box, carried: Carried) -> None:
    """PATH is the caller's to choose."""
    own = carried.bench / "own"
    own.mkdir()
    shutil.copy(carried.interpreter, own / "interp")
    ended = box.run(carried.path, carried.evidence, env={"PATH": str(own)})
    assert ended.said == [(RAN, Why.POLICY), (DIED, Why.UNLISTED)]
