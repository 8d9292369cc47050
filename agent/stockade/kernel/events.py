"""Events from the kernel's ring buffer, decoded, and dropped packets explained by scapy.

libbpf reads the ring: its memory barriers are right on every architecture. Nothing here decides anything.
"""

from __future__ import annotations

import ctypes
import logging
import time
from collections.abc import Callable

from stockade.kernel.abi import Event
from stockade.types import StockadeError

log = logging.getLogger(__name__)

TURN = 256  # events in one turn of the loop: some milliseconds

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class Ring:
    """Calls `deliver` with each event, in order, from consume(). `descriptor` is readable when there is something to consume.

    lost: how many were not one (malformed), and how many `deliver` failed on (undelivered). Neither ends the reading. taken: how many the
    last consume() used up.
    """

    def __init__(self, map_fd: int, deliver: Callable[[Event], None]) -> None:
        try:
            self._lib = ctypes.CDLL("libbpf.so.1")
        except OSError:
            raise StockadeError("libbpf.so.1 is missing", hint="apt-get install libbpf1", code="no_libbpf") from None
        self._lib.ring_buffer__new.restype = ctypes.c_void_p
        self._lib.ring_buffer__new.argtypes = [ctypes.c_int, _CALLBACK, ctypes.c_void_p, ctypes.c_void_p]
        for name in ("ring_buffer__consume", "ring_buffer__epoll_fd", "ring_buffer__free"):
            getattr(self._lib, name).argtypes = [ctypes.c_void_p]
        self._deliver = deliver
        self.lost = {"malformed": 0, "undelivered": 0}
        self.taken = 0
        self._left = 0
        self._last = 0
        self._callback = _CALLBACK(self._received)  # kept: the library holds a bare pointer to it
        self._ring = self._lib.ring_buffer__new(map_fd, self._callback, None, None)
        if not self._ring:
            raise StockadeError("cannot map the event ring", code="no_ring")
        self.descriptor: int = self._lib.ring_buffer__epoll_fd(self._ring)

    def _received(self, _context: int | None, data: int, size: int) -> int:
        event: Event | None
        try:
            event = Event.decode(ctypes.string_at(data, size))
        except ValueError:
            event = None
            self.lost["malformed"] += 1
        self._left -= 1
        if event is not None:
            self._last = event.time
            try:
                self._deliver(event)
            except Exception:  # ctypes would print it and forget it
                log.exception("an event of the kernel's is not recorded")
                self.lost["undelivered"] += 1
        return -1 if self._left <= 0 else 0  # an event is used up all the same; the library goes on until the ring is empty otherwise

    def consume(self, limit: int = TURN) -> bool:
        """Deliver up to `limit` events; whether there may be more. A sandbox that floods the ring must not keep the loop from all else."""
        self._left = limit
        self._lib.ring_buffer__consume(self._ring)
        self.taken = limit - self._left
        return self._left <= 0

    def drain(self) -> None:
        """Deliver what was in the ring when this was called: an event of a later time ends it."""
        called = time.monotonic_ns()
        while self.consume() and self._last <= called:
            pass

    def close(self) -> None:
        if self._ring:
            self._lib.ring_buffer__free(self._ring)
            self._ring = None


def explain_packet(raw: bytes) -> str:
    """One line about a packet that begins with its IP header: `IP / UDP 198.18.0.1:4242 > 198.18.0.9:443 / Raw`.

    scapy takes up to half a second to import and reads bytes a sandbox chose: call it off the event loop.
    """
    logging.getLogger("scapy").setLevel(logging.ERROR)
    try:
        from scapy.layers.inet import IP
        from scapy.layers.inet6 import IPv6

        packet = IPv6(raw) if raw[:1] and raw[0] >> 4 == 6 else IP(raw)
        return str(packet.summary())
    except Exception as error:  # whatever a hostile packet does to a dissector is said, never raised
        return f"{len(raw)} bytes that scapy could not read ({type(error).__name__})"
