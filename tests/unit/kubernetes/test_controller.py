"""What a node says of a policy, of what its pods' agent says of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stockade.kubernetes.controller import Controller, Held
from stockade.kubernetes.generations import Policy
from stockade.kubernetes.kept import Decided, Kept
from stockade.kubernetes.loading import Loaded
from stockade.kubernetes.resources import Key, Seen
from stockade.kubernetes.selecting import Choice
from stockade.kubernetes.wanting import Answer
from stockade.kubernetes.watching import Listed
from stockade.node.pod import Pod, Standing, Wanted

KEY = Key("team", "p")


class Nobody:
    def want(self, wanted: Wanted) -> None: ...

    def leave(self, uid: str) -> None: ...

    def forget(self, uid: str) -> None: ...


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        (Standing("u", "failed", why="port 15001 is taken"), "port 15001 is taken"),
        (Standing("u", "governed", revision="r", why="container 1 is not governed"), "container 1 is not governed"),
        (Standing("u", "governed", revision="r", problems=("p.yaml:1:1: bad",)), "p.yaml:1:1: bad"),
    ],
)
def test_what_went_wrong_with_a_pod_is_in_the_entry(tmp_path: Path, standing: Standing, said: str) -> None:
    controller = Controller(Nobody(), "node1", Kept(tmp_path), "leave", tmp_path, "")
    loaded = Loaded(KEY, "uid", 1, Choice(KEY), tmp_path / "p.yaml")
    wanted = Wanted(Pod("u", "team", "box"), (loaded.file,), "r")
    held = Held(Answer(Decided((loaded.file,), "r"), (loaded,), keys=frozenset({KEY})), wanted, standing)
    controller.held["u"] = held
    assert controller.entry(KEY, Policy(verdict=loaded, good=loaded)).unheld == (f"team/box: {said}",)


@pytest.mark.parametrize("observe", [True, False])
def test_a_pod_that_is_only_looked_at_is_counted_so(tmp_path: Path, observe: bool) -> None:
    controller = Controller(Nobody(), "node1", Kept(tmp_path), "leave", tmp_path, "")
    loaded = Loaded(KEY, "uid", 1, Choice(KEY), tmp_path / "p.yaml")
    wanted = Wanted(Pod("u", "team", "box"), (loaded.file,), "r", observe)
    answered = Answer(Decided((loaded.file,), "r", observe), (loaded,), keys=frozenset({KEY}))
    controller.held["u"] = Held(answered, wanted, Standing("u", "governed", revision="r", trust="a volume"))
    entry = controller.entry(KEY, Policy(verdict=loaded))
    assert (entry.governed, entry.observing) == (1, int(observe))


class Told(Nobody):
    def __init__(self) -> None:
        self.wanted: list[str] = []
        self.left: list[str] = []

    def want(self, wanted: Wanted) -> None:
        self.wanted.append(wanted.pod.uid)

    def leave(self, uid: str) -> None:
        self.left.append(uid)


def test_the_webhook_is_left_alone_where_all_else_is_refused_and_nobody_passes_for_it(tmp_path: Path) -> None:
    labels = {"app.kubernetes.io/name": "stockade", "app.kubernetes.io/component": "webhook"}
    node = Told()
    controller = Controller(node, "node1", Kept(tmp_path), "deny", tmp_path, "", "stockade")
    pods = (
        Seen(Pod("webhook", "stockade", "w"), "webhook", labels),
        Seen(Pod("tenant", "team", "w"), "tenant", labels),
        Seen(Pod("beside", "stockade", "b"), "beside"),
    )

    async def decided() -> None:
        running = asyncio.create_task(controller.run())
        for kind, items in (("namespaces", (("stockade", {}), ("team", {}))), ("pods", pods), ("policies", ()), ("cluster policies", ())):
            controller.told(Listed(kind, items))
        while len(node.wanted) + len(node.left) < len(pods):
            await asyncio.sleep(0.01)
        running.cancel()

    asyncio.run(decided())
    assert (node.left, sorted(node.wanted)) == (["webhook"], ["beside", "tenant"])
