"""What is on the disk of a node: read back as it was, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockade.kubernetes.kept import Decided, Kept, Known
from stockade.kubernetes.resources import Key, Resource, Seen
from stockade.node.pod import Pod

POD = Seen(Pod("u", "team", "box", "node1", "sa", False, {"main": "i:1"}, (80, 443)), "u", {"app": "x"}, ("a",), created="c", trusts=True)
KNOWN = Known(
    (Resource(Key("team", "a"), "uid", 2, "7", {"selector": {}, "network": [{"name": "é\n"}]}, {}),),
    {"team": {"kept": "yes"}},
    (POD, Seen(Pod("v", "team", "bare"), "v")),
    {"u": Decided((Path("/p/a.yaml"),), "r", True), "v": Decided(None), "w": Decided((), "nothing", whole=False)},
)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    found = Kept(tmp_path / "state")
    found.open()
    return found


def test_it_is_read_back_as_it_was(kept: Kept, tmp_path: Path) -> None:
    assert kept.read() is None
    kept.save(KNOWN)
    assert Kept(tmp_path / "state").read() == KNOWN
    assert (tmp_path / "state/known.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state/policies").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"format": 1}', '{"format": 2}', "[" * 9000])
def test_what_cannot_be_read_is_as_if_it_were_not_there(kept: Kept, tmp_path: Path, text: str) -> None:
    (tmp_path / "state/known.json").write_text(text)
    assert kept.read() is None


def test_every_cut_of_it_is_refused(kept: Kept, tmp_path: Path) -> None:
    kept.save(KNOWN)
    file = tmp_path / "state/known.json"
    whole = file.read_bytes()
    for end in range(0, len(whole), 7):
        file.write_bytes(whole[:end])
        assert kept.read() is None


def test_only_what_is_needed_stays(kept: Kept) -> None:
    for name in ("a.yaml", "b.yaml", ".c.yaml.new"):
        (kept.policies / name).write_text("")
    kept.clear({kept.policies / "b.yaml"})
    assert [path.name for path in kept.policies.iterdir()] == ["b.yaml"]
