"""What BCC makes of bpf/ does not depend on whether it may see the kernel's symbols."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

LEGACY = {4, 45}  # BPF_FUNC_probe_read, BPF_FUNC_probe_read_str
COMPILE = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from stockade.kernel import bytecode
from stockade.kernel.abi import Network
bytecode.compiled(Network().defines(), Path(sys.argv[1]))
"""


def test_without_the_kernels_symbols_the_same_helpers_are_called(tmp_path: Path, probed: None) -> None:
    """As in a container, or under a unit of systemd: root without CAP_SYSLOG."""
    if not shutil.which("setpriv"):
        pytest.skip("no setpriv (util-linux)")
    words = ["setpriv", "--bounding-set=-syslog", "--inh-caps=-syslog", sys.executable, "-c", COMPILE, str(tmp_path)]
    subprocess.run(words, check=True, cwd=Path(__file__).parents[2] / "agent")
    (made,) = tmp_path.glob("*.json")
    programs = json.loads(made.read_text())["programs"]
    for name, (code, _) in programs.items():
        calls = {imm for opcode, _, _, imm in struct.iter_unpack("<BBhi", bytes.fromhex(code)) if opcode == 0x85}
        assert not calls & LEGACY, name
    assert len(programs) > 20
