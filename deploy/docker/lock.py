#!/usr/bin/env python3
"""Writes requirements.txt and requirements-gpu.txt anew: what pip would install for Debian 13's Python, each wheel by its SHA-256.

    .venv/bin/python deploy/docker/lock.py [--gpu]

The dependencies are pyproject.toml's. The plain image has no CUDA: onnxruntime stands there for onnxruntime-gpu, the same module
without the libraries of a device. The other has onnxruntime-gpu with the libraries that it loads, from NVIDIA's own wheels.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
PYTHON = "3.13"
PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in range(41, 4, -1)), "manylinux2014_x86_64", "manylinux1_x86_64")  # of glibc 2.41
CUDA = ("onnxruntime-gpu[cuda,cudnn]",)


def wanted(*, gpu: bool) -> list[str]:
    """Requirements, as pyproject.toml states them but for ONNX Runtime's build."""
    project = tomllib.loads((HERE.parent.parent / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *project["optional-dependencies"]["kubernetes"]]
    if gpu:
        return [*listed, *CUDA]
    return [re.sub(r"^onnxruntime-gpu\b", "onnxruntime", each) for each in listed]


def resolved(requirements: list[str]) -> list[tuple[str, str, str]]:
    """(name, version, SHA-256 of its wheel), in order of the names."""
    with tempfile.TemporaryDirectory() as room:
        words = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--dry-run", "--ignore-installed"]
        words += ["--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp", *(f"--platform={each}" for each in PLATFORMS)]
        subprocess.run([*words, f"--target={room}/none", f"--report={room}/report", *requirements], check=True)
        report = json.loads(Path(room, "report").read_text())
    found = (
        (re.sub(r"[-_.]+", "-", each["metadata"]["name"]).lower(), each["metadata"]["version"], each["download_info"]["archive_info"])
        for each in report["install"]
    )
    return sorted((name, version, archive["hashes"]["sha256"]) for name, version, archive in found)


def main() -> None:
    for gpu in (False, True) if "--gpu" in sys.argv else (False,):
        to = HERE / ("requirements-gpu.txt" if gpu else "requirements.txt")
        lines = [f"{name}=={version} --hash=sha256:{digest}\n" for name, version, digest in resolved(wanted(gpu=gpu))]
        to.write_text("# Made by lock.py: for CPython 3.13 on Debian 13, x86-64.\n" + "".join(lines))
        print(f"{to.name}: {len(lines)} packages")


if __name__ == "__main__":
    main()
