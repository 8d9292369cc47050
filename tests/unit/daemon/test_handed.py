"""What is wanted of an attachment, over a daemon's socket and from one daemon to the next."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.attach import target
from stockade.attach.runtimes import Container
from stockade.attach.target import Target
from stockade.attach.wanted import Wanted
from stockade.daemon import handed
from stockade.daemon.attaching import attach_by, govern_by
from stockade.daemon.front import Front, Json, Spoken
from stockade.sandbox.cgroup import Cgroup, mounted
from stockade.service.order import Order
from stockade.types import StockadeError

pytestmark = pytest.mark.root


@pytest.fixture
def wanted() -> Iterator[tuple[Wanted, list[subprocess.Popen[bytes]]]]:
    """Of a cgroup with two processes, of which the first speaks for it."""
    path = mounted() / f"stockade-tests-{os.getpid()}-handed"
    path.mkdir()
    lines = ["sh", "-c", f"echo $$ > {path}/cgroup.procs; echo; exec sleep 600"]
    processes = [subprocess.Popen(lines, stdout=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == b"\n"
    container = Container(
        "abc", "runc", processes[0].pid, "web", "image:1", Path("/b"), "/bin", ("sh", "-c"), {"a": "b"}, True, frozenset({"CAP_KILL"})
    )
    order = Order((), (Path("p.yaml"),), ("pypi",), "box", (("k", "v"),), approvals=Path("a.yaml"), observe=True)
    try:
        yield Wanted(order, Target(Cgroup(path), processes[0].pid, container, "/root/of/it", starting=True), "keep"), processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        path.rmdir()


def sent(wanted: Wanted) -> Any:
    return json.loads(json.dumps(handed.said(wanted)))


def test_it_arrives_as_it_was_sent(wanted: tuple[Wanted, list[subprocess.Popen[bytes]]]) -> None:
    found = handed.heard(sent(wanted[0]))
    order = dataclasses.replace(wanted[0].order, policies=(Path("p.yaml").absolute(),), approvals=Path("a.yaml").absolute())
    assert found == dataclasses.replace(wanted[0], order=order)


def test_it_is_written_down_under_its_name_and_as_one_that_has_started(
    wanted: tuple[Wanted, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    nameless = dataclasses.replace(wanted[0], order=dataclasses.replace(wanted[0].order, name=None), existing="keep")
    handed.write_down(tmp_path / "7.order", nameless, "a bundle")
    assert (tmp_path / "7.order").stat().st_mode & 0o777 == 0o600
    found = handed.read(tmp_path / "7.order")
    assert (found.name, found.target.starting, found.trusted, found.target.root) == (nameless.name, False, "a bundle", "")
    assert found.target.container == nameless.target.container
    assert found.existing == "cut", "the policy may have come to refuse what was kept"
    assert handed.trusted(tmp_path / "7.order") == "a bundle"


def test_others_of_its_cgroup_speak_for_it_when_the_first_has_ended(wanted: tuple[Wanted, list[subprocess.Popen[bytes]]]) -> None:
    said, (first, second) = sent(wanted[0]), wanted[1]
    first.kill()
    first.wait()
    for each in (said, sent(wanted[0])):
        found = handed.heard(each)
        assert (found.target.init, found.target.root, found.target.starting) == (second.pid, "", False)
    second.kill()
    second.wait()
    with pytest.raises(StockadeError, match="nothing runs in"):
        handed.heard(said)


def test_another_cgroup_of_the_same_name_is_another(wanted: tuple[Wanted, list[subprocess.Popen[bytes]]]) -> None:
    said = sent(wanted[0])
    said["target"]["id"] += 1
    with pytest.raises(StockadeError) as refused:
        handed.heard(said)
    assert refused.value.code == "no_cgroup"


def test_what_no_client_says_is_no_request(wanted: tuple[Wanted, list[subprocess.Popen[bytes]]]) -> None:
    for change in ({"existing": "open"}, {"trusted": 7}, {"order": None}, {"target": {}}):
        with pytest.raises(StockadeError) as refused:
            handed.heard(sent(wanted[0]) | change)
        assert refused.value.code == "bad_request", change


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "7.order"
    for text in ("", "[]", '{"format": 9}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(StockadeError) as refused:
            handed.read(path)
        assert refused.value.code == "state", text[:20]
        assert handed.trusted(path) == ""


def test_a_daemon_that_knows_no_attachments_leaves_it_to_others(
    wanted: tuple[Wanted, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    async def run(_arguments: Json, _spoken: Spoken) -> None:
        raise AssertionError

    async def main() -> None:
        front = Front.take(tmp_path / "daemon.sock")
        front.serve({"run": run})
        try:
            assert await asyncio.to_thread(govern_by, front.path, wanted[0], 10.0) is None
        finally:
            front.close()

    asyncio.run(main())
    with pytest.raises(StockadeError, match="the daemon does not answer"):
        attach_by(tmp_path / "daemon.sock", wanted[0], lambda _: None)


def test_the_machine_itself_is_no_target(wanted: tuple[Wanted, list[subprocess.Popen[bytes]]]) -> None:
    with pytest.raises(StockadeError) as refused:
        target.known(dataclasses.replace(wanted[0].target, cgroup=Cgroup(mounted())), 1, handed.Process(1, 0))
    assert refused.value.code == "bad_target"
