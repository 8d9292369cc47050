"""The trust bundle of a container that is prepared and has not started: mounted over the files that its image has for it.

Runs while the container's root is not its root yet: the mount namespace is a copy of the machine's, with everything mounted below the root
file system. Writes into no file of the container. Where an image has no bundle, none is made; who brings one of its own trusts that.
"""

from __future__ import annotations

import contextlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stockade.sandbox import libc, trust
from stockade.sandbox.root import Foreign
from stockade.types import StockadeError

_LARGEST = 16 << 20  # octets of a bundle: the largest distribution's is 1 MB
_ATTRIBUTES = libc.MOUNT_ATTR_RDONLY | libc.MOUNT_ATTR_NOSUID | libc.MOUNT_ATTR_NODEV | libc.MOUNT_ATTR_NOEXEC


def give(pid: int, directory: str, place: Path, authority_pem: bytes) -> str:
    """Mount the container's own roots together with the authority's, wherever it has them. Returns these places, in words.

    pid: a process in its mount namespace. directory: its root file system, by a path through /proc/PID/root. place: where the files that
    are mounted may lie. Raises StockadeError.
    """
    try:
        root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StockadeError(f"{directory} cannot be opened: {error.strerror}", code="trust") from None
    try:
        files = _built(Foreign(root), authority_pem)
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        trees: list[tuple[int, str]] = []
        try:
            for number, (path, content) in enumerate(sorted(files.items())):
                source = place / str(number)
                source.unlink(missing_ok=True)
                source.write_bytes(content)
                source.chmod(0o444)
                trees.append((libc.detached(str(source), _ATTRIBUTES), path))
            with ThreadPoolExecutor(1) as thread:
                thread.submit(_mount, pid, root, trees).result()
        finally:
            for tree, _ in trees:
                os.close(tree)
    except OSError as error:
        raise StockadeError(f"the trust bundle cannot be mounted: {error}", code="trust") from None
    finally:
        os.close(root)
    return ", ".join(sorted(files)) or "nothing: the image has no CA bundle in any of the usual places"


def remove(place: Path) -> None:
    """The files; a container that still has them mounted keeps them."""
    with contextlib.suppress(OSError):
        for file in place.iterdir():
            file.unlink(missing_ok=True)
        place.rmdir()


def _built(root: Foreign, authority_pem: bytes) -> dict[str, bytes]:
    """Path in the container, without symbolic links → what is to be there."""
    found: dict[str, bytes] = {}
    for path in trust.BUNDLES:
        if (known := _read(root, str(path))) is not None:
            found.setdefault(known[0], known[1].rstrip() + b"\n" + authority_pem)
    if found and (stores := [known[0] for path in trust.KEYSTORES if (known := _read(root, str(path))) is not None]):
        store = trust.java_store(next(iter(found.values())))
        found |= dict.fromkeys(stores, store)
    return found


def _read(root: Foreign, path: str) -> tuple[str, bytes] | None:
    """Where it really is, and its content."""
    try:
        descriptor = root.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123 (a descriptor)
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST:
            return None
        return root.real(path, descriptor), file.read(_LARGEST)


def _mount(pid: int, root: int, trees: list[tuple[int, str]]) -> None:
    """On a thread of its own, which enters the mount namespace and ends in it."""
    os.unshare(os.CLONE_FS)
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.setns(namespace, libc.CLONE_NEWNS)
    finally:
        os.close(namespace)
    for tree, path in trees:
        target = libc.open_in_root(root, path, os.O_PATH | os.O_CLOEXEC)
        try:
            libc.move_mount(tree, target)
        finally:
            os.close(target)
