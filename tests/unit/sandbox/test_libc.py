"""What the kernel answers to binds, in words that say what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stockade.sandbox import libc, view


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it binds")
def test_a_file_system_that_cannot_map_owners_is_named(tmp_path: Path) -> None:
    """sysfs never could; tmpfs and overlay cannot on older kernels."""
    namespace = view.user_namespace((0, 0), 1000)
    try:
        with pytest.raises(OSError, match="/sys/kernel is not the sandbox's, and on its file system this kernel cannot map owners"):
            libc.bind("/sys/kernel", str(tmp_path), 0, namespace)
    finally:
        os.close(namespace)
    assert not tmp_path.is_mount()
