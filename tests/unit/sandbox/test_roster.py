"""A policy's names on a tree of real files: what is enrolled, as what, and what is not."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from stockade.policy import Families, Family, load
from stockade.sandbox import roster as module
from stockade.sandbox.roster import Enrolment, Resolver, Roster


class Tree:
    """Two directories of a PATH, first/ before second/."""

    def __init__(self, root: Path) -> None:
        self.root, self.first, self.second = root, root / "first", root / "second"
        self.first.mkdir()
        self.second.mkdir()
        self.families: dict[str, Family] = {}

    def binary(self, at: Path, mark: str = "") -> Path:
        """An executable of its own content."""
        shutil.copy("/usr/bin/true", at)
        with at.open("ab") as file:
            file.write(mark.encode() or at.name.encode())
        return at

    def script(self, at: Path, first_line: str) -> Path:
        at.write_text(f"#!{first_line}\n")
        at.chmod(0o755)
        return at

    def roster(self, *allow: str, command: str | None = None, deny: tuple[str, ...] = (), weak: bool = False) -> Roster:
        source = self.root / "policy.yaml"
        lists = {key: list(names) for key, names in (("allow", allow), ("deny", deny)) if names}
        source.write_text(yaml.safe_dump({"version": 1, "name": "test", "exec": lists | {"unlisted": "refuse"}}))
        search = f"{self.first}:{self.second}"
        return Resolver(load([source]), Families(self.families), search, weak=weak).roster(command)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setattr(module, "_HASHES", tmp_path / "cache" / "sha256.json")
    monkeypatch.setattr(module, "LOADERS", (f"{tmp_path}/lib/ld-*.so*",))
    return Tree(tmp_path)


def one(roster: Roster, path: Path, script: Path | None = None) -> Enrolment:
    """The enrolment of a file, or of a pair."""
    (only,) = [e for e in roster if (e.binary.path, e.binary.script) == (str(path), str(script) if script else None)]
    return only


# names


def test_a_name_is_every_file_that_path_leads_to(tree: Tree) -> None:
    """Which of them is found first is the sandbox's PATH's to say, and that is the caller's to set."""
    first, second = tree.binary(tree.first / "tool", "1"), tree.binary(tree.second / "tool", "2")
    tree.binary(tree.first / "other")
    roster = tree.roster("tool")
    assert {e.binary.path for e in roster} == {str(first), str(second)}
    assert all(e.runs and e.binary.name == "tool" and e.binary.names == {"tool"} for e in roster)
    assert sorted(roster.enrolments) == [1, 2] == sorted(e.number for e in roster)


def test_a_binary_is_known_by_its_content_and_kept_open(tree: Tree) -> None:
    path = tree.binary(tree.first / "tool")
    enrolment = one(tree.roster("tool"), path)
    assert enrolment.binary.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert os.path.sameopenfile(enrolment.file.descriptor, os.open(path, os.O_RDONLY))
    assert not os.get_inheritable(enrolment.file.descriptor)


def test_links_of_both_kinds_are_one_binary_with_every_name(tree: Tree) -> None:
    path = tree.binary(tree.first / "tool-1.2")
    (tree.first / "tool").symlink_to("tool-1.2")
    os.link(path, tree.second / "hard")
    roster = tree.roster("tool", "hard", "tool-1.2")
    (enrolment,) = roster
    assert enrolment.binary.names == {"tool", "hard", "tool-1.2"} and roster.missing == ()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda at: at.mkdir(mode=0o755), id="a directory"),
        pytest.param(lambda at: at.write_text("#!/bin/sh\n"), id="no execute bit"),
        pytest.param(lambda at: os.mkfifo(at, 0o755), id="a fifo: opening it must not wait"),
        pytest.param(lambda at: at.symlink_to("nowhere"), id="a dangling link"),
        pytest.param(lambda at: at.symlink_to(at), id="a link to itself"),
        pytest.param(lambda at: None, id="nothing"),
    ],
)
def test_what_cannot_be_executed_is_missing(tree: Tree, make: Callable[[Path], None]) -> None:
    make(tree.first / "tool")
    roster = tree.roster("tool")
    assert list(roster) == [] and roster.missing == ("tool",)


