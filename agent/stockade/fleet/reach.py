"""How each host is asked: here by the agents' sockets, elsewhere by ssh and `stockade fleet node`. All at once, each for as long as it may.

Who may ask is ssh's to say, as for every other command; nothing of Stockade's listens on a network for this.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from stockade.fleet import node
from stockade.fleet.hosts import Host
from stockade.fleet.node import Json, Node
from stockade.service.settings import Settings
from stockade.types import StockadeError

AT_ONCE = 16
ANSWER = 16 * 1024 * 1024  # octets
COMPLAINT = 64 * 1024  # of what ssh or the host says of itself: the rest is read, and dropped


@dataclass(frozen=True, slots=True)
class Asked:
    """node None: it did not answer, and why."""

    host: Host
    node: Node | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """command: what is run there, as a shell there reads it. options: of ssh, as -o has them. seconds: for one host."""

    command: str = "stockade"
    options: tuple[str, ...] = ()
    seconds: float = 30.0


def ask_all(hosts: Sequence[Host], way: Way, problems: Callable[[Json], list[str]]) -> list[Asked]:
    """In the order of the hosts. Raises nothing: a host that does not answer is an answer."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda host: _ask(host, way, problems), hosts))


def _ask(host: Host, way: Way, problems: Callable[[Json], list[str]]) -> Asked:
    try:
        return Asked(host, node.here(Settings(run=host.run), problems) if host.ssh is None else _by_ssh(host.ssh, way))
    except StockadeError as error:
        return Asked(host, None, error.message)


def _by_ssh(where: tuple[str, int | None], way: Way) -> Node:
    """Raises StockadeError."""
    destination, port = where
    # nobody is there to type a password, and a host whose key is not known is not asked
    options = ["BatchMode=yes", "StrictHostKeyChecking=yes", f"ConnectTimeout={max(1, int(way.seconds / 2))}", *way.options]
    words = ["ssh", "-T", *(word for option in options for word in ("-o", option)), *(["-p", str(port)] if port else [])]
    try:
        status, answer, complaint = _heard([*words, "--", destination, f"{way.command} fleet node"], way.seconds)
    except FileNotFoundError:
        raise StockadeError("there is no ssh on this machine", hint="apt-get install openssh-client", code="fleet") from None
    except TimeoutError:
        raise StockadeError(f"no answer in {way.seconds:g} seconds", code="fleet") from None
    except OverflowError as error:
        raise StockadeError(f"what it says is no answer of `stockade fleet node`: {error}", code="fleet") from None
    if status != 0:
        said = complaint.decode(errors="replace").strip().splitlines() or [f"status {status}"]
        raise StockadeError(f"ssh: {said[0][:300]}" if status == 255 else said[0][:300], code="fleet")
    try:
        return node.read(json.loads(answer))
    except (ValueError, RecursionError) as error:
        raise StockadeError(f"what it says is no answer of `stockade fleet node`: {error}", code="fleet") from None


def _heard(words: Sequence[str], seconds: float) -> tuple[int, bytes, bytes]:
    """Its status, and what it said on each output. No more of either is ever in memory than may be: whoever answers may be anybody.

    Raises TimeoutError; OverflowError when the answer is longer than ANSWER; OSError.
    """
    until = time.monotonic() + seconds
    with (
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asked,
        selectors.DefaultSelector() as outputs,
    ):
        assert asked.stdout is not None and asked.stderr is not None
        answer, complaint = bytearray(), bytearray()
        outputs.register(asked.stdout, selectors.EVENT_READ, answer)
        outputs.register(asked.stderr, selectors.EVENT_READ, complaint)
        try:
            while outputs.get_map():
                if (left := until - time.monotonic()) <= 0:
                    raise TimeoutError
                for key, _ in outputs.select(left):
                    if not (said := os.read(key.fd, 65536)):
                        outputs.unregister(key.fileobj)
                    key.data.extend(said if key.data is answer else said[: COMPLAINT - len(complaint)])
                if len(answer) > ANSWER:
                    raise OverflowError("it is too long")
            status = asked.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        finally:
            asked.kill()  # one that has ended is waited for already
    return status, bytes(answer), bytes(complaint)
