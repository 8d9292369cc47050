"""A pod's devices are closed while the pod is, whoever governs it or nobody: frames of its own making are seen at the other end, or not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stockade.attach.device import TABLE, Closed
from stockade.node import held
from stockade.node.arriving import Arrival
from stockade.node.container import Bundle, First
from stockade.node.devices import Devices
from stockade.node.held import HeldPod
from stockade.node.pod import Pod, Standing, Wanted
from stockade.node.station import Pods
from stockade.policy.model import Inbound
from stockade.sandbox.cgroup import Cgroup
from stockade.sandbox.joined import Joined

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="it makes network namespaces, and needs nft")
Act = Callable[[HeldPod], Callable[[], bool]]
UID = "4a7de2fb-4197-4693-a2e7-19e36cb8d0a6"
RAW = frozenset({"CAP_NET_RAW", "CAP_CHOWN"})


@dataclass
class Network:
    """Of a pod: one device, whose other end is somebody's who listens. cgroup: files as the kernel has them for one process, `pid`."""

    cgroup: Cgroup
    pid: int
    ours: socket.socket
    theirs: socket.socket
    sent: int = 0
    heard: list[int] = field(default_factory=list)

    def send(self) -> int:
        self.sent += 1
        with contextlib.suppress(OSError):  # a filter that drops it may say so
            self.ours.send(b"\xff" * 6 + b"\x02" + bytes(5) + b"\x88\xb5" + self.sent.to_bytes(50))
        return self.sent

    def arrived(self, frame: int) -> bool:
        """Whether it did before another one did that was sent later, on the open device."""
        last = self.send()
        while last not in self.heard:
            self.heard.append(int.from_bytes(self.theirs.recv(100)[14:64]))
        return frame in self.heard

    def take_cgroup(self, pid: int) -> None:
        (self.cgroup.path / "cgroup.procs").write_text(f"{pid}\n")


