"""A worker between a client and servers of this process: real sockets, real TLS, a real fork; only the kernel and the agent are stand-ins.

The stand-in for the kernel: a client that binds to 127.0.0.N dialled destination N. The stand-in for the agent keeps its records in a list.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

import stockade.proxy.worker  # noqa: F401 - imported before the forks, so that each one is warm
from stockade.kernel.abi import Origin, Verdict
from stockade.metrics.figures import Figures
from stockade.proxy import Authority, Begun, Caller, Listeners, Resolved, Settings, Worker
from stockade.proxy.spine import Detail, Recorded, Unreached
from stockade.sandbox import seccomp
from stockade.types import Action, Binary, Decision, Effect, Http, Level, Outcome, Reason, Record, Request, StockadeError

WORKER_UID = 61234 if os.geteuid() == 0 else os.getuid()
WORKER_GID = 61234 if os.geteuid() == 0 else os.getgid()
SANDBOX = 7
CURL = Binary.named("curl", "/usr/bin/curl")


@dataclass(frozen=True)
class FakePolicy:
    """Allowed (method, path prefix) pairs and hosts; `relay` hosts go to the relay, `tcp` without a demand for TLS."""

    allow: tuple[tuple[str, str], ...] = (("GET", "/"), ("HEAD", "/"))
    hosts: frozenset[str] | None = None
    relay: frozenset[str] = frozenset()
    tcp: bool = False
    observe: bool = False
    veto: bool = False  # a deny list names everything
    generation: int = 1

    @property
    def rules(self) -> list[Any]:
        rule = type("Rule", (), {"name": "fake", "protocol": "tcp" if self.tcp else "http"})
        return [rule]


def fake_decide(request: Request, policy: FakePolicy) -> Decision:
    def say(allowed: bool, level: Level, effect: Effect = Effect.PASS) -> Decision:
        outcome = Outcome.ALLOW if allowed else Outcome.DENY
        reason = Reason.RULE_ALLOW if allowed else Reason.RULE_DENY if policy.veto else Reason.NO_RULE
        return Decision(outcome, effect if allowed else Effect.REFUSE, level, reason, "fake", policy.generation, not policy.observe)

    if policy.veto:
        return say(False, Level.DESTINATION)
    if policy.hosts is not None and request.host not in policy.hosts:
        return say(False, Level.DESTINATION)
    if request.host in policy.relay:
        return say(True, Level.DESTINATION, Effect.RELAY)
    if request.method is None or request.path is None:
        return say(True, Level.DESTINATION)
    if request.method not in {method for method, _ in policy.allow}:
        return say(False, Level.METHOD)
    return say(any(m == request.method and request.path.startswith(p) for m, p in policy.allow), Level.PATH)


def origin_of(sock: socket.socket) -> Origin:
    """Destination N for a client bound to 127.0.0.N; 127.0.0.1 is nobody."""
    number = int(sock.getpeername()[0].rsplit(".", 1)[1])
    if number == 1:
        raise OSError("no origin")
    return Origin(SANDBOX, 1, 12, 4242, number, 1, 443, Verdict.INSPECT, ipaddress.ip_address("198.18.0.9"), 99)


@dataclass
class Spine:
    """The agent's side. An http record is changed in place by `finish`, as the trail does."""

    names: dict[int, tuple[str | None, int]] = field(default_factory=dict)
    addresses: dict[str, Resolved] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    finished: dict[int, asyncio.Event] = field(default_factory=dict)
    broken: bool = False
    resolved: list[str] = field(default_factory=list)
    identified: int = 0
    generations: list[int] = field(default_factory=list)  # under which something was resolved
    hold_resolve: asyncio.Event | None = None
    behind: dict[str, int | socket.socket | Unreached] = field(default_factory=dict)  # of another sandbox: a port here, or what comes
    reaching: asyncio.Event = field(default_factory=asyncio.Event)
    approvals: dict[str, str] = field(default_factory=dict)  # path of a refused request → id
    once: bool = False  # whether every request was approved for one time
    before_begin: Callable[[], Awaitable[bool]] | None = None  # False: its approval is used up
    measured: list[Figures] = field(default_factory=list)

    async def identify(self, origin: Origin) -> Caller:
        self.identified += 1
        host, port = self.names[origin.name]
        return Caller(CURL, ("/usr/bin/bash",), host, port)

    async def resolve(self, origin: Origin, generation: int) -> Resolved:
        assert origin.sandbox == SANDBOX
        host, _ = self.names[origin.name]
        assert host is not None
        self.generations.append(generation)
        self.resolved.append(host)
        if self.hold_resolve is not None:
            await self.hold_resolve.wait()
        return self.addresses.get(host, Resolved(("127.0.0.1",)))

    async def reach(self, origin: Origin, generation: int) -> socket.socket | Unreached:
        host, _ = self.names[origin.name]
        assert origin.sandbox == SANDBOX and host is not None
        self.reaching.set()
        if self.hold_resolve is not None:
            await self.hold_resolve.wait()
        found = self.behind[host]
        if isinstance(found, int):
            sock = socket.socket()
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", found))
            return sock
        return found

    async def record(self, sandbox: int, record: Record) -> Recorded:
        if self.broken:
            raise OSError("disk full")
        self.records.append(record)
        asked = record.http is not None and record.outcome is Outcome.DENY
        return Recorded(f"{len(self.records)}-0123456789ab", self.approvals.get(record.http.path) if record.http and asked else None)

    async def begin(self, sandbox: int, record: Record) -> Begun | None:
        if self.before_begin is not None and not await self.before_begin():
            return None
        await self.record(sandbox, record)
        token = len(self.records) - 1
        self.finished[token] = asyncio.Event()
        return Begun(token, once=self.once)

    async def approval(self, sandbox: int, identifier: str) -> dict[str, Any] | None:
        assert sandbox == SANDBOX
        return {"id": identifier, "state": "pending"} if identifier in self.approvals.values() else None

    async def finish(self, token: int, http: Http | None, effect: Effect, reason: Reason, detail: Detail | None = None) -> str:
        began = self.records[token]
        self.records[token] = replace(began, http=http, effect=effect, reason=reason, detail=began.detail | (detail or {}))
        self.finished[token].set()
        return f"{token + 1}-0123456789ab"

    def figures(self, sandbox: int, figures: Figures) -> None:
        assert sandbox == SANDBOX
        self.measured.append(figures)

    def of(self, action: Action) -> list[Record]:
        return [record for record in self.records if record.action is action]

    async def settled(self) -> None:
        async with asyncio.timeout(5):
            for event in list(self.finished.values()):
                await event.wait()

    async def wait_for(self, reason: Reason) -> Record:
        async with asyncio.timeout(5):
            while True:
                for record in self.records:
                    if record.reason is reason:
                        return record
                await asyncio.sleep(0.01)


