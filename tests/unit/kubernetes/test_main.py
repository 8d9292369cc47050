"""The controller where there is no API: what it was told last holds, and what it cannot do without ends it in words."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from stockade.kubernetes.api import Api
from stockade.kubernetes.kept import Decided, Kept, Known
from stockade.kubernetes.main import Known as Cluster
from stockade.kubernetes.resources import Seen
from stockade.node.pod import Pod, Wanted
from stockade.settings.kubernetes import Kubernetes
from stockade.types import StockadeError


class Asked:
    """What is asked of the node."""

    def __init__(self) -> None:
        self.wanted: list[Wanted] = []
        self.left: list[str] = []
        self.first = asyncio.Event()

    def want(self, wanted: Wanted) -> None:
        self.wanted.append(wanted)
        self.first.set()

    def leave(self, uid: str) -> None:
        self.left.append(uid)

    def forget(self, uid: str) -> None:
        raise AssertionError(uid)


@pytest.fixture
def nobody(tmp_path: Path) -> Api:
    """An API where nothing listens."""
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    users = [{"name": "u", "user": {"token": "t"}}]
    kubeconfig.write_text(json.dumps({"clusters": [cluster], "users": users, "contexts": [context], "current-context": "x"}))
    return Api(kubeconfig)


def test_what_was_decided_holds_at_once_without_an_api(nobody: Api, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "state")
    kept.open()
    held, left, new = (Seen(Pod(uid, "team", uid), uid) for uid in ("held", "left", "new"))
    files = (tmp_path / "state/policies/p.yaml",)
    kept.save(Known((), {"team": {}}, (held, left, new), {"held": Decided(files, "r", True), "left": Decided(None)}))

    async def run() -> Asked:
        node = Asked()
        running = asyncio.create_task(Cluster(nobody, "node1", Kubernetes(state=tmp_path / "state")).run(node))
        await asyncio.wait_for(node.first.wait(), 30)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return node

    node = asyncio.run(run())
    assert node.wanted == [Wanted(held.pod, files, "r", True)] and node.left == ["left"]


def test_a_directory_that_cannot_be_had_ends_it_in_words(nobody: Api, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def run() -> None:
        await Cluster(nobody, "node1", Kubernetes(state=tmp_path / "file/state")).run(Asked())

    with pytest.raises(StockadeError, match="cannot be used"):
        asyncio.run(run())


def test_without_a_pod_or_a_kubeconfig_there_is_no_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    for kubeconfig in (None, tmp_path / "absent"):
        with pytest.raises(StockadeError, match="is not known"):
            Api(kubeconfig)
