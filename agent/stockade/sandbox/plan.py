"""Everything a launcher needs to know, decided beforehand by the agent: the launcher reads no policy and holds no key."""

from __future__ import annotations

from dataclasses import dataclass


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

    files: path in the sandbox → content, shown read-only over what is there. user: uid and gid, both. argv[0] is looked up in `path`.
    cgroup: the path of its cgroup.procs on the host. seccomp: struct sock_filter[].
    """

    name: str
    user: int
    cgroup: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    workdir: str
    binds: tuple[Bind, ...]
    links: dict[str, str]  # symbolic links of the root: /bin → usr/bin
    files: dict[str, bytes]
    hidden: tuple[str, ...]
    home: str
    seccomp: bytes
    noexec: bool = True
    tmpfs_bytes: int = 1 << 30