@dataclass(frozen=True)
class Pki:
    """A root that the worker trusts, and server contexts below it."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    root: x509.Certificate

    @property
    def bundle(self) -> Path:
        return self.folder / "root.pem"

    @classmethod
    def create(cls, folder: Path) -> Pki:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test root")])
        root = cls._build(name, name, key.public_key(), key, None)
        (folder / "root.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
        return cls(folder, key, root)

    @staticmethod
    def _build(subject: x509.Name, issuer: x509.Name, public: Any, signer: Any, host: str | None) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
        )
        if host is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        else:
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
            builder = builder.add_extension(
                x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False, **usage),
                critical=True,
            )
        return builder.sign(signer, hashes.SHA256())

    def context(self, host: str, alpn: tuple[str, ...] = (), *, trusted: bool = True, use_rsa: bool = False) -> ssl.SSLContext:
        """A server context with a certificate for host; trusted=False signs it with a key nobody knows."""
        key: Any = rsa.generate_private_key(65537, 2048) if use_rsa else ec.generate_private_key(ec.SECP256R1())
        signer = self.key if trusted else ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        leaf = self._build(subject, self.root.subject, key.public_key(), signer, host)
        pem = self.folder / f"{host}-{trusted}-{use_rsa}.pem"
        pem.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + leaf.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.create(tmp_path_factory.mktemp("pki"))


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Seen:
    """What a test server saw: connections, heads, and bytes of bodies."""

    connections: int = 0
    heads: list[bytes] = field(default_factory=list)
    body: int = 0


async def answer_http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
    """A server that answers every request with its own request line."""
    seen.connections += 1
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            seen.heads.append(head)
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if b"transfer-encoding: chunked" in head.lower():
                while (size := int((await reader.readline()).strip(), 16)) > 0:
                    seen.body += len(await reader.readexactly(size))
                    await reader.readexactly(2)
                await reader.readexactly(2)
            while length > 0:
                data = await reader.read(min(length, 65536))
                if not data:
                    return
                length -= len(data)
                seen.body += len(data)
            said = head.split(b"\r\n")[0]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(said))
            if not said.startswith(b"HEAD"):
                writer.write(said)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()


@dataclass
class World:
    """One worker serving one sandbox, with its stand-in agent."""

    spine: Spine
    worker: Worker
    pki: Pki
    authority: Authority
    ports: Listeners | tuple[int, int]
    policy: FakePolicy

    @property
    def trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.certificate_pem.decode())
        context.set_alpn_protocols(["http/1.1"])
        return context

    @property
    def authority_file(self) -> str:
        path = self.pki.folder / "sandbox-ca.pem"
        path.write_bytes(self.authority.certificate_pem)
        return str(path)

    def name(self, host: str | None, port: int) -> int:
        """Make a destination; a client bound to 127.0.0.<number> reaches it."""
        number = len(self.spine.names) + 2
        self.spine.names[number] = (host, port)
        return number

    async def server(self, handler: Handler, context: ssl.SSLContext | None = None) -> int:
        server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=context)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def echo(self, host: str, alpn: tuple[str, ...] = ("http/1.1",), **kind: Any) -> tuple[int, Seen]:
        """An HTTPS server for host; returns the number of the destination and what the server sees."""
        seen = Seen()
        port = await self.server(lambda r, w: answer_http1(r, w, seen), self.pki.context(host, alpn, **kind))
        return self.name(host, port), seen

    async def plain(self, host: str) -> tuple[int, Seen]:
        seen = Seen()
        port = await self.server(lambda r, w: answer_http1(r, w, seen))
        return self.name(host, port), seen

    def port_of(self, number: int) -> int:
        return self.spine.names[number][1]

    async def dial(
        self, number: int, *, sni: str | None = None, tls: bool = True, relay: bool = False, context: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect as destination `number`; over TLS with the sandbox's trust unless tls is False."""
        port = self.ports[1 if relay else 0]
        host = sni or self.spine.names[number][0]
        extra: dict[str, Any] = {"ssl": context or self.trust, "server_hostname": host} if tls else {}
        return await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.0.{number}", 0), **extra)

    async def ask(self, number: int, request: str, **how: Any) -> tuple[int, bytes]:
        """One request on one connection: (status, body). `{host}` in it becomes host:port of the destination."""
        reader, writer = await self.dial(number, **how)
        try:
            return await self.exchange(number, reader, writer, request)
        finally:
            writer.close()

    async def exchange(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: str) -> tuple[int, bytes]:
        host, port = self.spine.names[number]
        writer.write(request.replace("{host}", f"{host}:{port}").encode())
        return await read_answer(reader)

    _servers: list[asyncio.Server] = field(default_factory=list)

    async def reload(self, policy: FakePolicy) -> None:
        await self.worker.reload(SANDBOX, policy)

    async def curl(self, number: int, *arguments: str) -> tuple[str, str]:
        host, port = self.spine.names[number]
        listener = self.ports[0]
        options = ["--interface", f"127.0.0.{number}", "--cacert", self.authority_file, "--max-time", "10"]
        options += ["--connect-to", f"{host}:{port}:127.0.0.1:{listener}"]
        options += [argument.replace("{url}", f"https://{host}:{port}") for argument in arguments]
        pipe, env = asyncio.subprocess.PIPE, {"PATH": os.environ["PATH"]}
        process = await asyncio.create_subprocess_exec("curl", "-sS", *options, stdout=pipe, stderr=pipe, env=env)
        out, err = await process.communicate()
        return out.decode(), err.decode()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return int(head.split()[1]), await reader.readexactly(length)


