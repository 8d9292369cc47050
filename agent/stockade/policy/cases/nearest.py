"""Nearest: the rule that came closest to allowing a request, and the level at which it fell. For whoever wonders about a refusal."""

from __future__ import annotations

from dataclasses import dataclass

from stockade.policy.families import started_by
from stockade.policy.model import Policy, Rule
from stockade.types import Level, Request

_SHOWN = 6  # entries of a list that are printed; the file has the others


@dataclass(frozen=True, slots=True)
class Nearest:
    """level: the first that does not fit, None when every known one does. why: what that level denies or allows."""

    rule: Rule
    level: Level | None
    why: str

    def __str__(self) -> str:
        place = f" ({self.rule.place.path}:{self.rule.place.line})" if self.rule.place.line else ""
        return f"rule {self.rule.name}{place} " + (f"fell at {self.level.value}: {self.why}" if self.level else self.why)


def nearest(request: Request, policy: Policy) -> Nearest | None:
    """The rule of which most levels fit, the earlier of equals; None when a policy has no rules."""
    judged = [fit(request, rule) for rule in policy.rules]
    return max(judged, key=_depth, default=None)


_DEPTHS = {Level.BINARY: 0, Level.DESTINATION: 1, Level.METHOD: 2, Level.PATH: 3, None: 4}


def _depth(found: Nearest) -> int:
    return _DEPTHS[found.level]


def fit(request: Request, rule: Rule) -> Nearest:
    """How far one rule follows a request, levels in order."""
    binary, host, port = request.binary, request.host, request.port
    if not binary.names.isdisjoint(rule.binary.deny):
        return Nearest(rule, Level.BINARY, f"it denies {_listed(rule.binary.deny)}")
    if binary.names.isdisjoint(rule.binary.allow):
        return Nearest(rule, Level.BINARY, f"it allows {_listed(rule.binary.allow)}")
    if rule.sha256 and binary.sha256 not in rule.sha256:
        return Nearest(rule, Level.BINARY, f"it allows {binary.name} with another SHA-256")
    if rule.ancestors and request.ancestors is not None and not started_by(request.ancestors, rule.ancestors):
        return Nearest(rule, Level.BINARY, f"it allows what {_listed(rule.ancestors)} started")
    denied = [pattern.text for pattern in rule.destination.deny if pattern.matches(host) and pattern.port in (None, port)]
    if denied:
        return Nearest(rule, Level.DESTINATION, f"it denies {_listed(denied)}")
    hosts = [pattern for pattern in rule.destination.allow if pattern.matches(host)]
    if not hosts:
        return Nearest(rule, Level.DESTINATION, f"it allows {_listed([pattern.text for pattern in rule.destination.allow])}")
    ports = sorted({opened for pattern in hosts for opened in rule.ports_for(pattern)})
    if port is not None and port not in ports:
        return Nearest(rule, Level.DESTINATION, f"it allows port {_listed([str(opened) for opened in ports])} there")
    if rule.method is None or rule.path is None:
        return Nearest(rule, None, "relays it without looking inside")
    if request.method in rule.method.deny:
        return Nearest(rule, Level.METHOD, f"it denies {_listed(rule.method.deny)}")
    if request.method is not None and request.method not in rule.method.allow:
        return Nearest(rule, Level.METHOD, f"it allows {_listed(rule.method.allow)}")
    if request.path is not None and rule.path.deny.matches(request.path):
        return Nearest(rule, Level.PATH, f"it denies {_listed(rule.path.deny.globs)}")
    if request.path is not None and not rule.path.allow.matches(request.path):
        return Nearest(rule, Level.PATH, f"it allows {_listed(rule.path.allow.globs)}")
    return Nearest(rule, None, "allows it")


def _listed(entries: list[str] | tuple[str, ...]) -> str:
    more = len(entries) - _SHOWN
    return ", ".join(entries[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
