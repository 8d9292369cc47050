"""How a cgroup, a container and a policy may be named, and what each name comes to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from stockade.attach import runtimes, target
from stockade.attach.hook import Choice, State
from stockade.attach.target import Target
from stockade.sandbox.cgroup import Cgroup
from stockade.types import StockadeError

TOP = Path("/sys/fs/cgroup")
OWN = os.getpid()  # of a process that runs


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/kubepods/burstable/pod1/ab", "kubepods/burstable/pod1/ab"),
        ("kubepods/besteffort/pod1", "kubepods/besteffort/pod1"),
        ("/sys/fs/cgroup/system.slice/x.service", "system.slice/x.service"),
        ("/a/../b", "b"),
        ("/../../etc", "etc"),
        ("system.slice:docker:77ab", "system.slice/docker-77ab.scope"),
        (":libpod:77ab", "system.slice/libpod-77ab.scope"),
        ("machine.slice::x", "machine.slice/x.scope"),
        (
            "kubepods-burstable-pod1b_2c.slice:cri-containerd:77ab",
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1b_2c.slice/cri-containerd-77ab.scope",
        ),
        ("-.slice:a:b", "a-b.scope"),
    ],
)
def test_a_cgroup_in_every_spelling(text: str, path: str) -> None:
    assert target.spelt(text, TOP) == TOP / path


@pytest.mark.parametrize(
    ("name", "called"), [("web", "web"), ("a/b c", "a-b-c"), (".hidden", "hidden"), ("x" * 80, "x" * 63), ("///", "container")]
)
def test_a_container_is_called_as_a_sandbox_can_be(name: str, called: str) -> None:
    assert Target(Cgroup(TOP / "x"), OWN, name=name).called == called


def written(root: Path, path: str, content: Any) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(json.dumps(content))


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The files of five containers of four runtimes, and of one that has ended."""
    storage = tmp_path / "var/lib/containers/storage/overlay-containers"
    for id_, where, bundle in (
        ("plain", "run/runc/plain", tmp_path / "bundle"),
        ("p" * 64, f"run/runc/{'p' * 64}", storage / ("p" * 64) / "userdata"),
        ("task", "run/containerd/runc/default/task", tmp_path / "run/containerd/io.containerd.runtime.v2.task/default/task"),
        ("d" * 64, f"run/docker/runtime-runc/moby/{'d' * 64}", tmp_path / "run/docker/x"),
        ("gone", "run/runc/gone", tmp_path / "nowhere"),
    ):
        state = {"id": id_, "init_process_pid": OWN if id_ != "gone" else 2**22 + 1, "config": {"labels": [f"bundle={bundle}"]}}
        written(tmp_path, f"{where}/state.json", state)
    written(tmp_path, "run/crun/crunned/status", {"pid": OWN, "bundle": str(tmp_path / "crun-bundle")})
    spec = {"process": {"args": ["/bin/web", "-p"], "env": ["A=1", "PATH=/opt/bin:/bin"]}, "annotations": {"stockade.policy": "web"}}
    written(tmp_path, "bundle/config.json", spec)
    cri = {"io.kubernetes.cri.container-name": "server", "io.kubernetes.cri.image-name": "registry/server:2"}
    written(tmp_path, "run/containerd/io.containerd.runtime.v2.task/default/task/config.json", {"annotations": cri})
    about = {"id": "p" * 64, "names": ["web"], "image": "0123", "metadata": json.dumps({"image-name": "localhost/web:1", "name": "web"})}
    written(storage, "containers.json", [about, {"id": "other"}])
    written(tmp_path, f"var/lib/docker/containers/{'d' * 64}/config.v2.json", {"Name": "/db", "Config": {"Image": "postgres:17"}})
    return tmp_path


@pytest.mark.parametrize(
    ("wanted", "runtime", "name", "image"),
    [
        ("plain", "runc", "", ""),
        ("web", "podman", "web", "localhost/web:1"),
        ("pppp", "podman", "web", "localhost/web:1"),
        ("task", "containerd", "server", "registry/server:2"),
        ("server", "containerd", "server", "registry/server:2"),
        ("db", "docker", "db", "postgres:17"),
        ("dddddd", "docker", "db", "postgres:17"),
        ("crunned", "crun", "", ""),
    ],
)
def test_a_container_by_what_its_runtime_wrote_down(machine: Path, wanted: str, runtime: str, name: str, image: str) -> None:
    found = runtimes.find(wanted, machine)
    assert (found.runtime, found.name, found.image, found.pid) == (runtime, name, image, OWN)


def test_replicas_are_told_apart(machine: Path) -> None:
    """Each has the name of its pod's template; the id says which it is."""
    task = machine / "run/containerd/io.containerd.runtime.v2.task/default"
    written(
        machine, "run/containerd/runc/default/task2/state.json", {"init_process_pid": OWN, "config": {"labels": [f"bundle={task}/task2"]}}
    )
    written(task, "task2/config.json", {"annotations": {"io.kubernetes.cri.container-name": "server"}})
    with pytest.raises(StockadeError, match="several containers are server: task, task2"):
        runtimes.find("server", machine)
    found = [runtimes.find(name, machine) for name in ("server-task", "server-task2")]
    assert [each.called for each in found] == ["server-task", "server-task2"]
    assert runtimes.find("db", machine).called == "db"  # docker's own names are one's own
    of_64 = runtimes.Container("e" * 64, "containerd", OWN, "s" * 63, shared=True)
    assert Target(Cgroup(TOP / "x"), OWN, of_64).called.endswith(f"s-{'e' * 12}")