def frames(of: int, device: str) -> socket.socket:
    def make() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
        made.bind((device, 0x88B5))
        return made

    joined = Joined(of)
    try:
        return joined.do(make)
    finally:
        joined.close()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    words = ["unshare", "--net", "sh", "-c", "echo; exec sleep 120"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as outer, subprocess.Popen(words, stdout=subprocess.PIPE) as inner:
        try:
            assert outer.stdout is not None and inner.stdout is not None
            outer.stdout.readline()
            inner.stdout.readline()
            enter = ["nsenter", f"--net=/proc/{outer.pid}/ns/net", "ip"]
            subprocess.run([*enter, "link", "add", "far", "type", "veth", "peer", "name", "eth0", "netns", str(inner.pid)], check=True)
            subprocess.run([*enter, "link", "set", "far", "up"], check=True)
            subprocess.run(["nsenter", f"--net=/proc/{inner.pid}/ns/net", "ip", "link", "set", "eth0", "up"], check=True)
            (tmp_path / "cgroup.events").write_text("populated 1\n")
            made = Network(Cgroup(tmp_path), inner.pid, frames(inner.pid, "eth0"), frames(outer.pid, "far"))
            made.take_cgroup(inner.pid)
            assert made.arrived(made.send()), "nobody has closed it"
            with made.ours, made.theirs:
                yield made
        finally:
            outer.kill()
            inner.kill()


def test_they_are_closed_and_opened(network: Network) -> None:
    devices = Devices(network.cgroup)
    devices.shut(network.pid, holds=True)
    assert network.arrived(network.send()), "nobody said that they are to be closed"
    devices.closed = True
    devices.shut(network.pid, holds=True)
    frame = network.send()
    devices.shut(network.pid, holds=True)
    devices.closed = False
    devices.open(None)
    assert not network.arrived(frame)
    assert (devices.failure, devices.shared) == ("", False)
    devices.end(gone=True)


def test_what_an_agent_before_this_one_closed_is_opened(network: Network) -> None:
    before = Devices(network.cgroup)
    before.closed = True
    before.shut(network.pid, holds=True)
    before.end(gone=False)
    frame = network.send()
    devices = Devices(network.cgroup)
    devices.open(network.pid)
    assert not network.arrived(frame)
    devices.end(gone=True)


def test_one_that_cannot_be_closed_is_said(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = Devices(network.cgroup)
    devices.closed = True
    with monkeypatch.context() as patch:
        patch.setattr("stockade.attach.device._PATH", "/nowhere")
        devices.shut(network.pid, holds=True)
    assert "eth0 cannot be closed" in devices.failure and "no nft" in devices.failure
    devices.shut(network.pid, holds=True)
    assert devices.failure == ""
    devices.end(gone=True)


def test_the_nodes_own_are_left_alone(network: Network) -> None:
    network.take_cgroup(os.getpid())
    devices = Devices(network.cgroup)
    devices.closed = True
    devices.shut(os.getpid(), holds=True)
    assert devices.shared and devices.failure == ""
    devices.end(gone=True)


def test_what_a_policy_let_in_is_not_answered_any_more(network: Network) -> None:
    inside = ["nsenter", f"--net=/proc/{network.pid}/ns/net", "nft", "list", "table", "netdev", TABLE]
    joined = Joined(network.pid)
    governed, devices = Closed(joined, network.cgroup.id), Devices(network.cgroup)
    devices.closed = True
    devices.shut(network.pid, holds=True)
    governed.close()
    governed.admit([Inbound(8080, (ip_network("10.0.0.0/8"),))])
    before = subprocess.run(inside, capture_output=True, text=True, check=True).stdout
    assert "@heard4 accept" in before and "8080" in before
    devices.silence()
    after = subprocess.run(inside, capture_output=True, text=True, check=True).stdout
    assert "accept;" in before and "policy drop" in after
    assert [line for line in after.splitlines() if "accept" in line or "set " in line] == []
    governed.admit([Inbound(8080, (ip_network("10.0.0.0/8"),))])
    assert "@heard4 accept" in subprocess.run(inside, capture_output=True, text=True, check=True).stdout
    joined.close()
    devices.end(gone=True)


class Kernel:
    def __init__(self) -> None:
        self.maps = SimpleNamespace(**dict.fromkeys(("gate", "ungate", "let_begin"), lambda *_: None))

    def govern(self, _cgroup: Path, _pins: Path) -> list[object]:
        return [object()]

    def take_off(self, _link: object) -> None:
        """There is none."""


class Scene:
    """A pod on a node whose kernel lets everything pass, so that what does not, its devices hold. Its containers arrive when told."""

    def __init__(self, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
        self.network, self.told, self.records = network, list[Standing](), list[tuple[Any, Any]]()
        trail = SimpleNamespace(append=lambda sandbox, record: self.records.append((sandbox, record)))
        station = SimpleNamespace(kernel=Kernel(), trail=trail)
        self.frame = 0
        settings = SimpleNamespace(
            configured=SimpleNamespace(kubernetes=SimpleNamespace(kubelet=network.cgroup.path)), run=network.cgroup.path
        )
        self.pods: Any = SimpleNamespace(
            bpffs=network.cgroup.path,
            life="1-x",
            station=station,
            ending=False,
            settings=settings,
            tell=self.told.append,
            taken_over=lambda: None,
        )
        self._bundles: dict[str, Bundle] = {}
        monkeypatch.setattr(Cgroup, "level", 1)
        monkeypatch.setattr(held, "DECIDES", 0.05)
        monkeypatch.setattr(held, "arrival", self._arrival)
        monkeypatch.setattr("stockade.node.powers.mounts", lambda _pid: ())  # the machine's own, which they share

    async def _arrival(self, identity: str, cgroup: Cgroup) -> Arrival:
        process: Any = SimpleNamespace(pid=self.network.pid, begun=False)
        return Arrival(identity, cgroup, cast(First, process), 0.0, 0.0, stopped=False, bundle=self._bundles[identity])

    def play(self, *acts: Act) -> None:
        """Each, and what follows from it: an act says how one sees that."""

        async def main() -> None:
            pod = HeldPod(cast(Pods, self.pods), UID, self.network.cgroup, new=True)
            for act in acts:
                followed = act(pod)
                for _ in range(6000):
                    if followed():
                        break
                    await asyncio.sleep(0.01)
                else:
                    raise AssertionError(f"nothing followed: {self.told}")
            self.pods.ending = True
            await pod.end()

        asyncio.run(main())

    def comes(self, identity: str, bundle: Bundle) -> Act:
        """Until it is let go on."""
        self._bundles[identity] = bundle

        def act(pod: HeldPod) -> Callable[[], bool]:
            pod.container_came(identity, self.network.cgroup)
            return lambda: pod._containers[identity].task.done()

        return act

    def wanted(self, wanted: Wanted, state: str = "refused") -> Act:
        def act(pod: HeldPod) -> Callable[[], bool]:
            pod.want(wanted)
            return lambda: self.told[-1:] != [] and self.told[-1].state == state

        return act

    def stands(self, state: str) -> Act:
        return lambda _pod: lambda: self.told[-1].state == state

    def left(self, pod: HeldPod) -> Callable[[], bool]:
        pod.leave()
        return lambda: self.told[-1:] != [] and self.told[-1].state == "ended"

    def sends(self, _pod: HeldPod) -> Callable[[], bool]:
        self.frame = self.network.send()
        return lambda: True


@pytest.fixture
def scene(network: Network, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(network, monkeypatch)


REFUSED = Wanted(Pod(UID, "default", "web", containers={"main": "app:1"}), (), "1")
PAUSE, MAIN = Bundle("", holds=True), Bundle("main", capabilities=RAW)


def test_a_pod_of_which_nobody_has_said_anything_sends_nothing(scene: Scene) -> None:
    scene.play(scene.comes("pause", PAUSE), scene.sends, scene.left)
    assert not scene.network.arrived(scene.frame) and scene.told[-1].state == "ended"


def test_neither_does_one_that_is_refused(scene: Scene) -> None:
    scene.play(
        scene.wanted(REFUSED),
        scene.comes("pause", PAUSE),
        scene.comes("main", MAIN),
        scene.sends,
        scene.left,
    )
    assert not scene.network.arrived(scene.frame)
    assert [each.state for each in scene.told][-2:] == ["refused", "ended"] and scene.told[-2].unheld == ()
    ((sandbox, record),) = scene.records
    assert (sandbox.labels["pod"], sandbox.labels["container"], sandbox.labels["image"]) == ("web", "main", "app:1")
    assert (record.detail["held"], record.detail["state"], record.outcome) == ("yes", "refused", "deny")


def test_one_whose_device_cannot_be_closed_is_not_called_held(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockade.attach.device._PATH", "/nowhere")
    scene.play(scene.wanted(REFUSED), scene.comes("pause", PAUSE), scene.comes("main", MAIN))
    (said,) = scene.told[-1].unheld
    assert said.startswith("main may send packets of its own (CAP_NET_RAW): eth0 cannot be closed")
    assert scene.records[0][1].detail["not_held"] == [said]


def test_one_that_is_privileged_is_not_either(scene: Scene) -> None:
    scene.play(
        scene.wanted(REFUSED),
        scene.comes("pause", PAUSE),
        scene.comes("main", Bundle("main", capabilities=RAW | {"CAP_SYS_ADMIN"})),
    )
    assert scene.told[-1].state == "refused" and scene.told[-1].unheld == ("main keeps CAP_SYS_ADMIN",)


def test_one_in_the_nodes_network_that_may_send_packets_of_its_own_is_not_held(scene: Scene) -> None:
    scene.network.pid = os.getpid()
    scene.network.take_cgroup(os.getpid())
    wanted = Wanted(Pod(UID, "default", "web", host_network=True), (), "1")
    scene.play(scene.wanted(wanted), scene.comes("pause", PAUSE), scene.comes("main", MAIN))
    assert scene.told[-1].state == "refused"
    assert scene.told[-1].unheld == ("main may send packets of its own on the node's network (CAP_NET_RAW)",)
    assert scene.records[0][1].detail["held"] == "no"


def test_one_whose_runtime_has_no_container_that_holds_its_namespaces_says_so_and_stays_closed(scene: Scene) -> None:
    """As CRI-O's pods have none, and Docker's are not told apart."""
    meant = Wanted(Pod(UID, "default", "web"), (Path("/policy.yaml"),), "1")
    scene.play(scene.wanted(meant, "waiting"), scene.comes("main", MAIN), scene.stands("failed"), scene.sends, scene.left)
    assert not scene.network.arrived(scene.frame)
    failed = [each for each in scene.told if each.state == "failed"]
    assert failed[-1].why == held.ORPHANED and failed[-1].unheld == ()
    assert scene.records[0][1].detail["state"] == "failed"