def test_an_absolute_path_is_that_file_and_no_other(tree: Tree) -> None:
    path = tree.binary(tree.first / "tool")
    tree.binary(tree.second / "tool", "2")
    assert [e.binary.path for e in tree.roster(str(path))] == [str(path)]


# families


def test_a_family_is_its_files_under_its_name(tree: Tree) -> None:
    lib = tree.root / "git-core"
    lib.mkdir()
    paths = {str(tree.binary(p)) for p in (tree.first / "git", lib / "git-remote-https", lib / "git-remote-http")}
    tree.binary(lib / "other")
    tree.families["git"] = Family("git", ("git", f"{lib}/git-remote-*"))
    roster = tree.roster("git")
    assert {e.binary.path for e in roster} == paths
    assert {e.binary.name for e in roster} == {"git"}


def test_a_file_of_two_families_is_both(tree: Tree) -> None:
    path = tree.binary(tree.first / "python3.13")
    tree.families["python3"] = Family("python3", ("python3", "python3.[0-9][0-9]"))
    (enrolment,) = tree.roster("python3", "python3.13")
    assert enrolment.binary.path == str(path) and enrolment.binary.names == {"python3", "python3.13"}


# what runs


@pytest.mark.parametrize(
    ("allow", "deny", "command", "runs"),
    [
        (("tool",), (), None, True),
        (("tool",), ("tool",), None, False),
        (("tool",), ("{path}",), None, False),
        ((), (), "tool", True),
        ((), (), "{path}", True),
        ((), ("tool",), "tool", False),
        ((), ("tool",), None, False),
    ],
)
def test_what_runs(tree: Tree, allow: tuple[str, ...], deny: tuple[str, ...], command: str | None, runs: bool) -> None:
    """A denied binary is enrolled too, not to run: its exec is refused as denied and not as unknown."""
    path = tree.binary(tree.first / "tool")
    denied = tuple(word.format(path=path) for word in deny)
    roster = tree.roster(*allow, deny=denied, command=command.format(path=path) if command else None)
    assert one(roster, path).runs is runs


def test_the_command_is_the_first_that_path_finds(tree: Tree) -> None:
    first = tree.binary(tree.first / "tool", "1")
    tree.binary(tree.second / "tool", "2")
    assert [e.binary.path for e in tree.roster(command="tool")] == [str(first)]


def test_weak_identities_say_so(tree: Tree) -> None:
    tree.binary(tree.first / "tool")
    assert [e.binary.identity for e in tree.roster("tool", weak=True)] == ["weak"]


# scripts


def test_a_script_is_a_pair_and_its_interpreter_does_not_run(tree: Tree) -> None:
    interpreter = tree.binary(tree.root / "interp")
    script = tree.script(tree.first / "tool", f"{interpreter} -I")
    roster = tree.roster("tool")
    bare, pair = one(roster, interpreter), one(roster, interpreter, script)
    assert (bare.runs, pair.runs) == (False, True)
    assert pair.interpreter == bare.number != pair.number and pair.scripts == (str(script),)
    assert not pair.carried and not pair.carrier and pair.script_number
    assert pair.binary.name == "tool" and pair.binary.sha256 == hashlib.sha256(script.read_bytes()).hexdigest()


def test_every_spelling_that_leads_to_a_script(tree: Tree) -> None:
    """The kernel sees the path that execve got."""
    interpreter = tree.binary(tree.root / "interp")
    lib = tree.root / "lib-tool"
    lib.mkdir()
    real = tree.script(lib / "cli.js", str(interpreter))
    for directory in (tree.first, tree.second):
        (directory / "tool").symlink_to(real)
    pair = one(tree.roster("tool"), interpreter, real)
    assert set(pair.scripts) == {str(tree.first / "tool"), str(tree.second / "tool"), str(real)}


