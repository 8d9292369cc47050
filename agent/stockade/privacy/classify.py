"""All layers over the texts of a call, as one list of findings for each.

Every text is read in its views (views.py) by every detector; what the policy adds (dictionaries, patterns) and the registered documents
are read as well; context names what was found (context.py); thresholds drop what is too unsure; what overlaps is united. A conversation
is read once more across the borders of its texts, since a value may be cut in two; by what is dear only where a sentence may go on.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, replace
from itertools import pairwise

from stockade.privacy import context, deadline
from stockade.privacy.dictionary import Custom, Dictionary, Terms
from stockade.privacy.finding import Detector, Finding
from stockade.privacy.patterns.subject import Regex, Subject, compiled
from stockade.privacy.settings import DEFAULT_THRESHOLD, Settings
from stockade.privacy.views import View, views

__all__ = ["DEFAULT_THRESHOLD", "Classifier", "Custom", "Dictionary", "Settings", "unite"]

BORDER = 300  # characters on either side of a border that are read together: more than any value but a private key
STRETCH = 120  # the same for what is dear: no name or finding about somebody is longer
CUSTOM_MEMORY = 2 << 20  # bytes RE2 may take for a pattern of the policy

_NOTHING = Settings()


@dataclass(frozen=True, slots=True)
class _Rules:
    terms: Terms
    custom: tuple[tuple[Custom, Regex], ...]

    def find(self, text: str) -> Iterator[Finding]:
        yield from self.terms.find(text)
        if self.custom:
            subject = Subject(text)
            for custom, regex in self.custom:
                for start, end, _ in subject.matches(regex, 1 if regex.groups else 0):
                    if end > start:
                        yield subject.finding(start, end, custom.category, f"custom:{custom.name}", 1.0)


def rules(settings: Settings) -> _Rules:
    """What the policy adds, made ready. Raises ValueError with the name of the rule and what RE2 says about it."""
    custom = []
    for entry in settings.custom:
        try:
            custom.append((entry, compiled(entry.pattern, memory=CUSTOM_MEMORY)))
        except ValueError as error:
            raise ValueError(f"custom pattern {entry.name!r}: {error}") from None
    return _Rules(Terms(settings.dictionaries), tuple(custom))


class Classifier:
    """detectors: in any order. Those with `reads_views` are cheap and read all views of a text and the borders of a conversation. beside:
    threads in which they do so while the others read, which hold no lock of Python's while they compute; without it one after the other.
    """

    def __init__(self, detectors: Sequence[Detector], beside: Executor | None = None) -> None:
        self._detectors = tuple(detectors)
        self._cheap = tuple(each for each in self._detectors if getattr(each, "reads_views", False))
        self._dear = tuple(each for each in self._detectors if not getattr(each, "reads_views", False))
        self._beside = beside
        self._known: dict[Settings, _Rules] = {}

    @property
    def detectors(self) -> tuple[Detector, ...]:
        return self._detectors

    @property
    def versions(self) -> dict[str, str]:
        return {detector.name: detector.version for detector in self._detectors}

    def classify(
        self,
        texts: Sequence[str],
        settings: Settings = _NOTHING,
        *,
        conversation: bool = False,
        lanes: Sequence[Sequence[int]] = (),
        formed: Sequence[int] = (),
        apart: Sequence[int] = (),
        spoken: Sequence[int] = (),
    ) -> list[list[Finding]]:
        """The findings of each text, sorted, none overlapping another of its category.

        conversation: the texts follow each other, and are read across their borders too. lanes: further orders in which they follow, as
        indices into texts: what one role said, with the answers between left out. formed: texts that only those detectors read which know
        forms. apart: texts that follow nothing and are followed by nothing. spoken: those that are words of somebody, no keys and values: a
        sentence may go on in the next of the same lane (of all, where there are none), and is read so by what is dear too. Raises Late
        (privacy/deadline.py).
        """
        own, alone = self._rules(settings), frozenset(apart)
        every = [[number for number in range(len(texts)) if number not in alone], *lanes] if conversation else []
        orders = [lane for lane in every if len(lane) > 1]
        seen = [views(text) for text in texts]
        found = self._read(texts, seen, own, frozenset(formed), orders)
        if conversation:
            words = frozenset(spoken)
            self._over(texts, [tuple(number for number in lane if number in words) for lane in lanes or orders], found)
        around = context.situation(texts, found) if conversation and any(found) else context.Situation()
        packed = [frozenset(view.whole for view in of_text if view.whole) for of_text in seen]
        return [self._finish(*each, settings, around) for each in zip(texts, found, packed, strict=True)]

    def _rules(self, settings: Settings) -> _Rules:
        if settings not in self._known:
            if len(self._known) >= 64:
                self._known.clear()
            self._known[settings] = rules(settings)
        return self._known[settings]

    def _read(
        self, texts: Sequence[str], seen: Sequence[Sequence[View]], own: _Rules, formed: frozenset[int], orders: Sequence[Sequence[int]]
    ) -> list[list[Finding]]:
        every = [(number, view) for number, of_text in enumerate(seen) for view in of_text]
        main = [(number, view) for number, of_text in enumerate(seen) if number not in formed for view in _main(of_text)]
        found: list[list[Finding]] = [[] for _ in texts]
        if self._beside is None or not main or not self._dear:
            told = [*self._told(self._dear, main), *self._forms(texts, every, own, orders)]
        else:
            cheap = self._beside.submit(deadline.carried(lambda: self._forms(texts, every, own, orders)))
            told = _after(cheap, lambda: self._told(self._dear, main))
        for number, finding in told:
            found[number].append(finding)
        for number, view in every:
            found[number].extend(view.back(finding) for finding in own.find(view.text))
        return found

    def _forms(
        self, texts: Sequence[str], every: Sequence[tuple[int, View]], own: _Rules, orders: Sequence[Sequence[int]]
    ) -> list[tuple[int, Finding]]:
        """What has a form, in each text and across their borders."""
        found = self._told(self._cheap, every)
        for lane in orders:
            found += self._across(texts, lane, own)
        return found

    def _told(self, detectors: Iterable[Detector], read: Sequence[tuple[int, View]]) -> list[tuple[int, Finding]]:
        """What these detectors find, and in which text."""
        found = []
        for detector in detectors:
            deadline.keep()
            for (number, view), findings in zip(read, detector.find([view.text for _, view in read]), strict=True):
                found += [(number, view.back(finding)) for finding in findings if finding.end > finding.start]
        return found

    def _across(self, texts: Sequence[str], lane: Sequence[int], own: _Rules) -> Iterator[tuple[int, Finding]]:
        for glue in ("", " "):
            joined = _Joined([texts[number] for number in lane], glue)
            for window_start, window in joined.windows():
                for view in views(window):
                    for findings in (*(detector.find([view.text])[0] for detector in self._cheap), own.find(view.text)):
                        for finding in map(view.back, findings):
                            for place, part in joined.parts(finding, window_start):
                                yield lane[place], part

    def _over(self, texts: Sequence[str], lanes: Iterable[Sequence[int]], found: list[list[Finding]]) -> None:
        """The same by detectors that are dear, where a sentence may go on over a border: what is read more is about as much as that."""
        read: dict[str, list[tuple[Sequence[int], _Joined, int]]] = {}
        for lane in lanes:
            inside = [texts[number] for number in lane]
            goes = [goes_on(*pair) for pair in pairwise(inside)]
            for glue in ("", " "):
                joined = _Joined(inside, glue)
                wanted = [on and (_two_words if glue else _one_word)(*pair) for on, pair in zip(goes, pairwise(inside), strict=True)]
                for start, window in joined.stretches(wanted):
                    read.setdefault(window, []).append((lane, joined, start))
        windows = list(read)
        for detector in self._dear if windows else ():
            deadline.keep()
            for window, findings in zip(windows, detector.find(windows), strict=True):
                for lane, joined, start in read[window]:
                    for finding in findings:
                        for place, part in joined.parts(finding, start):
                            found[lane[place]].append(part)

    def _finish(
        self, text: str, findings: Iterable[Finding], packed: frozenset[tuple[int, int]], settings: Settings, around: context.Situation
    ) -> list[Finding]:
        refined = context.refine(text, sorted(findings), around)
        return unite((finding for finding in refined if finding.score >= settings.threshold(finding.category)), packed)


_ENDS = re.compile(r"(?:[^\w\s,'’/&(-]|\n)\s*\Z")
_SHORT = re.compile(r"(?:\A|[^\w])\w{1,3}\.\s*\Z")  # Dr. and an initial end no sentence


def goes_on(text: str, after: str) -> bool:
    """Whether a sentence of one text may go on in the next."""
    tail, first = text[-40:], after[:40].lstrip(" \t")[:1]
    ends = not tail.strip() or (_ENDS.search(tail) is not None and _SHORT.search(tail) is None)
    return not ends and (first.isalnum() or first in ("'", "’", "-", ",", "("))


def _two_words(text: str, after: str) -> bool:
    """Whether there may be a space between them that neither has."""
    return not (text[-1:].isspace() or after[:1].isspace())


def _one_word(text: str, after: str) -> bool:
    """Whether they may be read as they are. A word that goes on with a capital is short (Mc) or has nothing else."""
    return not (text[-4:].isalpha() and text[-1:].islower() and after[:1].isupper())


def _after(beside: Future[list[tuple[int, Finding]]], work: Callable[[], list[tuple[int, Finding]]]) -> list[tuple[int, Finding]]:
    """What both give. Neither goes on when this is over, however it ends: who waits for a request waits for all of it."""
    try:
        return [*work(), *beside.result()]
    finally:
        beside.cancel()
        wait([beside])


def _main(of_text: Sequence[View]) -> list[View]:
    """What a detector reads that is too dear to read all: the text with its escapes resolved, and packed text long enough to hold a
    sentence.
    """
    first, rest = of_text[0], of_text[1:]
    resolved = next((view for view in rest if not view.packed), None)
    return [resolved or first, *(view for view in rest if view.packed and len(view.text) >= 24 and " " in view.text)]


class _Joined:
    def __init__(self, texts: Sequence[str], glue: str) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        at = 0
        for text in texts:
            self.starts.append(at)
            self.ends.append(at + len(text))
            at += len(text) + len(glue)
        self.text = glue.join(texts)

    def windows(self) -> Iterator[tuple[int, str]]:
        """What stands around the borders; windows that touch are one, so that a value cut in many pieces is whole in one of them."""
        first = last = -1
        for border in self.starts[1:]:
            start, end = max(0, border - BORDER), border + BORDER
            if first >= 0 and start > last:
                yield first, self.text[first:last]
                first = start
            elif first < 0:
                first = start
            last = end
        if first >= 0:
            yield first, self.text[first:last]

    def stretches(self, wanted: Sequence[bool]) -> Iterator[tuple[int, str]]:
        """What stands around the wanted borders, cut from the front, so that what is added to a conversation changes the last of them only.
        One holds all borders of its middle, so that no more than twice the text is read however many there are.
        """
        borders = [border for border, want in zip(self.starts[1:], wanted, strict=True) if want]
        at = 0
        while at < len(borders):
            first = last = borders[at]
            while at < len(borders) and borders[at] <= first + 2 * STRETCH:
                last = borders[at]
                at += 1
            start = max(0, first - STRETCH)
            yield start, self.text[start : last + STRETCH]

    def parts(self, finding: Finding, offset: int) -> list[tuple[int, Finding]]:
        """The pieces of a finding that crosses a border, in each text; nothing for one that lies inside a text: it was seen there."""
        start, end = finding.start + offset, finding.end + offset
        place = bisect_right(self.starts, start) - 1
        pieces = []
        while place < len(self.starts) and self.starts[place] < end:
            first, last = max(start, self.starts[place]), min(end, self.ends[place])
            if first < last:
                pieces.append((place, replace(finding, start=first - self.starts[place], end=last - self.starts[place])))
            place += 1
        return pieces if len(pieces) > 1 else []


def unite(findings: Iterable[Finding], packed: frozenset[tuple[int, int]] = frozenset()) -> list[Finding]:
    """One finding where several of a category overlap: all that they cover, named by the best of them.

    A validated pattern (score 1) also takes the place of less sure findings of other categories that lie wholly inside it: a card is no
    phone. Credentials are never taken back by others. Nor is what was found in packed text: all that is in there has the span of the whole,
    and lies beside each other. packed: these spans.
    """
    by_category: dict[str, list[Finding]] = {}
    for finding in sorted(findings):
        kept = by_category.setdefault(finding.category, [])
        if kept and finding.start < kept[-1].end:
            last = kept[-1]
            best = finding if _rank(finding) > _rank(last) else last
            kept[-1] = replace(best, start=last.start, end=max(last.end, finding.end))
        else:
            kept.append(finding)
    united = sorted(finding for kept in by_category.values() for finding in kept)
    return [finding for finding in united if (finding.start, finding.end) in packed or not _inside_a_surer(finding, united)]


def _rank(finding: Finding) -> tuple[float, bool]:
    return finding.score, finding.detector.startswith(("pattern:", "vendor:", "canary:"))


_VALIDATED = ("pattern:", "vendor:", "canary:", "custom:")


def _inside_a_surer(finding: Finding, united: Sequence[Finding]) -> bool:
    if finding.category.startswith("credential.") or finding.detector.startswith(("custom:", "dictionary:")) or finding.score >= 0.98:
        return False
    first = bisect_right(united, finding.start - 400, key=lambda other: other.start)
    for other in united[first:]:
        if other.start > finding.start:
            break
        covers = other is not finding and other.end >= finding.end and other.score >= 0.95 and other.score > finding.score
        if covers and other.category != finding.category and other.detector.startswith(_VALIDATED) and not other.category.startswith("ip."):
            return True
    return False
