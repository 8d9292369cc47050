"""Refusals, each with what was seen inside, what the server saw (nothing), and its record."""

from __future__ import annotations

import errno
import json
import signal

import pytest

from framework.internet import ECHO, OTHER, RAW, RAW_PORT, Internet
from framework.machine import Machine, Result
from framework.policy import bare, http, whole
from stockade.kernel.backend import Backend, chosen

pytestmark = pytest.mark.client("curl")

STATUS = "-o body -w %{http_code}"


def refused(result: Result, machine_body: str, **expected: str) -> None:
    """A 403 that an agent can act on, and the same facts on record."""
    assert result.stdout == "403", result
    body = json.loads(machine_body)
    assert {"error", "level", "rule", "reason", "host", "method", "path", "binary", "hint"} <= body.keys()
    assert expected.items() <= body.items(), body
    assert result.select(action="http", decision="deny", effect="refuse", **expected), result


def test_by_method(machine: Machine, internet: Internet) -> None:
    room = machine.room()
    result = machine.run(f"curl -sS {STATUS} -d secret https://{ECHO}/by-method", policy=bare(http("curl", ECHO)), room=room)
    refused(
        result,
        (room / "work/body").read_text(),
        level="method",
        reason="no_rule",
        host=ECHO,
        method="POST",
        path="/by-method",
        binary="curl",
    )
    assert internet.nginx.requests(path="/by-method") == []


def test_get_does_not_imply_head(machine: Machine, internet: Internet) -> None:
    result = machine.run(f"curl -sS -I -o body -w %{{http_code}} https://{ECHO}/head", policy=bare(http("curl", ECHO)))
    assert result.stdout == "403", result
    assert result.select(action="http", decision="deny", level="method", method="HEAD"), result
    assert internet.nginx.requests(path="/head") == []


def test_by_path(machine: Machine, internet: Internet) -> None:
    room = machine.room()
    policy = bare(http("curl", ECHO, paths=["/open/*"]))
    result = machine.run(f"curl -sS {STATUS} https://{ECHO}/by-path", policy=policy, room=room)
    refused(
        result, (room / "work/body").read_text(), level="path", reason="no_rule", host=ECHO, method="GET", path="/by-path", binary="curl"
    )
    assert internet.nginx.requests(path="/by-path") == []


@pytest.mark.parametrize(
    "disguise", ["/open/../by-dots", "/open/%2e%2e/by-dots", "/open/..%2fby-dots", "/open/%252e%252e/by-dots", "//by-dots"]
)
def test_by_path_in_disguise(machine: Machine, internet: Internet, disguise: str) -> None:
    policy = bare(http("curl", ECHO, paths=["/open/*"]))
    result = machine.run(f"curl -sS --path-as-is {STATUS} https://{ECHO}{disguise}", policy=policy)
    assert result.stdout in ("403", "400"), result
    assert result.select(action="http", decision="deny"), result
    assert not [seen for seen in internet.nginx.requests(server=ECHO) if "by-dots" in seen["path"]]


def test_by_a_deny_list_whatever_else_allows(machine: Machine) -> None:
    closed = http("curl", ECHO, name="closed")
    closed["path"]["deny"] = ["/admin/*"]
    policy = bare(closed, http("curl", ECHO, name="open"))
    result = machine.run(f"curl -sS {STATUS} https://{ECHO}/admin/users/7", policy=policy)
    assert result.stdout == "403", result
    assert result.select(action="http", decision="deny", level="path", reason="rule_deny", rule="closed"), result


def test_by_host(machine: Machine, internet: Internet) -> None:
    result = machine.run(f"curl -sS https://{OTHER}/by-host", policy=bare(http("curl", ECHO)))
    assert result.status == 6, result  # CURLE_COULDNT_RESOLVE_HOST
    assert result.select(action="dns", decision="deny", level="destination", reason="no_rule", host=OTHER, binary="curl"), result
    assert internet.nginx.requests(path="/by-host") == []


