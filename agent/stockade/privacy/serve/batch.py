"""What makes many requests cheap: a detector's answers are remembered by text, and several requests go through the model as one batch.

An agent sends its whole conversation again with every turn, so most texts were seen before; what is remembered is keyed by a digest and
holds no text. Several requests are read at the same time by threads; those that reach the model while it is busy are computed together
next.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace

from stockade.privacy import deadline
from stockade.privacy.finding import Detector, Finding

REMEMBERED = 20_000  # texts per detector
REMEMBERED_FINDINGS = 400_000
SEGMENT, OVERLAP = 16_384, 512  # characters of a text that a slow detector reads at once, and that it reads again
BATCH_CHARACTERS = 65_536  # of a batch; the detector sorts its windows by length itself


def digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Remembering:
    """A Detector that asks another one only for what it has not seen lately. Used by several threads."""

    def __init__(self, detector: Detector, texts: int = REMEMBERED, findings: int = REMEMBERED_FINDINGS) -> None:
        self.name, self.version = detector.name, detector.version
        self.reads_views = getattr(detector, "reads_views", False)
        self._detector, self._texts, self._findings = detector, texts, findings
        self._seen: OrderedDict[bytes, tuple[Finding, ...]] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        keys = [digest(text) for text in texts]
        with self._lock:
            known = {key: self._seen[key] for key in set(keys) if key in self._seen}
            for key in known:
                self._seen.move_to_end(key)
        fresh = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if fresh:
            for key, findings in zip(fresh, self._detector.find(list(fresh.values())), strict=True):
                known[key] = tuple(findings)
            self._remember({key: known[key] for key in fresh})
        return [list(known[key]) for key in keys]

    def _remember(self, fresh: dict[bytes, tuple[Finding, ...]]) -> None:
        with self._lock:
            for key, findings in fresh.items():
                if key not in self._seen:
                    self._held += len(findings)
                    self._seen[key] = findings
            while len(self._seen) > self._texts or (self._held > self._findings and self._seen):
                self._held -= len(self._seen.popitem(last=False)[1])


class InSegments:
    """A Detector in front of a slow one, which gets a long text in pieces: between two of them others have their turn, and a request for
    which nobody waits ends. Raises Late.

    Pieces overlap by more than any value has, so that each is whole in one of them.
    """

    def __init__(self, detector: Detector, characters: int = SEGMENT, overlap: int = OVERLAP) -> None:
        self.name, self.version = detector.name, detector.version
        self._detector, self._characters, self._overlap = detector, characters, overlap

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        found: list[set[Finding]] = [set() for _ in texts]
        for pieces in self._turns(texts):
            deadline.keep()
            for (number, start, _), findings in zip(pieces, self._detector.find([text for *_, text in pieces]), strict=True):
                found[number].update(replace(each, start=each.start + start, end=each.end + start) for each in findings)
        return [sorted(each) for each in found]

    def _turns(self, texts: Sequence[str]) -> Iterator[list[tuple[int, int, str]]]:
        """What is given to the detector at once: (which text, where the piece begins in it, the piece)."""
        turn: list[tuple[int, int, str]] = []
        size = 0
        for number, text in enumerate(texts):
            for start in range(0, max(1, len(text) - self._overlap), self._characters - self._overlap):
                piece = text[start : start + self._characters]
                if turn and size + len(piece) > self._characters:
                    yield turn
                    turn, size = [], 0
                turn.append((number, start, piece))
                size += len(piece)
        if turn:
            yield turn


class Together:
    """A Detector in front of one that a single thread at a time may use: what several threads ask for meanwhile is one batch."""

    def __init__(self, detector: Detector, characters: int = BATCH_CHARACTERS) -> None:
        self.name, self.version = detector.name, detector.version
        self._detector, self._characters = detector, characters
        self._waiting: list[tuple[Sequence[str], Future[list[list[Finding]]]]] = []
        self._lock, self._turn = threading.Lock(), threading.Lock()

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        answer: Future[list[list[Finding]]] = Future()
        with self._lock:
            self._waiting.append((texts, answer))
        while not answer.done():
            with self._turn:  # whoever has it works for all that wait, perhaps for this one too
                if not answer.done():
                    self._work(self._take())
        return answer.result()

    def _take(self) -> list[tuple[Sequence[str], Future[list[list[Finding]]]]]:
        with self._lock:
            taken, size = 0, 0
            for texts, _ in self._waiting:
                size += sum(map(len, texts))
                if taken and size > self._characters:
                    break
                taken += 1
            batch, self._waiting[:taken] = self._waiting[:taken], []
        return batch

    def _work(self, batch: list[tuple[Sequence[str], Future[list[list[Finding]]]]]) -> None:
        try:
            found = self._detector.find([text for texts, _ in batch for text in texts])
        except BaseException as error:
            for _, answer in batch:
                answer.set_exception(error)
            return
        at = 0
        for texts, answer in batch:
            answer.set_result(found[at : at + len(texts)])
            at += len(texts)
