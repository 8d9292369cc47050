"""The version of a detector that is code: a digest of the code and the tables that it is made of. Nobody has to remember to raise it."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

HERE = Path(__file__).parent
_BESIDE = ("classify.py", "context.py", "dictionary.py", "views.py", "finding.py")  # what every detector's findings go through


@functools.cache
def of_code(package: str) -> str:
    """Of a package beside this module, and of what its findings go through."""
    paths = [HERE / name for name in _BESIDE]
    paths += [path for path in sorted((HERE / package).rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    digest = hashlib.sha256()
    for path in paths:
        data = path.read_bytes()
        digest.update(f"{path.relative_to(HERE)}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:12]
