"""A script as the tests enrol it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from kernel.box import RUNS, Box
from stockade.kernel.abi import BinaryFlag


class Scripted:
    """A script and its interpreter, which may not run on its own."""

    def __init__(self, box: Box, bench: Path) -> None:
        self.box, self.bench = box, bench
        self.interpreter = Path(shutil.copy(os.path.realpath("/bin/sh"), bench / "interp"))
        self.path = bench / "script"
        self.path.write_text(f'#!{self.interpreter}\n: > "$1"\n')
        self.path.chmod(0o755)
        self.bare = box.enrol(self.interpreter, BinaryFlag.NONE)
        self.link = bench / "link"
        self.link.symlink_to(self.path)
        self.pair = 50
        self.enrol(self.path)

    def enrol(self, path: Path, flags: BinaryFlag = RUNS) -> None:
        self.box.maps.enrol_script(self.box.number, self.bare, str(path), self.pair, flags, 1, carried=False)

    @property
    def evidence(self) -> Path:
        return self.bench / "evidence"
