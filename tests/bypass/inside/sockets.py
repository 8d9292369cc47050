"""Runs inside and outside alike: ways to a server that take no other program, through sockets and the kernel."""

import contextlib
import ctypes
import errno
import os
import pathlib
import select
import socket
import struct
import subprocess

from driver import attack

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


# connect, in every spelling of an address


@attack("connect-v4")
def _(facts, token):
    return stream(facts["v4"], facts["port"], token)


@attack("connect-v6")
def _(facts, token):
    return stream(facts["v6"], facts["port"], token, socket.AF_INET6)


@attack("v4-mapped")
def _(facts, token):
    return stream("::ffff:" + facts["v4"], facts["port"], token, socket.AF_INET6)


@attack("v4-compatible")
def _(facts, token):
    return stream("::" + facts["v4"], facts["port"], token, socket.AF_INET6)


def embedded(facts, form):
    high, low = struct.unpack("!HH", socket.inet_aton(facts["v4"]))
    return form.format(high=high, low=low)


@attack("six-to-four")
def _(facts, token):
    return stream(embedded(facts, "2002:{high:x}:{low:x}::1"), facts["port"], token, socket.AF_INET6)


@attack("nat64")
def _(facts, token):
    return stream(embedded(facts, "64:ff9b::{high:x}:{low:x}"), facts["port"], token, socket.AF_INET6)


@attack("teredo")
def _(facts, token):
    return stream(embedded(facts, "2001:0:{high:x}:{low:x}::1"), facts["port"], token, socket.AF_INET6)


@attack("zone-id")
def _(facts, token):
    said = []
    for index, _ in socket.if_nameindex():
        try:
            said.append(stream((facts["link_local"], facts["port"], 0, index), 0, token, socket.AF_INET6))
        except OSError as error:
            said.append(errno.errorcode[error.errno] if error.errno else "silence")
    return "out" if "out" in said else said[-1]


# datagrams


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


# other transports and families


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


# io_uring, races, lengths: the calls that libc and Python do not make


def program(facts, mode, token):
    words = [facts["attack"], mode, facts["v4"], str(facts["port"]), token.decode()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=15 * facts["patience"])
    return done.stdout.strip() or f"ended with {done.returncode}"


for mode in ("uring-connect", "uring-send", "race-sockaddr", "race-msghdr", "storm", "leaderless"):
    attack(mode)(lambda facts, token, mode=mode: program(facts, mode, token))


@attack("exec-then-connect")
def _(facts, token):
    """A hundred programs whose first act is a connect."""
    said = {program(facts, "connect", token) for _ in range(100)}
    return "out" if "out" in said else "/".join(sorted(said))


def connect_raw(name, length, token):
    with socket.socket(socket.AF_INET, STREAM) as sock:
        check(LIBC.connect(sock.fileno(), name, length))
        sock.settimeout(1)
        return exchange(sock, token)


@attack("length-zero")
def _(facts, token):
    return connect_raw(sockaddr4(facts["v4"], facts["port"]), 0, token)


@attack("length-short")
def _(facts, token):
    return connect_raw(sockaddr4(facts["v4"], facts["port"]), 8, token)


@attack("length-long")
def _(facts, token):
    return connect_raw(sockaddr4(facts["v4"], facts["port"]).ljust(128, b"\0"), 128, token)


@attack("length-huge")
def _(facts, token):
    return connect_raw(sockaddr4(facts["v4"], facts["port"]).ljust(4096, b"\0"), 4096, token)


@attack("port-zero")
def _(facts, token):
    return stream(facts["v4"], 0, token)


# unix sockets of the host


def unix(path, token):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(1)
        sock.connect(path)
        return exchange(sock, token)


@attack("unix-abstract")
def _(facts, token):
    return unix("\0" + facts["abstract"], token)


@attack("unix-named")
def _(facts, token):
    return unix(facts["named"]["docker.sock"], token)


@attack("unix-dbus")
def _(facts, token):
    return unix(facts["named"]["bus"], token)


@attack("unix-ssh-agent")
def _(facts, token):
    return unix(facts["named"]["agent"], token)


@attack("unix-symlink")
def _(facts, token):
    link = pathlib.Path(f"link-{facts['phase']}")
    link.symlink_to(facts["named"]["docker.sock"])
    return unix(str(link), token)


@attack("unix-relative")
def _(facts, token):
    return unix("../" * 12 + facts["named"]["docker.sock"].lstrip("/"), token)


# options


@attack("so-mark")
def _(facts, token):
    with socket.socket(socket.AF_INET, STREAM) as sock:
        sock.settimeout(1)
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1)
        sock.connect((facts["v4"], facts["port"]))
        return exchange(sock, token)


