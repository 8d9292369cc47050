"""mitmproxy's WebSocket, held tighter: what a client puts into a ping, a pong or the reason for closing goes nowhere.

These frames pass beside every message: nobody reads them, counts them, or asks who sent them. So a ping goes on under a number of ours, and
its answer comes back with what the client had put in; a pong goes on when the server asked for it; of a close its code remains.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers.websocket import WebsocketLayer
from wsproto.events import CloseConnection, Event, Ping, Pong

OUTSTANDING = 64  # pings of either side that wait for an answer; who sends more is answered for the newest, as RFC 6455 (5.5.3) has it


class Control:
    """The control frames of one connection."""

    def __init__(self) -> None:
        self._asked: OrderedDict[bytes, bytes] = OrderedDict()  # our number → what the client's ping carried
        self._heard: OrderedDict[bytes, None] = OrderedDict()  # what the server's pings carried
        self._number = 0

    def of_client(self, event: Event) -> Event | None:
        """What goes on to the server; None: nothing."""
        match event:
            case Ping(payload=payload):
                self._number = (self._number + 1) % 2**32
                number = self._number.to_bytes(4)
                _keep(self._asked, number, bytes(payload))
                return Ping(payload=number)
            case Pong(payload=payload):
                return event if self._heard.pop(bytes(payload), payload) is None else None
            case CloseConnection():
                return dataclasses.replace(event, reason=None)
        return event

    def of_server(self, event: Event) -> Event | None:
        """What goes on to the client; None: nothing."""
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


class GovernedWebsocket(WebsocketLayer):
    """One WebSocket between two sides that take their control frames through Control."""

    def start(self, event: events.Start) -> layer.CommandGenerator[None]:
        yield from super().start(event)
        control = Control()
        _through(self.client_ws, control.of_client)
        _through(self.server_ws, control.of_server)

    _handle_event = start


def _through(side: Any, each: Any) -> None:
    said = side.events

    def events() -> Iterator[Event]:
        return (crossing for event in said() if (crossing := each(event)) is not None)

    side.events = events
