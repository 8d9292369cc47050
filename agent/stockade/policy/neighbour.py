"""Neighbours: another sandbox of this machine as a policy names it, `sandbox:NAME`, and the one host that stands for it everywhere else.

No other spelling, wildcard or Rego leads to that host, and no name server is ever asked for it. Knows no socket and no running sandbox.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from stockade.policy.own import HOST

PREFIX = "sandbox:"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")  # of a sandbox

_ZONE = f".sandbox.{HOST}"
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_DIALLED = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")  # what names of hosts can carry: they know no upper case


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another sandbox, where it is the one that comes in."""

    name: str

    def __str__(self) -> str:
        return PREFIX + self.name

    @classmethod
    def parse(cls, text: str) -> Neighbour:
        """`sandbox:NAME`. Raises ValueError."""
        name = text.removeprefix(PREFIX)
        if name == text or not NAME.fullmatch(name):
            raise ValueError(f"`{text}` is no sandbox: its name is letters, digits, `.`, `_`, `-`, at most 63")
        return cls(name)


Visitor = ipaddress.IPv4Address | ipaddress.IPv6Address | Neighbour


def visitor(text: str) -> Visitor:
    """Who comes in, from how it is written. Raises ValueError."""
    return Neighbour.parse(text) if text.startswith(PREFIX) else ipaddress.ip_address(text)


def host_of(name: str) -> str:
    """The host that stands for a sandbox. Raises ValueError for one that cannot be dialled."""
    if not (NAME.fullmatch(name) and _DIALLED.fullmatch(name)):
        raise ValueError(f"`{PREFIX}{name}` cannot be dialled: the name of a host has no upper case, no star and no empty part")
    return name + _ZONE


def neighbour_of(host: str) -> str | None:
    """The name of the sandbox that a normalised host stands for; None for every other host."""
    name = host.removesuffix(_ZONE)
    return name if name != host and NAME.fullmatch(name) else None


def spelt(host: str) -> str:
    """A normalised host as a policy writes it."""
    name = neighbour_of(host)
    return host if name is None else PREFIX + name
