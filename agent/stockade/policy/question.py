"""Questions: what a person asks about a policy in words (a binary, a URL, a method) turned into what `decide` is asked.

`explain`, `policy test` and the analyses share this, so that a question has one answer wherever it is put. Knows no file and no sandbox: a
binary is what its spelling says.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from urllib.parse import urlsplit

from stockade.policy.decide import decide
from stockade.policy.families import load_families
from stockade.policy.hosts import LOCALHOST, as_address, normalise_host, parse_pattern
from stockade.policy.model import Policy
from stockade.policy.neighbour import PREFIX
from stockade.types import Binary, Decision, Effect, Level, Outcome, Reason, Request

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes. path: as written, None without a URL. socket: the URL is a WebSocket's, which opens with a GET."""

    host: str
    port: int | None = None
    path: str | None = None
    socket: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host and self.port is not None else self.host
        return (host if self.port is None else f"{host}:{self.port}") + (self.path or "")


@dataclass(frozen=True, slots=True)
class Answer:
    """request: the reading of the question that decided; None when its path has no canonical form."""

    decision: Decision
    request: Request | None


def parse_target(text: str) -> Target:
    """A URL, HOST:PORT, HOST or `sandbox:NAME`. Raises ValueError that says why it is neither."""
    if text.startswith(PREFIX) and not text.removeprefix(PREFIX).isdigit():
        sandbox = parse_pattern(text)
        return Target(sandbox.value, sandbox.port)
    if "://" not in text:
        if text.count(":") > 1 and "[" not in text:
            return Target(dialled(text))
        parts = urlsplit(f"//{text}")
        if parts.path or parts.query or parts.fragment:
            raise ValueError("a host has no path; write https:// before it")
        return Target(dialled(parts.hostname or ""), _port(parts.port))
    parts = urlsplit(text)
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError(f"the scheme {parts.scheme} is not one of {', '.join(DEFAULT_PORTS)}")
    if "@" in parts.netloc:
        raise ValueError("a user in a URL is not part of where it goes")
    port = _port(parts.port) or DEFAULT_PORTS[parts.scheme]
    return Target(dialled(parts.hostname or ""), port, parts.path or "/", parts.scheme in ("ws", "wss"))


def dialled(text: str) -> str:
    """The normalised host by which a connection to it is decided: the kernel takes every loopback address for `localhost`. Raises
    ValueError for what is no host.
    """
    host = normalise_host(text)
    address = as_address(host)
    return LOCALHOST if address is not None and (address.is_loopback or address.is_unspecified) else host


def _port(port: int | None) -> int | None:
    if port == 0:
        raise ValueError("a port is 1 to 65535")
    return port


def named_binary(name: str, policy: Policy, *, sha256: str = "") -> Binary:
    """The binary that a family name, base name or absolute path stands for, as far as its spelling tells."""
    families = load_families().of(name, policy.binary_names())
    return Binary(name=name.rpartition("/")[2], names=families | {name}, path=name, sha256=sha256)


def ask(request: Request, policy: Policy) -> Answer:
    """The policy's answer to a request whose path is as somebody wrote it: canonical first, then every reading of it must be allowed,
    as the proxy's ladder has it.
    """
    if request.path is None:
        return Answer(decide(request, policy), request)
    from stockade.proxy.canonical import canonical_path, readings

    try:
        path = canonical_path(request.path)
    except ValueError:
        refused = Decision(Outcome.DENY, Effect.REFUSE, Level.PATH, Reason.PATH_INVALID, None, policy.generation, policy.enforced)
        return Answer(refused, None)
    answers = [Answer(decide(asked, policy), asked) for asked in (dataclasses.replace(request, path=reading) for reading in readings(path))]
    return next((answer for answer in answers if not answer.decision.allowed), answers[0])
