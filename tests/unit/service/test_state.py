"""What an agent leaves for the next one: read back as it was, or refused whole."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from stockade.kernel.abi import FileFacts, Network
from stockade.kernel.backend import Backend
from stockade.kernel.load import Pinned
from stockade.kernel.syscall import LinkInfo
from stockade.policy import load
from stockade.proxy import Authority, Signing
from stockade.sandbox.plan import Bind
from stockade.sandbox.roster import Enrolment, File
from stockade.service.order import Order
from stockade.service.state import FORMAT, Kept, Process, State, StateFile, build
from stockade.types import Binary, Sandbox, StockadeError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the files are root's")


@pytest.fixture
def state(tmp_path: Path) -> State:
    policy = tmp_path / "p.yaml"
    policy.write_text("- name: r\n  binary: {allow: [curl]}\n  destination: {allow: [a.example]}\n  port: [5432]\n  protocol: tcp\n")
    order = Order(("curl",), (policy,), settings=tmp_path / "settings.yaml").anywhere(tmp_path / "audit.jsonl")
    enrolment = Enrolment(1, Binary.named("curl", "/usr/bin/curl"), File("/usr/bin/curl", 7, "00", ()), True)
    kept = Kept(
        order,
        load([policy]),
        (enrolment,),
        {1: FileFacts(1, 2, 3, 4, 5, 6, 1)},
        (Bind("/a", "/b", True),),
        (Pinned("connect4", "link_01_connect4", LinkInfo(3, 4)),),
        Backend.TRACEPOINT,
        Authority("box", b"certificate", Signing(b"signing", b"key", b"", 1.0, 2.0), b"root"),
    )
    me = Process.of(os.getpid())
    assert me is not None
    return State(Sandbox("id", "box", "p", 3, {"agent": "x"}), me, None, "build", 12.5, kept)


@pytest.fixture
def file(tmp_path: Path) -> StateFile:
    return StateFile(tmp_path, 1)


def test_what_is_written_is_what_is_read(file: StateFile, state: State) -> None:
    file.write(state)
    assert file.read("build") == state
    header = file.header()
    assert header is not None and header.lives and header == state.header
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_every_octet_that_is_changed_is_noticed(file: StateFile, state: State) -> None:
    file.write(state)
    whole = file.path.read_bytes()
    for at in range(0, len(whole), 37):
        file.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(StockadeError) as refused:
            file.header()
        assert refused.value.code == "bad_state"
    for size in range(0, len(whole), 997):
        file.path.write_bytes(whole[:size])
        with pytest.raises(StockadeError):
            file.read("build")


def test_nothing_is_unpickled_of_another_build(file: StateFile, state: State) -> None:
    file.write(state)
    rewritten(file, kept="bm90IGEgcGlja2xl")
    with pytest.raises(StockadeError) as refused:
        file.read("another")
    assert refused.value.code == "other_build" and "box" in refused.value.message
    with pytest.raises(StockadeError) as refused:
        file.read("build")
    assert refused.value.code == "bad_state"


def rewritten(file: StateFile, **changed: object) -> None:
    inner = json.loads(json.loads(file.path.read_text())["state"]) | changed
    text = json.dumps(inner)
    file.path.write_text(json.dumps({"format": FORMAT, "sha256": hashlib.sha256(text.encode()).hexdigest(), "state": text}))


@pytest.mark.parametrize("how", ["another shape", "unknown"])
def test_a_class_that_is_another_one_now_is_another_build(file: StateFile, state: State, how: str) -> None:
    """Of its fields: code that changed beside them is no hindrance, as the whole test of an upgrade shows (e2e/test_daemon_next.py)."""
    file.write(state)
    shapes = json.loads(json.loads(file.path.read_text())["state"])["shapes"]
    name = "stockade.sandbox.roster:Enrolment"
    assert shapes[name] and "stockade.policy.model:Policy" in shapes
    rewritten(file, shapes={**shapes, name: "0" * 16} if how == "another shape" else {key: shapes[key] for key in shapes if key != name})
    with pytest.raises(StockadeError) as refused:
        file.read("build")
    assert refused.value.code == "other_build" and "Enrolment" in refused.value.message
    rewritten(file, shapes=shapes)
    assert file.read("build") == state


@pytest.mark.parametrize("how", ["mode", "owner", "link"])
def test_a_file_that_is_not_roots_alone_is_not_believed(file: StateFile, state: State, tmp_path: Path, how: str) -> None:
    file.write(state)
    if how == "mode":
        file.path.chmod(0o640)
    elif how == "owner":
        os.chown(file.path, 1000, -1)
    else:
        file.path.rename(tmp_path / "elsewhere")
        file.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StockadeError) as refused:
        file.read("build")
    assert refused.value.code == "bad_state"


def test_a_reader_sees_the_old_or_the_new_whole(file: StateFile, state: State) -> None:
    file.write(state)
    file.path.with_suffix(".new").write_text("half of one, by an agent that died")
    assert file.read("build") == state
    file.write(state)
    assert file.read("build") == state


def test_names_are_kept_one_by_one_and_a_torn_one_was_never_told(file: StateFile, tmp_path: Path) -> None:
    assert file.names() == []
    file.name(256, "a.example")
    file.name(257, "b.example")
    with (tmp_path / "1.names").open("a") as names:
        names.write("258 c.exa")
    assert file.names() == [(256, "a.example"), (257, "b.example")]
    (tmp_path / "1.names").write_text("nonsense\n")
    with pytest.raises(StockadeError):
        file.names()


def test_what_is_removed_is_gone(file: StateFile, state: State, tmp_path: Path) -> None:
    file.write(state)
    file.name(256, "a.example")
    file.remove()
    file.remove()
    assert not file.exists() and file.header() is None and {path.name for path in tmp_path.iterdir()} == {"p.yaml"}


def test_a_pid_alone_is_no_process() -> None:
    me = Process.of(os.getpid())
    assert me is not None and me.lives
    assert not Process(me.pid, me.started + 1).lives
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert Process.of(child) is None, "a zombie runs nothing"
    os.waitpid(child, 0)


def test_the_build_is_that_of_the_code() -> None:
    assert build(Network()) == build(Network()) and len(build(Network())) == 64
