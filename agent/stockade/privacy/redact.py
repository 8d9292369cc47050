"""Taking sensitive values out of what leaves, and putting them back into the answer.

A Vault belongs to one sandbox and lives in the memory of one process. What it hands out is bound to the host that it was made for: a keyed
hash of host, kind and value, with a key that nobody outside has. So a value has the same placeholder in every request to a host, no
placeholder can be guessed, and one that was seen elsewhere means nothing here. Styles `placeholder` and `surrogate` are put back; `mask`
and `hash` are not.

Whatever in a request looks like something that was handed out, but was not put there by this vault now, is itself taken out and stands for
its own letters: otherwise whoever writes a placeholder into a prompt would have it turned into somebody's value.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from stockade.policy.privacy import DEFAULT_TTL, Style
from stockade.privacy.finding import Finding
from stockade.privacy.surrogate import surrogate

MOST_ENTRIES = 20_000
MOST_BYTES = 16 << 20
_TAG = 12  # hex digits: 48 bits of a keyed hash
_KNOWN_LEAST = 4  # characters of a value that is looked for in later texts: shorter ones are everywhere
_LITERAL = "TEXT"  # the kind of what only looked like a placeholder

# Models put placeholders in bold, escape their brackets, drop them, lower them, and swap the dash.
_DASH = r"\\{0,2}[-_\u2010-\u2014 ]"
_LOOKS = re.compile(rf"(?:\\{{0,2}}\[|(?<![A-Za-z0-9]))([A-Za-z]{{2,24}}){_DASH}([0-9A-Fa-f]{{{_TAG}}})(?![0-9A-Za-z])(?:\\{{0,2}}\])?")
_BEGINS = re.compile(rf"\\{{0,2}}\[?|\\{{0,2}}\[?(?P<kind>[A-Za-z]{{1,24}})(?P<more>\\{{1,2}}|{_DASH}[0-9A-Fa-f]{{0,{_TAG}}}\\{{0,2}}\]?)?")
_LONGEST = 24 + _TAG + 12
_WORD = re.compile(r"\w+")


MASK = "*" * 8


def masked(text: str, findings: Sequence[Finding]) -> str:
    """The text without what was found, which nobody puts back."""
    made, at = [], 0
    for start, end, _ in _united([(each.start, each.end, each.category) for each in findings]):
        made += [text[at:start], MASK]
        at = end
    return "".join([*made, text[at:]])


class VaultFull(Exception):
    """The sandbox has more values out than are kept. Nothing was forgotten for it: the request is to be refused."""


@dataclass(slots=True)
class _Entry:
    value: str
    category: str
    host: str
    stands: str  # what was handed out
    used: float

    @property
    def size(self) -> int:
        return 200 + 2 * len(self.value) + 2 * len(self.stands)


class Vault:
    """One sandbox's values. ttl: seconds that a value is remembered after it was last used."""

    def __init__(
        self, ttl: float = DEFAULT_TTL, *, entries: int = MOST_ENTRIES, size: int = MOST_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._key = secrets.token_bytes(32)
        self._ttl, self._most, self._room, self._clock = ttl, entries, size, clock
        self._held = 0
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()  # by host and folded mark, the least used first
        self._by_value: dict[tuple[str, str, str], _Entry] = {}  # host, style's sort, value
        self._first: dict[str, dict[str, str]] = {}  # first word → value → category
        self._kinds: dict[str, dict[str, int]] = {}  # host → kind → entries

    def __repr__(self) -> str:
        return f"<Vault of {len(self._entries)} values>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a vault is kept in the memory of one process")

    def __len__(self) -> int:
        return len(self._entries)

    def redact(
        self, text: str, findings: Sequence[Finding], host: str, style: Style = "placeholder", only: Collection[str] | None = None
    ) -> str:
        """The text without what was found, and without what this vault took out before. only: the categories to take out; None: all.

        Raises VaultFull.
        """
        self.expire()
        spans = [(each.start, each.end, each.category) for each in findings if only is None or each.category in only]
        spans += [span for span in self._known(text) if only is None or span[2] in only]
        found = _united(spans)
        alike = [span for span in self._alike(text, host) if not any(start < span[1] and span[0] < end for start, end, _ in found)]
        made, at = [], 0
        for start, end, category in sorted([*found, *alike]):
            made += [text[at:start], self._stand_in(text[start:end], category, host, style if category else "placeholder", text)]
            at = end
        return "".join([*made, text[at:]])

    def known(self, text: str, found: Sequence[Finding] = ()) -> list[Finding]:
        """Values in it that were taken out of other texts, as far as they were not found here: once held back, they are wherever they come
        again.
        """
        self.expire()
        covered = [(each.start, each.end) for each in found]
        new = [span for span in self._known(text) if not any(start <= span[0] and span[1] <= end for start, end in covered)]
        return [Finding(start, end, category, "vault", 1.0) for start, end, category in _united(new)]

    def handed_out(self, text: str, host: str) -> bool:
        """Whether it has something in it that would be put back into an answer of this host."""
        if not self._entries:
            return False
        self.expire()
        marks = (f"[{match[1]}-{match[2]}]" for match in _LOOKS.finditer(text))
        return any(self.value_of(mark, host) is not None for mark in marks) or any(
            stands.casefold() in text.casefold() for stands in self.surrogates(host)
        )

    def restore(self, text: str, host: str, *, within_json: bool = False) -> str:
        """within_json: the text is a part of a JSON string's inside, as the arguments of a tool call are."""
        stream = self.stream(host, within_json=within_json)
        return stream.feed(text) + stream.flush()

    def stream(self, host: str, *, within_json: bool = False) -> Restore:
        return Restore(self, host, within_json)

    def clear(self) -> None:
        for held in (self._entries, self._by_value, self._first, self._kinds):
            held.clear()
        self._held = 0

    def keep(self, ttl: float) -> None:
        """Another lifetime from now on: a policy may change it while the sandbox runs."""
        self._ttl = ttl

    def expire(self) -> None:
        """Forgets what was not used for the lifetime."""
        before = self._clock() - self._ttl
        while self._entries and next(iter(self._entries.values())).used < before:
            _, entry = self._entries.popitem(last=False)
            self._held -= entry.size
            for key in [(entry.host, sort, entry.value) for sort in ("placeholder", "surrogate", "literal")]:
                if self._by_value.get(key) is entry:
                    del self._by_value[key]
            if not any(other == entry.value for _, _, other in self._by_value):
                self._first.get(_first_word(entry.value), {}).pop(entry.value, None)

    # Looked up by Restore.

    def value_of(self, mark: str, host: str) -> str | None:
        """What a mark stands for at the host it was made for; None when it was not used for `ttl` seconds. To be asked for is a use."""
        entry = self._entries.get((host, mark.casefold()))
        if entry is None or entry.used < self._clock() - self._ttl:
            return None
        entry.used = self._clock()
        self._entries.move_to_end((host, mark.casefold()))
        return entry.value

    def surrogates(self, host: str) -> list[str]:
        return [entry.stands for (of, _), entry in self._entries.items() if of == host and not entry.stands.startswith("[")]

    def kinds(self, host: str) -> Collection[str]:
        return self._kinds.get(host, {})

    def _stand_in(self, value: str, category: str, host: str, style: Style, text: str) -> str:
        kind = _kind(category) if category else _LITERAL
        if style == "mask":
            return MASK
        if style == "hash":
            return f"{kind.lower()}:{self._hash('hash', '', kind, value)[:16]}"
        sort = style if category else "literal"
        entry = self._by_value.get((host, sort, value))
        if entry is not None:
            entry.used = self._clock()
            self._entries.move_to_end((host, _mark(entry.stands)))
            return entry.stands
        stands = self._free(value, category, kind, host, style, text)
        return self._add(_Entry(value, category, host, stands, self._clock()), sort, kind).stands

    def _free(self, value: str, category: str, kind: str, host: str, style: Style, text: str) -> str:
        """What nothing else of this host stands for, and the text does not hold already."""
        for attempt in range(64):
            tag = self._hash(style, host, kind, f"{attempt}\0{value}")
            stands = f"[{kind}-{tag[:_TAG]}]" if style == "placeholder" else surrogate(value, category, bytes.fromhex(tag))
            taken = (host, _mark(stands)) in self._entries or stands.casefold() in text.casefold()
            if not taken and stands.casefold() != value.casefold() and not self._is_value(stands):
                return stands
        return f"[{kind}-{self._hash('placeholder', host, kind, value)[:_TAG]}]"  # of one digit there are ten surrogates

    def _is_value(self, text: str) -> bool:
        return text in self._first.get(_first_word(text), {})

    def _add(self, entry: _Entry, sort: str, kind: str) -> _Entry:
        if len(self._entries) >= self._most or self._held + entry.size > self._room:
            raise VaultFull
        self._held += entry.size
        self._entries[entry.host, _mark(entry.stands)] = entry
        self._by_value[entry.host, sort, entry.value] = entry
        kinds = self._kinds.setdefault(entry.host, {})
        kinds[kind] = kinds.get(kind, 0) + 1
        if sort != "literal" and len(entry.value) >= _KNOWN_LEAST and _WORD.search(entry.value):
            self._first.setdefault(_first_word(entry.value), {})[entry.value] = entry.category
        return entry

    def _hash(self, *parts: str) -> str:
        return hmac.digest(self._key, "\0".join(parts).encode("utf-8", "surrogatepass"), "sha256").hex()

    def _known(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Values that were taken out before, for any host: what was put back into an answer comes again with the conversation."""
        if not self._first:
            return
        for match in _WORD.finditer(text):
            for value, category in self._first.get(match.group(), {}).items():
                start = match.start() - value.index(match.group())
                end = start + len(value)
                if start >= 0 and text.startswith(value, start) and not (text[end : end + 1].isalnum() and value[-1].isalnum()):
                    yield start, end, category

    def _alike(self, text: str, host: str) -> Iterator[tuple[int, int, str]]:
        """What looks like a placeholder, of any vault, or is a surrogate of this one. No category: it stands for itself."""
        last = 0
        for match in _LOOKS.finditer(text):
            last = match.end()
            yield match.start(), last, ""
        for stands in self.surrogates(host):
            at = text.find(stands)
            while at >= 0:
                yield at, at + len(stands), ""
                at = text.find(stands, at + len(stands))


class Restore:
    """Puts values back into a text that comes in pieces, cut anywhere. Holds back only what may still become something to be put back."""

    def __init__(self, vault: Vault, host: str, within_json: bool = False) -> None:
        self._vault, self._host, self._json = vault, host, within_json
        self._held = ""
        self._before = ""  # the last character that was given out
        stands = sorted(vault.surrogates(host), key=len, reverse=True)
        self._surrogates = re.compile("|".join(map(re.escape, stands)), re.IGNORECASE) if stands else None
        self._prefixes = {one.casefold()[:size] for one in stands for size in range(1, len(one) + 1)}
        self._longest = max([_LONGEST, *map(len, stands)])

    def feed(self, piece: str) -> str:
        text = self._held + piece
        cut = self._cut(text)
        self._held = text[cut:]
        return self._put_back(text[:cut])

    def flush(self) -> str:
        text, self._held = self._held, ""
        return self._put_back(text)

    def _cut(self, text: str) -> int:
        """Where the part begins that more text may change."""
        kinds = self._vault.kinds(self._host)
        if not kinds and not self._prefixes:
            return len(text)
        for at in range(max(0, len(text) - self._longest), len(text)):
            tail = text[at:]
            before = text[at - 1] if at else self._before
            within_word = before.isascii() and before.isalnum() and tail[0] not in "\\["
            if tail.casefold() in self._prefixes:
                return at
            begins = None if within_word else _BEGINS.fullmatch(tail)
            if begins and _may_be(begins["kind"] or "", begins["more"], kinds):
                return at
        return len(text)

    def _put_back(self, text: str) -> str:
        if not text:
            return ""
        joined = self._before + text
        made = _LOOKS.sub(self._placeholder, joined) if not self._surrogates else self._both(joined)
        given = made[len(self._before) :]
        self._before = text[-1]
        return given

    def _both(self, text: str) -> str:
        """One pass over either: what was put back is not looked at again."""
        assert self._surrogates is not None
        either = re.compile(f"{_LOOKS.pattern}|(?P<stands>{self._surrogates.pattern})", re.IGNORECASE)
        return either.sub(lambda match: self._surrogate(match) if match["stands"] is not None else self._placeholder(match), text)

    def _placeholder(self, match: re.Match[str]) -> str:
        value = self._vault.value_of(f"[{match[1]}-{match[2]}]", self._host)
        if value is None:
            return match.group()
        whole = match.group()
        ends = whole.rstrip("\\]") if "[" not in whole else whole  # a bracket that was not opened here belongs to the text
        # An escape at the front belongs to the text before, unless the bracket at the end is escaped too.
        lead = "" if whole.endswith("\\]") else whole[: len(whole) - len(whole.lstrip("\\"))]
        return lead + self._written(value) + whole[len(ends) :]

    def _surrogate(self, match: re.Match[str]) -> str:
        value = self._vault.value_of(match.group(), self._host)
        return match.group() if value is None else self._written(value)

    def _written(self, value: str) -> str:
        return json.dumps(value, ensure_ascii=False)[1:-1] if self._json else value


def _may_be(kind: str, more: str | None, kinds: Collection[str]) -> bool:
    return kind.upper() in kinds if more else any(each.startswith(kind.upper()) for each in kinds)


def _kind(category: str) -> str:
    """What a model reads: PERSON, CARD, IDENTIFIER."""
    return re.sub("[^A-Z]", "", category.rpartition(".")[2].upper())[:24].ljust(2, "X")


def _mark(stands: str) -> str:
    return stands.casefold()


def _first_word(value: str) -> str:
    match = _WORD.search(value)
    return match.group() if match else ""


def _united(spans: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Without overlaps: what overlaps is one span, of the category of its longest part."""
    made: list[tuple[int, int, str, int]] = []
    for start, end, category in sorted(spans, key=lambda span: (span[0], -span[1])):
        if made and start < made[-1][1]:
            first, last, held, longest = made[-1]
            made[-1] = (first, max(last, end), *((category, end - start) if end - start > longest else (held, longest)))
        elif end > start:
            made.append((start, end, category, end - start))
    return [(start, end, category) for start, end, category, _ in made]
