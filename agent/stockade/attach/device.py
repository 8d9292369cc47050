"""The devices of a container, closed to everything that does not belong to a connection that was let in.

A packet socket passes every cgroup hook (seen: its frames left a namespace in which they all refused), so the programs are not enough where
there is a device. A netfilter hook on the device itself sees every frame: egress inside, from Linux 5.16 on, and otherwise ingress on the
host's end of the pair. All agents of a network namespace share one table: who comes later adds to it, who leaves last removes it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence

from stockade.policy.model import Inbound
from stockade.sandbox.joined import Joined
from stockade.types import StockadeError

TABLE = "stockade"
EGRESS, HOST_END, NOTHING = "egress hook inside", "ingress hook on the host's end", "no device"
_SECONDS = 20.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Closed:
    """The devices of one network namespace. number: of the sandbox, beside others in the same namespace. by: how it is done."""

    def __init__(self, joined: Joined, number: int) -> None:
        self._joined, self._number = joined, number
        self._own = f"held_{number}"
        self._tables: list[tuple[bool, str]] = []  # (inside, name)
        self.devices: set[str] = set()
        self._let_in: tuple[Inbound, ...] = ()
        self.by = NOTHING

    def close(self, ways: Iterable[str] = (EGRESS, HOST_END)) -> None:
        """Close every device that is there now. May be called again when there are others. Raises StockadeError, with them open."""
        devices = self._joined.devices()
        missing = devices.keys() - self.devices
        if not missing:
            return
        failures: list[str] = []
        for way in ways if self.by == NOTHING else (self.by,):
            try:
                self._close(way, {name: devices[name] for name in sorted(missing)})
            except (OSError, StockadeError) as error:
                failures.append(f"{way}: {error}")
                continue
            self.by = way
            self.devices |= missing
            if self._let_in:
                self.admit(self._let_in)
            return
        hint = "it needs nft (apt-get install nftables) and a kernel with nftables' netdev family"
        raise StockadeError(f"{', '.join(sorted(missing))} cannot be closed: {'; '.join(failures)}", hint=hint, code="device")

    def _close(self, way: str, devices: dict[str, int]) -> None:
        if way == EGRESS:
            self.say("\n".join([f"add table netdev {TABLE}", *(self._inside(name) for name in devices), self._mark()]), inside=True)
            self._tables.append((True, TABLE))
            return
        names = dict(socket.if_nameindex())
        for name, other in devices.items():
            if other not in names:
                raise StockadeError(f"{name} has no other end on this host", code="device")
        table = f"{TABLE}_{self._number}"
        self.say(
            "\n".join([f"add table netdev {table}", *(_drops(table, "ingress", names[other], -450) for other in devices.values())]),
            inside=False,
        )
        self._tables.append((False, table))

    def _inside(self, device: str) -> str:
        return _drops(TABLE, "egress", device, 450)

    def _mark(self) -> str:
        """An empty chain says that this agent holds the table."""
        return f"add chain netdev {TABLE} {self._own}"

    def admit(self, inbound: Sequence[Inbound]) -> None:
        """Let in by the devices whoever these name, and what is said to them out; nobody else from now on.

        Raises StockadeError: as it was before.
        """
        before, self._let_in = self._let_in, tuple(inbound)
        try:
            self._admit()
        except (StockadeError, OSError):
            self._let_in = before
            raise

    def _admit(self) -> None:
        if self.by != EGRESS:
            if self._let_in and self.by == HOST_END:
                raise StockadeError("`inbound` of a container needs the egress hook (Linux 5.16)", code="device")
            return
        rules = [f"delete chain netdev {TABLE} {chain}" for chain in sorted(self._chains(TABLE, inside=True)) if self._lets(chain)]
        if self._let_in:
            rules += [*_sets(), *(rule for device in sorted(self.devices) for rule in self._entrance(device))]
            rules += [f"{line}" for device in sorted(self.devices) for line in _replies(device)]
        if rules:
            self.say("\n".join(rules), inside=True)

    def keep(self, protocol: str, local: tuple[str, int], peer: tuple[str, int]) -> None:
        """Let the packets of one connection out. Raises StockadeError."""
        if self.by == NOTHING:
            return
        if self.by != EGRESS:
            raise StockadeError("a connection can be kept with the egress hook alone (Linux 5.16)", code="device")
        family = 6 if ":" in peer[0] else 4
        lines = [
            *_sets(),
            f"add element netdev {TABLE} said{family} {{ {protocol} . {local[0]} . {local[1]} . {peer[0]} . {peer[1]} timeout 30d }}",
        ]
        self.say("\n".join([*lines, *(line for device in sorted(self.devices) for line in _replies(device))]), inside=True)

    def _lets(self, chain: str) -> bool:
        return chain.startswith(f"in_{self._number}_")

    def _entrance(self, device: str) -> Iterator[str]:
        chain = f"in_{self._number}_{device.encode().hex()}"
        yield f'add chain netdev {TABLE} {chain} {{ type filter hook ingress device "{device}" priority -450; policy accept; }}'
        for inbound in self._let_in:
            for source in inbound.networks:
                ip = "ip6" if source.version == 6 else "ip"
                whom = f"meta l4proto . {ip} daddr . th dport . {ip} saddr"
                yield (
                    f"add rule netdev {TABLE} {chain} {ip} saddr {source} tcp dport {inbound.port} "
                    f"update @heard{source.version} {{ {whom} timeout 1h }}"
                )

    def holds(self) -> str | None:
        """What became of it, in words; None while every device that was closed is."""
        for inside, table in self._tables:
            try:
                chains = self._chains(table, inside=inside)
            except (OSError, StockadeError):
                return f"the filter on {', '.join(sorted(self.devices))} was taken away"
            if inside and (self._own not in chains or any(_chain(name) not in chains for name in self.devices)):
                return f"the filter on {', '.join(sorted(self.devices))} was changed"
        return None

    def open(self) -> None:
        """Take it away again, unless another agent holds devices of the same namespace."""
        for inside, table in dict.fromkeys(self._tables):
            try:
                if inside:
                    self.say(f"delete chain netdev {table} {self._own}", inside=True)
                    if any(name.startswith("held_") for name in self._chains(table, inside=True)):
                        continue
                self.say(f"delete table netdev {table}", inside=inside)
            except StockadeError:  # it is gone, or the namespace is
                continue
        self._tables.clear()
        self.devices.clear()
        self.by = NOTHING

    def silence(self) -> None:
        """Let nobody in any more, and answer nobody, those included whose connection was kept. Raises StockadeError."""
        self._let_in = ()
        if self.by != EGRESS:
            return
        rules = [f"delete chain netdev {TABLE} {chain}" for chain in sorted(self._chains(TABLE, inside=True)) if self._lets(chain)]
        rules += [f"flush chain netdev {TABLE} {_chain(device)}" for device in sorted(self.devices)]
        rules += [f"delete set netdev {TABLE} {name}" for name in sorted(self._names("set", TABLE, inside=True))]
        self.say("\n".join(rules), inside=True)

    def forget(self) -> None:
        """Open what was closed here by whoever is not there to open it, with the same number."""
        for inside, table in ((True, TABLE), (False, f"{TABLE}_{self._number}")):
            with contextlib.suppress(StockadeError):  # it is not there
                self.say(f"delete table netdev {table}", inside=inside)
        self._tables.clear()
        self.devices.clear()
        self.by = NOTHING

    def _chains(self, table: str, *, inside: bool) -> set[str]:
        return self._names("chain", table, inside=inside)

    def _names(self, kind: str, table: str, *, inside: bool) -> set[str]:
        words = ("-j", "-t", "list", "table", "netdev", table)  # without what is in its sets
        try:
            said = json.loads(self.say("", inside=inside, words=words))
        except ValueError as error:
            raise StockadeError(f"nft says no JSON: {error}", code="device") from None
        return {entry[kind]["name"] for entry in said["nftables"] if kind in entry}

    def say(self, rules: str, *, inside: bool, words: tuple[str, ...] = ("-f", "-")) -> str:
        """What nft prints. rules: its standard input. inside: in the network namespace of what is held. Raises StockadeError."""
        program = shutil.which("nft", path=_PATH)
        if program is None:
            raise StockadeError("there is no nft", code="device")

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run([program, *words], input=rules, capture_output=True, text=True, timeout=_SECONDS, check=False)

        try:
            done = self._joined.do(run) if inside else run()
        except subprocess.SubprocessError as error:
            raise StockadeError(str(error), code="device") from None
        if done.returncode:
            raise StockadeError(" ".join(done.stderr.split()) or f"nft ended with {done.returncode}", code="device")
        return done.stdout


def _sets() -> Iterator[str]:
    """Whose packets may leave. said: connections that were kept, local end, then the other. heard: one of our ports, and the address of
    somebody who spoke to it; without their port, of which one peer has so many that it could fill a set alone."""
    for family in (4, 6):
        kind = f"ipv{family}_addr"
        own = f"type inet_proto . {kind} . inet_service . {kind}"
        for name, of in ((f"said{family}", f"{own} . inet_service"), (f"heard{family}", own)):
            yield f"add set netdev {TABLE} {name} {{ {of}; flags dynamic,timeout; size 65535; }}"


def _replies(device: str) -> Iterator[str]:
    """In the place of what the chain had: packets of known connections, and neighbours that are asked who they are, at most 20 a second."""
    chain = _chain(device)
    yield f"flush chain netdev {TABLE} {chain}"
    for family, ip in ((4, "ip"), (6, "ip6")):
        yield f"add rule netdev {TABLE} {chain} meta l4proto . {ip} saddr . th sport . {ip} daddr . th dport @said{family} accept"
        yield f"add rule netdev {TABLE} {chain} meta l4proto . {ip} saddr . th sport . {ip} daddr @heard{family} accept"
    yield f"add rule netdev {TABLE} {chain} ether type arp limit rate 20/second accept"
    yield f"add rule netdev {TABLE} {chain} icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} limit rate 20/second accept"


def _chain(device: str) -> str:
    return f"out_{device.encode().hex()}"


def _drops(table: str, hook: str, device: str, priority: int) -> str:
    quoted = device.replace("\\", "").replace('"', "")
    if quoted != device:
        raise StockadeError(f"a device is called {device!r}", code="device")
    return f'add chain netdev {table} {_chain(device)} {{ type filter hook {hook} device "{device}" priority {priority}; policy drop; }}'
