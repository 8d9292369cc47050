"""Everything a launcher needs to know, decided beforehand by the agent: the launcher reads no policy and holds no key."""

from __future__ import annotations

from dataclasses import dataclass

from stockade.sandbox.devices import Node

# The device files of every sandbox: none of them leads anywhere, or remembers anything.
NODES = ("null", "zero", "full", "random", "urandom", "tty")


@dataclass(frozen=True, slots=True)
class Bind:
    """A host path shown in the sandbox. owner: (uid, gid) on disk that appear as the sandbox's user, where an id-mapped mount is needed."""

    source: str
    target: str
    writable: bool = False
    executable: bool = True
    owner: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A sandbox to be launched.

    files: path in the sandbox → content, shown read-only over what is there. user: uid and gid, both, as the machine knows them.
    identity: the number that they are inside, in a user namespace that maps no other; None: the same as outside. argv[0] is looked up in
    `path`. cgroup: the directory, on the host, of the one that init is born in. joins: cgroup.procs of those beside it, in v1 hierarchies,
    that count or limit something. processes: RLIMIT_NPROC, where no cgroup limits them. landlock:
    the ABI to use, 0 for none. seccomp: struct sock_filter[]. devices: shown beside NODES. libraries: of their drivers, wherever they lie.
    apart: in a session of its own, whose terminal is the one among its standard streams: the launcher is in nobody's.
    """

    name: str
    user: int
    cgroup: str
    joins: tuple[str, ...]
    argv: tuple[str, ...]
    environment: dict[str, str]
    workdir: str
    binds: tuple[Bind, ...]
    links: dict[str, str]  # symbolic links of the root: /bin → usr/bin
    files: dict[str, bytes]
    hidden: tuple[str, ...]
    home: str
    seccomp: bytes
    landlock: int = 0
    identity: int | None = None
    processes: int | None = None
    devices: tuple[Node, ...] = ()
    libraries: tuple[str, ...] = ()
    noexec: bool = True
    apart: bool = False
    tmpfs_bytes: int = 1 << 30
