#!/usr/bin/env python3
"""Packs directories as an image: an OCI image layout in a tar file, a layer for each, which `ctr images import` and `podman load` take.

    layout.py [--gzip] --name REGISTRY/NAME:TAG --to FILE LAYER…

Of the same directories it makes the same bytes: sorted, owned by numbers, and nothing newer than SOURCE_DATE_EPOCH.
https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

_TYPE = "application/vnd.oci.image."
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def pack(root: Path, to: IO[bytes], epoch: int) -> None:
    """A directory as a layer's tar. What is linked twice is stored once."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uname = entry.gname = ""
        entry.mtime = min(int(entry.mtime), epoch)
        return entry

    with tarfile.open(fileobj=to, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(root, arcname=".", filter=plain)  # sorted by name, since Python 3.7


class Layout:
    """A tar of blobs, each named by what it is."""

    def __init__(self, to: Path, epoch: int) -> None:
        self._tar, self._epoch = tarfile.open(to, "w", format=tarfile.GNU_FORMAT), epoch  # noqa: SIM115

    def layer(self, root: Path, *, compress: bool) -> tuple[dict[str, Any], str]:
        """Its descriptor, and the digest of its plain tar."""
        with tempfile.TemporaryFile() as plain, tempfile.TemporaryFile() as packed:
            pack(root, plain, self._epoch)
            plain.seek(0)
            identity = _digest(plain)
            kept = plain
            if compress:
                with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0, filename="") as file:
                    shutil.copyfileobj(plain, file, 1 << 20)
                kept = packed
            kept.seek(0)
            digest = _digest(kept)
            size = kept.seek(0, os.SEEK_END)
            kept.seek(0)
            self._add(f"blobs/{digest.replace(':', '/')}", kept, size)
        return {"mediaType": f"{_TYPE}layer.v1.tar" + ("+gzip" if compress else ""), "digest": digest, "size": size}, identity

    def blob(self, content: dict[str, Any], kind: str) -> dict[str, Any]:
        data = json.dumps(content, sort_keys=True).encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.file(f"blobs/{digest.replace(':', '/')}", data)
        return {"mediaType": _TYPE + kind, "digest": digest, "size": len(data)}

    def file(self, name: str, data: bytes) -> None:
        self._add(name, io.BytesIO(data), len(data))

    def close(self) -> None:
        self._tar.close()

    def _add(self, name: str, content: IO[bytes], size: int) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime, entry.mode = size, self._epoch, 0o644
        self._tar.addfile(entry, content)


def _digest(file: IO[bytes]) -> str:
    return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"  # type: ignore[arg-type]


def write(to: Path, name: str, layers: list[Path], *, compress: bool, epoch: int, version: str) -> None:
    """name: with its registry and tag."""
    layout = Layout(to, epoch)
    when = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    made = [layout.layer(each, compress=compress) for each in layers]
    config = {
        "created": when,
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": [_PATH, "LANG=C.UTF-8", "PYTHONUNBUFFERED=1"],
            "Entrypoint": ["/usr/local/bin/stockade"],
            "Cmd": ["--help"],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": "Stockade",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "Apache-2.0",
                "org.opencontainers.image.base.name": "debian:trixie",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [identity for _, identity in made]},
        "history": [{"created": when, "created_by": f"deploy/docker/root.sh {each.name}"} for each in layers],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_TYPE}manifest.v1+json",
        "config": layout.blob(config, "config.v1+json"),
        "layers": [descriptor for descriptor, _ in made],
    }
    named = {"annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}}
    index = {"schemaVersion": 2, "mediaType": f"{_TYPE}index.v1+json", "manifests": [layout.blob(manifest, "manifest.v1+json") | named]}
    layout.file("index.json", json.dumps(index, sort_keys=True).encode())
    layout.file("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    layout.close()


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--gzip", action="store_true")
    words.add_argument("--name", required=True)
    words.add_argument("--version", required=True)
    words.add_argument("--to", required=True, type=Path)
    words.add_argument("layers", nargs="+", type=Path)
    said = words.parse_args()
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    part = said.to.with_suffix(".part")
    write(part, said.name, said.layers, compress=said.gzip, epoch=epoch, version=said.version)
    part.rename(said.to)


if __name__ == "__main__":
    main()
