"""How the agent starts a classifier. It ends with the last descriptor of its channel."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from stockade.policy import Policy
from stockade.privacy.documents import registry as registered
from stockade.proxy.channel import HEADER

LOOKS = 1.0  # seconds between two looks at the registry


def wanted(policy: object) -> bool:
    """Whether anything in this policy asks what is said: a policy that does not starts no classifier, and pays for none."""
    return isinstance(policy, Policy) and (
        getattr(policy, "privacy", None) is not None or any(getattr(rule, "scan", ()) for rule in policy.rules)
    )


@dataclass(frozen=True, slots=True)
class Launched:
    """channel: for the worker that asks. registry: for `follow`."""

    channel: socket.socket
    registry: socket.socket
    process: subprocess.Popen[bytes]


def launch(user: int) -> Launched:
    """A new classifier, which loads while others go on. Raises OSError."""
    ours, theirs = socket.socketpair()
    told, heard = socket.socketpair()
    with theirs, heard:
        uid = user if os.geteuid() == 0 else os.geteuid()
        # Isolated and without the caller's environment: nothing that it has set steers this. ONNX Runtime would report to its maker, and
        # keep a database for that in the home of whoever runs it.
        program = "import sys; from stockade.privacy.serve.process import main; main(*map(int, sys.argv[1:]))"
        words = [sys.executable, "-I", "-c", program, *map(str, (theirs.fileno(), heard.fileno(), uid))]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(
            words,
            pass_fds=[theirs.fileno(), heard.fileno()],
            env={"ORT_DISABLE_TELEMETRY": "1", "HOME": "/nonexistent"},
            stdin=quiet,
            stdout=quiet,
            cwd="/",
        )
    return Launched(ours, told, process)


async def follow(sock: socket.socket, path: Path = registered.PATH) -> None:
    """Tell a classifier of every change of the registry, until it ends: it cannot open the file itself. Closes the socket.

    What was read when it loaded may be older than the file is now, so it is told once at the start, too.
    """
    with sock:
        sock.setblocking(False)
        known: object = None
        while True:
            state = await asyncio.to_thread(_state, path)
            if state != known:
                data = b"" if state is None else await asyncio.to_thread(_content, path)
                try:
                    await asyncio.get_running_loop().sock_sendall(sock, HEADER.pack(len(data)) + data)
                except OSError:
                    return
                known = state
            await asyncio.sleep(LOOKS)


def _state(path: Path) -> object:
    try:
        found = path.stat()
    except OSError as error:
        return None if isinstance(error, FileNotFoundError) else error.errno
    return found.st_ino, found.st_mtime_ns, found.st_size


def _content(path: Path) -> bytes:
    """The octets of the registry; of one that cannot be read, something that none can be read of."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        return f"cannot read {path}: {error.strerror}".encode()
