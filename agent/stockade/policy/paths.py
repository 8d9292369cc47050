"""Paths: which canonical paths a list of globs covers. `*` stays within a segment, `**` crosses them.

A path comes from the sandbox and may have thousands of characters, so the expressions built here never search twice: every wildcard but the
last of its run is closed by an atomic group around the earliest place where what follows it fits, which is also the best one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_ALLOWED = re.compile(r"(?:[A-Za-z0-9._~!$&'()+,;=:@*/-]|%[0-9A-F]{2})*")
_END = r"(?=/|\Z)"


class PathError(ValueError):
    """A path glob that cannot be read; accepted goes into the Problem."""

    def __init__(self, message: str, accepted: str) -> None:
        super().__init__(message)
        self.accepted = accepted


@dataclass(frozen=True, slots=True)
class PathList:
    """The globs of one list, ready to match. globs: as written."""

    globs: tuple[str, ...]
    literal: frozenset[str]
    pattern: re.Pattern[str] | None

    def matches(self, path: str) -> bool:
        """path is canonical: it starts with `/` and has no query."""
        return path in self.literal or (self.pattern is not None and self.pattern.fullmatch(path) is not None)


def allow_list(globs: Iterable[str]) -> PathList:
    """Covers exactly what its globs say."""
    written = tuple(globs)
    starred = [allow_expression(glob) for glob in written if "*" in glob]
    return PathList(written, frozenset(g for g in written if "*" not in g), re.compile("|".join(starred), re.DOTALL) if starred else None)


def deny_list(globs: Iterable[str]) -> PathList:
    """Covers more than its globs say, since servers differ in what they take for the same path: case does not count, a closing slash does
    not count, a trailing `*` covers deeper segments, and `/x/*` covers `/x`.
    """
    written = tuple(globs)
    expressions = [deny_expression(glob) for glob in written]
    return PathList(written, frozenset(), re.compile("|".join(expressions), re.DOTALL | re.IGNORECASE) if written else None)


def check_glob(glob: str) -> None:
    """Raises PathError when no canonical path could match what is written, or when it does not say clearly what it means."""
    if not glob.startswith("/"):
        raise PathError(f"`{glob}` does not start with `/`", "/" + glob if glob and "://" not in glob else "/api/v1/items, /api/**")
    if "?" in glob or "#" in glob:
        raise PathError(f"`{glob}` has a query or fragment; paths are matched without them", re.split(r"[?#]", glob)[0])
    if not _ALLOWED.fullmatch(glob):
        raise PathError(
            f"`{glob}` has characters that no canonical path has", "ASCII; anything else as %XX in upper case, `**` for any path"
        )
    for encoded in re.findall("%[0-9A-F]{2}", glob):
        if re.fullmatch("[A-Za-z0-9._~-]", chr(int(encoded[1:], 16))):
            raise PathError(f"`{glob}`: canonical paths spell {encoded} out", chr(int(encoded[1:], 16)))
    segments = glob[1:].split("/")
    if "" in segments[:-1]:
        raise PathError(f"`{glob}` has an empty segment", re.sub("/{2,}", "/", glob))
    for segment in segments:
        if segment in (".", ".."):
            raise PathError(f"`{glob}` has a `{segment}` segment; canonical paths have none", "the path without it")
        if "**" in segment and segment != "**":
            raise PathError(f"`{glob}`: `**` stands alone between slashes", "/api/**, /**/info, /api/chat.*")


def allow_expression(glob: str) -> str:
    """A regular expression for one glob of an allow list."""
    return _expression(glob[1:].split("/"))


def deny_expression(glob: str) -> str:
    """A regular expression for one glob of a deny list; compile it with IGNORECASE."""
    segments = glob.removesuffix("/")[1:].split("/") if len(glob) > 1 else [""]
    last = segments[-1]
    if last in ("*", "**"):
        return _expression(segments[:-1]) + "(?:/.*)?"
    if last.endswith("*"):
        return _expression([*segments[:-1], last.rstrip("*")], open_end=True)
    return _expression(segments) + "/?"


def _expression(segments: list[str], *, open_end: bool = False) -> str:
    runs: list[list[str]] = [[]]  # the runs of segments between `**`
    for segment in segments:
        if segment == "**":
            if runs[-1] or len(runs) == 1:
                runs.append([])
        else:
            runs[-1].append(segment)
    parts = [_run(runs[0], open_end and len(runs) == 1)]
    for run in runs[1:-1]:
        parts.append(f"(?>(?:/[^/]*+)*?{_run(run, False)})")
    if len(runs) > 1:
        # The last run is anchored at the end of the path; an empty one is a closing `**`, which wants something below.
        parts.append(f"(?:/[^/]*+)*?{_run(runs[-1], open_end)}" if runs[-1] else "/.*")
    return "".join(parts)


def _run(segments: list[str], open_end: bool) -> str:
    text = "".join(f"/{_segment(segment)}{_END}" for segment in segments)
    return text.removesuffix(_END) + ".*" if open_end and segments else text


def _segment(segment: str) -> str:
    if segment == "*":
        return "[^/]+"
    first, *others = re.split(r"\*+", segment)
    if not others:
        return re.escape(first)
    *middle, last = map(re.escape, others)
    return re.escape(first) + "".join(f"(?>[^/]*?{piece})" for piece in middle) + "[^/]*" + last
