"""Datagrams, by every call that sends one, and sockets whose connection is dissolved or opened with data."""

import ctypes
import select
import socket
import struct

from driver import attack

from sockets.ways import DGRAM, LIBC, STREAM, check, datagram, exchange, sockaddr4, stream


@attack("udp-sendto")
def _(facts, token):
    return datagram(facts["v4"], facts["port"], token)


@attack("udp6-sendto")
def _(facts, token):
    return datagram(facts["v6"], facts["port"], token, socket.AF_INET6)


@attack("udp-sendmsg")
def _(facts, token):
    with socket.socket(socket.AF_INET, DGRAM) as sock:
        sock.settimeout(1)
        sock.sendmsg([token], [], 0, (facts["v4"], facts["port"]))
        return "out" if sock.recv(100) else "closed"


class Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class Message(ctypes.Structure):
    _fields_ = (
        *(("name", ctypes.c_char_p), ("name_length", ctypes.c_uint), ("iov", ctypes.POINTER(Iovec)), ("iov_length", ctypes.c_size_t)),
        *(("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t), ("flags", ctypes.c_int), ("sent", ctypes.c_uint)),
    )


@attack("udp-sendmmsg")
def _(facts, token):
    name = sockaddr4(facts["v4"], facts["port"])
    part = Iovec(token, len(token))
    two = (Message * 2)(*(Message(name, len(name), ctypes.pointer(part), 1, None, 0, 0, 0) for _ in range(2)))
    with socket.socket(socket.AF_INET, DGRAM) as sock:
        sock.settimeout(1)
        check(LIBC.sendmmsg(sock.fileno(), two, 2, 0))
        return "out" if sock.recv(100) else "closed"


@attack("udp-connected")
def _(facts, token):
    with socket.socket(socket.AF_INET, DGRAM) as sock:
        sock.settimeout(1)
        sock.connect((facts["v4"], facts["port"]))
        sock.send(token)
        return "out" if sock.recv(100) else "closed"


def raw_sendto(family, name, token, kind=DGRAM, flags=0):
    with socket.socket(family, kind) as sock:
        sock.settimeout(1)
        check(LIBC.sendto(sock.fileno(), token, len(token), flags, name, len(name)))
        return "out" if sock.recv(100) else "closed"


@attack("udp-unspec")
def _(facts, token):
    return raw_sendto(socket.AF_INET, sockaddr4(facts["v4"], facts["port"], socket.AF_UNSPEC), token)


@attack("udp6-given-v4")
def _(facts, token):
    return raw_sendto(socket.AF_INET6, sockaddr4(facts["v4"], facts["port"]), token)


def dissolve(sock):
    unspecified = struct.pack("=H14x", socket.AF_UNSPEC)
    check(LIBC.connect(sock.fileno(), unspecified, len(unspecified)))


@attack("dissolve-tcp")
def _(facts, token):
    """To a server that is allowed, then the same socket to one that is not."""
    with socket.socket(socket.AF_INET, STREAM) as sock:
        sock.settimeout(1)
        sock.connect(socket.getaddrinfo(facts["echo"], 80, socket.AF_INET, STREAM)[0][4])
        dissolve(sock)
        sock.connect((facts["v4"], facts["port"]))
        return exchange(sock, token)


@attack("dissolve-udp")
def _(facts, token):
    with socket.socket(socket.AF_INET, DGRAM) as sock:
        sock.settimeout(1)
        sock.connect(("127.0.0.1", 9))
        dissolve(sock)
        sock.connect((facts["v4"], facts["port"]))
        sock.send(token)
        return "out" if sock.recv(100) else "closed"


@attack("fastopen-sendto")
def _(facts, token):
    with socket.socket(socket.AF_INET, STREAM) as sock:
        sock.settimeout(1)
        try:
            sock.sendto(token, socket.MSG_FASTOPEN, (facts["v4"], facts["port"]))
        except BlockingIOError:
            select.select([], [sock], [], 3)
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                sock.send(token)
        return "out" if sock.recv(100) else "closed"


@attack("fastopen-connect")
def _(facts, token):
    return stream(facts["v4"], facts["port"], token, options=[(socket.IPPROTO_TCP, 30, 1)])
