"""The header tree BCC compiles against, made from the running kernel's own BTF: hosts often lack headers, and layouts are exact so."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
from pathlib import Path

from stockade.types import StockadeError

BTF = Path("/sys/kernel/btf/vmlinux")

# Helpers that BCC's own helpers.h names; an older kernel's BTF may lack the newest of them.
_NEWER_HELPERS = {"ktime_get_tai_ns": 208, "user_ringbuf_drain": 209, "cgrp_storage_get": 210, "cgrp_storage_delete": 211}

# Files BCC includes by name whose content vmlinux.h replaces.
_EMPTY = (
    "include/uapi/linux/bpf.h",
    "include/uapi/linux/if_packet.h",
    "include/uapi/linux/ptrace.h",
    "include/linux/bpf.h",
    "include/linux/types.h",
    "include/linux/version.h",
    "include/linux/log2.h",
    "arch/x86/include/asm/page.h",
    "arch/arm64/include/asm/page.h",
)

_KCONFIG = """\
#ifndef STOCKADE_KCONFIG_H
#define STOCKADE_KCONFIG_H
#define BPF_NO_PRESERVE_ACCESS_INDEX
#define _UAPI__LINUX_BPF_H__ /* skip BCC's own uapi bpf.h: vmlinux.h has it all */
#define CONFIG_BPF_SYSCALL 1
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE KERNEL_VERSION({major}, {minor}, 0)
#define PAGE_SIZE 4096
{missing}#include "vmlinux.h"
#endif
"""


def btf_hash() -> str:
    """Identifies the running kernel's types. Raises StockadeError on a kernel built without BTF."""
    try:
        return hashlib.sha256(BTF.read_bytes()).hexdigest()[:24]
    except OSError as error:
        raise StockadeError(
            f"cannot read {BTF}: {error.strerror}", hint="a kernel with CONFIG_DEBUG_INFO_BTF=y is needed", code="no_btf"
        ) from None


def build(tree: Path) -> Path:
    """Write the tree (about 3 MB, one second) unless it stands, and return it. Raises StockadeError without bpftool, or BTF."""
    if (tree / "done").exists():
        return tree
    bpftool = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")
    if bpftool is None:
        raise StockadeError("bpftool is not installed", hint="apt-get install bpftool", code="no_bpftool")
    dump = subprocess.run([bpftool, "btf", "dump", "file", str(BTF), "format", "c"], capture_output=True, text=True, check=False)
    if dump.returncode:
        raise StockadeError(f"bpftool could not dump {BTF}: {dump.stderr.strip()}", code="no_btf")
    for name in (*_EMPTY, "include/linux/kconfig.h"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("/* everything comes from vmlinux.h */\n")
    (tree / "include/vmlinux.h").write_text(dump.stdout)
    major, minor = platform.release().split(".")[:2]
    missing = "".join(f"#define BPF_FUNC_{n} {i}\n" for n, i in _NEWER_HELPERS.items() if f"BPF_FUNC_{n} " not in dump.stdout)
    (tree / "include/linux/kconfig.h").write_text(_KCONFIG.format(major=major, minor=minor, missing=missing))
    (tree / "done").touch()
    return tree


def inode_defines(tree: Path) -> list[str]:
    """How this kernel spells an inode's change time: i_ctime_sec (6.11+), __i_ctime (6.6+) or i_ctime."""
    inode = re.search(r"^struct inode \{\n(.*?)^\};", (tree / "include/vmlinux.h").read_text(), re.S | re.M)
    fields = inode.group(1) if inode else ""
    if "i_ctime_sec;" in fields:
        return ["-DINODE_CTIME_SEC"]
    return ["-DINODE_CTIME=__i_ctime" if "__i_ctime;" in fields else "-DINODE_CTIME=i_ctime"]
