"""Path globs of OpenShell, in ours.

Its documentation and its engines disagree about what `*` crosses: by the Rego policy it stays in its segment, by the reference it may cross
`/`; and `**` between slashes is one segment or more for one engine, none or more for another. So there are two translations: what is
allowed is read as narrowly, what is denied as widely, as any of them does.
"""

from __future__ import annotations

import itertools
import re

from stockade.policy.paths import DEEP, PathError, check_glob

ANY = frozenset({"", "**", "/**"})
_SPECIAL = re.compile(r"[?\[\]{}<>\\]")  # one character, classes, alternatives, repetitions, escapes: none of them is in our globs
_WIDE = re.compile(r"\[[^\]]*\]?|\{[^}]*\}?|<[^>]*>?|\\.?|[?$\]}>]")
_AT_MOST = 8  # deny globs that one of theirs may become


def narrow(glob: str, *, encoded_slash: bool) -> str | None:
    """One of our allow globs that covers nothing that theirs does not; None when there is none.

    encoded_slash: whether a `%2F` may stand in a path; their paths are otherwise decoded before they are matched.
    """
    if glob in ANY:
        return "/**"
    if not glob.startswith("/") or _SPECIAL.search(glob):
        return None
    if "%" in (re.sub("%2[fF]", "", glob) if encoded_slash else glob):
        return None
    segments: list[str] = []
    *middle, last = glob[1:].split("/")
    for segment in middle:
        # Between slashes one of their engines wants at least one segment.
        segments += ["*", "**"] if segment == "**" else [_inside(segment)]
    segments.append("**" if last == "**" else _inside(last))
    found = "/" + "/".join(segments)
    try:
        check_glob(found)
    except PathError:
        return None
    return found


def crosses_inside(glob: str) -> bool:
    """Whether `narrow` makes less of it than some engine does: a `**` that has company in its segment covers one segment only."""
    return any("**" in segment and segment != "**" for segment in glob.split("/"))


def wide(glob: str) -> tuple[str, ...]:
    """Our deny globs that cover at least what theirs does; empty when no canonical path could match it."""
    text = _WIDE.sub("*", glob)
    if text.replace("*", "") in ("", "/"):
        return ("/**",)
    if not text.startswith("/"):
        text = "/**/" + text
    parts: list[tuple[tuple[str, ...], ...]] = []
    segments = [segment for segment in re.sub("/{2,}", "/", text)[1:].split("/") if segment != "."]
    if ".." in segments:
        return ()
    for position, segment in enumerate(segments):
        parts.append(_crossing(_escape(segment), last=position == len(segments) - 1))
    choices: list[tuple[tuple[str, ...], ...]] = list(itertools.islice(itertools.product(*parts), _AT_MOST + 1))
    if len(choices) > _AT_MOST or any(list(itertools.chain.from_iterable(choice)).count("**") > DEEP for choice in choices):
        fixed = itertools.takewhile(lambda segment: "*" not in segment, segments)
        choices = [((*map(_escape, fixed), "**"),)]
    found = []
    for choice in choices:
        run = itertools.chain.from_iterable(choice)
        joined = [segment for before, segment in itertools.pairwise(("", *run)) if not before == segment == "**"]
        found.append("/" + "/".join(joined))
    return tuple(dict.fromkeys(found))


def _crossing(segment: str, *, last: bool) -> tuple[tuple[str, ...], ...]:
    """What one segment becomes when its stars may cross slashes: alternatives, each a run of segments."""
    first, *others = re.split(r"\*+", segment)
    if not others:
        return ((segment,),)
    end = others[-1]
    if not first and not end:
        inner = next((text for text in others if text), "")
        return ((("**", f"*{inner}*") if inner else ()) + (() if last and inner else ("**",)),)
    if not end:
        return ((f"{first}*",),) if last else ((f"{first}*", "**"),)  # in a deny list a closing `*` covers what is deeper
    if not first:
        return (("**", f"*{end}"),)
    return ((re.sub(r"\*+", "*", segment),), (f"{first}*", "**", f"*{end}"))


def _inside(segment: str) -> str:
    return re.sub(r"\*+", "*", _escape(segment))


def _escape(segment: str) -> str:
    """A segment as canonical paths spell it: what is no path character as %XX. Their `%2F` stays, every other `%` is a literal one."""
    return "".join(
        octets if re.fullmatch("%2F|[A-Za-z0-9._~!$&'()+,;=:@*-]", octets) else "".join(f"%{octet:02X}" for octet in octets.encode())
        for octets in re.findall("%2F|.", re.sub("%2f", "%2F", segment), re.DOTALL)
    )
