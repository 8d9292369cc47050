"""Paths: which canonical paths a list of globs covers. `*` stays within a segment, `**` crosses them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from stockade.policy.compact import compact
from stockade.policy.trie import Trie

LONGEST = 8 * 1024  # no canonical path is longer
DEEP = 8  # `**` in one glob: a request's path is compared with each place that they leave open

_ALLOWED = re.compile(r"(?:[A-Za-z0-9._~!$&'()+,;=:@*/-]|%[0-9A-F]{2})*")


class PathError(ValueError):
    """A path glob that cannot be read; accepted goes into the Problem."""

    def __init__(self, message: str, accepted: str) -> None:
        super().__init__(message)
        self.accepted = accepted


@compact()
@dataclass(frozen=True, slots=True)
class PathList:
    """The globs of one list, as written. veto: they deny, and cover more than they say."""

    globs: tuple[str, ...]
    veto: bool = False

    def matches(self, path: str) -> bool:
        """path is canonical: it starts with `/` and has no query."""
        return _walked(self.globs, self.veto).find(path) is not None


def allow_list(globs: Iterable[str]) -> PathList:
    """Covers exactly what its globs say: `*` is a segment or part of one, a closing `**` wants something below."""
    return PathList(tuple(globs))


def deny_list(globs: Iterable[str]) -> PathList:
    """Covers more than its globs say, since servers differ in what they take for the same path: case does not count, a closing slash does
    not count, a trailing `*` covers deeper segments, and `/x/*` covers `/x`.
    """
    return PathList(tuple(globs), veto=True)


@functools.lru_cache(maxsize=1024)
def _walked(globs: tuple[str, ...], veto: bool) -> Trie:
    trie = Trie(veto=veto)
    for glob in globs:
        trie.add(glob, 0)
    return trie


def check_glob(glob: str) -> None:
    """Raises PathError when no canonical path could match what is written, or when it does not say clearly what it means."""
    if not glob.startswith("/"):
        raise PathError(f"`{glob}` does not start with `/`", "/" + glob if glob and "://" not in glob else "/api/v1/items, /api/**")
    if len(glob) > LONGEST:
        raise PathError(f"`{glob[:64]}…` has {len(glob)} characters, and a path at most {LONGEST}", "/api/v1/items, /api/**")
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
    if segments.count("**") > DEEP:
        raise PathError(f"`{glob[:64]}…` has more than {DEEP} `**`", "/api/**, /**/info")
    if "" in segments[:-1]:
        raise PathError(f"`{glob}` has an empty segment", re.sub("/{2,}", "/", glob))
    for segment in segments:
        if segment in (".", ".."):
            raise PathError(f"`{glob}` has a `{segment}` segment; canonical paths have none", "the path without it")
        if "**" in segment and segment != "**":
            raise PathError(f"`{glob}`: `**` stands alone between slashes", "/api/**, /**/info, /api/chat.*")