@pytest.mark.parametrize(
    ("where", "number", "start"),
    [("run/runc/plain/state.json", "init_process_pid", "init_process_start"), ("run/crun/crunned/status", "pid", "process-start-time")],
)
def test_a_number_that_somebody_else_has_by_now_is_no_container(machine: Path, where: str, number: str, start: str) -> None:
    """One that ended and was not deleted has its files still: what they say is compared with when that process was started."""
    began = int(Path(f"/proc/{OWN}/stat").read_text().rpartition(")")[2].split()[19])
    state, wanted = json.loads((machine / where).read_text()), "crunned" if "crun/" in where else "plain"
    written(machine, where, state | {number: OWN, start: began})
    assert runtimes.find(wanted, machine).pid == OWN
    written(machine, where, state | {number: OWN, start: began - 1})
    with pytest.raises(StockadeError, match=f"no running container is {wanted}"):
        runtimes.find(wanted, machine)


def test_what_a_bundle_says_of_its_process(machine: Path) -> None:
    found = runtimes.find("plain", machine)
    assert (found.command, found.search, dict(found.annotations)) == (("/bin/web", "-p"), "/opt/bin:/bin", {"stockade.policy": "web"})


@pytest.mark.parametrize("wanted", ["gone", "ppp", "nobody", ""])
def test_a_container_that_is_not_there_is_named_with_those_that_are(machine: Path, wanted: str) -> None:
    with pytest.raises(StockadeError, match="no running container") as raised:
        runtimes.find(wanted, machine)
    assert "db" in (raised.value.hint or "") and "web" in (raised.value.hint or "")


def test_files_that_are_no_json_are_as_if_they_were_not_there(machine: Path) -> None:
    (machine / "run/runc/plain/state.json").write_text("{")
    (machine / "var/lib/docker/containers" / ("d" * 64) / "config.v2.json").write_text("[]")
    assert {each.id for each in runtimes.containers(machine)} == {"p" * 64, "task", "d" * 64, "crunned"}


STATE = {"ociVersion": "1.0.2", "id": "a", "status": "creating", "pid": 7, "bundle": "/b", "annotations": {"stockade.policy": "web"}}


def test_a_state_that_a_runtime_says() -> None:
    assert State.parse(json.dumps(STATE).encode()) == State("a", 7, Path("/b"), {"stockade.policy": "web"})
    assert State.parse(json.dumps({**STATE, "status": "created", "annotations": None}).encode()).annotations == {}


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b"{}",
        b"{",
        b'"x"',
        *(json.dumps({**STATE, **wrong}).encode() for wrong in ({"status": "running"}, {"pid": 0}, {"pid": "x"})),
    ],
)
def test_a_state_that_is_none(said: bytes) -> None:
    with pytest.raises(StockadeError) as raised:
        State.parse(said)
    assert raised.value.code == "bad_state"


def test_whoever_starts_a_container_chooses_among_roots_policies(tmp_path: Path) -> None:
    for name in ("web.yaml", "base.yml", "secret.txt"):
        (tmp_path / name).touch()
    choice = Choice(tmp_path)
    assert choice.of({"stockade.policy": "web"}) == ((tmp_path / "web.yaml",), ())
    assert choice.of({"stockade.policy": "web, base.yml", "stockade.preset": "pypi npm"}) == (
        (tmp_path / "web.yaml", tmp_path / "base.yml"),
        ("pypi", "npm"),
    )
    assert choice.of({}) is None
    assert Choice(tmp_path, "web").of({}) == ((tmp_path / "web.yaml",), ())
    assert Choice(tmp_path, "web").of({"stockade.preset": "pypi"}) == ((), ("pypi",))
    with pytest.raises(StockadeError, match="names no policy"):
        Choice(tmp_path, required=True).of({})


@pytest.mark.parametrize("key", ["stockade.policy", "stockade.preset"])
@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_an_annotation_that_says_nothing_is_refused(tmp_path: Path, key: str, text: str) -> None:
    """Also where a container without one is left alone, or has the policy of all."""
    for choice in (Choice(tmp_path), Choice(tmp_path, "web")):
        with pytest.raises(StockadeError, match="names nothing") as raised:
            choice.of({key: text})
        assert raised.value.code == "no_policy"


@pytest.mark.parametrize("name", ["../web", "/etc/passwd", "a/b", "missing", "secret.txt", ".web", "x\x00y", "a" * 200])
def test_and_brings_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "web.yaml").touch()
    with pytest.raises(StockadeError):
        Choice(tmp_path / "d").of({"stockade.policy": name})