def test_by_host_behind_an_allowed_name(machine: Machine, internet: Internet) -> None:
    """SNI and Host must be the name that was dialled."""
    script = f"curl -sS {STATUS} -H 'Host: {OTHER}' https://{ECHO}/by-header; curl -sS -k --connect-to {OTHER}:443:{ECHO}:443 https://{OTHER}/by-sni"
    policy = whole(http("curl", ECHO), allow=["sh", "curl"])
    result = machine.run(["sh", "-c", script], policy=policy)
    assert result.stdout.startswith("403"), result
    assert result.select(action="http", decision="deny", reason="host_mismatch"), result
    assert result.select(decision="deny", reason="sni_mismatch"), result
    assert internet.nginx.requests(path="/by-header") == []
    assert internet.nginx.requests(path="/by-sni") == []


@pytest.mark.client("/usr/bin/python3")
def test_by_binary(machine: Machine, internet: Internet) -> None:
    """python3 may run and has no rule: the name does not resolve for it. curl's own rule stays curl's."""
    policy = whole(http("curl", ECHO), allow=["python3", "sh", "curl"])
    code = f"import socket; socket.getaddrinfo('{ECHO}', 443)"
    result = machine.run(["/usr/bin/python3", "-c", code], policy=policy)
    assert "gaierror" in result.stderr, result
    assert result.select(action="dns", decision="deny", level="binary", reason="no_rule", host=ECHO, binary="python3"), result


@pytest.mark.client("/usr/bin/python3")
def test_by_binary_with_another_ones_address(machine: Machine, internet: Internet, inside: dict[str, str]) -> None:
    """curl learns the synthetic address; python3 connects to it and is still python3."""
    policy = whole(http("curl", ECHO), allow=["python3", "sh", "curl"])
    script = (
        f"address=$(curl -sS -4 -o /dev/null -w '%{{remote_ip}}' https://{ECHO}/learn) && echo $address && "
        "/usr/bin/python3 attempt.py tcp,$address,443 tcp,$address,80"
    )
    result = machine.run(["sh", "-c", script], policy=policy, files=inside)
    address, said = result.stdout.splitlines()
    assert address.startswith("198.18."), result
    assert set(json.loads(said).values()) == {"EPERM"}, result
    denied = result.select(action="connect", decision="deny", level="binary", host=ECHO, binary="python3")
    assert sorted(record["destination"]["port"] for record in denied) == [80, 443], result


@pytest.mark.client("/usr/bin/python3")
def test_by_raw_address_tcp_udp_and_ipv6(machine: Machine, internet: Internet, inside: dict[str, str]) -> None:
    """A rule names a host; its address, dialled by number, is nobody's."""
    both = internet.hosts[RAW]
    attempts = [f"{kind},{address},{RAW_PORT}" for kind in ("tcp", "udp", "fastopen", "udp-connected") for address in (both.v4, both.v6)]
    attempts += [
        f"tcp,{address},443" for address in (internet.hosts[ECHO].v4, internet.hosts[ECHO].v6, f"::ffff:{internet.hosts[ECHO].v4}")
    ]
    policy = bare(http("python3", ECHO, RAW))
    before = len(internet.raw.connections), len(internet.raw.received)
    result = machine.run(["/usr/bin/python3", "attempt.py", *attempts], policy=policy, files=inside)
    said = json.loads(result.stdout)
    assert not {"answered", "closed", "silence"} & set(said.values()), result
    assert {said[word] for word in attempts if word.startswith("tcp")} == {"EPERM"}, said
    assert (len(internet.raw.connections), len(internet.raw.received)) == before
    for address, port in ((both.v4, RAW_PORT), (both.v6, RAW_PORT), (internet.hosts[ECHO].v4, 443), (internet.hosts[ECHO].v6, 443)):
        assert result.select(action="connect", decision="deny", level="destination", address=address, port=port, binary="python3"), result


