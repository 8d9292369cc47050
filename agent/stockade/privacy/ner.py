"""The detector that reads names, places, dates and what is said of a patient: a token-classification model on ONNX Runtime.

It owns the model's files (checked against the sums in manifest.json; a file that does not match is not loaded), the choice of the device,
and the way from a text to windows of tokens and from their scores back to characters. It decides nothing: every finding carries its score.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stockade.privacy.finding import CATEGORIES, Finding
from stockade.privacy.wordpiece import GAPS, KINDS, Word, WordPiece

MODEL = Path(__file__).parent / "model"
PREFERRED = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""TensorRT builds an engine for every shape of input, minutes at a time: it is used where it is asked for by name, never by itself."""
CPU = "CPUExecutionProvider"
FUSED_SLOWLY = ["SkipLayerNormFusion"]
"""What ONNX Runtime would make of a sum and a norm: one node, which on the CPU goes number by number and takes four times as long. Never,
since the CUDA provider is asked for first on every machine, and only a session that is there tells where it runs.
"""
SPINNING = {
    "session.intra_op.allow_spinning": "1",
    "session.intra_op.spin_duration_us": "20",
    "session.force_spinning_stop": "1",
}
"""A run is some hundred short steps, between which its threads wait for each other. One that sleeps is woken when the step is done: two
threads took 4.4 ms for two layers and 134 tokens, where they wait awake 3.0 ms. Who waits awake for long takes the processor from the
sandboxes, and from its own other half: beside other work on all cores 13 ms became 28 ms with a millisecond, and 11 ms with 20 µs. Between
two runs nobody is awake."""
TERM = "medical.term"
"""The label of a diagnosis or drug spoken of in general. No finding comes of it, but it is what a patient's words are told from."""
SUREST = 0.97
"""No model is as sure as a checksum: 1 is kept for validated patterns, which take the place of what is less sure."""
BATCH = 32
"""Windows computed at once on a GPU; more only wait for memory. On the CPU it is one: the scale of 8-bit activations is taken over
all that is computed together, so neighbours would move a text's scores, and nobody may make another's name less sure."""


