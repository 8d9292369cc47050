"""The policy that a user names, as an agent reads it at the start and ever after."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockade.service.order import Order
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
