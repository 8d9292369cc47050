"""What entries and globs mean, written down with no thought of speed: no pattern objects, no expressions, nothing of ours imported."""

from __future__ import annotations

import ipaddress


def entry_port(entry: str) -> int | None:
    head, _, port = entry.rpartition(":")
    return int(port) if head and (":" not in head or head.endswith("]")) else None


def host_fits(entry: str, host: str) -> bool:
    own = entry_port(entry)
    entry = entry if own is None else entry.rpartition(":")[0]
    entry = entry.strip("[]")
    if entry == "*" or entry == host:
        return True
    if entry.startswith("*."):
        return host.endswith(entry[1:])
    if "/" in entry and host[0] in "1f":
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry)
    return False


def fits(glob: list[str], path: list[str]) -> bool:
    """An allow glob: `*` is a segment that is not empty, or any part of one; `**` is any number of segments, at the end at least one."""
    if not glob:
        return not path
    head, *rest = glob
    if head == "**":
        return any(fits(rest, path[skip:]) for skip in range(len(path))) if rest else bool(path)
    return bool(path) and segment_fits(head, path[0]) and fits(rest, path[1:])


def segment_fits(glob: str, segment: str) -> bool:
    return segment != "" if glob == "*" else within(glob, segment)


def within(glob: str, text: str) -> bool:
    if not glob:
        return not text
    if glob[0] == "*":
        return any(within(glob[1:], text[skip:]) for skip in range(len(text) + 1))
    return text[:1] == glob[0] and within(glob[1:], text[1:])


def closes(glob: str, path: str) -> bool:
    """A deny glob: case does not count, nor a closing slash; a trailing `*` covers deeper segments, and `/x/*` covers `/x`."""
    pattern, segments = glob.lower().rstrip("/")[1:].split("/"), path.lower()[1:].split("/")
    if pattern[-1] in ("*", "**"):
        pattern.pop()
        while pattern and pattern[-1] == "**":  # `/x/**/*` says no more than `/x/*`
            pattern.pop()
        return any(fits(pattern, segments[:length]) for length in range(len(segments) + 1))
    if pattern[-1].endswith("*"):
        return any(fits(pattern, segments[:length]) for length in range(1, len(segments) + 1))
    return fits(pattern, segments) or (segments[-1] == "" and fits(pattern, segments[:-1]))
