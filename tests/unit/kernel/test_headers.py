"""How this kernel spells an inode's change time, told from its own BTF."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest

from stockade.kernel import headers
from stockade.types import StockadeError

INODE = "struct inode {{\n\tumode_t i_mode;\n{fields}\tu32 i_generation;\n}};\n"
OTHER = "struct nfs_inode {\n\ttime64_t i_ctime_sec;\n\tstruct timespec64 __i_ctime;\n};\n"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param("\ttime64_t i_ctime_sec;\n\tu32 i_ctime_nsec;\n", "-DINODE_CTIME_SEC", id="6.11 and later"),
        pytest.param("\tstruct timespec64 __i_ctime;\n", "-DINODE_CTIME=__i_ctime", id="6.6 to 6.10"),
        pytest.param("\tstruct timespec64 i_ctime;\n", "-DINODE_CTIME=i_ctime", id="before"),
    ],
)
@pytest.mark.parametrize("beside", ["{}", OTHER + "{}", "{}" + OTHER, "struct inode;\n\n{}"])
def test_change_time(tmp_path: Path, fields: str, expected: str, beside: str) -> None:
    """Members of other structs, and a forward declaration, mean nothing."""
    (tmp_path / "include").mkdir()
    (tmp_path / "include/vmlinux.h").write_text(beside.replace("{}", INODE.format(fields=fields)))
    assert headers.inode_defines(tmp_path) == [expected]


def test_a_tree_that_stands_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "done").touch()
    monkeypatch.setattr(shutil, "which", lambda *_, **__: pytest.fail("looked for bpftool"))
    assert headers.build(tmp_path) == tmp_path


def test_no_bpftool_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(StockadeError) as raised:
        headers.build(tmp_path)
    assert (raised.value.code, raised.value.hint) == ("no_bpftool", "apt-get install bpftool")


def test_no_btf_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "BTF", tmp_path / "vmlinux")
    with pytest.raises(StockadeError) as raised:
        headers.btf_hash()
    assert raised.value.code == "no_btf"


@pytest.mark.parametrize("old", [True, False])
def test_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    """Helpers that BCC names and an old kernel's BTF lacks are defined; those it has are not defined twice."""
    known = "" if old else "".join(f"\tBPF_FUNC_{name} = {number},\n" for name, number in headers._NEWER_HELPERS.items())
    tool = tmp_path / "bpftool"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\nenum bpf_func_id {{\n{known}}};\nEND\n")
    tool.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: str(tool))
    monkeypatch.setattr(platform, "release", lambda: "6.1.0-42-amd64")
    tree = headers.build(tmp_path / "tree")
    kconfig = (tree / "include/linux/kconfig.h").read_text()
    assert kconfig.count("#define BPF_FUNC_") == (len(headers._NEWER_HELPERS) if old else 0)
    assert "KERNEL_VERSION(6, 1, 0)" in kconfig
    assert "enum bpf_func_id" in (tree / "include/vmlinux.h").read_text()
    assert all((tree / name).is_file() for name in headers._EMPTY)