@pytest.mark.client("/usr/bin/python3")
def test_udp_to_an_allowed_name(machine: Machine, inside: dict[str, str]) -> None:
    """A rule is TCP. The datagram (QUIC, here) is refused at once, so that clients fall back."""
    policy = whole(http(["curl", "python3"], ECHO), allow=["python3", "sh", "curl"])
    script = (
        f"address=$(curl -sS -4 -o /dev/null -w '%{{remote_ip}}' https://{ECHO}/learn) && "
        "/usr/bin/python3 attempt.py udp,$address,443 udp-connected,$address,443"
    )
    result = machine.run(["sh", "-c", script], policy=policy, files=inside)
    assert set(json.loads(result.stdout).values()) == {"EPERM"}, result
    denied = result.select(action="connect", decision="deny", host=ECHO, port=443, binary="python3")
    # A connected datagram meets no hook but the last net: libc probes every answer with a connect(), so that one has to pass.
    assert [record["reason"] for record in denied] == ["protocol_refused", "protocol_refused"], result


@pytest.mark.client("/usr/bin/python3")
def test_a_port_that_no_rule_has(machine: Machine, inside: dict[str, str]) -> None:
    code = f"import socket; socket.create_connection(('{ECHO}', 8443), 5)"
    result = machine.run(["/usr/bin/python3", "-c", code], policy=bare(http("python3", ECHO)))
    assert "Operation not permitted" in result.stderr, result
    assert result.select(action="connect", decision="deny", level="destination", host=ECHO, port=8443), result


@pytest.mark.client("/usr/bin/python3")
def test_by_hard_coded_resolver(machine: Machine, inside: dict[str, str]) -> None:
    """Any port 53 is the agent's resolver: a tunnel to another one ends there."""
    code = (
        "import socket\n"
        "query = bytes.fromhex('abcd01000001000000000000') + b'\\x06secret\\x05other\\x04test\\x00\\x00\\x01\\x00\\x01'\n"
        "for address, family in (('192.0.2.53', socket.AF_INET), ('2001:db8::53', socket.AF_INET6)):\n"
        "    sock = socket.socket(family, socket.SOCK_DGRAM); sock.settimeout(5)\n"
        "    sock.sendto(query, (address, 53))\n"
        "    data, peer = sock.recvfrom(512)\n"
        "    print(data[:2].hex(), data[3] & 15, peer[0])\n"
    )
    result = machine.run(["/usr/bin/python3", "-c", code], policy=bare(http("python3", ECHO)))
    assert result.stdout.splitlines() == ["abcd 3 192.0.2.53", "abcd 3 2001:db8::53"], result  # 3: NXDOMAIN
    assert len(result.select(action="dns", decision="deny", host="secret.other.test", binary="python3")) == 2, result


def test_an_unlisted_binary_does_not_run(machine: Machine) -> None:
    policy = whole(http("curl", ECHO), allow=["sh", "curl"])
    result = machine.run(["sh", "-c", "/usr/bin/id; echo went on"], policy=policy)
    assert "uid=" not in result.stdout, result
    assert "went on" in result.stdout, result
    assert result.select(action="exec", decision="deny", level="exec", reason="exec_unlisted", binary_path="/usr/bin/id"), result


def test_a_copy_of_an_allowed_binary_does_not_run(machine: Machine) -> None:
    """What the sandbox can write is mounted noexec: the kernel refuses before there is anything to decide."""
    policy = whole(http("curl", ECHO), allow=["sh", "curl", "cp"])
    result = machine.run(["sh", "-c", f"cp /usr/bin/curl ./curl; ./curl -sS https://{ECHO}/copied; echo went on"], policy=policy)
    assert result.stdout == "went on\n", result
    assert "Permission denied" in result.stderr, result
    [refused] = result.select(binary="curl")
    assert (refused["action"], refused["reason"], refused["binary"]["path"]) == ("exec", "exec_refused", "./curl"), result


def test_where_writable_files_may_run_a_copy_is_still_no_curl(machine: Machine) -> None:
    policy = whole(http("curl", ECHO), allow=["sh", "curl", "cp"], exec={"writable": True})
    result = machine.run(["sh", "-c", f"cp /usr/bin/curl ./curl; ./curl -sS https://{ECHO}/copied; echo went on"], policy=policy)
    assert result.stdout == "went on\n", result
    assert result.select(action="exec", decision="deny", level="exec"), result


