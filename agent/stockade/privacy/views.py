"""A text as other readers would see it: normalised, its escapes resolved, and what is packed inside it; each with the way back to the
original.

Detection reads these as well as the text: a card with zero-width spaces in it, an e-mail in percent-encoding and a key in base64 are
still what they are. ROT13 and the like are not undone: who wants to hide may always, and a model that answers can decode more than any
list here.
"""

from __future__ import annotations

import binascii
import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stockade.privacy import deadline
from stockade.privacy.finding import Finding
from stockade.privacy.patterns.checks import base64_text

DEPTH = 2

# Letters that look like ours, seen in one word with ours or with digits.
_LIKE = dict(zip("АВЕКМНОРСТУХаеорсухіјѕԁһΑΒΕΖΗΙΚΜΝΟΡΤΥΧοα", "ABEKMHOPCTYXaeopcyxijsdhABEZHIKMNOPTYXoa", strict=True))
_DASHES = (
    dict.fromkeys("‐‑‒–—―−﹣－", "-")
    | dict.fromkeys("‘’‛′＇", "'")
    | dict.fromkeys("“”‟″", '"')
    | dict.fromkeys("\u2028\u2029\u0085", "\n")
    | {"∕": "/", "⁄": "/", "․": ".", "。": "."}
)
_OTHER_WORD = re.compile(r"[^\W_]*[^\x00-\x7f\W][^\W_]*")
_NON_ASCII = re.compile(r"[^\x00-\x7f]")


@dataclass(frozen=True, slots=True)
class View:
    """text: what to read. starts[i], ends[i]: where character i comes from in the original; None: the texts are the same length for length.
    whole: for packed text, the span that stands for any finding inside."""

    text: str
    starts: Sequence[int] | None = None
    ends: Sequence[int] | None = None
    whole: tuple[int, int] | None = None
    packed: bool = False

    def back(self, finding: Finding) -> Finding:
        """finding: in this view. Returns where it lies in the text that the view is of."""
        if self.whole:
            start, end = self.whole
        elif self.starts is None or self.ends is None:
            return finding
        else:
            start, end = self.starts[finding.start], self.ends[finding.end - 1]
        return Finding(start, end, finding.category, finding.detector, finding.score)


def views(text: str) -> list[View]:
    """The first is the one to be read by all detectors, the rest by those that read_views. Bounded: each level of packing is shorter than
    its text.
    """
    first = _normalised(text)
    found = [first]
    found.extend(_inner(first, DEPTH))
    return found


def _inner(view: View, depth: int) -> Iterator[View]:
    if not depth:
        return
    resolved = _unescaped(view)
    if resolved:
        yield resolved
        yield from _inner(resolved, depth - 1)
    for start, end, decoded in _packed(view.text):
        outer = view.back(Finding(start, end, "", "", 0))
        inner = View(_normalised(decoded).text, whole=view.whole or (outer.start, outer.end), packed=True)
        yield inner
        yield from _inner(inner, depth - 1)


def _normalised(text: str) -> View:
    if text.isascii():
        return View(text)
    alike = {place for match in _OTHER_WORD.finditer(text) for place in _lookalikes(match.group(), match.start())}
    characters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    place, size = 0, len(text)
    while place < size:
        if not place & 0xFFF:
            deadline.keep()
        end = place + 1
        character = text[place]
        if character >= "\x80" or (end < size and text[end] >= "\u0300"):
            while end < size and text[end] >= "\u0300" and unicodedata.combining(text[end]):
                end += 1
            character = _one(text[place:end], place in alike)
        for one in character:
            characters.append(one)
            starts.append(place)
            ends.append(end)
        place = end
    return View("".join(characters), starts, ends)


def _lookalikes(word: str, at: int) -> Iterator[int]:
    if any(character.isascii() for character in word) and any(character in _LIKE for character in word):
        yield from (at + place for place, character in enumerate(word) if character in _LIKE)