@attack("bind-to-device")
def _(facts, token):
    with socket.socket(socket.AF_INET, STREAM) as sock:
        sock.settimeout(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, facts["device"].encode() if facts["phase"] == "control" else b"lo")
        sock.connect((facts["v4"], facts["port"]))
        return exchange(sock, token)


@attack("ip-transparent")
def _(facts, token):
    with socket.socket(socket.AF_INET, STREAM) as sock:
        sock.settimeout(1)
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_IP, 19, 1)
        sock.connect((facts["v4"], facts["port"]))
        return exchange(sock, token)


@attack("ip-options")
def _(facts, token):
    """A loose source route over the server itself."""
    route = struct.pack("!BBBB4s", 1, 131, 7, 4, socket.inet_aton(facts["v4"]))
    with socket.socket(socket.AF_INET, DGRAM) as sock:
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_IP, socket.IP_OPTIONS, route)
        sock.sendto(token, (facts["v4"], facts["port"]))
        return "out"


@attack("listen")
def _(facts, token):
    """The outside calls in, and is told."""
    with socket.create_server(("0.0.0.0", facts["called"])) as listener:
        listener.settimeout(1.5)
        caller, _ = listener.accept()
        caller.sendall(token)
        return "out"


@attack("simultaneous-open")
def _(facts, token):
    """From the port that the outside calls, to the outside."""
    with socket.socket(socket.AF_INET, STREAM) as sock:
        sock.settimeout(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("0.0.0.0", facts["called"]))
        sock.connect((facts["v4"], facts["port"]))
        return exchange(sock, token)


@attack("half-close")
def _(facts, token):
    """A request whose sender has closed his half before it is judged."""
    with socket.socket(socket.AF_INET, STREAM) as sock:
        sock.settimeout(5 * facts["patience"])
        sock.connect(socket.getaddrinfo(facts["echo"], 80, socket.AF_INET, STREAM)[0][4])
        sock.sendall(b"GET /%s HTTP/1.0\r\nHost: %s\r\n\r\n" % (token, facts["echo"].encode()))
        sock.shutdown(socket.SHUT_WR)
        answer = sock.recv(4096)
        return "out" if b" 200 " in answer.split(b"\r\n")[0] else answer.split(b"\r\n")[0].decode() or "closed"


@attack("reuse-port")
def _(facts, token):
    """The agent's own ports, taken beside it on every spelling of here."""
    said = set()
    for address in ("0.0.0.0", "::", *facts["agent"]):
        for port in facts["agent_ports"]:
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, STREAM) as sock:
                for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                    sock.setsockopt(socket.SOL_SOCKET, option, 1)
                try:
                    sock.bind((address, port))
                    said.add("out")
                except OSError as error:
                    said.add(errno.errorcode[error.errno])
    return "out" if "out" in said else "/".join(sorted(said))


# sockets that another one connected


def allowed_connection(facts):
    sock = socket.create_connection((facts["echo"], 80), 5 * facts["patience"])
    sock.settimeout(None)
    os.set_inheritable(sock.fileno(), True)
    return sock


def request(facts, token):
    return b"GET /open/%s HTTP/1.0\r\nHost: %s\r\n\r\n" % (token, facts["echo"].encode())


@attack("inherited-socket")
def _(facts, token):
    """Connected by a binary with a rule, written to by one without, after fork and exec."""
    with allowed_connection(facts) as sock:
        words = [facts["other"], "-c", f'printf "$1" >&{sock.fileno()}; head -n1 <&{sock.fileno()}', "sh", request(facts, token).decode()]
        done = subprocess.run(words, capture_output=True, text=True, pass_fds=[sock.fileno()], timeout=10 * facts["patience"])
        return "out" if " 200 " in done.stdout else done.stdout.strip() or done.stderr.strip() or "closed"


@attack("handed-socket")
def _(facts, token):
    """Over SCM_RIGHTS, to a program that has no rule."""
    ours, theirs = socket.socketpair()
    words = [facts["speaker"], "speak", "-", "0", request(facts, token).decode()]
    with subprocess.Popen(words, stdin=theirs, stdout=subprocess.PIPE, text=True) as speaker, allowed_connection(facts) as sock:
        socket.send_fds(ours, [b"1"], [sock.fileno()])
        answer = speaker.communicate(timeout=10 * facts["patience"])[0].splitlines()
    return "out" if answer and " 200 " in answer[0] else answer[0] if answer else "closed"


@attack("descriptor-left-open")
def _(facts, token):
    """What the caller of the sandbox had open, found by number."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 (no Path)
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as sock:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                sock.settimeout(1)
                return exchange(sock, token)
    return "none open"
