"""The worker's life: what it gives up, what it opens, and what is left of it when the agent is gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import sys
import time
from pathlib import Path

import pytest

from stockade.proxy import Listeners, Settings, Worker
from stockade.types import Action, Effect, Reason

from .conftest import (
    SANDBOX,
    WORKER_GID,
    WORKER_UID,
    FakePolicy,
    Pki,
    World,
    fake_decide,
    origin_of,
    refusal,
    serving,
)
from .test_silent_failures import UPGRADE, Seen, masked, websocket_echo

GET = "GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"


def gone(pid: int) -> bool:
    """Whether a process of ours has ended; reaps it."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def test_a_worker_gives_up_what_it_was_born_with(proxied):
    async def scenario(world: World) -> None:
        status = Path(f"/proc/{world.worker.pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["Uid"].split() == [str(WORKER_UID)] * 4 and fields["Gid"].split() == [str(WORKER_GID)] * 4
        assert fields["NoNewPrivs"] == "1"
        if os.geteuid() == 0:
            assert fields["Groups"].strip() == "" and int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
        links = [os.readlink(f"/proc/{world.worker.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{world.worker.pid}/fd")]  # noqa: PTH115, PTH208
        files = [link for link in links if link.startswith("/") and link != "/dev/null"]
        assert len(files) <= 1  # stderr, where it is a file

    proxied(scenario)


def test_a_worker_opens_no_file_after_the_drop(pki: Pki, tmp_path: Path):
    """TLS with both versions of HTTP, a WebSocket, refusals, a failed upstream: every import and every CA file was read before."""
    opened = os.open(tmp_path / "opened", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(opened, True)
    report = os.dup2(opened, 2000)

    def confine() -> None:
        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event in {"open", "import", "os.listdir", "subprocess.Popen", "os.exec", "os.fork", "socket.getaddrinfo"}:
                os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{event} {arguments[0]!r}\n".encode())

        sys.addaudithook(hook)
        with contextlib.suppress(OSError):
            open("/armed")  # noqa: PTH123, SIM115

    stderr = os.dup(2)
    os.dup2(report, 2)
    try:
        worker = Worker.fork(
            uid=WORKER_UID, gid=WORKER_GID, confine=confine, settings=Settings(trust=pki.bundle), decide=fake_decide, origin_of=origin_of
        )
    finally:
        os.dup2(stderr, 2)

    async def main() -> None:
        async with serving(worker, pki, FakePolicy(), socket.IPPROTO_TCP) as world, asyncio.timeout(30):
            number, _ = await world.echo("a.example")
            assert (await world.ask(number, GET))[0] == 200
            assert (await world.ask(number, GET.replace("GET", "POST")))[0] == 403
            out, err = await world.curl(number, "--http2", "{url}/x")
            assert out, err
            untrusted, _ = await world.echo("b.example", trusted=False)
            assert (await world.ask(untrusted, GET))[0] == 403
            seen = Seen()
            port = await world.server(lambda r, w: websocket_echo(r, w, seen), world.pki.context("ws.example", ("http/1.1",)))
            reader, writer = await world.dial(world.name("ws.example", port))
            writer.write(UPGRADE.replace("{host}", f"ws.example:{port}").encode())
            await reader.readuntil(b"\r\n\r\n")
            writer.write(masked(b"one"))
            assert await reader.readexactly(5) == b"\x81\x03one"
            reader, writer = await world.dial(number, tls=False)
            writer.write(b"nonsense\r\n")
            await reader.read()

    asyncio.run(main())
    said = (tmp_path / "opened").read_text()
    events = [line for line in said.splitlines() if line.split()[0] in {"open", "import", "os.listdir", "socket.getaddrinfo"}]
    assert events == ["open '/armed'"]


def test_a_worker_ends_with_the_channel_and_answers_nothing_after(pki: Pki):
    """The agent's end is closed while a keep-alive connection and a download are open; only EOF can tell the worker."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        try:
            while True:
                seen.heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n12345")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass

    worker = Worker.fork(uid=WORKER_UID, gid=WORKER_GID, settings=Settings(trust=pki.bundle), decide=fake_decide, origin_of=origin_of)

    async def main() -> None:
        async with serving(worker, pki, FakePolicy(), socket.IPPROTO_TCP) as world, asyncio.timeout(20):
            kept, _ = await world.echo("a.example")
            seen = Seen()
            port = await world.server(lambda r, w: slow(r, w, seen), world.pki.context("b.example", ("http/1.1",)))
            keep_alive, download = await world.dial(kept), await world.dial(world.name("b.example", port))
            assert (await world.exchange(kept, *keep_alive, GET))[0] == 200
            download[1].write(f"GET / HTTP/1.1\r\nHost: b.example:{port}\r\n\r\n".encode())
            await download[0].readuntil(b"12345")
            assert worker._channel is not None
            worker._channel.close()
            keep_alive[1].write(GET.encode())
            for reader, _ in (keep_alive, download):
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    assert await reader.read() == b""
            started = time.monotonic()
            while not gone(worker.pid):
                await asyncio.sleep(0.01)
            assert time.monotonic() - started < 2
            with pytest.raises(OSError):
                await world.dial(kept, tls=False)
            worker.lost.set()

    asyncio.run(main())


def test_kill_9_of_the_agent_takes_the_worker_along(pki: Pki):
    """A whole agent in a process of its own; the client and the servers stay here."""
    report, theirs = os.pipe()
    agent = os.fork()
    if agent == 0:
        os.close(report)
        worker = Worker.fork(uid=WORKER_UID, gid=WORKER_GID, settings=Settings(trust=pki.bundle), decide=fake_decide, origin_of=origin_of)

        async def life() -> None:
            async with serving(worker, pki, FakePolicy(), socket.IPPROTO_TCP) as world:
                number, _ = await world.plain("a.example")
                os.write(theirs, json.dumps([worker.pid, world.ports[0], number, world.port_of(number)]).encode())
                await asyncio.sleep(60)

        try:
            asyncio.run(life())
        finally:
            os._exit(1)
    os.close(theirs)
    pid, port, number, upstream = json.loads(os.read(report, 4096))
    os.close(report)
    client = socket.create_connection(("127.0.0.1", port), source_address=(f"127.0.0.{number}", 0), timeout=5)
    request = GET.replace("{host}", f"a.example:{upstream}").encode()
    client.sendall(request)
    answer = b""
    while not answer.endswith(b"GET /x HTTP/1.1"):
        answer += client.recv(65536)
    os.kill(agent, signal.SIGKILL)
    os.waitpid(agent, 0)
    try:
        client.sendall(request)
        assert client.recv(65536) == b""
    except ConnectionError:
        pass
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.01)
    else:
        raise AssertionError("the worker outlived its agent")


def test_the_agent_learns_of_a_lost_worker(proxied):
    async def scenario(world: World) -> None:
        os.kill(world.worker.pid, signal.SIGKILL)
        await asyncio.wait_for(world.worker.lost.wait(), 5)
        with pytest.raises(ConnectionError):
            await world.reload(FakePolicy())

    proxied(scenario)


@pytest.mark.parametrize(
    "said",
    [
        b"not json",
        b"[]",
        b'{"call":"finish","id":1,"token":99,"effect":"pass","reason":"rule_allow"}',
        b'{"call":"resolve","id":1,"host":"x","port":443,"sandbox":7}',
        b'{"call":"record","id":1,"sandbox":7,"record":{}}',
        b'{"call":"exec","id":1}',
        b'{"call":"figures","id":1,"sandbox":9,"stages":{},"sent":{},"received":{},"connections":{},"classifier":null}',
        b'{"call":"figures","id":1,"sandbox":7,"stages":{"api.example.com":[[0],0]},"sent":{},"received":{},"connections":{},"classifier":null}',
        b'{"call":"done","id":"x"}',
    ],
)
def test_a_worker_that_says_what_ours_never_says_is_killed(pki: Pki, said: bytes):
    worker = Worker.fork(uid=WORKER_UID, gid=WORKER_GID, settings=Settings(trust=pki.bundle), decide=fake_decide, origin_of=origin_of)

    async def main() -> None:
        async with serving(worker, pki, FakePolicy(), socket.IPPROTO_TCP) as world:
            worker._received(said)
            assert worker.lost.is_set()
            assert world.spine.records == []
            while not gone(worker.pid):
                await asyncio.sleep(0.01)

    asyncio.run(main())


def test_reload_decides_the_next_request_of_an_open_connection(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        connection = await world.dial(number)
        assert (await world.exchange(number, *connection, GET))[0] == 200
        await world.reload(FakePolicy(allow=(("GET", "/y"),), generation=2))
        status, body = await world.exchange(number, *connection, GET)
        assert status == 403 and refusal(body)["level"] == "path"
        await world.reload(FakePolicy(generation=3))
        assert (await world.exchange(number, *connection, GET))[0] == 200
        await world.spine.settled()
        assert [record.generation for record in world.spine.of(Action.HTTP)] == [1, 2, 3]
        await world.reload(FakePolicy(hosts=frozenset({"b.example"}), generation=4))
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError, ssl.SSLError)):
            await world.exchange(number, *connection, GET)
        record = await world.spine.wait_for(Reason.POLICY_CHANGED)
        assert (record.action, record.effect) == (Action.CONNECT, Effect.CUT)
        assert len(seen.heads) == 2

    proxied(scenario)


def test_closing_completes_the_open_records(pki: Pki):
    worker = Worker.fork(uid=WORKER_UID, gid=WORKER_GID, settings=Settings(trust=pki.bundle), decide=fake_decide, origin_of=origin_of)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        async with serving(worker, pki, FakePolicy(), socket.IPPROTO_TCP) as world:
            number = world.name("a.example", await world.server(hang))
            _, writer = await world.dial(number, tls=False)
            writer.write(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
            while not world.spine.records:
                await asyncio.sleep(0.01)
            await worker.close()
            (record,) = world.spine.records
            assert (record.effect, record.reason) == (Effect.CUT, Reason.INTERRUPTED)
            assert gone(worker.pid)

    asyncio.run(main())


def test_connections_beyond_the_limit_wait(proxied):
    async def scenario(world: World) -> None:
        number, _ = await world.plain("a.example")
        held = [await world.dial(number, tls=False) for _ in range(2)]
        for connection in held:
            assert (await world.exchange(number, *connection, GET))[0] == 200
        waiting = await world.dial(number, tls=False)  # in the kernel's backlog
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(world.exchange(number, *waiting, GET), 0.3)
        held[0][1].close()
        reader, _ = waiting
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 200")

    proxied(scenario, connections=2)


def test_importing_the_package_does_not_import_mitmproxy():
    import subprocess

    code = "import sys, stockade.proxy; sys.exit(any(m.split('.')[0] in ('mitmproxy', 'cryptography', 'OpenSSL') for m in sys.modules))"
    path = str(Path(__file__).parents[3] / "agent")
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}).returncode == 0


def test_two_sandboxes_of_one_worker_have_their_own_roots(proxied):
    async def scenario(world: World) -> None:
        from stockade.proxy import Authority

        sockets = []
        for _ in range(4):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            sockets.append(sock)
        port = sockets[0].getsockname()[1]
        await world.worker.serve(SANDBOX + 1, Listeners(*sockets), Authority.create("other").signing, FakePolicy())
        number, _ = await world.echo("a.example")
        reader, _ = await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.0.{number}", 0))
        assert await reader.read() == b""  # the origin says sandbox 7, the listener is of sandbox 8
        await world.spine.wait_for(Reason.IDENTITY_MISMATCH)

    proxied(scenario)