def refusal(body: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(body)
    if "record" in answer:  # what could not be recorded has none
        assert answer.pop("explain") == f"stockade audit show {answer['record']}"
    assert set(answer) - {"approval", "record"} == {"error", "level", "rule", "reason", "host", "method", "path", "binary", "hint"}
    return answer


Scenario = Callable[[World], Awaitable[None]]


@asynccontextmanager
async def serving(worker: Worker, pki: Pki, policy: FakePolicy, proto: int) -> AsyncIterator[World]:
    spine = Spine()
    await worker.connect(spine)
    sockets = []
    for _ in range(4):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, proto)
        sock.bind(("127.0.0.1", 0))
        sock.listen(128)
        sockets.append(sock)
    ports = (sockets[0].getsockname()[1], sockets[2].getsockname()[1])
    authority = Authority.create("box")
    await worker.serve(SANDBOX, Listeners(*sockets), authority.signing, policy)
    world = World(spine, worker, pki, authority, ports, policy)
    try:
        yield world
    finally:
        await worker.close()
        for server in world._servers:
            server.close()


def _filter() -> Callable[[], None] | None:
    """The system-call filter that a worker runs under in production, where this machine can compile it."""
    try:
        return seccomp.confinement(seccomp.WORKER)
    except StockadeError:
        return None


FILTER = _filter()


@pytest.fixture
def proxied(pki: Pki) -> Iterator[Callable[..., None]]:
    """proxied(scenario, policy=…, settings=…): fork a worker, run the scenario against it."""

    def run(scenario: Scenario, *, policy: FakePolicy | None = None, proto: int = socket.IPPROTO_TCP, **settings: Any) -> None:
        worker = Worker.fork(
            uid=WORKER_UID,
            gid=WORKER_GID,
            settings=Settings(trust=pki.bundle, **settings),
            confine=FILTER,
            decide=fake_decide,
            origin_of=origin_of,
        )

        async def main() -> None:
            async with serving(worker, pki, policy or FakePolicy(), proto) as world, asyncio.timeout(30):
                await scenario(world)

        asyncio.run(main())

    yield run
