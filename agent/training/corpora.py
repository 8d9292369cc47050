"""The public corpora, read as texts with masks of allowed labels per span. Their words stand apart by spaces; most are put together again."""

from __future__ import annotations

import gzip
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

from training.labels import NOTHING, TERM, mask

DATA = Path(__file__).parent / "data"
PERSON = mask("pii.person", "pii.staff", "phi.identifier")
MEANING = {
    "PER": PERSON, "person": PERSON, "LOC": mask("pii.location"), "location": mask("pii.location", "pii.organisation"), "ORG": mask("pii.organisation"),
    "corporation": mask("pii.organisation"), "group": mask("pii.organisation"), "Disease": mask(TERM, "phi.clinical"), "Chemical": mask(TERM, "phi.clinical"),
    "MISC": mask(NOTHING, "pii.demographic", "pii.organisation"), "product": mask(NOTHING), "creative-work": mask(NOTHING),
}  # fmt: skip
TRAIN = ("ner_btc", "ner_wikigold", "ner_sec-filings", "ner_wnut17", "clinical_bc5cdr", "clinical_ncbi")

# What a corpus leaves unmarked though we look for it: dates and times, ages, titles, contacts. The loss is taken off there.
_DATED = re.compile(
    r"\d|^(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec|mon|tue|wed|thu|fri|sat|sun)[a-z]*$|^(?:today|tomorrow|tonight|yesterday|week|month|year|years|ago|last|next|early|late|spring|summer|autumn|winter|century|morning|evening|night|am|pm)$|^(?:mr|mrs|ms|dr|prof|sir|lord|lady|president|senator|king|queen|prince|st)$|[@/]|http|www",
    re.IGNORECASE,
)
_OPEN = mask(NOTHING, "pii.date", "pii.age", "pii.demographic", "pii.contact", "pii.location")
_CLINICAL_OPEN = mask(NOTHING, TERM, "phi.clinical", "pii.date", "pii.age")


@dataclass(frozen=True, slots=True)
class Example:
    """A text; spans of (start, end, mask); the mask of the words outside any span, and of those outside that look like a date or title."""

    text: str
    spans: tuple[tuple[int, int, int], ...]
    outside: int = mask(NOTHING)
    dated: int = mask(NOTHING)
    kind: str = ""


def looks_dated(word: str) -> bool:
    """Whether a word may belong to a date, an age, a title or a contact."""
    return bool(_DATED.search(word))


def read(folder: str, part: str) -> list[Example]:
    """The examples of a corpus. part: `train` or `test`."""
    clinical = folder.startswith("clinical")
    outside = mask(NOTHING)
    found = []
    with gzip.open(DATA / f"{folder}.{part}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            spans = tuple((s["start"], s["end"], MEANING[s["label"]]) for s in row["spans"])
            found.append(Example(row["text"], spans, outside, _CLINICAL_OPEN if clinical else _OPEN, folder))
    return found


_GLUE = re.compile(r" (?=[.,;:!?)\]%'’])|(?<=[(\[#@$]) |(?<=\w) (?=['’] ?s\b)|(?<=\w) (?=[-/] \w)|(?<=\w [-/]) (?=\w)")


def together(example: Example) -> Example:
    """The same text with the spaces taken out that a tokeniser put in."""
    drop = {m.start() for m in _GLUE.finditer(example.text)}
    if not drop:
        return example
    at, place, kept = [], 0, []
    for number, char in enumerate(example.text):
        at.append(place)
        if number not in drop:
            kept.append(char)
            place += 1
    at.append(place)
    return Example("".join(kept), tuple((at[s], at[e], m) for s, e, m in example.spans), example.outside, example.dated, example.kind)


def vary(example: Example, rng: random.Random) -> Example:
    """Together again, most of the time."""
    return together(example) if rng.random() < 0.75 else example
