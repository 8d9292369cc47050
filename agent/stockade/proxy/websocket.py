"""mitmproxy's WebSocket, held tighter: what a client puts into a ping, a pong or the reason for closing goes nowhere; messages are sized.

These frames pass beside every message: nobody reads them, counts them, or asks who sent them. So a ping goes on under a number of ours, and
its answer comes back with what the client had put in; a pong goes on as it is when the server asked for it, else empty, since some clients
keep a connection alive with nothing but these (RFC 6455, 5.5.3); of a close its code remains.

A message is kept until it is whole, with an entry for each of its fragments, empty ones too.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers.websocket import WebsocketConnection, WebsocketLayer
from wsproto.events import CloseConnection, Event, Message, Ping, Pong

OUTSTANDING = 64  # pings of either side that wait for an answer; who sends more is answered for the newest, as RFC 6455 (5.5.3) has it
ENTRY = 64  # octets that a fragment takes beside those in it


class Control:
    """The control frames of one connection."""

    def __init__(self) -> None:
        self._asked: OrderedDict[bytes, bytes] = OrderedDict()  # our number → what the client's ping carried
        self._heard: OrderedDict[bytes, None] = OrderedDict()  # what the server's pings carried
        self._number = 0

    def of_client(self, event: Event) -> Event:
        """What goes on to the server."""
        match event:
            case Ping(payload=payload):
                self._number = (self._number + 1) % 2**32
                number = self._number.to_bytes(4)
                _keep(self._asked, number, bytes(payload))
                return Ping(payload=number)
            case Pong(payload=payload):
                return event if self._heard.pop(bytes(payload), payload) is None else Pong(payload=b"")
            case CloseConnection():
                return dataclasses.replace(event, reason=None)
        return event

    def of_server(self, event: Event) -> Event:
        """What goes on to the client."""
        match event:
            case Ping(payload=payload):
                _keep(self._heard, bytes(payload), None)
            case Pong(payload=payload):
                asked = self._asked.pop(bytes(payload), None)
                return event if asked is None else Pong(payload=asked)
        return event


def _keep[T](waiting: OrderedDict[bytes, T], key: bytes, value: T) -> None:
    waiting[key] = value
    waiting.move_to_end(key)
    if len(waiting) > OUTSTANDING:
        waiting.popitem(last=False)


class Incoming:
    """The message that is still coming in from one side. Counted as it comes: its size is asked after every read."""

    def __init__(self, side: WebsocketConnection) -> None:
        self._side = side
        self.octets = self.fragments = 0

    def take(self, event: Event) -> None:
        if not isinstance(event, Message):
            return
        if event.message_finished:
            self.octets = self.fragments = 0
            return
        self.octets += len(event.data.encode() if isinstance(event.data, str) else event.data)
        if event.frame_finished:
            self.fragments += 1
            self.octets += ENTRY

    def forget(self) -> None:
        self._side.frame_buf[:] = [b""]
        self.octets = self.fragments = 0


class GovernedWebsocket(WebsocketLayer):
    """One WebSocket between two sides that take their control frames through Control."""

    incoming: tuple[Incoming, ...] = ()

    def start(self, event: events.Start) -> layer.CommandGenerator[None]:
        yield from super().start(event)
        control = Control()
        self.incoming = Incoming(self.client_ws), Incoming(self.server_ws)
        _through(self.client_ws, control.of_client, self.incoming[0])
        _through(self.server_ws, control.of_server, self.incoming[1])

    _handle_event = start


def _through(side: Any, each: Any, incoming: Incoming) -> None:
    said = side.events

    def events() -> Iterator[Event]:
        for event in said():
            incoming.take(event)
            yield each(event)

    side.events = events
