"""A container image of a directory: one layer, as an OCI image layout in a tar file (image-spec 1.0, image-layout.md)."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_TYPE = "application/vnd.oci.image."
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def write(to: Path, name: str, root: Path, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """name: with its registry and tag, as docker.io/local/curl:1. command: what a pod runs that names none."""
    layer = to.with_suffix(".layer")
    try:
        with tarfile.open(layer, "w") as tar:
            tar.add(root, arcname=".")
        with layer.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        with tarfile.open(to, "w") as archive:
            archive.add(layer, f"blobs/sha256/{content}")
            variables = [_PATH, *(f"{key}={value}" for key, value in (environment or {}).items())]
            config = {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": list(command), "Env": variables},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{content}"]},
            }
            manifest = {
                "schemaVersion": 2,
                "mediaType": f"{_TYPE}manifest.v1+json",
                "config": _blob(archive, config, "config.v1+json"),
                "layers": [{"mediaType": f"{_TYPE}layer.v1.tar", "digest": f"sha256:{content}", "size": layer.stat().st_size}],
            }
            named = {"annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}}
            index = {"schemaVersion": 2, "manifests": [_blob(archive, manifest, "manifest.v1+json") | named]}
            _file(archive, "index.json", json.dumps(index).encode())
            _file(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    finally:
        layer.unlink(missing_ok=True)


def _blob(archive: tarfile.TarFile, content: dict[str, Any], kind: str) -> dict[str, Any]:
    data = json.dumps(content).encode()
    digest = hashlib.sha256(data).hexdigest()
    _file(archive, f"blobs/sha256/{digest}", data)
    return {"mediaType": _TYPE + kind, "digest": f"sha256:{digest}", "size": len(data)}


def _file(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))
