"""Listening sockets that are kept for the next worker: they listen meanwhile, and cost one descriptor."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.service.parked import Parked


@contextlib.contextmanager
def parked(count: int) -> Iterator[tuple[Parked, list[int]]]:
    """Listening sockets, parked, and their ports."""
    made = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in made]
    kept = Parked(made)
    try:
        assert [sock.fileno() for sock in made] == [-1] * count
        yield kept, ports
    finally:
        kept.close()
        kept.close()


@pytest.fixture(autouse=True)
def collected() -> None:
    """What tests before this one left to the collector holds descriptors that would be closed in the middle of it."""
    gc.collect()


def opened() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_who_connects_meanwhile_is_served_by_the_next() -> None:
    before = opened()
    with parked(4) as (kept, ports):
        assert opened() == before + 1
        for _ in range(2):
            with contextlib.ExitStack() as stack:
                waiting = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for port in ports]
                for copy, client in zip(kept.copies(), waiting, strict=True):
                    stack.enter_context(copy)
                    accepted, peer = copy.accept()
                    stack.enter_context(accepted)
                    assert peer == client.getsockname()
            assert opened() == before + 1
    assert opened() == before
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 10)


def test_without_a_descriptor_left_there_are_none_and_nothing_leaks() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with parked(4) as (kept, _):
        before = opened()
        spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(32)]  # the limit is on the highest number: the holes below it are filled
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare) + 3, hard))
            with pytest.raises(OSError, match="Too many open files"):
                kept.copies()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in spare:
                os.close(descriptor)
        assert opened() == before
        for sock in kept.copies():
            sock.close()
