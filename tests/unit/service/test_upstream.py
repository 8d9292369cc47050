"""Where a name leads: the system's own resolver against a name server that lies, in namespaces of the test's own."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest

from stockade.policy import load
from stockade.service.upstream import resolve
from stockade.types import Binary

POLICY = """\
- name: web
  binary: {allow: [curl]}
  destination: {allow: ["*.example.com", exact.example.com, named.example.com], deny: [203.0.113.0/24]}
  method: {allow: [GET]}
  path: {allow: [/**]}
- name: corp
  binary: {allow: [curl]}
  destination: {allow: ["*.corp.example.com"], addresses: [10.1.0.0/16]}
  method: {allow: [GET]}
  path: {allow: [/**]}
- name: others
  binary: {allow: [git]}
  destination: {allow: ["*.example.com"]}
  method: {allow: [GET]}
  path: {allow: [/**]}
"""

# What the name server says: addresses, or another name.
ZONE = {
    "good.example.com": ["198.51.100.7", "2001:db8::7"],
    "private.example.com": ["10.0.0.1"],
    "exact.example.com": ["10.0.0.1"],
    "own.example.com": ["192.0.2.1", "2001:db8::1"],
    "named.example.com": ["192.0.2.1", "2001:db8::1"],
    "second.example.com": ["192.0.2.130"],
    "mapped-own.example.com": ["::ffff:192.0.2.130"],
    "beside.example.com": ["192.0.2.131"],
    "here.example.com": ["127.0.0.1", "::1"],
    "zero.example.com": ["0.0.0.0", "::"],
    "mapped.example.com": ["::ffff:169.254.169.254"],
    "nat64.example.com": ["64:ff9b::7f00:1"],
    "metadata.example.com": ["169.254.169.254"],
    "agent.example.com": ["198.18.0.1"],
    "mixed.example.com": ["169.254.169.254", "198.51.100.7", "127.0.0.1"],
    "many.example.com": [f"198.51.100.{number}" for number in range(20)],
    "denied.example.com": ["203.0.113.9"],
    "chain.example.com": "a.elsewhere.test",
    "a.elsewhere.test": "b.elsewhere.test",
    "b.elsewhere.test": ["169.254.169.254"],
    "alias.example.com": "exact.example.com",
    "cdn.example.com": "edge.elsewhere.test",
    "edge.elsewhere.test": ["198.51.100.9"],
    "loop.example.com": "loop.example.com",
    "db.corp.example.com": ["10.1.2.3"],
    "other.corp.example.com": ["10.2.2.3"],
}

LEADS = {
    "good.example.com": (["198.51.100.7", "2001:db8::7"], None),
    "private.example.com": ([], "10.0.0.1 is private 10.0.0.0/8"),
    "exact.example.com": (["10.0.0.1"], None),
    "own.example.com": ([], "192.0.2.1 is this machine's own 192.0.2.1, 2001:db8::1 is this machine's own 2001:db8::1"),
    "named.example.com": (["192.0.2.1", "2001:db8::1"], None),
    "second.example.com": ([], "192.0.2.130 is this machine's own 192.0.2.130"),
    "mapped-own.example.com": ([], f"::ffff:192.0.2.130 is this machine's own {ipaddress.ip_address('::ffff:192.0.2.130')}"),
    "beside.example.com": (["192.0.2.131"], None),
    "here.example.com": ([], "127.0.0.1 is loopback 127.0.0.0/8, ::1 is loopback ::1"),
    "zero.example.com": ([], "0.0.0.0 is unspecified 0.0.0.0, :: is unspecified ::"),
    "mapped.example.com": ([], "::ffff:169.254.169.254 is metadata 169.254.169.254"),
    "nat64.example.com": ([], "64:ff9b::7f00:1 is loopback 127.0.0.0/8"),
    "metadata.example.com": ([], "169.254.169.254 is metadata 169.254.169.254"),
    "agent.example.com": ([], "198.18.0.1 is agent 198.18.0.0/15"),
    "mixed.example.com": (["198.51.100.7"], None),
    "many.example.com": ([f"198.51.100.{number}" for number in range(20)], None),
    "denied.example.com": ([], "203.0.113.9 is denied 203.0.113.0/24"),
    "chain.example.com": ([], "169.254.169.254 is metadata 169.254.169.254"),
    "alias.example.com": ([], "10.0.0.1 is private 10.0.0.0/8"),  # what leads there by an alias is not named exactly
    "cdn.example.com": (["198.51.100.9"], None),
    "loop.example.com": ([], None),
    "nothing.example.com": ([], None),
    "db.corp.example.com": (["10.1.2.3"], None),
    "other.corp.example.com": ([], "10.2.2.3 is private 10.0.0.0/8"),
}


def answer(query: dns.message.Message) -> dns.message.Message:
    reply = dns.message.make_response(query, recursion_available=True)
    (question,) = query.question
    name, kind = question.name.to_text(omit_final_dot=True).lower(), question.rdtype.name
    while (found := ZONE.get(name)) is not None:
        if isinstance(found, str):
            reply.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "CNAME", f"{found}."))
            if found == name:
                break
            name = found
            continue
        addresses = [address for address in found if (":" in address) is (kind == "AAAA")]
        if kind in ("A", "AAAA") and addresses:
            reply.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", kind, *addresses))
        break
    else:
        reply.set_rcode(dns.rcode.NXDOMAIN)
    return reply


def serve() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.53", 53))
    while True:
        data, peer = sock.recvfrom(4096)
        sock.sendto(answer(dns.message.from_wire(data)).to_wire(), peer)


def inside(directory: Path) -> None:
    """In the namespaces: names → [addresses in order, refused], as JSON."""
    threading.Thread(target=serve, daemon=True).start()
    policy = load([directory / "policy.yaml"])
    asked = [("curl", name) for name in LEADS] + [("git", "exact.example.com"), ("git", "good.example.com")]
    found = {f"{who} {name}": asyncio.run(resolve(name, 443, policy, Binary.named(who))) for who, name in asked}
    print(json.dumps({question: [resolved.addresses, resolved.refused] for question, resolved in found.items()}))


@pytest.fixture(scope="module")
def led(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[str], str | None]]:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("a name server of the test's own needs root and unshare")
    directory = tmp_path_factory.mktemp("upstream")
    (directory / "policy.yaml").write_text(POLICY)
    (directory / "resolv.conf").write_text("nameserver 127.0.0.53\noptions timeout:2 attempts:2\n")
    (directory / "nsswitch.conf").write_text("hosts: dns\n")
    script = (
        "ip link set lo up && ip address add 192.0.2.1/32 dev lo && ip -6 address add 2001:db8::1/128 dev lo && "  # for AI_ADDRCONFIG
        "ip link add wire type veth peer name far && ip link set wire up && ip link set far up && "
        "ip address add 192.0.2.129/25 dev wire && ip address add 192.0.2.130/25 dev wire && "  # dialled from the first
        "echo 1 > /proc/sys/net/ipv4/ip_nonlocal_bind && "  # any address can be bound to
        f"mount --bind {directory}/resolv.conf /etc/resolv.conf && mount --bind {directory}/nsswitch.conf /etc/nsswitch.conf && "
        'exec "$@"'
    )
    command = ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-ec", script, "sh"]
    run = subprocess.run([*command, sys.executable, __file__, str(directory)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return {name: (addresses, refused) for name, (addresses, refused) in json.loads(run.stdout).items()}


@pytest.mark.parametrize("name", LEADS)
def test_where_a_name_leads(led: dict[str, tuple[list[str], str | None]], name: str) -> None:
    """The address at the end of every alias is what counts, and one bad address among good ones is not dialled."""
    (addresses, refused), (expected, why) = led[f"curl {name}"], LEADS[name]
    assert sorted(addresses) == sorted(expected)
    assert sorted((refused or "").split(", ")) == sorted((why or "").split(", "))  # in the order of the resolver


def test_what_one_binary_names_exactly_opens_nothing_to_another(led: dict[str, tuple[list[str], str | None]]) -> None:
    assert led["git exact.example.com"] == ([], "10.0.0.1 is private 10.0.0.0/8")
    assert sorted(led["git good.example.com"][0]) == sorted(LEADS["good.example.com"][0])


if __name__ == "__main__":
    inside(Path(sys.argv[1]))
