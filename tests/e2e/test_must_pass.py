"""False refusals: what honest clients and servers do must go through, whichever TLS version, key, chain or ALPN they like."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from framework.internet import ECHO, H1, LONG, MTLS, OTHER, RSA, STREAM, TLS12, Internet
from framework.machine import Machine
from framework.policy import bare, http, relay, whole

pytestmark = pytest.mark.client("curl")

SERVERS = (ECHO, H1, TLS12, RSA, LONG)
CLIENTS = {
    "as-it-comes": "",
    "http/1.1": "--http1.1",
    "only-h2-in-alpn": "--http2-prior-knowledge",
    "no-alpn": "--no-alpn",
    "tls-1.2": "--tls-max 1.2",
}


@pytest.mark.parametrize("client", CLIENTS)
def test_every_server_for_every_kind_of_client(machine: Machine, client: str) -> None:
    """One sandbox per client, all servers in it: the client's and the server's TLS and HTTP versions are independent of each other."""
    urls = " ".join(f"https://{server}/{client.replace('/', '-')}" for server in SERVERS)
    result = machine.run(f"curl -sS --fail {CLIENTS[client]} {urls}", policy=bare(http("curl", *SERVERS)))
    assert result.status == 0, result
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["server"] for answer in answers] == list(SERVERS)
    assert {answer["tls"] for answer in answers if answer["server"] == TLS12} == {"TLSv1.2"}
    assert {answer["protocol"] for answer in answers if answer["server"] == H1} == {"HTTP/1.1"}
    assert len(result.select(action="http", decision="allow", status=200)) == len(SERVERS)


def test_http2_is_spoken_to_the_client(machine: Machine) -> None:
    result = machine.run(f"curl -sS -o /dev/null -w %{{http_version}} --http2 https://{H1}/", policy=bare(http("curl", H1)))
    assert result.stdout == "2", result


def test_a_proxy_variable_of_the_caller_means_nothing(machine: Machine) -> None:
    """Neither to the client, whose environment does not have it, nor to the agent, which dials for itself."""
    dead = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    result = machine.run(f"curl -sS https://{ECHO}/ http://{ECHO}/", policy=bare(http("curl", ECHO)), env=dead)
    assert result.status == 0, result
    assert len(result.select(action="http", decision="allow", status=200)) == 2, result


def test_a_client_with_a_proxy_set_gets_an_answer_and_nothing_beyond_its_rules(machine: Machine, internet: Internet) -> None:
    """CONNECT through an allowed host is no way to another one."""
    before = len(internet.nginx.requests(server=OTHER))
    result = machine.run(
        f"curl -sS -m 10 -w %{{http_connect}} --proxy http://{ECHO}:80 https://{OTHER}/",
        policy=bare(http("curl", ECHO)),
    )
    assert result.status != 0
    assert result.stdout == "403", result
    assert result.select(action="http", decision="deny", host=ECHO, port=80), result
    assert len(internet.nginx.requests(server=OTHER)) == before


def test_mutual_tls_through_passthrough(machine: Machine, internet: Internet) -> None:
    files = {"client.pem": internet.client.chain.read_text(), "client.key": internet.client.key.read_text()}
    result = machine.run(
        f"curl -sS --cert client.pem --key client.key https://{MTLS}/",
        policy=bare(relay("curl", MTLS, tls="passthrough")),
        files=files,
    )
    assert result.status == 0, result
    assert json.loads(result.stdout)["certificate"] == "CN=client.web.test"
    assert result.select(action="connect", decision="allow", effect="relay", host=MTLS, port=443), result


def test_a_pinned_key_holds_through_passthrough_and_only_there(machine: Machine, internet: Internet) -> None:
    certificate = x509.load_pem_x509_certificate((internet.directory / f"certificates/{ECHO}.pem").read_bytes())
    spki = certificate.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    pin = base64.b64encode(hashlib.sha256(spki).digest()).decode()
    command = f"curl -sS --pinnedpubkey sha256//{pin} https://{ECHO}/"
    passed = machine.run(command, policy=bare(relay("curl", ECHO, tls="passthrough")))
    assert passed.status == 0, passed
    inspected = machine.run(command, policy=bare(http("curl", ECHO)))
    assert inspected.status == 90, inspected  # CURLE_SSL_PINNEDPUBKEYNOTMATCH: the sandbox's CA answered, as it must


@pytest.mark.client("/usr/bin/python3")
def test_websocket(machine: Machine, inside: dict[str, str]) -> None:
    result = machine.run(f"/usr/bin/python3 websocket.py {STREAM} /ws one two three", policy=bare(http("python3", STREAM)), files=inside)
    assert result.stdout.split() == ["101", "one", "two", "three"], result
    assert result.select(decision="allow", host=STREAM, path="/ws", status=101), result


@pytest.mark.client("/usr/bin/python3")
def test_server_sent_events_arrive_as_they_are_sent(machine: Machine, inside: dict[str, str]) -> None:
    result = machine.run(f"/usr/bin/python3 events.py {STREAM}", policy=bare(http("python3", STREAM)), files=inside)
    times = [float(line) for line in result.stdout.split()]
    assert len(times) == 5, result
    assert times[-1] - times[0] > 0.5, "held back until the end: five events, 0.2 s apart, came together"


def test_big_bodies_go_through_whole_both_ways(machine: Machine, internet: Internet) -> None:
    size = 64 << 20
    policy = whole(http("curl", STREAM, methods=["GET", "PUT"]), allow=["sh", "curl", "head"])
    script = (
        f"head -c {size} /dev/zero > big && curl -sS --fail -T big https://{STREAM}/up && "
        f"curl -sS --fail -o back -w %{{size_download}} https://{STREAM}/bytes/{size}"
    )
    result = machine.run(["sh", "-c", script], policy=policy, timeout=60)
    assert result.status == 0, result
    [upload] = [upload for upload in internet.stream.uploads if upload.path == "/up"]
    assert (upload.size, upload.sha256) == (size, hashlib.sha256(bytes(size)).hexdigest())
    assert result.stdout.endswith(str(size)), result
    [record] = result.select(action="http", method="GET", host=STREAM)
    assert record["http"]["response_bytes"] == size
