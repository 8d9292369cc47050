"""A pod's trust store, in the volume that it was given for it: written from the node, mounted read-only in the pod's containers.

Owns the names in the volume and where the kubelet has it. A pod may have mounted that volume a second time, writable: nothing that lies in
it is followed, opened or believed, a file of ours takes the place of whatever has its name.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path

from stockade.sandbox import libc, trust
from stockade.types import StockadeError

VOLUME = "stockade-trust"
MOUNT = "/etc/stockade/trust"  # where the containers have it
BUNDLE, AUTHORITY, KEYSTORE = "ca-bundle.crt", "ca.crt", "cacerts"
KUBELET = Path("/var/lib/kubelet")

_PART = ".stockade-"  # of a file that is not whole yet
_UID = re.compile(r"[0-9a-z-]{1,64}")
_VOLUMES = "volumes/kubernetes.io~empty-dir"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def directory(pod_uid: str, kubelet_root: Path = KUBELET) -> Path | None:
    """The volume of a pod, as the kubelet makes it before the pod's first container; None where the pod has none, or not yet."""
    if not _UID.fullmatch(pod_uid):
        return None
    found = kubelet_root / "pods" / pod_uid / _VOLUMES / VOLUME
    try:
        os.close(_opened(found))
    except OSError:
        return None
    return found


def give(directory: Path, authority_pem: bytes = b"") -> str:
    """Write the store: the roots of this machine together with the sandbox's CA, that CA alone, and both as Java has them.

    Without a CA, for a pod that is left alone and has the volume all the same, whose variables lead there: the roots, in all three.
    directory: as `directory` found it. Each file is there whole or as it was before; who has one open goes on reading the one before.
    Returns what the pod was given, in words. Raises StockadeError.
    """
    bundle = trust.system_bundle()
    try:
        together = bundle.read_bytes().rstrip() + b"\n" + authority_pem
    except OSError as error:
        raise StockadeError(f"{bundle} cannot be read: {error.strerror}", code="trust") from None
    files = {BUNDLE: together, AUTHORITY: authority_pem or together, KEYSTORE: trust.java_store(together)}
    try:
        volume = _opened(directory)
    except OSError as error:
        raise StockadeError(f"{directory} is no volume that a trust store can be written to: {error.strerror}", code="trust") from None
    try:
        # The kubelet lets everybody write an emptyDir, and gives it to the pod's fsGroup.
        os.fchown(volume, 0, 0)
        os.fchmod(volume, 0o755)
        for name in os.listdir(volume):  # noqa: PTH208 (a descriptor)
            if name.startswith(_PART):
                with contextlib.suppress(OSError):  # what whoever was killed left; a directory of the pod's own stays
                    os.unlink(name, dir_fd=volume)
        for name, content in files.items():
            _write(volume, name, content)
    except OSError as error:
        raise StockadeError(f"the trust store cannot be written to {directory}: {error.strerror}", code="trust") from None
    finally:
        os.close(volume)
    return f"{', '.join(files)} in {MOUNT}"


def _opened(directory: Path) -> int:
    """The volume's directory. Below the kubelet's own, which is the machine's, no symbolic link is followed. Raises OSError."""
    if len(directory.parts) < 6:
        raise NotADirectoryError(20, "it is not a pod's")
    root = os.open(directory.parents[4], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return libc.open_beneath(root, "/".join(directory.parts[-5:]), _DIRECTORY | os.O_NOFOLLOW)
    finally:
        os.close(root)


def _write(volume: int, name: str, content: bytes) -> None:
    part = f"{_PART}{secrets.token_hex(8)}"
    made = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400, dir_fd=volume)
    try:
        with open(made, "wb") as file:  # noqa: PTH123 (a descriptor)
            file.write(content)
            file.flush()
            os.fchown(made, 0, 0)  # a directory with setgid had given it to its group
            os.fchmod(made, 0o444)
        _make_way(volume, name)
        os.rename(part, name, src_dir_fd=volume, dst_dir_fd=volume)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(part, dir_fd=volume)
        raise


def _make_way(volume: int, name: str) -> None:
    """A directory is not replaced by a rename. Of the pod's making, it goes where it is empty; else whoever asked is told."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=volume, follow_symlinks=False).st_mode):
            os.rmdir(name, dir_fd=volume)