def _one(cluster: str, alike: bool) -> str:
    first = cluster[0]
    if alike and first in _LIKE:
        return _LIKE[first]
    if first in _DASHES:
        return _DASHES[first]
    if unicodedata.category(first) == "Cf" or "\ufe00" <= first <= "\ufe0f" or first == "\u034f":
        return "" if len(cluster) == 1 else cluster[1:]
    if "\ud800" <= first <= "\udfff":
        return "\ufffd"
    digit = unicodedata.digit(first, None)
    if digit is not None and len(cluster) == 1:
        return str(digit)
    return unicodedata.normalize("NFKC", cluster)


_ESCAPE = re.compile(
    r"\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|\\[nrtbf\"'/\\]|&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|amp|lt|gt|quot|apos|nbsp|commat|period|"
    r"colon|hyphen|dash);|(?:%[0-9a-fA-F]{2})+|=(?:3D|20|40|\r?\n)"
)
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "b": " ", "f": " "}


def _unescaped(view: View) -> View | None:
    text = view.text
    if not any(mark in text for mark in "\\&%="):
        return None
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    last = 0
    for match in _ESCAPE.finditer(text):
        deadline.keep()
        new = _resolve(match.group())
        if new == match.group():
            continue
        _copy(parts, starts, ends, text, last, match.start())
        for one in new:
            parts.append(one)
            starts.append(match.start())
            ends.append(match.end())
        last = match.end()
    if not last:
        return None
    _copy(parts, starts, ends, text, last, len(text))
    if view.whole:
        return View("".join(parts), whole=view.whole, packed=view.packed)
    if view.starts is not None and view.ends is not None:
        outer_starts, outer_ends = view.starts, view.ends
        starts, ends = [outer_starts[start] for start in starts], [outer_ends[end - 1] for end in ends]
    return View("".join(parts), starts, ends)


def _copy(parts: list[str], starts: list[int], ends: list[int], text: str, first: int, last: int) -> None:
    parts.append(text[first:last])
    starts.extend(range(first, last))
    ends.extend(range(first + 1, last + 1))


def _resolve(escape: str) -> str:
    if escape[0] == "\\":
        code = escape[2:]
        if escape[1] in "ux" and code:
            character = chr(int(code, 16))
            return "\ufffd" if "\ud800" <= character <= "\udfff" else character
        return _SIMPLE.get(escape[1], escape[1])
    if escape[0] == "&":
        return html.unescape(escape) or " "
    if escape[0] == "%":
        try:
            return bytes.fromhex(escape.replace("%", "")).decode()
        except ValueError:
            return escape
    return {"3D": "=", "20": " ", "40": "@"}.get(escape[1:], "")


_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}|[A-Za-z0-9+/]{60,76}(?:\r?\n[A-Za-z0-9+/]{4,76})+={0,2}")
_WRAPPED = re.compile(r"(?:[A-Za-z0-9+/]{60,80}\r?\n)+[A-Za-z0-9+/]{2,80}={0,2}")
_HEX = re.compile(r"(?:0x)?((?:[0-9a-fA-F]{2}){8,})|\b(?:[0-9a-fA-F]{2}[ :]){7,}[0-9a-fA-F]{2}\b|(?:\\x[0-9a-fA-F]{2}){4,}")
_HEX_RUN = re.compile(r"[0-9a-fA-F]{2}(?:[0-9a-fA-F]{14}|(?:[ :][0-9a-fA-F]{2}){7})")  # in all but the last; found in a third of the time


def _packed(text: str) -> Iterator[tuple[int, int, str]]:
    for match in _WRAPPED.finditer(text) if "\n" in text else ():
        decoded = base64_text("".join(match.group().split()))
        if decoded:
            yield match.start(), match.end(), decoded
    for match in _BASE64.finditer(text):
        deadline.keep()
        decoded = base64_text(match.group())
        if decoded and len(decoded) >= 8:
            yield match.start(), match.end(), decoded
    for match in _HEX.finditer(text) if "\\x" in text or _HEX_RUN.search(text) else ():
        deadline.keep()
        try:
            decoded = binascii.unhexlify(re.sub(r"0x|\\x|[ :]", "", match.group())).decode()
        except ValueError:
            continue
        if all(character.isprintable() or character in "\t\r\n" for character in decoded):
            yield match.start(), match.end(), decoded
