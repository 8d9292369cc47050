"""Other transports and other families than TCP, UDP and IP."""

import contextlib
import errno
import os
import pathlib
import socket
import struct

from driver import attack

from sockets.ways import DGRAM, LIBC, RAW, SEQPACKET, STREAM, check, exchange, sockaddr4, stream


@attack("mptcp")
def _(facts, token):
    return stream(facts["v4"], facts["port"], token, protocol=262)


@attack("sctp")
def _(facts, token):
    return stream(facts["v4"], facts["port"], token, protocol=132)


@attack("sctp-connectx")
def _(facts, token):
    name = sockaddr4(facts["v4"], facts["port"])
    with socket.socket(socket.AF_INET, STREAM, 132) as sock:
        check(LIBC.setsockopt(sock.fileno(), 132, 110, name, len(name)))  # SCTP_SOCKOPT_CONNECTX
        return exchange(sock, token)


@attack("dccp")
def _(facts, token):
    with socket.socket(socket.AF_INET, 6, 33) as sock:
        sock.settimeout(1)
        sock.connect((facts["v4"], facts["port"]))
        return exchange(sock, token)


@attack("udplite")
def _(facts, token):
    with socket.socket(socket.AF_INET, DGRAM, 136) as sock:
        sock.sendto(token, (facts["v4"], facts["port"]))
        return "out"


def opened(*arguments):
    """A family that carries nothing to the tests' servers: that it opens at all is the finding."""
    socket.socket(*arguments).close()
    return "out"


@attack("smc")
def _(facts, token):
    """It falls back to TCP where the other end is no SMC."""
    with socket.socket(43, STREAM) as sock:
        name = sockaddr4(facts["v4"], facts["port"])
        check(LIBC.connect(sock.fileno(), name, len(name)))
        return "out" if check(LIBC.send(sock.fileno(), token, len(token), 0)) else "closed"


@attack("rds")
def _(facts, token):
    return opened(21, SEQPACKET)


@attack("tipc")
def _(facts, token):
    return opened(30, STREAM)


@attack("raw-ip")
def _(facts, token):
    with socket.socket(socket.AF_INET, RAW, 253) as sock:
        sock.sendto(token, (facts["v4"], 0))
        return "out"


@attack("raw-header")
def _(facts, token):
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(token), 0, 0, 64, 253, 0, b"\0" * 4, socket.inet_aton(facts["v4"]))
    with socket.socket(socket.AF_INET, RAW, 255) as sock:
        sock.sendto(header + token, (facts["v4"], 0))
        return "out"


def checksum(data):
    words = struct.unpack(f"!{len(data) // 2}H", data + b"\0" * (len(data) % 2))
    total = sum(words)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def echo_request(token):
    data = token + b"." * (len(token) % 2)
    return struct.pack("!BBHHH", 8, 0, checksum(struct.pack("!BBHHH", 8, 0, 0, 1, 1) + data), 1, 1) + data


@attack("icmp")
def _(facts, token):
    with socket.socket(socket.AF_INET, RAW, socket.IPPROTO_ICMP) as sock:
        sock.sendto(echo_request(token), (facts["v4"], 0))
        return "out"


@attack("ping")
def _(facts, token):
    """Where nothing is enforced a group must be allowed to: the kernel's default is none, distributions open it to everyone."""
    groups = pathlib.Path("/proc/sys/net/ipv4/ping_group_range")
    if facts["phase"] == "control":
        before = groups.read_text()
        groups.write_text("0 0")
        try:
            return ping(facts, token)
        finally:
            groups.write_text(before)
    return ping(facts, token)


def ping(facts, token):
    with socket.socket(socket.AF_INET, DGRAM, socket.IPPROTO_ICMP) as sock:
        sock.sendto(echo_request(token), (facts["v4"], 0))
        return "out"


def frames(facts, token, options=()):
    """A broadcast frame on every device there is."""
    sent = "no device"
    for _, name in socket.if_nameindex():
        if name == "lo":
            continue
        with socket.socket(socket.AF_PACKET, RAW, 0) as sock, contextlib.suppress(OSError):  # a device may be down
            for option in options:
                sock.setsockopt(*option)
            sock.bind((name, 0x88B5))
            sock.send(b"\xff" * 6 + b"\x02" + b"\0" * 5 + b"\x88\xb5" + token.ljust(46))
            sent = "out"
    return sent


@attack("packet")
def _(facts, token):
    socket.socket(socket.AF_PACKET, RAW, 0).close()
    return frames(facts, token)


@attack("packet-bypass")
def _(facts, token):
    socket.socket(socket.AF_PACKET, RAW, 0).close()
    return frames(facts, token, [(263, 20, 1)])  # PACKET_QDISC_BYPASS


@attack("xdp")
def _(facts, token):
    return opened(44, RAW)


@attack("tun")
def _(facts, token):
    import fcntl

    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, 0x400454CA, struct.pack("16sH22x", b"stockade%d", 0x1002))  # TUNSETIFF: TAP, no packet information
    return "out"


@attack("vsock")
def _(facts, token):
    return opened(40, STREAM)


@attack("bluetooth")
def _(facts, token):
    return opened(31, RAW, 1)


@attack("alg")
def _(facts, token):
    return opened(38, SEQPACKET)


@attack("key")
def _(facts, token):
    return opened(15, RAW, 2)


@attack("netlink")
def _(facts, token):
    """Every protocol but ROUTE; the first that opens is told."""
    said = {}
    for protocol in range(1, 24):
        try:
            opened(socket.AF_NETLINK, RAW, protocol)
            return f"out: {protocol}"
        except OSError as error:
            said[protocol] = errno.errorcode[error.errno]
    return "/".join(sorted(set(said.values())))
