"""Datagrams, resolvers, and the sockets that a sandbox may make."""

from __future__ import annotations

import errno

import pytest

from kernel.box import Actor, Box
from kernel.dial import AGENT4, AGENT6, NAME, SPELLINGS, V4, V6, Verdicts, told
from kernel.wire import NETWORK, Wire
from stockade.kernel.abi import EventType, Verdict, Why

# UDP


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_udp_connect_is_silent_and_its_datagram_is_not(
    governed: Box, wire: Wire, inside: Actor, verdict: Verdicts, python: int, spelling: str
) -> None:
    """libc connects to every answer to sort them: no attempt. What is sent on goes nowhere, and is one decision on what was dialled."""
    verdict(Verdict.INSPECT)
    address = SPELLINGS[spelling]
    assert inside(f"s = dial({address!r}, 443, socket.SOCK_DGRAM); peer(s)") == (address, 443)
    assert governed.heard() == []
    dropped = governed.maps.failures()["dropped"]
    assert inside("refused(s.send, b'payload')") == errno.EPERM
    (event,) = governed.heard()
    assert (event.verdict, event.name, event.port, event.pid, event.identity, event.protocol) == (0, NAME, 443, inside.pid, python, 17)
    if spelling == "mapped":  # decided before there is a packet
        assert (event.type, event.why) == (EventType.DATAGRAM, Why.PROTOCOL)
    else:
        assert (event.type, event.why) == (EventType.PACKET, Why.PACKET)
        assert event.tail.endswith(b"payload")
        assert governed.maps.failures()["dropped"] == dropped + 1
    assert wire.silent()


DATAGRAMS = [
    (V4, 443, Why.PROTOCOL),
    (V6, 443, Why.PROTOCOL),
    (f"::ffff:{V4}", 443, Why.PROTOCOL),
    ("203.0.113.1", 443, Why.PROTOCOL),
    ("2001:db8::1", 123, Why.PROTOCOL),
    (AGENT4, 443, Why.AGENT_ADDRESS),
    (AGENT6, NETWORK.inspect_port, Why.AGENT_ADDRESS),
    (f"::ffff:{AGENT4}", NETWORK.relay_port, Why.AGENT_ADDRESS),
]


@pytest.mark.parametrize(("address", "port", "why"), DATAGRAMS)
def test_a_datagram_goes_nowhere(governed: Box, wire: Wire, inside: Actor, address: str, port: int, why: Why) -> None:
    family = "AF_INET6" if ":" in address else "AF_INET"
    inside(f"s = socket.socket(socket.{family}, socket.SOCK_DGRAM)")
    assert inside(f"refused(s.sendto, b'x', ({address!r}, {port}))") == errno.EPERM
    assert inside(f"refused(s.sendmsg, [b'x'], [], 0, ({address!r}, {port}))") == errno.EPERM
    assert told(governed, EventType.DATAGRAM) == [(Verdict.DENY, why)] * 2
    assert wire.silent()


def test_an_unspecified_family_is_v4(governed: Box, wire: Wire, inside: Actor) -> None:
    """udp_sendmsg takes AF_UNSPEC for AF_INET."""
    inside("""
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        where = struct.pack("=HH4s8x", 0, socket.htons(443), socket.inet_aton("203.0.113.1"))
        libc = ctypes.CDLL(None, use_errno=True)
        outcome = libc.sendto(s.fileno(), b"x", 1, 0, where, len(where)), ctypes.get_errno()
    """)
    assert inside("outcome") == (-1, errno.EPERM)
    assert told(governed, EventType.DATAGRAM) == [(Verdict.DENY, Why.PROTOCOL)]


def test_datagrams_inside_the_sandbox_pass(governed: Box, inside: Actor) -> None:
    for family, address in (("AF_INET", "127.0.0.1"), ("AF_INET6", "::1"), ("AF_INET", "0.0.0.0")):
        inside(
            f"a, b = (socket.socket(socket.{family}, socket.SOCK_DGRAM) for _ in 'ab'); a.bind(({address!r}, 0)); port = a.getsockname()[1]"
        )
        assert inside(f"b.sendto(b'hi', ({address!r}, port)); a.recv(9)") == b"hi"
        assert inside(f"b.connect(({address!r}, port)); b.send(b'hi'); a.recv(9)") == b"hi"
    assert governed.heard() == []


def test_fast_open_is_a_connect(governed: Box, wire: Wire, inside: Actor, verdict: Verdicts) -> None:
    """sendto(MSG_FASTOPEN) connects without connect()."""
    send = "refused(socket.socket().sendto, b'early', socket.MSG_FASTOPEN, ({!r}, 443))"
    assert inside(send.format("203.0.113.1")) == errno.EPERM
    assert inside(send.format(AGENT4)) == errno.EPERM
    verdict(Verdict.INSPECT)
    inside(f"s = socket.socket(); s.sendto(b'early', socket.MSG_FASTOPEN, ({V4!r}, 443))")
    arrival = wire.arrival()
    assert arrival.origin.name == NAME and arrival.connection.recv(9) == b"early"
    assert told(governed) == [(Verdict.DENY, Why.POLICY), (Verdict.DENY, Why.AGENT_ADDRESS), (Verdict.INSPECT, Why.POLICY)]


