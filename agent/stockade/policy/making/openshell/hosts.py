"""Host patterns of OpenShell beside ours: what means the same, what covers what, what may meet.

A star there is within one label and `**` is labels; `*.example.com` is any number of labels here, so only `**.example.com` is the same.
"""

from __future__ import annotations

import re

from stockade.policy.addresses import range_of
from stockade.policy.hosts import LOCALHOST, HostError, as_address, normalise_host, parse_pattern, too_broad

_ALIASES = ("host.openshell.internal", "host.docker.internal", "host.containers.internal")


def unusable(host: str) -> str:
    """Why a host of theirs cannot stand in an allow list of ours with the same meaning; empty when it can."""
    name = host.removeprefix("*.")
    if name == LOCALHOST or name.endswith("." + LOCALHOST):
        return "is refused there; here it would be the host's own loopback"
    if name in _ALIASES:
        return f"is the machine itself there; write {LOCALHOST} for a service on the host's loopback"
    try:
        if normalise_host(name) != name:
            return f"is spelt {normalise_host(name)} here, which theirs does not match"
        pattern = parse_pattern(host)
    except (HostError, ValueError) as error:
        return f"is no host: {error}"
    if pattern.port is not None:
        return "has a port"
    if broad := too_broad(pattern):
        return broad
    address = as_address(pattern.value)
    row = range_of(address) if address is not None else None
    return f"is never dialled: {row}" if row is not None and not row.private else ""


def covers(pattern: str, host: str) -> bool:
    """Whether a host pattern of theirs covers a host: a star is within one label."""
    expression = r"\.".join(
        r"[^.]+" if label == "*" else "[^.]*".join(map(re.escape, re.split(r"\*+", label))) for label in pattern.split(".")
    )
    return re.fullmatch(expression, host) is not None


def overlap(a: str, b: str) -> bool:
    """Whether two host patterns may mean the same host. Says yes when in doubt; an empty one is any host."""
    ends = [text.lower().rstrip(".").rpartition("*") for text in (a, b)]
    (_, star_a, end_a), (_, star_b, end_b) = ends
    if not a or not b:
        return True
    if not star_a and not star_b:
        return end_a == end_b
    return (bool(star_a) and end_b.endswith(end_a)) or (bool(star_b) and end_a.endswith(end_b))
