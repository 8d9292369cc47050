"""Who listens on a port, told from the kernel's own tables of this process's namespace."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from stockade.sandbox import listener
from stockade.sandbox.listener import holder_of, socket_of


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def listen(stack: ExitStack, address: str, port: int = 0) -> socket.socket:
    made = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind((address, port))
    made.listen()
    return made


def inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"])
def test_a_listener_is_found_on_every_spelling_of_loopback(stack: ExitStack, address: str) -> None:
    made = listen(stack, address)
    assert socket_of(made.getsockname()[1]) == inode(made)
    assert holder_of(inode(made), [1 << 30, os.getpid()]) == os.getpid()


def test_another_address_is_not_what_is_reached(stack: ExitStack) -> None:
    """Only the exact 127.0.0.1 is dialled."""
    assert socket_of(listen(stack, "127.9.9.9").getsockname()[1]) is None


def test_the_exact_address_comes_before_the_wildcard(stack: ExitStack) -> None:
    exact = stack.enter_context(socket.socket())
    wide = stack.enter_context(socket.socket())
    for made in (wide, exact):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    wide.bind(("0.0.0.0", 0))
    exact.bind(("127.0.0.1", wide.getsockname()[1]))
    for made in (wide, exact):
        made.listen()
    assert socket_of(wide.getsockname()[1]) == inode(exact)


def test_a_connection_on_the_port_is_no_listener(stack: ExitStack) -> None:
    made = listen(stack, "127.0.0.1")
    port = made.getsockname()[1]
    stack.enter_context(socket.create_connection(("127.0.0.1", port)))
    made.close()
    assert socket_of(port) is None


def test_a_search_has_an_end(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    made = listen(stack, "127.0.0.1")
    assert holder_of(inode(made), []) is None
    monkeypatch.setattr(listener, "LINKS", 0)
    assert holder_of(inode(made), [os.getpid()]) is None
