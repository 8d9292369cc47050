"""The agent's own image, as deploy/docker/build.sh makes it of this checkout: for a node that is to run it.

The lower layer, of Debian and the wheels, takes a minute or two where none is kept for what it is made of; Stockade's own takes seconds.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from framework.kubernetes.cluster import Cluster

ROOT = Path(__file__).parents[3]
CACHE = Path("/var/cache/stockade-tests/image")
NAME = "docker.io/local/stockade:1"


def build(to: Path) -> Path:
    """The tar; its SBOM is beside it. Raises RuntimeError with what the build said."""
    words = ["nice", str(ROOT / "deploy/docker/build.sh"), "--to", str(to), "--cache", str(CACHE), "--name", NAME]
    python = {"PYTHON": str(ROOT / ".venv/bin/python")}
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=os.environ | python, check=False)
    if done.returncode:
        raise RuntimeError(f"the image could not be built:\n{done.stderr[-2000:]}")
    return Path(done.stdout.splitlines()[-1])


def load(cluster: Cluster) -> str:
    """Build it and give it to the node, once: pods name it, and must not want to pull it."""
    there = cluster.host("ctr", "-a", cluster.room / "containerd.sock", "-n", "k8s.io", "images", "ls", "-q").stdout.split()
    if NAME in there:
        return NAME
    tar = build(cluster.room / "image")
    try:
        cluster.load(tar)
    finally:
        tar.unlink()
    return NAME
