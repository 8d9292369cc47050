"""The one descriptor between the agent and a worker: frames with a length in front, listening sockets beside them as SCM_RIGHTS.

Owns framing, ordering and the end of the channel. It does not know what is inside a frame: the agent sends pickled tuples to the worker,
which trusts it; the worker sends JSON, which `codec` checks. End of file is told exactly once, and nothing is delivered after it.
"""

from __future__ import annotations

import array
import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence

from stockade.descriptors import receive

HEADER = struct.Struct("!I")
FRAME_BYTES = 64 * 1024 * 1024  # a policy with its dictionaries is the largest thing that is ever sent
CHUNK = 256 * 1024
DESCRIPTORS = 16


class Channel:
    """One end of the socketpair, on the running loop. received(frame) and lost() are called from the loop."""

    def __init__(
        self, sock: socket.socket, *, received: Callable[[bytes], None], lost: Callable[[], None], limit: int = FRAME_BYTES
    ) -> None:
        self._sock = sock
        self._received, self._lost, self._limit = received, lost, limit
        self._loop = asyncio.get_running_loop()
        self._inbound = bytearray()
        self._outbound: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._descriptors: deque[int] = deque()
        self._closed = False
        self._drained = asyncio.Event()
        self._drained.set()
        sock.setblocking(False)
        self._loop.add_reader(sock, self._read)

    def send(self, frame: bytes, descriptors: Sequence[int] = ()) -> None:
        """Queue one frame; descriptors travel with its first byte. Silent after the end: the loss was told already."""
        if self._closed:
            return
        idle = not self._outbound
        self._outbound.append((memoryview(HEADER.pack(len(frame)) + frame), descriptors))
        if idle:
            self._write()

    async def drain(self) -> None:
        """Until all that was queued is in the kernel."""
        await self._drained.wait()

    def take_descriptors(self, count: int) -> list[int]:
        """The oldest received descriptors. Raises ValueError when fewer came."""
        if len(self._descriptors) < count:
            raise ValueError(f"{count} descriptors expected, {len(self._descriptors)} received")
        return [self._descriptors.popleft() for _ in range(count)]

    def close(self) -> None:
        """Idempotent; does not call lost()."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._outbound.clear()
            self._drained.set()
            self._sock.close()

    def _end(self) -> None:
        if not self._closed:
            self.close()
            self._lost()

    def _write(self) -> None:
        while self._outbound:
            data, descriptors = self._outbound[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
            try:
                sent = self._sock.sendmsg([data], rights)
            except BlockingIOError:
                self._drained.clear()
                self._loop.add_writer(self._sock, self._write)
                return
            except OSError:
                self._end()
                return
            if sent < len(data):
                self._outbound[0] = (data[sent:], ())  # the descriptors went with the first byte
            else:
                self._outbound.popleft()
        self._drained.set()
        self._loop.remove_writer(self._sock)

    def _read(self) -> None:
        try:
            data, received = receive(self._sock, CHUNK, DESCRIPTORS)
        except BlockingIOError:
            return
        except OSError:
            data, received = b"", []
        self._descriptors += received
        if not data:
            self._end()
            return
        self._inbound += data
        while not self._closed and len(self._inbound) >= HEADER.size:
            (size,) = HEADER.unpack_from(self._inbound)
            if size > self._limit:
                self._end()
                return
            if len(self._inbound) < HEADER.size + size:
                return
            frame = bytes(self._inbound[HEADER.size : HEADER.size + size])
            del self._inbound[: HEADER.size + size]
            self._received(frame)
