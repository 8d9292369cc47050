"""The sets of texts that are measured on, each with the spans that are in it.

Of the generator the split `test` (templates, fragments and values that no training text had; the families in HELD_OUT whole), the test parts
of the public corpora, and files with secrets in them (secrets.py). For choosing thresholds the same can be made of the split `dev`.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from training import corpora, generate
from training.evaluation import secrets
from training.labels import TERM

Span = tuple[int, int, str]
Row = tuple[str, list[Span]]


@dataclass(frozen=True, slots=True)
class Kind:
    """Where a set is taken from. families: of templates, none for all of them as they are mixed. part: of the hand-written
    sentences. about: what the report calls it.
    """

    name: str
    about: str
    many: int
    families: tuple[str, ...] = ()
    corpus: str = ""
    secrets: bool = False
    part: str = ""


SETS = (
    Kind("generated", "all kinds of texts, mixed as in training", 500),
    Kind("sentences", "one sentence with one or two values", 300, ("oneline", "prompts", "numbers")),
    Kind("written", "sentences written by hand, of no template", 200, part="prompts"),
    Kind("staff", "names in their professional role", 200, ("staff",)),
    Kind("clinical", "notes, letters and reports about a patient", 250, ("clinical",)),
    Kind("lives", "lives of people in prose", 200, ("lives", "prose")),
    Kind("letters", "German, French, Spanish and other letters", 150, ("letters",)),
    Kind("wnut17", "WNUT 2017, test", 500, corpus="ner_wnut17"),
    Kind("fin3", "SEC filings, FIN3", 303, corpus="ner_sec-filings"),
    Kind("bc5cdr", "BC5CDR, test: diseases and drugs in abstracts, of nobody", 250, corpus="clinical_bc5cdr"),
    Kind("asked", "questions about a patient who can be told by what is said", 300, ("rounds", "bedside")),
    Kind("written-asked", "the same about patients", 200, part="patients"),
    Kind("written-med", "the same, medical and about nobody", 200, part="medical"),
    Kind("written-none", "the same, with nothing to protect", 200, part="harmless"),
    Kind("medical", "medical questions about nobody", 400, ("library", "vignettes", "questions")),
    Kind("harmless", "other texts that hold nothing to protect", 200, ("harmless", "works")),
    Kind("secrets", "files with credentials in some lines", 45, secrets=True),
)
MEANING = {
    "PER": "pii.person", "person": "pii.person", "LOC": "pii.location", "location": "pii.location", "ORG": "pii.organisation", "corporation": "pii.organisation",
    "group": "pii.organisation", "Disease": TERM, "Chemical": TERM,
}  # fmt: skip


def make(kind: Kind, split: str = "test") -> list[Row]:
    """The texts of a set. The same split gives the same texts."""
    if kind.secrets:
        return secrets.files(kind.many, split)
    if kind.part:
        return _written(kind.part)
    if kind.corpus:
        return _public(kind)
    rows: list[Row] = []
    for made in generate.stream(2026, split, join=0.0 if kind.families else 0.15):
        if len(rows) == kind.many:
            break
        if not kind.families or made.family in kind.families:
            rows.append((made.text, [span for span in made.spans if span[2] != TERM]))
    return rows


def _written(part: str) -> list[Row]:
    """The sentences below a line `@ part`; those before the first of such lines are `prompts`."""
    rows: list[Row] = []
    here = "prompts"
    for line in (Path(__file__).parent / "written.txt").read_text("utf-8").splitlines():
        if line.startswith("@ "):
            here = line[2:]
        elif here == part and line and not line.startswith("#"):
            text, spans = "", []
            for piece in re.split(r"(⟦[^⟧]*⟧)", line.replace("\\n", "\n")):
                value, _, category = piece.strip("⟦⟧").rpartition("|") if piece.startswith("⟦") else (piece, "", "")
                if category and category != "pii.other":
                    spans.append((len(text), len(text) + len(value), category))
                text += value
            rows.append((text, spans))
    return rows


def _public(kind: Kind) -> list[Row]:
    with gzip.open(corpora.DATA / f"{kind.corpus}.test.jsonl.gz", "rt", encoding="utf-8") as lines:
        raw = [json.loads(line) for line in lines][: kind.many]
    return [(row["text"], [(s["start"], s["end"], MEANING[s["label"]]) for s in row["spans"] if s["label"] in MEANING]) for row in raw]


def write(path: Path, rows: Iterable[tuple[str, Sequence[Span]]]) -> None:
    path.write_text("".join(json.dumps({"text": text, "spans": spans}) + "\n" for text, spans in rows), "utf-8")


def read(path: Path) -> list[Row]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [(row["text"], [(s, e, c) for s, e, c in row["spans"]]) for row in rows]