class UnusableModel(ValueError):
    """The model's files are missing, damaged, or made for another version of this module. `.path` is the file."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path


class NoProvider(RuntimeError):
    """None of the providers asked for is available."""


class _Session(Protocol):
    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]: ...

    def get_providers(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Manifest:
    """What manifest.json says of the model. thresholds: per label, what must speak against `nothing` for a word to be something. Scores are
    told on a scale where that is 0.5, the least that counts by default, so that a policy's thresholds mean the same for every category.
    """

    version: str
    labels: tuple[str, ...]
    window: int
    overlap: int
    thresholds: Mapping[str, float]
    files: Mapping[str, str]


def choose(available: Collection[str], wanted: Sequence[str] | None = None) -> list[str]:
    """The providers to try, in order: those wanted (by default PREFERRED) that are available. The CPU is never put in unasked.

    Raises NoProvider when nothing is left.
    """
    order = PREFERRED if wanted is None else tuple(wanted)
    chosen = [name for name in order if name in available]
    if not chosen:
        raise NoProvider(
            f"none of {', '.join(order) or '(none asked for)'} is available; there are: {', '.join(sorted(available)) or 'none'}"
        )
    return chosen


def read_manifest(directory: Path) -> Manifest:
    """manifest.json, with every file checked against its sum. Raises UnusableModel."""
    path = directory / "manifest.json"
    try:
        raw = json.loads(path.read_text("utf-8"))
        manifest = Manifest(
            str(raw["version"]),
            tuple(raw["labels"]),
            int(raw["window"]),
            int(raw["overlap"]),
            {str(k): float(v) for k, v in raw["thresholds"].items()},
            dict(raw["files"]),
        )
        form = raw["format"], tuple(raw["kinds"]), tuple(raw["gaps"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableModel(path, f"cannot be read: {error}") from error
    if (
        form != (1, KINDS, GAPS)
        or not 0 <= 2 * manifest.overlap < manifest.window <= 512
        or not {"model.onnx", "vocab.txt"} <= set(manifest.files)
    ):
        raise UnusableModel(path, "was made for another version of this module")
    if not all(0 < least < 1 for least in manifest.thresholds.values()):
        raise UnusableModel(path, "has thresholds that do not lie between 0 and 1")
    unknown = set(manifest.labels[1:]) - set(CATEGORIES) - {TERM}
    if manifest.labels[:1] != ("O",) or unknown:
        raise UnusableModel(path, f"has labels that are no categories: {', '.join(sorted(unknown)) or 'the first is not O'}")
    for name, expected in manifest.files.items():
        file = directory / name
        try:
            found = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError as error:
            raise UnusableModel(file, f"cannot be read: {error.strerror}") from error
        if found != expected:
            raise UnusableModel(file, f"is not the file of the manifest: its sha256 is {found}, expected {expected}")
    return manifest


@dataclass(frozen=True, slots=True)
class _Window:
    """Words [first, last) of a text as one row of the network; those from `owned` up to `until` are judged here, the others only help."""

    text: int
    first: int
    last: int
    owned: int
    until: int
    tokens: int


def windows(text: int, sizes: Sequence[int], window: int, overlap: int) -> list[_Window]:
    """Cuts a text into rows of at most `window` tokens. Each word is owned by the row where it stands farther from a cut.

    sizes: pieces per word.
    """
    room, whole = window - 2, sum(sizes)
    if sizes and whole <= room:
        return [_Window(text, 0, len(sizes), 0, len(sizes), whole)]
    found: list[_Window] = []
    first = owned = 0
    while first < len(sizes):
        last, tokens = first, 0
        while last < len(sizes) and (tokens + sizes[last] <= room or last == first):
            tokens += sizes[last]
            last += 1
        if last == len(sizes):
            found.append(_Window(text, first, last, owned, last, tokens))
            break
        back, shared = last, 0
        while back > first + 1 and shared + sizes[back - 1] <= overlap:
            back -= 1
            shared += sizes[back]
        until = (back + last + 1) // 2
        found.append(_Window(text, first, last, owned, until, tokens))
        first, owned = back, until
    return found


class TokenModel:
    """A Detector. The same texts give the same findings on one device; instances may be used by one thread at a time."""

    name = "model"

    def __init__(self, session: _Session, words: WordPiece, manifest: Manifest, *, terms: bool = False) -> None:
        self._session, self._words, self._manifest = session, words, manifest
        self.sha256 = manifest.files["model.onnx"]
        self.version = f"{manifest.version}+{self.sha256[:12]}"
        self.provider = session.get_providers()[0]
        self._least = np.array([manifest.thresholds.get(label, 0.5) for label in manifest.labels], np.float32)
        self._silent = [number for number, label in enumerate(manifest.labels) if label == "O" or (label == TERM and not terms)]

    @classmethod
    def load(
        cls, directory: Path | None = None, *, providers: Sequence[str] | None = None, threads: int = 2, terms: bool = False
    ) -> TokenModel:
        """The model in a directory (by default the one shipped). terms: report TERM too, to measure. Raises UnusableModel, NoProvider."""
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it would report to its maker, and keep a database in the home of whoever runs it
        import onnxruntime  # a third of a second: only who runs the model pays it

        folder = directory or MODEL
        manifest = read_manifest(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        for key, value in SPINNING.items():
            options.add_session_config_entry(key, value)
        chosen = choose(onnxruntime.get_available_providers(), providers)
        # A machine without a GPU has the CUDA provider and not its libraries; ONNX Runtime tells of it in red and goes on to the next one.
        onnxruntime.set_default_logger_severity(4)
        try:
            session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=chosen, disabled_optimizers=FUSED_SLOWLY)
            words = WordPiece.read(folder / "vocab.txt")
        except Exception as error:  # ONNX Runtime has a dozen unrelated errors, and a GPU that answers badly may raise any of them
            raise UnusableModel(folder / "model.onnx", f"cannot be loaded on {', '.join(chosen)}: {error}") from error
        finally:
            onnxruntime.set_default_logger_severity(2)
        if session.get_providers()[0] not in chosen:
            raise NoProvider(
                f"{', '.join(chosen)} could not be started on this machine, and {session.get_providers()[0]} was not asked for"
            )
        return cls(session, words, manifest, terms=terms)

    def words(self, text: str) -> list[Word]:
        """A text as it is cut for the network."""
        return self._words.words(text)

    @property
    def labels(self) -> tuple[str, ...]:
        return self._manifest.labels

    def table(self, text: str) -> tuple[list[Word], NDArray[np.float32]]:
        """The words of a text and their scores for each label, to choose thresholds by."""
        words = self._words.words(text)
        return words, self._tables([words])[0]

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        """The findings of each text, sorted by start."""
        cut = [self._words.words(text) for text in texts]
        return [self._spans(text, words, table) for text, words, table in zip(texts, cut, self._tables(cut), strict=True)]

    def _tables(self, cut: Sequence[Sequence[Word]]) -> list[NDArray[np.float32]]:
        rows: list[_Window] = []
        for number, words in enumerate(cut):
            rows += windows(number, [len(word.pieces) for word in words], self._manifest.window, self._manifest.overlap)
        scores = [np.zeros((len(words), len(self._manifest.labels)), np.float32) for words in cut]
        rows.sort(key=lambda row: row.tokens)
        step = 1 if self.provider == CPU else BATCH
        for at in range(0, len(rows), step):
            self._score(rows[at : at + step], cut, scores)
        return scores

    def _score(self, rows: Sequence[_Window], cut: Sequence[Sequence[Word]], scores: Sequence[NDArray[np.float32]]) -> None:
        """Runs windows of like length together and writes the mean of each owned word's pieces into scores."""
        length = max(row.tokens for row in rows) + 2
        ids = np.full((len(rows), length), self._words.pad, np.int64)
        shapes = np.zeros_like(ids)
        attention = np.zeros(ids.shape, np.int32)
        sizes: list[NDArray[np.int64]] = []
        for number, row in enumerate(rows):
            words = cut[row.text][row.first : row.last]
            sizes.append(np.fromiter((len(word.pieces) for word in words), np.int64, len(words)))
            end = row.tokens + 1
            ids[number, 0], ids[number, end] = self._words.cls, self._words.sep
            ids[number, 1:end] = [piece for word in words for piece in word.pieces]
            shapes[number, 1:end] = np.repeat(np.fromiter((word.shape for word in words), np.int64, len(words)), sizes[-1])
            attention[number, : end + 1] = 1
        (found,) = self._session.run(["scores"], {"ids": ids, "shapes": shapes, "attention": attention})
        for number, row in enumerate(rows):
            ends = 1 + np.cumsum(sizes[number])
            sums = np.add.reduceat(found[number, : ends[-1]], ends - sizes[number], axis=0)
            means = sums / sizes[number][:, None]
            scores[row.text][row.owned : row.until] = means[row.owned - row.first : row.until - row.first]

    def _spans(self, text: str, words: Sequence[Word], table: NDArray[np.float32]) -> list[Finding]:
        """Neighbouring words of one label make a finding. Its score is the mean over its words of how much speaks against `nothing`."""
        if not len(table):
            return []
        told = table.copy()
        told[:, self._silent] = 0
        labels = told.argmax(axis=1)
        against, least = 1.0 - table[:, self._silent].sum(axis=1), self._least[labels]
        sure = np.where(against < least, 0.5 * against / least, 0.5 + 0.5 * (against - least) / (1.0 - least))
        labels[sure < 0.5] = 0
        found: list[Finding] = []
        at = 0
        while at < len(words):
            label = labels[at]
            end = at + 1
            while end < len(words) and labels[end] == label:
                end += 1
            if label:
                first, last = _trim(text, words, at, end)
                if first < last:
                    score = min(SUREST, float(sure[at:end].mean()))
                    found.append(Finding(words[first].start, words[last - 1].end, self._manifest.labels[label], self.name, round(score, 4)))
            at = end
        return found


_LOOSE_START, _LOOSE_END = frozenset(",.;:)]}>|\"'=-–—/"), frozenset(",;:([{<|\"'=-–—/")
_SMALL = (
    "in at on of from to and or with by for is was are were has had who that my his her their our your as be if "
    "und oder mit von bei im am aus zum zur ist et ou avec est dans por con es"
)
_FUNCTION = frozenset(_SMALL.split())


def _trim(text: str, words: Sequence[Word], first: int, last: int) -> tuple[int, int]:
    """Marks at the edge of a run belong to the sentence, not to the thing; a closing full stop may be either and stays. So do small words
    that no thing begins or ends with, unless there is nothing else.
    """
    while first < last and text[words[first].start : words[first].end] in _LOOSE_START:
        first += 1
    while first < last and text[words[last - 1].start : words[last - 1].end] in _LOOSE_END:
        last -= 1
    begin, end = first, last
    while begin < end and text[words[begin].start : words[begin].end] in _FUNCTION:
        begin += 1
    while begin < end and text[words[end - 1].start : words[end - 1].end] in _FUNCTION:
        end -= 1
    return (begin, end) if begin < end else (first, last)
