"""A package for each client that installs one, made on the fly: a wheel in a PEP 503 index, an npm tarball, a git repository."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "stockade-tiny"
GREETING = "hello from stockade-tiny"


def pypi(root: Path, host: str = "") -> None:
    """`/simple/stockade-tiny/` and its wheel below /packages/ (PEP 503, PEP 427); `host` is the URL of where the latter is."""
    module, info = "stockade_tiny", "stockade_tiny-1.0.dist-info"
    files = {
        f"{module}.py": f"GREETING = {GREETING!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: stockade-tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{name},sha256={_urlsafe(hashlib.sha256(text.encode()).digest())},{len(text)}" for name, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    wheel = root / "packages" / f"{module}-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    index = root / "simple" / PACKAGE / "index.html"
    index.parent.mkdir(parents=True)
    digest = sha256(wheel)
    index.write_text(f'<!DOCTYPE html><html><body><a href="{host}/packages/{wheel.name}#sha256={digest}">{wheel.name}</a></body></html>\n')


def npm(root: Path, url: str) -> None:
    """`/stockade-tiny` (the packument) and `/stockade-tiny/-/stockade-tiny-1.0.0.tgz`."""
    manifest = {"name": PACKAGE, "version": "1.0.0", "main": "index.js"}
    tarball = root / PACKAGE / "-" / f"{PACKAGE}-1.0.0.tgz"
    tarball.parent.mkdir(parents=True)
    with tarfile.open(tarball, "w:gz") as archive:
        for name, text in {"package.json": json.dumps(manifest), "index.js": f"module.exports = {GREETING!r}\n"}.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    data = tarball.read_bytes()
    dist = {
        "tarball": f"{url}/{PACKAGE}/-/{tarball.name}",
        "shasum": hashlib.sha1(data).hexdigest(),
        "integrity": "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode(),
    }
    packument = {"name": PACKAGE, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": manifest | {"dist": dist}}}
    (root / f"{PACKAGE}.json").write_text(json.dumps(packument))


def git(root: Path) -> None:
    """`/stockade-tiny.git` with one commit."""
    bare = root / f"{PACKAGE}.git"
    tree = root / "tree"
    tree.mkdir(parents=True)
    (tree / "README").write_text(GREETING + "\n")
    who = ["-c", "user.name=tests", "-c", "user.email=tests@web.test", "-c", "init.defaultBranch=main"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"], ["clone", "-q", "--bare", ".", str(bare)]):
        subprocess.run(["git", *who, *words], cwd=tree, check=True)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _urlsafe(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
