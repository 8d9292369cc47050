"""The cache of compiled programs: what may be believed in it, and what makes it another."""

from __future__ import annotations

import json
import os
import platform
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from stockade import resources
from stockade.kernel import bytecode, headers
from stockade.kernel.bytecode import Bytecode
from stockade.kernel.syscall import MapShape

SAMPLE = Bytecode(
    maps=(MapShape("tasks", 1, 4, 48, 65536, 1), MapShape("events", 27, 0, 0, 4194304, 0)),
    programs={"on_exec": (bytes(range(64)), ((8, "tasks"), (40, "events"))), "on_exit": (bytes(16), ())},
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the cache is root's")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "cache" / "key.json"
    bytecode._write(path, SAMPLE)
    return path


@as_root
def test_what_was_written_is_read(path: Path) -> None:
    assert bytecode._read(path) == SAMPLE
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700


def own(path: Path) -> None:
    os.chown(path, 65534, 0)


def point_elsewhere(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to(path.with_name("real"))


@as_root
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(own, id="another owner"),
        pytest.param(lambda path: path.chmod(0o620), id="a group may write it"),
        pytest.param(lambda path: path.chmod(0o602), id="all may write it"),
        pytest.param(point_elsewhere, id="a symbolic link"),
        pytest.param(lambda path: path.write_text(""), id="empty"),
        pytest.param(lambda path: path.write_text(path.read_text()[:-9]), id="cut short"),
        pytest.param(lambda path: path.write_bytes(b"\xff\xfe"), id="no text"),
        pytest.param(lambda path: path.write_text("[]"), id="another shape"),
        pytest.param(lambda path: path.write_text('{"maps": [], "programs": {"x": ["zz", []]}}'), id="no hexadecimal"),
        pytest.param(lambda path: path.write_text('{"maps": [[1]], "programs": {}}'), id="a map too short"),
        pytest.param(lambda path: path.write_text('{"maps": []}'), id="a key missing"),
        pytest.param(lambda path: path.write_text('{"maps": [], "programs": []}'), id="no mapping"),
        pytest.param(Path.unlink, id="absent"),
    ],
)
def test_what_cannot_be_believed_is_made_again(path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(path)
    assert bytecode._read(path) is None


def test_a_cache_that_cannot_be_written_only_costs_time() -> None:
    bytecode._write(Path("/proc/nowhere/key.json"), SAMPLE)


def test_nothing_half_written_is_left(path: Path) -> None:
    assert [file.name for file in path.parent.iterdir()] == ["key.json"]


# the key


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """Every compilation that would have happened, by its constants."""
    asked: list[dict[str, int]] = []

    def pretend(_text: str, defines: dict[str, int], _cache: Path) -> Bytecode:
        asked.append(defines)
        return SAMPLE

    monkeypatch.setattr(bytecode, "_compile", pretend)
    monkeypatch.setattr(headers, "btf_hash", lambda: "btf")
    return asked


@as_root
def test_the_same_twice_is_compiled_once(tmp_path: Path, compiling: list[dict[str, int]]) -> None:
    assert bytecode.compiled({"A": 1}, tmp_path) == bytecode.compiled({"A": 1}, tmp_path) == SAMPLE
    assert compiling == [{"A": 1}]


@as_root
@pytest.mark.parametrize(
    ("where", "what", "value"),
    [
        pytest.param(bytecode, "source", lambda: "another text", id="the programs"),
        pytest.param(headers, "btf_hash", lambda: "another", id="the kernel's types"),
        pytest.param(platform, "release", lambda: "another", id="the kernel"),
        pytest.param(os, "cpu_count", lambda: 4711, id="the number of CPUs"),
        pytest.param(bytecode, "_FORMAT", -1, id="the format of the cache"),
    ],
)
def test_whatever_goes_in_makes_another_key(
    tmp_path: Path, compiling: list[dict[str, int]], monkeypatch: pytest.MonkeyPatch, where: object, what: str, value: object
) -> None:
    bytecode.compiled({"A": 1}, tmp_path)
    bytecode.compiled({"A": 2}, tmp_path)
    monkeypatch.setattr(where, what, value)
    bytecode.compiled({"A": 1}, tmp_path)
    assert compiling == [{"A": 1}, {"A": 2}, {"A": 1}]


@as_root
def test_a_file_of_the_programs_is_part_of_the_key(tmp_path: Path, compiling: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "bpf"
    for name in bytecode.FILES:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("int x;\n")
    monkeypatch.setattr(resources, "BPF", tree)
    for name in bytecode.FILES:
        bytecode.compiled({}, tmp_path)
        (tree / name).write_text("int y;\n")
    bytecode.compiled({}, tmp_path)
    assert len(compiling) == len(bytecode.FILES) + 1


def test_every_file_of_bpf_is_compiled() -> None:
    root = resources.BPF
    there = {str(path.relative_to(root)) for path in root.rglob("*.[ch]")}
    assert set(bytecode.FILES) == there


# linking


def test_map_references_are_patched_and_nothing_else() -> None:
    code, references = SAMPLE.programs["on_exec"]
    linked = SAMPLE.linked("on_exec", {"tasks": 7, "events": -9})
    for offset, name in references:
        assert struct.unpack_from("<i", linked, offset + 4) == ({"tasks": 7, "events": -9}[name],)
    kept = [i for i in range(len(code)) if not any(at + 4 <= i < at + 8 for at, _ in references)]
    assert all(linked[i] == code[i] for i in kept) and len(linked) == len(code)


def test_the_cache_holds_no_descriptor(path: Path) -> None:
    """A number that meant a map in the process that compiled would mean another in this one."""
    raw = json.loads(path.read_text())
    assert raw["programs"]["on_exec"][1] == [[8, "tasks"], [40, "events"]]
