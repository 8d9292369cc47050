"""Client libraries from PyPI and npm, installed once per machine, where a sandbox can read them and not write.

The system's own interpreters run them, as they would an agent's. A library that cannot be had is a RuntimeError: the caller decides whether
that skips.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

_CACHE = Path("/var/cache/stockade-tests")
PYTHON = "/usr/bin/python3"
NODE = "node"


def python(*requirements: str) -> Path:
    """A directory for sys.path."""
    return _installed(PYTHON, requirements, [PYTHON, "-m", "pip", "install", "--quiet", "--no-compile", "--retries", "1", "--target", "."])


def node(*requirements: str) -> Path:
    """A directory with node_modules/ in it."""
    # engine-strict: a library that wants a newer Node.js than this is not there, rather than broken
    quiet = ["--loglevel=error", "--no-audit", "--no-fund", "--no-update-notifier"]
    return _installed(NODE, requirements, ["npm", "install", *quiet, "--engine-strict", "--ignore-scripts", "--prefix", "."])


def _installed(interpreter: str, requirements: tuple[str, ...], command: list[str]) -> Path:
    version = subprocess.run([interpreter, "--version"], capture_output=True, text=True, check=True).stdout
    found = _CACHE / hashlib.sha256(f"{version}{' '.join(requirements)}".encode()).hexdigest()[:16]
    if found.exists():
        return found
    _CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=_CACHE))
    try:
        done = subprocess.run([*command, *requirements], cwd=made, capture_output=True, text=True, timeout=300, umask=0o022)
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]} cannot install {' '.join(requirements)}: {done.stderr.strip()[-400:]}")
        made.chmod(0o755)
        if not found.exists():
            made.rename(found)  # whole, or not at all
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return found