def test_env_carries(tree: Tree) -> None:
    """`#!ENV NAME` is two execs: env's own, started for the script, and NAME's, found in PATH."""
    env, node = tree.binary(tree.root / "env"), tree.binary(tree.second / "node")
    script = tree.script(tree.first / "npm", f"{env} node")
    roster = tree.roster("npm")
    carrier, carried = one(roster, env, script), one(roster, node, script)
    assert (carrier.carrier, carrier.carried, carried.carrier, carried.carried) == (True, False, False, True)
    assert carrier.script_number == carried.script_number
    assert (carrier.interpreter, carried.interpreter) == (one(roster, env).number, one(roster, node).number)
    assert not one(roster, env).runs and not one(roster, node).runs


def test_an_interpreters_names_count_for_what_it_runs(tree: Tree) -> None:
    """A rule on python3 is a rule on any code that it runs."""
    python = tree.binary(tree.first / "python3")
    script = tree.script(tree.first / "pip", str(python))
    roster = tree.roster("pip", "python3")
    assert one(roster, python, script).binary.names == {"pip", "python3"}
    assert one(roster, python, script).binary.name == "pip" and one(roster, python).binary.names == {"python3"}


@pytest.mark.parametrize("line", ["/nowhere", "{script}", "", "  "], ids=["absent", "a script", "empty", "blank"])
def test_a_script_without_an_interpreter_is_no_pair(tree: Tree, line: str) -> None:
    other = tree.script(tree.root / "other", "/bin/sh")
    tree.script(tree.first / "tool", line.format(script=other))
    assert not [e for e in tree.roster("tool") if e.binary.script]


def test_a_denied_script_is_no_pair(tree: Tree) -> None:
    interpreter = tree.binary(tree.root / "interp")
    tree.script(tree.first / "tool", str(interpreter))
    assert not any(e.runs for e in tree.roster("tool", deny=("tool",)))


def test_loaders_are_found(tree: Tree) -> None:
    lib = tree.root / "lib"
    lib.mkdir()
    loader = tree.binary(lib / "ld-linux-x86-64.so.2")
    assert [file.path for file in tree.roster().loaders] == [str(loader)]


# hashes


def test_hashes_are_remembered_by_everything_that_a_change_moves(tree: Tree) -> None:
    path = tree.binary(tree.first / "tool")
    before = one(tree.roster("tool"), path).binary.sha256
    assert module._HASHES.stat().st_mode & 0o777 == 0o600
    size, times = path.stat().st_size, path.stat()
    path.write_bytes(bytes(size))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert one(tree.roster("tool"), path).binary.sha256 == hashlib.sha256(bytes(size)).hexdigest() != before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the cache is root's")
@pytest.mark.parametrize(
    ("spoil", "believed"),
    [
        pytest.param(lambda cache: None, True, id="as written"),
        pytest.param(lambda cache: cache.chmod(0o666), False, id="all may write it"),
        pytest.param(lambda cache: os.chown(cache, 65534, 0), False, id="another owner"),
        pytest.param(lambda cache: cache.write_text("not JSON"), False, id="no JSON"),
        pytest.param(lambda cache: cache.write_text("[]"), False, id="another shape"),
        pytest.param(lambda cache: cache.write_bytes(b"\xff"), False, id="no text"),
    ],
)
def test_a_cache_that_others_could_write_is_not_believed(tree: Tree, spoil: Callable[[Path], None], believed: bool) -> None:
    path = tree.binary(tree.first / "tool")
    true = one(tree.roster("tool"), path).binary.sha256
    cache = module._HASHES
    cache.write_text(cache.read_text().replace(true, "f" * 64))
    spoil(cache)
    assert one(tree.roster("tool"), path).binary.sha256 == ("f" * 64 if believed else true)