# names


RESOLVERS = [("8.8.8.8", "4"), ("2001:4860:4860::8888", "6"), ("::ffff:8.8.8.8", "4"), (AGENT4, "4"), (AGENT6, "6"), (V4, "4")]


@pytest.mark.parametrize("how", ["connect", "sendto"])
@pytest.mark.parametrize(("address", "family"), RESOLVERS)
def test_any_resolver_is_the_agents(governed: Box, wire: Wire, inside: Actor, python: int, how: str, address: str, family: str) -> None:
    """The query arrives, its asker is known by the source port until the socket is closed, and the answer comes from whom was asked."""
    inside(f"s = socket.socket(socket.{'AF_INET6' if ':' in address else 'AF_INET'}, socket.SOCK_DGRAM); s.settimeout(5)")
    inside(f"s.connect(({address!r}, 53)); s.send(b'query')" if how == "connect" else f"s.sendto(b'query', ({address!r}, 53))")
    query, peer = wire.datagram(f"resolve_udp{family}")
    assert query == b"query"
    asker = governed.maps.asker(governed.number, peer[1], int(family))
    assert asker is not None and (asker.identity, asker.pid) == (python, inside.pid)
    getattr(wire.sockets, f"resolve_udp{family}").sendto(b"answer", peer)
    assert inside("data, sender = s.recvfrom(99)[:2]; data, sender[:2]") == (b"answer", (address, 53))
    assert governed.heard() == [], "the query is what is decided, and the resolver records it"
    inside("s.close()")
    assert governed.maps.asker(governed.number, peer[1], int(family)) is None


@pytest.mark.parametrize(("address", "family"), RESOLVERS)
def test_any_resolver_over_tcp_too(governed: Box, wire: Wire, inside: Actor, python: int, address: str, family: str) -> None:
    assert inside(f"peer(dial({address!r}, 53))") == (address, 53)
    arrival = wire.arrival()
    assert arrival.listener == f"resolve_tcp{family}"
    origin = arrival.origin
    assert (origin.verdict, origin.identity, origin.pid) == (Verdict.RESOLVE, python, inside.pid)
    assert governed.heard() == []


def test_an_answer_from_a_peer_inside_keeps_its_sender(inside: Actor) -> None:
    inside("a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in 'ab'); a.bind(('127.0.0.1', 0)); b.bind(('127.0.0.1', 0))")
    inside("b.settimeout(5); b.sendto(b'query', ('8.8.8.8', 53)); a.sendto(b'forged', b.getsockname())")
    assert inside("b.recvfrom(99)[1] == a.getsockname()"), "a neighbour must not look like the resolver"


# sockets


@pytest.mark.parametrize(
    ("make", "kind", "protocol"),
    [
        ("socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP", 3, 1),
        ("socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6", 3, 58),
        ("socket.AF_INET, socket.SOCK_RAW, 255", 3, 255),
        ("socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP", 2, 1),
        ("socket.AF_INET, socket.SOCK_STREAM, 262", 1, 262),
        ("socket.AF_INET6, socket.SOCK_STREAM, 262", 1, 262),
        ("socket.AF_INET, socket.SOCK_DGRAM, 136", 2, 136),
    ],
    ids=["icmp", "icmpv6", "raw", "ping", "mptcp", "mptcp6", "udplite"],
)
def test_only_tcp_and_udp_sockets(governed: Box, inside: Actor, make: str, kind: int, protocol: int) -> None:
    """Root in the sandbox, and still: what is neither TCP nor UDP meets no connect hook, or hides one connection in another."""
    inside("open('/proc/sys/net/ipv4/ping_group_range', 'w').write('0 0')")  # of this namespace: who may ping without a raw socket
    error = inside(f"refused(socket.socket, {make})")
    if error == errno.EPROTONOSUPPORT:
        pytest.skip("this kernel has no such socket")
    assert error == errno.EPERM
    (event,) = governed.heard()
    assert (event.type, event.verdict, event.why) == (EventType.SOCKET, Verdict.DENY, Why.PROTOCOL)
    assert (event.port, event.protocol) == (kind, protocol)


@pytest.mark.parametrize(
    "make", ["AF_INET, socket.SOCK_STREAM", "AF_INET6, socket.SOCK_STREAM, 6", "AF_INET, socket.SOCK_DGRAM, 17", "AF_UNIX"]
)
def test_ordinary_sockets_pass(governed: Box, inside: Actor, make: str) -> None:
    assert inside(f"refused(socket.socket, socket.{make})") is None
    assert governed.heard() == []
