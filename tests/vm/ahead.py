"""bpf/ compiled on this machine for a guest's kernel: seconds here, minutes under emulation. The guest finds it in the cache they share.

    ahead.py VMLINUZ CACHE

Everything goes in that would in the guest (its types, its release), so that the cache's own key says whether it fits. Where it does not, or
this fails, the guest compiles as ever.
"""

from __future__ import annotations

import os
import platform
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

CPUS = 2  # of a guest
UNPACK = {b"\xfd7zX": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"\x1f\x8b\x08\x00": "gzip"}


def unpacked(image: Path) -> bytes:
    """The ELF file in a bzImage (Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length)."""
    packed = image.read_bytes()
    offset, length = struct.unpack_from("<II", packed, 0x248)
    start = (packed[0x1F1] + 1) * 512 + offset
    payload = packed[start : start + length - 4]  # its last word is the size that it unpacks to
    return subprocess.run([UNPACK[payload[:4]], "-dc"], input=payload, stdout=subprocess.PIPE, check=True).stdout


def main(image: Path, cache: Path) -> None:
    from stockade.kernel import bytecode, headers
    from stockade.kernel.abi import Network

    with tempfile.TemporaryDirectory() as directory:
        kernel, types = Path(directory, "vmlinux"), Path(directory, "btf")
        kernel.write_bytes(unpacked(image))
        subprocess.run(["objcopy", "--dump-section", f".BTF={types}", kernel, "/dev/null"], check=True)
        headers.BTF = types
        platform.release = lambda: image.name.removeprefix("vmlinuz-")
        os.cpu_count = lambda: CPUS
        bytecode.compiled(Network().defines(), cache)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
