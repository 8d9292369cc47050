"""One spelling per path: what the policy matches is what goes upstream, so no server can read another path than the one that was judged.

    octets on the wire              canonical
    ------------------------------  ---------------------------------------------------------------
    a-z A-Z 0-9 - . _ ~             themselves; percent-encoded ones are decoded (%41 → A)
    ! $ & ' ( ) * + , ; = : @       themselves; encoded ones stay encoded, with upper-case hex (%2b → %2B)
    / and %2F                       / separates; %2F stays, part of one segment (npm's /@scope%2Fname)
    //                              one /: nginx, Apache and most frameworks merge them, and clients write them by joining a base and a path
    . and .. (also as %2e)          removed (RFC 3986, 5.2.4); a .. above the root is refused
    ..;x  and  ..%2F                refused: Tomcat strips ;x, others decode %2F, and then the dots climb
    \\ and %5C                       refused: a separator for some servers
    %00-%1F, %7F, raw controls      refused
    %25 before two hex digits       refused: double encoding
    octets above 0x7F               must be UTF-8 (overlong and surrogates refused), then %XX
    # and a lone %                  refused
    any other octet (space " < > [ ] ^ ` { | })  %XX

Encoded reserved characters keep their spelling because servers may tell `%2B` from `+`. Servers may also not: so `readings` gives every
path that a server could take the canonical one for (reserved characters decoded, Unicode composed, matrix parameters dropped, and what
Windows takes off a name's end), and the ladder wants each of them allowed. Then `/api%2Fadmin` gains nothing where `/api/admin` is denied,
nor do `/api/;x/admin` and `/api/admin.`.

docs/canonical-path.md is the definition; a test reads its tables.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote, unquote

MAXIMUM = 8 * 1024  # octets, before and after

_UNRESERVED = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
_RESERVED = frozenset(b"!$&'()*+,;=:@")
_HEX = frozenset(b"0123456789abcdefABCDEF")
_PLAIN = re.compile(r"(?:/[A-Za-z0-9\-_~!$&'()*+,=:@][A-Za-z0-9\-._~!$&'()*+,=:@]*)+/?|/")
_ENCODED_RESERVED = re.compile("%(" + "|".join(f"{octet:02X}" for octet in sorted(_RESERVED | {0x2F})) + ")")
_AMBIGUOUS = re.compile(r"[%;]|\.(?:/|\Z)")
_BEYOND_ASCII = re.compile("(?:%[0-7][0-9A-F]|[^/;%])?(?:%[89A-F][0-9A-F])+")  # with the character that a combining mark would join
# What Windows takes off a name. Sought from the beginning of a run only, or thousands of dots would be searched thousands of times.
_TRAILING = re.compile(r"(?<!\.)(?<!%20)(?:\.|%20)++(?=/|\Z)")
_SAFE = "".join(map(chr, sorted(_RESERVED)))
_DOUBLY = re.compile(rb"%25[0-9A-Fa-f]{2}")
_QUERY_REFUSED = re.compile(r"[\x00-\x20\x7f#\\]")


def canonical_path(raw: str) -> str:
    """The canonical spelling of a path (no query). Raises ValueError with the reason in a few words.

    raw may carry undecodable octets as surrogate escapes. The result is ASCII, begins with `/`, and is its own canonical path.
    """
    if len(raw) <= MAXIMUM and _PLAIN.fullmatch(raw):
        return raw  # most of the traffic, at a tenth of the cost: nothing to decode, no segment that begins with a dot
    octets = raw.encode("utf-8", "surrogateescape")
    if len(octets) > MAXIMUM:
        raise ValueError(f"longer than {MAXIMUM} octets")
    if not octets.startswith(b"/"):
        raise ValueError("does not begin with /")
    _demand_utf8(octets)
    kept: list[bytes] = []
    segments = octets[1:].split(b"/")
    for position, segment in enumerate(segments):
        name = _canonical_segment(segment)
        last = position == len(segments) - 1
        if name in (b".", b".."):
            if name == b".." and not kept:
                raise ValueError(".. above the root")
            if name == b"..":
                kept.pop()
            if last:
                kept.append(b"")
        elif name or last:
            _demand_no_hidden_dots(name)
            kept.append(name)
    path = b"/" + b"/".join(kept)
    if len(path) > MAXIMUM:
        raise ValueError(f"longer than {MAXIMUM} octets")
    return path.decode("ascii")


def readings(path: str) -> tuple[str, ...]:
    """Every path that some server may take a canonical path for, itself first: reserved characters decoded, Unicode composed, matrix
    parameters dropped, dots and spaces at the end of a name dropped, in whatever order, and what this leaves empty merged.
    """
    if not _AMBIGUOUS.search(path):
        return (path,)
    found = [path]
    for each in found:
        for read in (_decoded, _composed, _without_parameters, _trimmed):
            # What is left empty is merged: for Tomcat `/api/;x/admin` is `/api/admin`.
            if (reading := re.sub(r"/{2,}", "/", read(each))) not in found:
                found.append(reading)
    return tuple(found)


def _decoded(path: str) -> str:
    return _ENCODED_RESERVED.sub(lambda match: chr(int(match[1], 16)), path)


def _composed(path: str) -> str:
    """In Unicode's form C: file systems and frameworks take `e` with a combining accent for `é`, and the Greek question mark for `;`."""
    return _BEYOND_ASCII.sub(lambda match: quote(unicodedata.normalize("NFC", unquote(match[0])), safe=_SAFE), path)


def _without_parameters(path: str) -> str:
    return re.sub(r";[^/]*", "", path)


def _trimmed(path: str) -> str:
    return _TRAILING.sub("", path)


def demand_query(query: str) -> None:
    """A query goes upstream as it came. Raises ValueError when it holds what no query may: controls, space, `#`, `\\`, bad length."""
    if len(query) > 8 * MAXIMUM:
        raise ValueError(f"query longer than {8 * MAXIMUM} octets")
    if _QUERY_REFUSED.search(query):
        raise ValueError("query with a control character, a space, # or a backslash")


def _canonical_segment(segment: bytes) -> bytes:
    out = bytearray()
    position = 0
    while position < len(segment):
        octet = segment[position]
        position += 1
        encoded = octet == 0x25
        if encoded:
            digits = segment[position : position + 2]
            if len(digits) < 2 or not _HEX.issuperset(digits):
                raise ValueError("% without two hex digits")
            octet = int(digits, 16)
            position += 2
        if octet < 0x20 or octet == 0x7F:
            raise ValueError("control character")
        if octet == 0x5C:
            raise ValueError("backslash")
        if octet == 0x23 and not encoded:
            raise ValueError("fragment")
        if octet in _UNRESERVED or (octet in _RESERVED and not encoded):
            out.append(octet)
        else:
            out += b"%%%02X" % octet
    if _DOUBLY.search(out):  # looked for in what came out: %25%32%65 is a doubly encoded dot as well
        raise ValueError("doubly encoded")
    return bytes(out)


def _demand_no_hidden_dots(segment: bytes) -> None:
    """Refuse a segment that a server may read as one with dot segments in it. Raises ValueError."""
    if b"." not in segment or (b";" not in segment and b"%" not in segment):
        return
    for part in re.split(rb"%2F", segment):
        if re.split(rb";|%3B|%CD%BE", part, maxsplit=1)[0] in (b".", b".."):
            raise ValueError("dot segment behind %2F or ;")


def _demand_utf8(octets: bytes) -> None:
    decoded = re.sub(rb"%([0-9a-fA-F]{2})", lambda match: bytes([int(match[1], 16)]), octets)
    try:
        decoded.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