@pytest.mark.client("/usr/bin/python3")
def test_an_anonymous_executable_does_not_run(machine: Machine) -> None:
    """memfd_create and fexecve: no path leads to it, no mount option covers it. Without exec.writable there is none."""
    code = (
        "import os\n"
        "fd = os.memfd_create('x')\n"
        "os.write(fd, open('/usr/bin/id', 'rb').read())\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    try:\n"
        "        os.execve(fd, ['id'], {})\n"
        "    except OSError as error:\n"
        "        os._exit(error.errno)\n"
        "print('ended with', os.waitpid(child, 0)[1])\n"
    )
    policy = whole(http("python3", ECHO), allow=["python3"], exec={"writable": True})
    result = machine.run(["/usr/bin/python3", "-c", code], policy=policy)
    assert "uid=" not in result.stdout, result
    ended = errno.EPERM << 8 if chosen() is Backend.LSM else signal.SIGKILL
    assert f"ended with {ended}" in result.stdout.splitlines(), result
    assert result.select(action="exec", decision="deny", level="exec", reason="exec_anonymous"), result
    result = machine.run(["/usr/bin/python3", "-c", code], policy=bare(http("python3", ECHO)))
    assert result.stdout == "" and "Operation not permitted" in result.stderr, result


@pytest.mark.client("/usr/bin/python3", "pip")
def test_a_package_below_home_is_no_part_of_pip(machine: Machine) -> None:
    """A .pth file in the user's site-packages runs in every Python program: pip is not started where that could be."""
    script = (
        "mkdir -p $HOME/.local/lib/python3.11/site-packages $HOME/.local/lib/python3.13/site-packages; "
        "for d in $HOME/.local/lib/*/site-packages; do echo 'import os; os.write(1, b\"foreign code\\n\")' >$d/evil.pth; done; "
        "pip --version; unset PYTHONNOUSERSITE; pip --version; PYTHONNOUSERSITE= pip --version; ./twice; echo done"
    )
    twice = (
        "import ctypes, os\n"
        "words = lambda *a: (ctypes.c_char_p * (len(a) + 1))(*a, None)\n"
        "ctypes.CDLL(None).execve(b'/usr/bin/pip', words(b'pip', b'--version'),\n"
        "    words(b'HOME=' + os.environb[b'HOME'], b'PYTHONNOUSERSITE=', b'PYTHONNOUSERSITE=1'))\n"
    )
    script = script.replace("./twice", "/usr/bin/python3 twice.py")
    policy = whole(http("pip", ECHO), allow=["sh", "mkdir", "pip", "python3"])
    result = machine.run(["sh", "-c", script], policy=policy, files={"twice.py": twice})
    assert "foreign code" not in result.stdout and result.stdout.count("(python ") == 1 and "done" in result.stdout, result
    refused = result.select(action="exec", decision="deny", reason="loader_variable", binary="pip")
    assert [record["detail"]["variable"] for record in refused] == ["PYTHONNOUSERSITE is not set"] * 3, result


def test_observe_never_lifts_the_metadata_address_and_says_that_it_was_refused(machine: Machine) -> None:
    command = f"curl -sS {STATUS} http://169.254.169.254/latest/meta-data/"
    result = machine.run(command, policy=bare(http("curl", ECHO)), options=["--observe"])
    assert result.stdout.startswith("403"), result
    [record] = result.select(action="http", host="169.254.169.254")
    assert (record["effect"], record["enforced"], record["reason"]) == ("refuse", True, "address_refused"), result


def test_observe_records_what_it_would_have_refused(machine: Machine, internet: Internet) -> None:
    result = machine.run(f"curl -sS {STATUS} -d text https://{ECHO}/observed", policy=bare(http("curl", ECHO)), options=["--observe"])
    assert result.stdout == "200", result
    [record] = result.select(action="http", decision="deny", method="POST", path="/observed")
    assert record["enforced"] is False
    assert len(internet.nginx.requests(path="/observed")) == 1
