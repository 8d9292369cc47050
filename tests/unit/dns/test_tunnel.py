"""Nothing that is asked leaves: the interpreter itself is asked which sockets and files were used while a name was answered."""

from __future__ import annotations

import base64
import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from unit.dns.samples import World

# Events of sys.audit (PEP 578): sockets, files, programs. A hook cannot be taken out again, so there is one, and it mostly sleeps.
OUTWARD = ("socket.", "open", "subprocess.", "os.exec", "os.posix_spawn", "os.system", "ctypes.dlopen")
_heard: list[str] | None = None
_listening = 0  # the thread that is heard: servers of other tests may run beside it


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _heard is not None and threading.get_ident() == _listening and event.startswith(OUTWARD):
        _heard.append(f"{event} {arguments!r:.80}")


sys.addaudithook(_hear)


@contextmanager
def heard() -> Iterator[list[str]]:
    global _heard, _listening
    _heard, _listening = [], threading.get_ident()
    try:
        yield _heard
    finally:
        _heard = None


def label() -> str:
    return base64.b32encode(secrets.token_bytes(35)).decode().rstrip("=").lower()


@pytest.mark.parametrize("kind", ["A", "AAAA", "TXT", "NULL", "CNAME", "MX", "HTTPS", "ANY"])
@pytest.mark.parametrize("below", ["repo.test", "evil.example"])
def test_no_label_leaves_the_resolver(below: str, kind: str) -> None:
    world = World(quota=50)
    world.ask(f"first.{below}", kind)  # whatever is imported on first use
    with heard() as outward:
        for _ in range(20):
            world.ask(f"{label()}.{label()}.{below}", kind)
    assert outward == []
    assert len(world.records) == 21


def test_the_ear_hears() -> None:
    with heard() as outward, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", 9))
    assert [event.split()[0] for event in outward] == ["socket.__new__", "socket.connect"]
