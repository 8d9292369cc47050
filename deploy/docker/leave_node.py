#!/opt/stockade/bin/python
"""Takes away what an agent left on its node: what its pods were held by, pins, cgroups, directories. Pods go on, ungoverned.

    leave-node [--wait] [--pins DIR] [--remove DIR]…

Refuses while an agent runs: it would put everything back. --wait: afterwards make /tmp/left, and stay until told to end; in a DaemonSet
a node on which it is there has been left. Exit status 1, and words, where something is still there.

An agent that ends leaves everything where it is, for the next one: that is what holds a pod while there is none. So somebody must say that
no next one comes.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

RANGES = (
    ipaddress.ip_network("198.18.0.0/15"),
    ipaddress.ip_network("fd57:a11d::/32"),
)  # of an agent's addresses on lo
PINS = Path("/run/stockade/bpf")
OWN = (Path("/proc/1/ns/net"), Path("/proc/self/ns/net"))  # the node's network: it sees the node's processes, and may be in it


def agents() -> list[int]:
    """Those that run in a pod. One of the node's own, by `stockade daemon`, has nothing to do with pods."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words, pod = path.read_bytes().split(b"\0"), "kubepods" in (path.parent / "cgroup").read_text()
        except OSError:
            continue
        if pod and words[1:4] == [b"/usr/local/bin/stockade", b"kubernetes", b"agent"]:
            found.append(int(path.parent.name))
    return found


def networks() -> Iterator[tuple[int, str]]:
    """A process of each network namespace of a pod: an agent of a node holds nobody else. Not the node's own, where some pods are, too:
    what is in there is of a Stockade of the node's own, but for `of_pods`."""
    seen = set(nodes())
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            pod = "kubepods" in path.read_text()
            inode = (path.parent / "ns/net").stat().st_ino
        except OSError:
            continue
        if pod and inode not in seen:
            seen.add(inode)
            yield int(path.parent.name), str(path.parent / "ns/net")


def nodes() -> dict[int, str]:
    """The node's network, as far as that is to be seen."""
    found = {}
    for path in OWN:
        with contextlib.suppress(OSError):  # of the first process of a node that is itself in something
            found.setdefault(path.stat().st_ino, str(path))
    return found


def of_pods(names: Iterable[str]) -> list[str]:
    """Of the tables of the node's network those that close the other end of a pod's devices. Each is called by the number of a cgroup."""
    pods = set()
    for hierarchy in v2():
        for directory, _, _ in os.walk(hierarchy):
            if "kubepods" in directory:
                with contextlib.suppress(FileNotFoundError):
                    pods.add(f"stockade_{Path(directory).stat().st_ino}")
    return sorted(pods.intersection(names))


def opened() -> list[str]:
    """Of these, what was taken away. Raises CalledProcessError."""
    gone = []
    for network in nodes().values():
        tables = json.loads(said(network, "nft", "-j", "list", "tables") or "{}").get("nftables", [])
        for name in of_pods(each["table"]["name"] for each in tables if each.get("table", {}).get("family") == "netdev"):
            said(network, "nft", "delete", "table", "netdev", name)
            gone.append(f"table {name}")
    return gone


def said(network: str, *words: str) -> str:
    """Raises CalledProcessError."""
    command = ["nsenter", f"--net={network}", "--", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout


def freed(network: str) -> list[str]:
    """Tables and addresses of one namespace that were taken away. Raises CalledProcessError."""
    gone = []
    for entry in json.loads(said(network, "nft", "-j", "list", "tables") or "{}").get("nftables", []):
        table = entry.get("table", {})
        name = table.get("name", "")
        if table.get("family") == "netdev" and (name == "stockade" or name.removeprefix("stockade_").isdecimal()):
            said(network, "nft", "delete", "table", "netdev", name)
            gone.append(f"table {name}")
    for link in json.loads(said(network, "ip", "-j", "address", "show", "dev", "lo") or "[]"):
        for each in link.get("addr_info", []):
            address = ipaddress.ip_address(each["local"])
            if any(address in place for place in RANGES if place.version == address.version):
                said(network, "ip", "address", "del", f"{address}/{each['prefixlen']}", "dev", "lo")
                gone.append(f"address {address}")
    return gone


def v2() -> list[Path]:
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return sorted({Path(words[1]) for words in mounts if words[2] == "cgroup2"})


def cgroups() -> Iterator[Path]:
    """An agent's own, deepest first. What a Stockade of the node's own has beside them stays."""
    for hierarchy in v2():
        yield from (hierarchy / "stockade").glob("*-node*")
        yield hierarchy / "stockade"


def removed(cgroup: Path) -> None:
    try:
        cgroup.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        if cgroup.name != "stockade" or error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise


def let_go_on() -> list[str]:
    """What waited for an agent: what began while there was none is stopped before its first instruction, or stands still in its cgroup."""
    gone = []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            unified = next((line[3:] for line in path.read_text().splitlines() if line.startswith("0::")), "")
            state = (path.parent / "stat").read_text().rpartition(")")[2].split()[0]
            if "kubepods" not in unified:
                continue
            for hierarchy in v2():
                freeze = hierarchy / unified.lstrip("/") / "cgroup.freeze"
                if freeze.read_text().strip() == "1":
                    freeze.write_text("0")
                    gone.append(f"thawed {unified}")
            if state == "T":
                os.kill(int(path.parent.name), signal.SIGCONT)
                gone.append(f"went on: {path.parent.name}")
        except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
            continue
    return gone


def emptied(directory: Path) -> None:
    """Itself too, where it is no mount. Of pins each file is a name of a program: with the last one it goes."""
    if not directory.is_dir():
        return
    for each in directory.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()
    if not directory.is_mount():
        directory.rmdir()


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--wait", action="store_true")
    words.add_argument(
        "--pins",
        type=Path,
        default=PINS,
        help="where programs are pinned (default: %(default)s)",
    )
    words.add_argument("--remove", type=Path, action="append", default=[], metavar="DIR")
    asked = words.parse_args()
    if running := agents():
        sys.exit(f"leave-node: an agent runs (pid {', '.join(map(str, running))}): end it first")
    left = []

    def tried(what: str, do: object, *arguments: object) -> None:
        try:
            done = do(*arguments)  # type: ignore[operator]
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            left.append(f"{what}: {getattr(error, 'stderr', None) or error}".strip())
        else:
            print(
                f"leave-node: {what}: {', '.join(done) if done else 'nothing of ours' if done == [] else 'gone'}",
                flush=True,
            )

    # What drops packets last but for the pins: a pod whose filter is gone is held by its programs until those are gone too.
    for pid, network in networks():
        tried(f"network of pid {pid}", freed, network)
    tried("network of the node", opened)
    tried(str(asked.pins), emptied, asked.pins)
    tried("what waited for an agent", let_go_on)
    for cgroup in list(cgroups()):
        tried(str(cgroup), removed, cgroup)
    for directory in asked.remove:
        tried(str(directory), emptied, directory)
    if left:
        sys.exit("\n".join(f"leave-node: still there: {each}" for each in left))
    if asked.wait:
        Path("/tmp/left").touch()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
