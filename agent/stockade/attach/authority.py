"""The authority of what was attached to, for the agent that comes after this one: programs in there have read its root, and keep to it.

A file of root's for each container or pod, gone with it; what cannot be read is no authority, and it gets a new one.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import logging
import os
import stat
import time
from pathlib import Path

from stockade.proxy import Authority, Signing

log = logging.getLogger(__name__)

_FORMAT = 1


def keep(path: Path, authority: Authority) -> None:
    """Whole or not at all; without it another root comes with the next agent."""
    said = {
        "format": _FORMAT,
        "name": authority.name,
        "certificate": _text(authority.certificate_pem),
        "root_key": _text(authority.root_key) if authority.root_key is not None else None,
        "signing": {
            field.name: _text(value) if isinstance(value := getattr(authority.signing, field.name), bytes) else value
            for field in dataclasses.fields(authority.signing)
        },
    }
    new = path.with_suffix(".new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "w") as file:  # noqa: PTH123 (a descriptor)
            json.dump(said, file)
        new.rename(path)
    except OSError as error:
        log.error("%s: the authority is not kept for the next agent: %s", authority.name, error)


def kept(path: Path, name: str) -> Authority | None:
    """Of a pod that is called so still, and while its key signs for a while yet."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        with open(descriptor) as file:  # noqa: PTH123 (a descriptor)
            about = os.fstat(descriptor)
            if about.st_uid != 0 or about.st_mode & 0o077 or not stat.S_ISREG(about.st_mode):
                raise ValueError("it is not root's alone")
            said = json.load(file)
            signing = said["signing"]
            made = Signing(
                _octets(signing["certificate_pem"]),
                _octets(signing["key"]),
                _octets(signing["above_pem"]),
                float(signing["made"]),
                float(signing["until"]),
            )
            root_key = _octets(said["root_key"]) if said["root_key"] is not None else None
            found = Authority(str(said["name"]), _octets(said["certificate"]), made, root_key)
            if said["format"] != _FORMAT or found.name != name:
                raise ValueError("it is another's")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        log.error("%s is not what an agent wrote: %s", path, error)
        return None
    return found if made.until > time.time() else None


def forget(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def _octets(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
