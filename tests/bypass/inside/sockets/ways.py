"""What the attacks speak through: an exchange with a server that would hear it, and calls past Python's own checks."""

import ctypes
import os
import socket
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
STREAM, DGRAM, RAW, SEQPACKET = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET


def check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def sockaddr4(address, port, family=socket.AF_INET):
    return struct.pack("=H", family) + struct.pack("!H4s8x", port, socket.inet_aton(address))


def exchange(sock, token):
    sock.sendall(token)
    return "out" if sock.recv(100) else "closed"


def stream(address, port, token, family=socket.AF_INET, protocol=0, options=()):
    with socket.socket(family, STREAM, protocol) as sock:
        sock.settimeout(1)
        for option in options:
            sock.setsockopt(*option)
        sock.connect(address if isinstance(address, tuple) else (address, port))
        return exchange(sock, token)


def datagram(address, port, token, family=socket.AF_INET):
    with socket.socket(family, DGRAM) as sock:
        sock.settimeout(1)
        sock.sendto(token, address if isinstance(address, tuple) else (address, port))
        return "out" if sock.recv(100) else "closed"
