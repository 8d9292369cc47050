"""Inbound ports: closed unless the policy opens them, to whom it says and to nobody else, and on record either way."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from framework.internet import ECHO, Internet
from framework.machine import Machine, Record, Result, Running, select, wait_for, worker_of
from framework.policy import Rule, http, whole
from stockade.service.control import ask, running
from stockade.service.settings import Settings

pytestmark = pytest.mark.client("/usr/bin/python3")

CONTROL = Settings().control
LOOPBACK = ("127.0.0.1", "::1")
GET = b"GET / HTTP/1.0\r\n\r\n"


def policy(*inbound: tuple[int, Sequence[str]], rules: Sequence[Rule] = ()) -> str:
    sections = {"inbound": [{"port": port, "from": list(sources)} for port, sources in inbound]} if inbound else {}
    return whole(*rules, allow=["python3", "sh", "coreutils"], **sections)


class House:
    """One run with a server inside, and callers of every kind."""

    def __init__(self, machine: Machine, internet: Internet, inside: dict[str, str]) -> None:
        self.machine, self.namespace = machine, internet.namespace
        self.room = machine.room(inside)
        self.work, self.file = self.room / "work", self.room / "policy.yaml"
        self.name = f"inbound-{os.getpid()}-{self.room.name}"
        self.port = free_port()
        self.host = internet.namespace.host
        self.caller = internet.namespace.address()
        self.stranger = internet.namespace.address()

    @contextlib.contextmanager
    def run(self, text: str, *, on: str = "127.0.0.1", command: str = "") -> Iterator[Running]:
        line = command or f"/usr/bin/python3 listens.py {on} {self.port}"
        with self.machine.start(line, policy=text, room=self.room, options=["--name", self.name]) as self.running:
            if "listen" in line:
                self.running.wait_for("listening", self.log)
            yield self.running

    @property
    def log(self) -> Path:
        return self.work / "listens.log"

    def stop(self) -> Result:
        (self.work / "stop").touch()
        return self.running.finish()

    def reload(self, text: str) -> dict[str, object]:
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.rename(self.file)
        wait_for(lambda: self.name in running(CONTROL), "the control socket", running=self.running)
        return ask(CONTROL, self.name, "reload")

    def dial(self, to: str, *, source: str = "", port: int = 0) -> socket.socket:
        """From the host itself, or from an address in the tests' namespace."""

        def connect() -> socket.socket:
            return socket.create_connection((to, port or self.port), 10, source_address=(source, 0) if source else None)

        return self.namespace.inside(connect) if source and source not in LOOPBACK else connect()

    def get(self, to: str, **how: str) -> bytes:
        """What came back, b"" for a connection that ended without anything."""
        with self.dial(to, **how) as connection:  # type: ignore[arg-type]
            connection.sendall(GET)
            return everything(connection)

    def refused(self, to: str, **how: str) -> bool:
        """Whether nobody listens there."""
        try:
            self.dial(to, **how).close()  # type: ignore[arg-type]
        except ConnectionRefusedError:
            return True
        return False

    def reset(self, to: str, **how: str) -> bool:
        """Whether the connection was reset without an answer."""
        try:
            return not self.get(to, **how)
        except (ConnectionResetError, BrokenPipeError):
            return True

    def records(self, **expected: object) -> list[Record]:
        return select(self.running.records(), action="inbound", **expected)

    def wait_for_records(self, count: int = 1, **expected: object) -> list[Record]:
        """A refusal is written after the reset, which a caller may see first."""

        def found() -> list[Record]:
            records = self.records(**expected)
            return records if len(records) >= count else []

        return wait_for(found, f"{count} records with {expected}", running=self.running)


def everything(connection: socket.socket) -> bytes:
    said = b""
    while data := connection.recv(65536):
        said += data
    return said


def free_port() -> int:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        return int(taken.getsockname()[1])


