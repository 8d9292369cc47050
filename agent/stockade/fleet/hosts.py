"""Which hosts there are: addresses on the command line, or a file with a line for each.

# name      address
gpu-1       ssh://gpu-1.example
gpu-2       ssh://ops@10.20.0.7:2222
here        local
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stockade.policy.format.problems import Problem
from stockade.types import StockadeError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# Nothing of it may look like an option to ssh: neither the user nor the host begins with a dash.
_SSH = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]{0,31})@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:]+\])(?::(?P<port>[0-9]{1,5}))?"
)
ACCEPTED = "ssh://HOST, ssh://USER@HOST:PORT, local, unix:///run/stockade"


@dataclass(frozen=True, slots=True)
class Host:
    """ssh: [USER@]HOST and, with a port, that; None: this machine, whose agents' directory is `run`."""

    name: str
    ssh: tuple[str, int | None] | None = None
    run: Path = Path("/run/stockade")


def parse(address: str, name: str = "") -> Host:
    """Raises ValueError."""
    if address == "local":
        return Host(name or "local")
    if address.startswith("unix:///"):
        return Host(name or address, run=Path(address.removeprefix("unix://")))
    found = _SSH.fullmatch(address)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 0 < port <= 65535):
        raise ValueError(f"`{address}` is no address of a host")
    host = found["host"].strip("[]")
    return Host(name or found["host"], (f"{found['user']}@{host}" if found["user"] else host, port))


def read(file: Path) -> list[Host]:
    """Raises StockadeError with everything that is wrong, located."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise StockadeError(f"cannot read {file}: {why}", hint="a file with `NAME ADDRESS` on each line", code="fleet") from None
    hosts: dict[str, Host] = {}
    problems: list[Problem] = []
    for number, line in enumerate(lines, 1):
        words = [(found.start() + 1, found[0]) for found in re.finditer(r"\S+", line.partition("#")[0])]
        if not words:
            continue

        def wrong(column: int, message: str, accepted: str, number: int = number, line: str = line) -> None:
            problems.append(Problem(str(file), number, column, "fleet", message, accepted, source=line))

        (at, name), *rest = words
        if len(rest) != 1:
            wrong(at, f"a line has a name and an address, and this one has {len(words)} words", f"NAME {ACCEPTED}")
        elif not _NAME.fullmatch(name):
            wrong(at, f"`{name}` is no name", "letters, digits, `.`, `_`, `-`; at most 63")
        elif name in hosts:
            wrong(at, f"another host is called `{name}`", "a name of its own")
        else:
            try:
                hosts[name] = parse(rest[0][1], name)
            except ValueError as error:
                wrong(rest[0][0], str(error), ACCEPTED)
    if not problems and not hosts:
        problems.append(Problem(str(file), 0, 0, "fleet", "it names no host", f"NAME {ACCEPTED}"))
    if problems:
        raise StockadeError("\n".join(map(str, problems)), hint="docs/fleet.md", code="fleet")
    return list(hosts.values())


def named(texts: Iterable[str]) -> list[Host]:
    """Of a command line: a file, or an address. Raises StockadeError."""
    found: list[Host] = []
    for text in texts:
        try:
            found.append(parse(text))
        except ValueError as error:
            if not Path(text).exists():
                raise StockadeError(f"{error}, and no file either", hint=ACCEPTED, code="fleet") from None
            found += read(Path(text))
    return found
