"""What one host answers: its version, and of each sandbox the policy, generation and counts. Owns the form, and holds answers to it.

{"version": …, "host": …, "kernel": …, "sandboxes": [
    {"name": …, "version": …, "policy": …, "policy_sha256": …, "generation": …, "mode": …, "allowed": …, "denied": …, "unenforced": …,
     "refused": […], "problems": […]}],
 "daemon_version": …, "daemon_pid": …}
"""

from __future__ import annotations

import dataclasses
import platform
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stockade import __version__
from stockade.daemon.overview import overview
from stockade.service.settings import Settings

TOP = 3  # reasons of refusals that are told
MOST = 10_000  # sandboxes that one host may name
TEXT = 400  # characters of one word of it

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """version: of its agent, which may be older than what is installed. allowed, denied, unenforced: since that agent serves it.

    refused: `reason × count` of the commonest. problems: in words.
    """

    name: str
    version: str = ""
    policy: str = ""
    policy_sha256: str = ""
    generation: int = 0
    mode: str = ""
    allowed: int = 0
    denied: int = 0
    unenforced: int = 0
    refused: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def kept_out(self) -> int:
        return self.denied - self.unenforced


@dataclass(frozen=True, slots=True)
class Node:
    """version: of what is installed. daemon_version: of the daemon that runs, which may be another; empty and pid 0 without one."""

    version: str
    host: str
    kernel: str
    sandboxes: tuple[Sandbox, ...] = field(default_factory=tuple)
    daemon_version: str = ""
    daemon_pid: int = 0

    def as_json(self) -> Json:
        return dataclasses.asdict(self)


def here(settings: Settings, problems: Callable[[Json], list[str]]) -> Node:
    """This host, by what the agent of each sandbox says. problems: what is to be looked at, of its statistics. Raises StockadeError."""
    told = overview(settings)
    found = tuple(_told(each, problems) for each in told["sandboxes"])
    daemon = told["daemon"] or {"version": "", "pid": 0}
    if daemon.get("problem"):
        found = (*found, Sandbox("daemon", problems=(daemon["problem"],)))
    return Node(__version__, socket.gethostname(), platform.release(), found, daemon["version"], daemon["pid"])


def _told(each: Json, problems: Callable[[Json], list[str]]) -> Sandbox:
    if "status" not in each:
        return Sandbox(each["sandbox"], problems=(each["problem"],))
    status, statistics = each["status"], each["statistics"]
    counts: Counter[str] = Counter()
    for _action, decision, _level, reason, count in statistics["decisions"]:
        if decision == "deny":
            counts[str(reason)] += int(count)
    return Sandbox(
        each["sandbox"],
        **{key: status.get(key, "") for key in ("version", "policy", "policy_sha256", "generation", "mode")},
        **{key: statistics[key] for key in ("allowed", "denied", "unenforced")},
        refused=tuple(f"{reason} × {count}" for reason, count in counts.most_common(TOP)),
        problems=tuple(problems(statistics)),
    )


def read(value: Any) -> Node:
    """What another host sent. Raises ValueError: it is not of this form."""
    if not isinstance(value, dict) or not isinstance(value.get("sandboxes"), list) or len(value["sandboxes"]) > MOST:
        raise ValueError("no `sandboxes` in it")
    version, host, kernel = (_text(value, name) for name in ("version", "host", "kernel"))
    # one that is older says nothing of its daemon
    daemon = _text(value, "daemon_version") if "daemon_version" in value else ""
    pid = _number(value, "daemon_pid") if "daemon_pid" in value else 0
    return Node(version, host, kernel, tuple(map(_sandbox, value["sandboxes"])), daemon, pid)


def _sandbox(value: Any) -> Sandbox:
    if not isinstance(value, dict):
        raise ValueError("a sandbox that is no object")
    name, version, policy, digest, mode = (_text(value, each) for each in ("name", "version", "policy", "policy_sha256", "mode"))
    generation, allowed, denied, unenforced = (_number(value, each) for each in ("generation", "allowed", "denied", "unenforced"))
    refused, problems = _texts(value, "refused"), _texts(value, "problems")
    return Sandbox(name, version, policy, digest, generation, mode, allowed, denied, unenforced, refused, problems)


def _text(value: Json, name: str) -> str:
    found = value.get(name)
    if not isinstance(found, str):
        raise ValueError(f"`{name}` is no text")
    return found[:TEXT]


def _number(value: Json, name: str) -> int:
    found = value.get(name)
    if type(found) is not int:
        raise ValueError(f"`{name}` is no number")
    return found


def _texts(value: Json, name: str) -> tuple[str, ...]:
    found = value.get(name)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError(f"`{name}` is no list of texts")
    return tuple(each[:TEXT] for each in found[:20])