def is_cut(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def house(machine: Machine, internet: Internet, inside: dict[str, str]) -> House:
    return House(machine, internet, inside)


# who may come in


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_an_allowed_source_reaches_the_server_inside(house: House, family: str) -> None:
    source, to = getattr(house.caller, family), getattr(house.host, family)
    with house.run(policy((house.port, [source])), on="0.0.0.0" if family == "v4" else "::"):
        assert house.get(to, source=source).endswith(b"\r\n\r\ninside")
        (record,) = house.wait_for_records()
        result = house.stop()
    assert (record["decision"], record["effect"], record["reason"]) == ("allow", "relay", "rule_allow"), result
    assert (record["binary"]["name"], record["binary"]["identity"]) == ("python3", "strong") and record["pid"] > 1, "who listens"
    assert record["destination"] == {"host": house.name, "port": house.port, "address": to}
    assert record["detail"]["source"] == source and record["detail"]["source_port"] > 0
    assert result.select(action="connect") == [], "the agent's own connect is none of the sandbox's"
    answer = b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\ninside"
    assert (record["detail"]["bytes_received"], record["detail"]["bytes_sent"]) == (len(GET), len(answer))
    assert house.log.read_text().splitlines()[1].startswith("connected "), "the server saw one connection, from its own loopback"
    assert house.log.read_text().splitlines()[1].split()[1] in ("127.0.0.1", "::ffff:127.0.0.1"), house.log.read_text()


def test_a_refused_source_is_reset_and_nothing_of_it_is_inside(house: House) -> None:
    allowed, stranger = house.caller.v4, house.stranger.v4
    with house.run(policy((house.port, [allowed]))):
        for source in (stranger, "127.0.0.1"):
            assert house.reset(house.host.v4 if source == stranger else "127.0.0.1", source=source)
        refused = house.wait_for_records(2, decision="deny", reason="source_refused")
        assert {record["detail"]["source"] for record in refused} == {stranger, "127.0.0.1"}
        assert all((record["effect"], record["enforced"]) == ("refuse", True) for record in refused)
        assert house.log.read_text() == "listening\n"
        assert house.get(house.host.v4, source=allowed).endswith(b"inside"), "the same door, from where it may"
        house.stop()
    assert house.log.read_text().count("connected") == 1


def test_observe_opens_no_door_to_strangers(house: House) -> None:
    with house.run(policy((house.port, [house.caller.v4])).replace("name: test", "name: test\nmode: observe")):
        assert house.reset(house.host.v4, source=house.stranger.v4)
        (record,) = house.wait_for_records()
        assert (record["decision"], record["enforced"]) == ("deny", True)
        assert house.log.read_text() == "listening\n"


def test_nothing_listens_on_the_host_without_inbound(house: House) -> None:
    with house.run(policy(), on="0.0.0.0"):
        for to in ("127.0.0.1", house.host.v4):
            assert house.refused(to)
        assert house.refused(house.host.v4, source=house.caller.v4)
        house.stop()
    assert house.log.read_text() == "listening\n" and house.records() == []


def test_loopback_sources_open_loopback_alone(house: House) -> None:
    with house.run(policy((house.port, LOOPBACK))):
        for to in LOOPBACK:
            assert house.get(to).endswith(b"inside")
        assert house.refused(house.host.v4) and house.refused(house.host.v4, source=house.caller.v4)
        assert house.refused(house.host.v6, source=house.caller.v6)


def test_a_family_without_sources_has_no_door(house: House) -> None:
    with house.run(policy((house.port, [house.caller.v4])), on="::"):
        assert house.refused("::1") and house.refused(house.host.v6, source=house.caller.v6)
        assert house.get(house.host.v4, source=house.caller.v4).endswith(b"inside")


# what passes


def test_bytes_pass_as_they_are_and_are_counted(house: House) -> None:
    """Both directions at once, a half-close, and bytes that look like TLS for somebody else's name: nothing is looked at."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="elsewhere.example.com")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    said = outgoing.read() + os.urandom(3_000_000)
    with house.run(policy((house.port, ["127.0.0.1"]))), house.dial("127.0.0.1") as connection:

        def send() -> None:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)

        sending = threading.Thread(target=send)
        sending.start()
        heard = everything(connection)
        sending.join()
        assert heard == said
        (record,) = house.wait_for_records()
        assert (record["detail"]["bytes_received"], record["detail"]["bytes_sent"]) == (len(said), len(said))


def test_where_nobody_listens_it_is_reset_and_recorded(house: House) -> None:
    with house.run(policy((house.port, ["127.0.0.1"])), command="sleep 30"):
        wait_for(lambda: not house.refused("127.0.0.1"), "the door", running=house.running)
        assert house.reset("127.0.0.1")
        (record, *_) = house.wait_for_records()
        assert (record["decision"], record["effect"], record["reason"]) == ("deny", "refuse", "upstream_unreachable")


def test_a_crowd_comes_in(house: House) -> None:
    """Each connection is answered with its own bytes, and each is one record."""
    count = 150
    with house.run(policy((house.port, ["127.0.0.1"]))), contextlib.ExitStack() as stack:
        callers = [stack.enter_context(house.dial("127.0.0.1")) for _ in range(count)]
        for number, caller in enumerate(callers):
            caller.sendall(b"%d" % number)
            caller.shutdown(socket.SHUT_WR)
        assert [everything(caller) for caller in callers] == [b"%d" % number for number in range(count)]
        wait_for(lambda: len(house.records()) == count, "a record for each", running=house.running)
        ports = {record["detail"]["source_port"] for record in house.records(decision="allow", reason="rule_allow")}
        assert ports == {caller.getsockname()[1] for caller in callers}


def test_two_sandboxes_meet_where_both_policies_say_so(house: House) -> None:
    """One may call a service of the host's loopback, the other lets loopback in: both are on record, and neither opens it alone."""
    code = f"import urllib.request; print(urllib.request.urlopen('http://localhost:{house.port}/', timeout=10).read().decode())"
    call = ["/usr/bin/python3", "-c", code]
    calling = policy(rules=[http("python3", "localhost", port=[house.port])])
    with house.run(policy((house.port, ["127.0.0.1"]))):
        result = house.machine.run(call, policy=calling)
        assert result.stdout.strip() == "inside", result
        assert result.select(action="http", decision="allow", host="localhost", port=house.port, status=200), result
        (record,) = house.wait_for_records(decision="allow")
        assert record["detail"]["source"] == "127.0.0.1"
        alone = house.machine.run(call, policy=policy(rules=[http("python3", ECHO)]))
        assert alone.stdout == "" and "refused" in alone.stderr.lower(), "its own loopback, on which nobody listens"
        assert house.reload(policy())["switched"]
        shut = house.machine.run(call, policy=calling)
        assert "inside" not in shut.stdout and shut.status != 0, shut
        house.stop()
    assert house.log.read_text().count("connected") == 1


# it is no way out


def test_a_connection_that_came_in_dials_nobody(house: House, internet: Internet) -> None:
    """What the listener says goes to its peer, whatever it says; and the socket dials no more than any other of the sandbox's."""
    target = house.stranger.v4
    with internet.namespace.listen(target, 7443) as outside:
        command = f"/usr/bin/python3 listening_out.py {house.port} {target} 7443"
        with house.run(policy((house.port, ["127.0.0.1"])), command=command), house.dial("127.0.0.1") as connection:
            heard = b""
            while not heard.endswith(b"END"):
                heard += connection.recv(65536)
            connection.sendall(b"!")
            assert is_cut(connection), "the socket was dissolved"
            result = house.running.finish()
        assert heard.startswith(b"CONNECT ") and socket.inet_aton(target) in heard, "all of it came to the peer"
        assert result.stdout.splitlines() == ["connect 106", "dissolve 0", "again 1"], result
        outside.settimeout(0.2)
        with pytest.raises(TimeoutError):
            outside.accept()
    assert result.select(action="connect", decision="deny", host=target, port=7443, binary="python3"), result


# the port on the host


def test_a_port_that_is_taken_starts_nothing(house: House) -> None:
    for address in ("127.0.0.1", "0.0.0.0"):
        with socket.create_server((address, house.port)):
            text = policy((house.port, ["127.0.0.1"]))
            result = house.machine.run("touch started", policy=text, room=house.machine.room())
        assert result.status == 125, result
        assert f"port {house.port} of 127.0.0.1 is taken" in result.stderr and "port_taken" in result.stderr, result
        assert not (result.audit.parent / "work/started").exists()


def test_a_port_is_one_sandboxs(house: House) -> None:
    with house.run(policy((house.port, ["127.0.0.1"]))):
        second = house.machine.run("true", policy=policy((house.port, ["127.0.0.1"])))
        assert second.status == 125 and "port_taken" in second.stderr, second
        assert house.get("127.0.0.1").endswith(b"inside")


def test_the_port_is_free_again_at_once(house: House) -> None:
    for _ in range(2):
        house.log.unlink(missing_ok=True)
        (house.work / "stop").unlink(missing_ok=True)
        with house.run(policy((house.port, ["127.0.0.1"]))):
            assert house.get("127.0.0.1").endswith(b"inside")
            assert house.stop().status == 0
        assert house.refused("127.0.0.1")


# while it runs


def test_a_reload_opens_widens_narrows_and_shuts(house: House) -> None:
    caller, stranger = house.caller.v4, house.stranger.v4
    with house.run(policy()):
        assert house.refused("127.0.0.1")
        assert house.reload(policy((house.port, ["127.0.0.1"])))["switched"]
        assert house.get("127.0.0.1").endswith(b"inside") and house.refused(house.host.v4, source=caller)
        # loopback, and now every address: the same port, bound anew
        assert house.reload(policy((house.port, ["127.0.0.1", caller, stranger])))["switched"]
        kept, cut = house.dial(house.host.v4, source=caller), house.dial(house.host.v4, source=stranger)
        with kept, cut:
            for connection in (kept, cut):
                connection.sendall(b"here")
                assert connection.recv(4) == b"here"
            assert house.reload(policy((house.port, [caller])))["switched"]
            assert is_cut(cut)
            kept.sendall(b"still")
            assert kept.recv(5) == b"still"
            assert house.reset(house.host.v4, source=stranger)
            (record,) = house.wait_for_records(effect="cut")
            assert (record["reason"], record["detail"]["source"]) == ("policy_changed", stranger)
            assert record["detail"]["bytes_received"] == 4
            assert house.reload(policy())["switched"]
            assert is_cut(kept)
        assert house.refused("127.0.0.1") and house.refused(house.host.v4, source=caller)
        assert len(house.wait_for_records(reason="source_refused")) == 1
        result = house.stop()
    assert [record["reason"] for record in result.select(action="policy")] == ["reloaded"] * 4


def test_a_reload_with_a_taken_port_is_refused_whole(house: House) -> None:
    first = policy((house.port, ["127.0.0.1"]))
    with house.run(first):
        other = free_port()
        with socket.create_server(("127.0.0.1", other)):
            third = free_port()
            text = policy((house.port, ["::1"]), (third, LOOPBACK), (other, ["127.0.0.1"]), rules=[http("python3", ECHO)])
            answer = house.reload(text)
        assert not answer["switched"] and f"port {other} of 127.0.0.1 is taken" in str(answer["why"])
        (record,) = select(house.running.records(), reason="reload_refused")
        assert f"port {other}" in record["detail"]["why"] and record["sandbox"]["generation"] == 1
        assert house.get("127.0.0.1").endswith(b"inside") and house.refused("::1") and house.refused("127.0.0.1", port=str(third))
        assert house.reload(text)["switched"], "the port is free now"
        assert house.refused("127.0.0.1") and house.get("::1").endswith(b"inside")


def test_a_dead_worker_takes_its_connections_and_leaves_the_door(house: House) -> None:
    with house.run(policy((house.port, ["127.0.0.1"]))), house.dial("127.0.0.1") as connection:
        connection.sendall(b"here")
        assert connection.recv(4) == b"here"
        os.kill(worker_of(house.running.process.pid), signal.SIGKILL)
        assert is_cut(connection)
        (record,) = house.wait_for_records()
        assert (record["effect"], record["reason"]) == ("cut", "worker_lost")
        wait_for(lambda: not house.reset("127.0.0.1"), "an answer through the next worker", running=house.running)


def test_the_door_is_shut_when_the_agent_is_dead(house: House) -> None:
    with house.run(policy((house.port, ["127.0.0.1"]))), house.dial("127.0.0.1") as connection:
        connection.sendall(b"here")
        assert connection.recv(4) == b"here"
        try:
            house.running.process.send_signal(signal.SIGKILL)
            house.running.process.wait(10)
            assert is_cut(connection)
            assert until(lambda: house.refused("127.0.0.1"))
        finally:
            (house.work / "stop").touch()


def until(probe: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not probe() and time.monotonic() < deadline:
        time.sleep(0.02)
    return probe()
