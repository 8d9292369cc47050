"""What docs/kernels.md and README say of kernels, against the results that are kept of the runs on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vm import kernels, results
from vm.results import GOT_OUT, NOT_HELD, NOT_SHOWN, kept
from vm.table import PAGE, README, attacks, page, short


def test_the_page_is_what_the_results_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(kept()), "python tests/vm/table.py writes it"


def test_the_table_of_readme_too() -> None:
    assert short(kept()) in README.read_text(encoding="utf-8"), "python tests/vm/table.py writes it"


def test_an_attack_that_broke_is_not_told_as_one_that_got_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a test told that was interrupted: pytest leaves its time, without a name."""
    rows = {"held": "", "got-out": f"assert x\nE  a {GOT_OUT} as user", "broke": f"assert x, '{GOT_OUT}'\nE  no record"}
    cases = "".join(
        f'<testcase classname="tests.bypass.test_sockets" name="test[{row}]"><properties><property name="attack" value="{row}"/>'
        f'<property name="verdict" value="user: EPERM"/></properties>{f"<failure>{why}</failure>" if why else ""}</testcase>'
        for row, why in rows.items()
    )
    (tmp_path / "tests.xml").write_text(f'<testsuites><testsuite>{cases}<testcase time="0.1"/></testsuite></testsuites>')
    told = {"release": "6.1.0", "lsm": "yama", "host": False, "over": False, "boot_seconds": 1.0, "test_seconds": 1.0}
    told["findings"] = [{"name": "exec refusal by BPF LSM", "answer": "missing"}]
    (tmp_path / "summary.json").write_text(json.dumps(told))
    monkeypatch.setattr(results, "KEPT", tmp_path / "kept")
    results.keep(kernels.read(tmp_path))
    (kernel,) = kept()
    assert list(kernel.modules) == ["bypass.test_sockets"] and kernel.modules["bypass.test_sockets"].cut
    assert {name: attack.met for name, attack in kernel.attacks().items()} == {
        "held": {"user": "EPERM"},
        "got-out": {"user": NOT_HELD},
        "broke": {"user": NOT_SHOWN},
    }
    assert attacks(kernel) == "1 of 3"
