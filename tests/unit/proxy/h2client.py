"""A small HTTP/2 client that says exactly what it is told to, for requests that no library would send."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import h2.config
import h2.connection
import h2.events


class H2Client:
    """Over streams that are already open; `ask` one request, or `open` several at once."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        config = h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.status: dict[int, int] = {}
        self.body: dict[int, bytes] = defaultdict(bytes)
        self.over: set[int] = set()
        self.gone = False
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def open(self, method: str, authority: str, path: str, *extra: tuple[str, str], end: bool = True) -> int:
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path), *extra]
        self.h2.send_headers(stream, fields, end_stream=end)
        self.flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        self.h2.send_data(stream, data, end_stream=end)
        self.flush()

    async def read(self) -> bool:
        """Take in what came; False at the end of the connection."""
        data = await self.reader.read(65536)
        if not data:
            self.gone = True
            return False
        for event in self.h2.receive_data(data):
            match event:
                case h2.events.ResponseReceived():
                    self.status[event.stream_id] = int(dict(event.headers)[":status"])
                case h2.events.DataReceived():
                    self.body[event.stream_id] += event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded() | h2.events.StreamReset():
                    self.over.add(event.stream_id)
                case h2.events.ConnectionTerminated():
                    self.gone = True
        self.flush()
        return not self.gone

    async def answer(self, stream: int) -> tuple[int, bytes]:
        async with asyncio.timeout(10):
            while stream not in self.over and await self.read():
                pass
        return self.status.get(stream, 0), self.body[stream]

    async def ask(self, method: str, authority: str, path: str, *extra: tuple[str, str]) -> tuple[int, bytes]:
        return await self.answer(self.open(method, authority, path, *extra))
