"""What the connect tests share: the names they dial, what the process inside runs to dial them, and what was said of it."""

from __future__ import annotations

from collections.abc import Callable

from kernel.box import Box
from kernel.wire import NETWORK
from stockade.kernel.abi import EventType, Verdict, Why

NAME = 0x1234  # index of a synthetic address
V4, V6 = str(NETWORK.v4.network_address + NAME), str(NETWORK.v6.network_address + NAME)
SPELLINGS = {"v4": V4, "v6": V6, "mapped": f"::ffff:{V4}"}
AGENT4, AGENT6 = str(NETWORK.agent4), str(NETWORK.agent6)

DIAL = """
kept = []

def dial(address, port, kind=socket.SOCK_STREAM, source=None):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    kept.append(s)
    s.settimeout(5)
    if source:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("", source))
    s.connect((address, port))
    return s

def peer(s):
    return s.getpeername()[:2]

def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()

def refused(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
"""

Verdicts = Callable[..., None]


def told(box: Box, kind: EventType = EventType.CONNECT) -> list[tuple[Verdict, Why]]:
    """Everything said since the last time, which must all be of one kind."""
    events = box.heard()
    assert {event.type for event in events} <= {kind}, events
    return [(event.verdict, event.why) for event in events]
