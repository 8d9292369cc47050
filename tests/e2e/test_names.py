"""Names: glibc and musl, search lists, other record types, TCP, reverse look-ups. A name is an address, or it is nothing, at once."""

from __future__ import annotations

import ipaddress

import pytest

from framework.internet import ECHO, OTHER
from framework.machine import Machine
from framework.policy import bare, http, whole
from framework.programs import Programs

SYNTHETIC = [ipaddress.ip_network("198.18.0.0/15"), ipaddress.ip_network("fd57:a11d::/64")]
LIBCS = [
    pytest.param("gcc", (), marks=pytest.mark.client("gcc"), id="glibc"),
    pytest.param("musl-gcc", ("-static",), marks=pytest.mark.client("musl-gcc"), id="musl"),
]

# resolv.conf is Stockade's; a program may still ask for search lists of its own, as kubernetes does with ndots:5
SEARCH = (("LOCALDOMAIN", "svc.cluster.local cluster.local"), ("RES_OPTIONS", "ndots:5"))


@pytest.mark.parametrize(("compiler", "flags"), LIBCS)
def test_both_families_are_answered_and_a_denied_name_is_unknown_at_once(
    machine: Machine, programs: Programs, compiler: str, flags: tuple[str, ...]
) -> None:
    """AI_ADDRCONFIG asks for both: lo has an address of each family. A denied name costs no time-out in either libc."""
    program = programs.c(f"resolve-{compiler}", compiler, *flags, source="resolve")
    result = machine.run([program, ECHO, OTHER, f"{ECHO}."], policy=bare(http(str(program), ECHO)))
    allowed, denied, rooted = (line.split() for line in result.stdout.splitlines())
    for name, milliseconds, *addresses in (allowed, rooted):
        found = [ipaddress.ip_address(address) for address in addresses]
        assert {address.version for address in found} == {4, 6}, (name, result)
        assert all(any(address in network for network in SYNTHETIC) for address in found), result
        assert int(milliseconds) < 2000, result
    assert denied[2:] == ["EAI_NONAME"] and int(denied[1]) < 2000, result
    assert result.select(action="dns", decision="allow", host=ECHO, rule=f"{program.name}-echo"), result
    assert result.select(action="dns", decision="deny", host=OTHER), result


@pytest.mark.parametrize(("compiler", "flags"), LIBCS)
def test_search_lists_end_at_the_name_itself(machine: Machine, programs: Programs, compiler: str, flags: tuple[str, ...]) -> None:
    """ndots:5 tries every suffix first: each is NXDOMAIN at once, and the name as written is found."""
    program = programs.c(f"resolve-{compiler}", compiler, *flags, source="resolve")
    policy = whole(http(str(program), ECHO), allow=[str(program)], process={"env": dict(SEARCH)})
    result = machine.run([program, ECHO], policy=policy)
    name, milliseconds, *addresses = result.stdout.split()
    assert name == ECHO and addresses and int(milliseconds) < 2000, result
    if compiler == "gcc":  # musl reads neither variable
        assert result.select(action="dns", decision="deny", host=f"{ECHO}.svc.cluster.local"), result


QUERIES = """
import socket, struct, sys
def query(name, kind):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    return bytes.fromhex("1234010000010000000000 00") + labels + struct.pack(">BHH", 0, kind, 1)
def told(data):
    flags, _, answers = struct.unpack(">HHH", data[2:8])
    return f"rcode={flags & 15} answers={answers}"
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.settimeout(5); udp.connect(("192.0.2.1", 53))
for kind in (65, 64, 16, 15, 28, 1):
    udp.send(query(sys.argv[1], kind)); print("udp", kind, told(udp.recv(4096)))
tcp = socket.create_connection(("192.0.2.53", 53), 5)
for name in sys.argv[1:3]:
    wire = query(name, 1); tcp.sendall(struct.pack(">H", len(wire)) + wire)
    size, = struct.unpack(">H", tcp.recv(2, socket.MSG_WAITALL)); print("tcp", told(tcp.recv(size, socket.MSG_WAITALL)))
for info in socket.getaddrinfo(sys.argv[1], 443, type=socket.SOCK_STREAM):
    print("ptr", socket.getnameinfo(info[4], socket.NI_NAMEREQD)[0])
print("local", sorted({info[4][0] for info in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)}))
"""


@pytest.mark.client("/usr/bin/python3")
def test_other_types_tcp_reverse_and_localhost(machine: Machine) -> None:
    """HTTPS and SVCB would tell a client of addresses and keys beside the name: they are NODATA. TCP 53 meets the same resolver."""
    result = machine.run(["/usr/bin/python3", "-c", QUERIES, ECHO, OTHER], policy=bare(http("python3", ECHO)))
    assert result.stdout.splitlines() == [
        *(f"udp {kind} rcode=0 answers=0" for kind in (65, 64, 16, 15)),
        *(f"udp {kind} rcode=0 answers=1" for kind in (28, 1)),
        "tcp rcode=0 answers=1",
        "tcp rcode=3 answers=0",
        f"ptr {ECHO}",
        f"ptr {ECHO}",
        "local ['127.0.0.1', '::1']",
    ], result
    assert len(result.select(action="dns", reason="record_type", host=ECHO)) == 4, result
    assert result.select(action="dns", decision="deny", host=OTHER, binary="python3"), result
