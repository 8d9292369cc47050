"""The policy that a user names, as an agent reads it at the start and ever after."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stockade.service.order import Order
from stockade.service.watch import Watch
from stockade.types import StockadeError

POLICY = "version: 1\nnetwork: [{name: index, binary: {allow: [curl]}, destination: {allow: [index.example]}, tls: passthrough}]\n"


@pytest.mark.parametrize("which", ["policy.yaml", "base.yaml"])
def test_a_policy_that_anybody_may_write_holds_nobody(tmp_path: Path, which: str) -> None:
    (tmp_path / "base.yaml").write_text(POLICY)
    (tmp_path / "policy.yaml").write_text(POLICY.replace("index", "other") + "extends: [base.yaml]\n")
    order = Order(("true",), (tmp_path / "policy.yaml",))
    assert set(order.policy(1, []).sources) == {tmp_path / "base.yaml", tmp_path / "policy.yaml"}
    (tmp_path / which).chmod(0o664)
    order.policy(2, [])  # its group is its owner's to choose
    (tmp_path / which).chmod(0o666)
    with pytest.raises(StockadeError, match=rf"{which} may be written by anybody") as refused:
        order.policy(3, [])
    assert refused.value.code == "policy_writable" and f"chmod o-w {tmp_path / which}" in refused.value.hint


def test_so_does_a_file_of_approvals(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    order = Order(("true",), (tmp_path / "policy.yaml",), approvals=tmp_path / "approvals.yaml")
    assert order.approved is not None
    order.approved.create()
    order.policy(1, [])
    (tmp_path / "approvals.yaml").chmod(0o666)
    with pytest.raises(StockadeError, match=r"approvals\.yaml may be written by anybody"):
        order.policy(2, [])


def test_a_policy_that_is_taken_from_others_is_looked_at_again(tmp_path: Path) -> None:
    file, watch = tmp_path / "policy.yaml", Watch()
    file.write_text(POLICY)
    file.chmod(0o666)
    os.utime(file, ns=(1, 1))
    with watch.reading() as named:
        named.append(file)
    assert [watch.look(), watch.look()] == [False, False]
    file.chmod(0o644)
    assert [watch.look(), watch.look()] == [False, True]
