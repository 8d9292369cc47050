"""syslog as a real rsyslogd understands it: over UDP, TCP and TLS, in every format, whatever a record holds."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from pathlib import Path

import pytest

from framework.ca import Authority, pem
from stockade.audit import Trail
from stockade.audit.formats import BY_NAME, line
from stockade.audit.sinks.cursor import Position
from stockade.audit.sinks.deliver import Delivery
from stockade.audit.sinks.process import deliver
from stockade.settings.sinks import Batch, Tls
from stockade.settings.sinks import Sink as Rules
from unit.audit.samples import BOX, connect
from unit.audit.samples import request as http_request
from unit.audit.sinks.conftest import Rsyslog, until


def rules(rsyslog: Rsyslog, transport: str, **more: object) -> Rules:
    about = {"host": "localhost", "port": getattr(rsyslog, transport), "batch": Batch(records=10, wait=0.02), "tls": Tls(rsyslog.ca)} | more
    return Rules("syslog", "siem", transport=transport, **about)  # type: ignore[arg-type]


def run(path: Path, wanted: Rules, drain: float = 20) -> Delivery:
    ((delivery, thread),) = deliver(path, [wanted], Position())
    delivery.stop(drain)
    thread.join(60)
    return delivery


@pytest.fixture
def trail(path: Path) -> Path:
    found = Trail.open(path)
    for number in range(24):
        found.append(BOX, connect(f"host{number}.example\n<0>1 - - - - - injected\x1b[2J"))
    found.append(BOX, http_request("/long/" + "x" * 20_000))
    found.close()
    return path


def records(path: Path) -> list[dict[str, object]]:
    return [one for one in map(json.loads, path.read_bytes().splitlines()) if "checkpoint" not in one]


@pytest.mark.parametrize("form", BY_NAME)
@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_rsyslog_reads_each_record_as_one_message(rsyslog: Rsyslog, trail: Path, transport: str, form: str) -> None:
    delivery = run(trail, rules(rsyslog, transport, format=form, facility="local3"))
    assert (delivery.sent, delivery.lost, delivery.failing) == (25, 0, "")
    until(lambda: len(rsyslog.news()) == 25, f"{len(rsyslog.news())} of 25")
    got, wanted = rsyslog.news(), records(trail)
    texts = trail.read_text().splitlines()[:25] if form == "json" else [line(form, record).decode() for record in wanted]
    assert [one["text"] for one in got] == texts, "in native JSON as it stands in the trail"
    assert {(one["version"], one["app"], one["data"]) for one in got} == {("1", "stockade", "-")}
    assert [one["id"] for one in got] == ["connect"] * 24 + ["http"]
    assert [one["pri"] for one in got] == [str(19 * 8 + 5)] * 24 + [str(19 * 8 + 6)], "a refusal is a notice"
    assert [one["time"].replace("+00:00", "Z") for one in got] == [record["time"] for record in wanted]


def test_a_record_that_no_datagram_holds_is_given_up_and_counted(rsyslog: Rsyslog, path: Path) -> None:
    trail = Trail.open(path)
    for name in ("/a", "/" + "x" * 70_000, "/b"):
        trail.append(BOX, http_request(name))
    trail.close()
    delivery = run(path, rules(rsyslog, "udp"))
    assert (delivery.sent, delivery.lost) == (2, 1)
    until(lambda: len(rsyslog.news()) == 2, "the other two")
    assert [json.loads(one["text"])["http"]["path"] for one in rsyslog.news()] == ["/a", "/b"]


def test_what_waited_while_rsyslog_was_away_comes_in_order(rsyslog: Rsyslog, trail: Path) -> None:
    rsyslog.stop()
    away = run(trail, rules(rsyslog, "tcp"), drain=0.3)
    assert (away.sent, away.lost) == (0, 0) and away.failing
    rsyslog.start()
    assert run(trail, rules(rsyslog, "tcp")).sent == 25
    until(lambda: len(rsyslog.news()) == 25, "all of it")
    assert [json.loads(one["text"])["seq"] for one in rsyslog.news()] == list(range(1, 26))


def test_a_receiver_that_nobody_vouches_for_gets_nothing(rsyslog: Rsyslog, trail: Path, tmp_path: Path) -> None:
    delivery = run(trail, rules(rsyslog, "tls", tls=Tls()), drain=0.3)  # not by the system's certificates
    assert delivery.sent == 0 and "certificate verify failed" in delivery.failing
    delivery = run(trail, rules(rsyslog, "tls", host="127.0.0.1"), drain=0.3)  # nor under another name
    assert delivery.sent == 0 and "IP address mismatch" in delivery.failing
    assert rsyslog.news() == []


def test_a_receiver_that_asks_for_a_certificate_gets_ours(rsyslog: Rsyslog, trail: Path, tmp_path: Path) -> None:
    ca = Authority.root()
    server, client = ca.issue(tmp_path, "localhost"), ca.issue(tmp_path, "agent", client=True)
    (tmp_path / "ca.pem").write_bytes(pem(ca.certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca.pem")
    context.load_cert_chain(server.chain, server.key)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_mode = ssl.CERT_REQUIRED
    got = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection = context.wrap_socket(listener.accept()[0], server_side=True)
            while data := connection.recv(65536):
                got.extend(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        tls = Tls(tmp_path / "ca.pem", client.chain, client.key)
        assert run(trail, rules(rsyslog, "tls", port=listener.getsockname()[1], tls=tls)).sent == 25
        thread.join(10)
    texts, rest = [], bytes(got)
    while rest:  # octet counting, RFC 5425
        length, _, rest = rest.partition(b" ")
        texts.append(rest[: int(length)])
        rest = rest[int(length) :]
    assert len(texts) == 25 and all(text.startswith(b"<13") and b"\n" not in text for text in texts)


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_what_a_receiver_took_and_did_not_read_before_it_died_comes_again(rsyslog: Rsyslog, path: Path, transport: str) -> None:
    """Its kernel had acknowledged every octet."""
    written = Trail.open(path)
    ((delivery, thread),) = deliver(path, [rules(rsyslog, transport)], Position())
    written.append(BOX, connect("read.example"))
    until(lambda: len(rsyslog.news()) == 1, "the connection stands, and what comes on it is read")
    rsyslog.freeze()
    for number in range(20):
        written.append(BOX, connect(f"host{number}.example"))
    until(lambda: delivery.sent == 21, f"{delivery.sent} sent, {delivery.failing}")
    rsyslog.freeze(die=True)
    rsyslog.stop()
    assert len(rsyslog.news()) == 1, "nobody has read the rest"
    rsyslog.start()
    written.close()
    delivery.stop(30)
    thread.join(60)
    assert (delivery.sent, delivery.lost, delivery.failing) == (21, 0, "") and delivery.retried
    until(lambda: {json.loads(one["text"])["seq"] for one in rsyslog.news()} == set(range(1, 22)), "all of it")


def test_a_client_that_tls_refuses_after_it_has_begun_to_send_has_delivered_nothing(rsyslog: Rsyslog, trail: Path, tmp_path: Path) -> None:
    """TLS 1.3: our handshake is over before the receiver has seen that we have no certificate."""
    ca = Authority.root()
    server = ca.issue(tmp_path, "localhost")
    (tmp_path / "ca.pem").write_bytes(pem(ca.certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca.pem")
    context.load_cert_chain(server.chain, server.key)
    context.verify_mode = ssl.CERT_REQUIRED
    taken = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        plain, _ = listener.accept()
        listener.close()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        connection = context.wrap_bio(incoming, outgoing, server_side=True)
        with plain:
            incoming.write(plain.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                connection.do_handshake()
            plain.sendall(outgoing.read())
            taken.wait(20)
            incoming.write(plain.recv(1 << 20))
            with contextlib.suppress(ssl.SSLError):
                connection.do_handshake()
            plain.sendall(outgoing.read())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    wanted = rules(rsyslog, "tls", port=listener.getsockname()[1], tls=Tls(tmp_path / "ca.pem"))
    ((delivery, shipping),) = deliver(trail, [wanted], Position())
    until(lambda: delivery.sent == 25, delivery.failing)
    taken.set()
    thread.join(20)
    delivery.stop(0.4)
    shipping.join(20)
    assert json.loads(Path(f"{trail}.siem.sink").read_text())["sent"] == delivery.sent == 0 and delivery.lost == 0
    assert "certificate" in delivery.failing or "Connection refused" in delivery.failing, delivery.failing


def test_a_receiver_that_leaves_its_half_open_is_named_and_believed(
    rsyslog: Rsyslog, trail: Path, caplog: pytest.LogCaptureFixture
) -> None:
    got = bytearray()
    open_still = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as connection:
                while data := connection.recv(65536):
                    got.extend(data)
                open_still.wait(30)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        delivery = run(trail, rules(rsyslog, "tcp", port=listener.getsockname()[1], timeout=0.5))
        open_still.set()
        thread.join(10)
    assert json.loads(Path(f"{trail}.siem.sink").read_text())["sent"] == delivery.sent == 25 and not delivery.retried
    assert got.count(b" stockade ") == 25 and "does not close its half" in caplog.text
