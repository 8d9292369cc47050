"""`stockade privacy eval`: precision and recall of the detectors on texts whose sensitive spans are known."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stockade.privacy.finding import CATEGORIES
from stockade.types import StockadeError

SUMMARY = "Measure the detectors on a file of texts with their sensitive spans."
EXAMPLES = """\
  stockade privacy eval test.jsonl
  stockade privacy eval test.jsonl --map labels.json -o json
"""

Span = tuple[int, int, str]
_LINE = 'each line: {"text": "…", "spans": [{"start": 0, "end": 4, "label": "…"}]}'
_MAP = '{"PERSON": "pii.person", "OTHER": null}'


def arguments(parser: argparse.ArgumentParser) -> None:
    from stockade.cli.privacy.detectors import add_registry

    parser.description = (
        SUMMARY
        + ' Each line is {"text": …, "spans": [{"start", "end", "label"}]}, in characters, end exclusive. A known span is found when at '
        "least half of its characters are covered by findings; a finding is right when at least half of its characters lie in known "
        "spans. `detect` takes any category; the table counts a category's findings against its own spans, where labels are categories "
        "or --map makes them so."
    )
    parser.add_argument("file", metavar="FILE.jsonl", help="texts and spans")
    parser.add_argument("--map", type=Path, metavar="FILE", help="JSON object: foreign label → category, null for one to be left out")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")
    add_registry(parser)


def run(args: argparse.Namespace) -> int:
    from stockade.cli.privacy.detectors import classifier

    texts, gold = read(args.file, _map(args.map))
    known, missing = classifier(args.registry)
    found = [[(f.start, f.end, f.category) for f in known.classify([text])[0]] for text in texts]
    detect = measure(gold, found)
    labels = {label for spans in gold for *_, label in spans}
    names = sorted(labels | {label for spans in found for *_, label in spans})
    categories = {name: measure(_only(gold, name), _only(found, name)).figures() for name in names} if labels <= set(CATEGORIES) else {}
    if args.output == "json":
        print(json.dumps({"detect": detect.figures(), "categories": categories, "texts": len(texts), "missing": missing}, indent=2))
        return 0
    print(f"{'':24}{'precision':>10}{'recall':>10}{'f1':>10}{'f2':>10}{'known':>8}{'found':>8}")
    for name, figures in {"detect": detect.figures(), **categories}.items():
        print(
            f"{name:24}"
            + "".join(f"{figures[key]:10.4f}" for key in ("precision", "recall", "f1", "f2"))
            + f"{figures['known']:8}{figures['findings']:8}"
        )
    return 0


@dataclass(frozen=True, slots=True)
class Counts:
    """known: spans that are there. covered: of which half was found. findings: spans found. right: of which half is there."""

    known: int
    covered: int
    findings: int
    right: int

    def figures(self) -> dict[str, float]:
        """0 for what cannot be divided; no spans and no findings at all is 1."""
        nothing = 1.0 if not self.known and not self.findings else 0.0
        precision = self.right / self.findings if self.findings else nothing
        recall = self.covered / self.known if self.known else nothing
        return {
            "precision": round(precision, 4), "recall": round(recall, 4),
            "f1": round(_f(precision, recall, 1), 4), "f2": round(_f(precision, recall, 2), 4),
            "known": self.known, "findings": self.findings,
        }  # fmt: skip


def _f(precision: float, recall: float, beta: int) -> float:
    below = beta**2 * precision + recall
    return (1 + beta**2) * precision * recall / below if below else 0.0


def measure(gold: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]) -> Counts:
    """gold, found: the spans of each text, in the same order."""
    known = covered = findings = right = 0
    for true, seen in zip(gold, found, strict=True):
        of_true, of_seen = _characters(true), _characters(seen)
        known += len(true)
        findings += len(seen)
        covered += sum(_half(start, end, of_seen) for start, end, _ in true)
        right += sum(_half(start, end, of_true) for start, end, _ in seen)
    return Counts(known, covered, findings, right)


def _characters(spans: Sequence[Span]) -> set[int]:
    return {place for start, end, _ in spans for place in range(start, end)}


def _half(start: int, end: int, covered: set[int]) -> bool:
    return 2 * sum(place in covered for place in range(start, end)) >= end - start


def _only(spans: Sequence[Sequence[Span]], name: str) -> list[list[Span]]:
    return [[span for span in of_text if span[2] == name] for of_text in spans]


def _map(path: Path | None) -> dict[str, str | None]:
    if path is None:
        return {}
    try:
        table = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise StockadeError(f"cannot read {path}: {_why(error)}", code="unreadable") from None
    except json.JSONDecodeError as error:
        raise StockadeError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}", hint=_MAP, code="bad_map") from None
    if not isinstance(table, dict):
        raise StockadeError(f"{path}: not an object of labels", hint=_MAP, code="bad_map")
    for label, category in table.items():
        if category is not None and not (isinstance(category, str) and category in CATEGORIES):
            hint = f"null, or one of {' '.join(CATEGORIES)}"
            raise StockadeError(f"{path}: {label!r}: {category!r} is no category", hint=hint, code="bad_map")
    return table


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8"


def read(name: str, table: Mapping[str, str | None]) -> tuple[list[str], list[list[Span]]]:
    """Raises StockadeError with file, line and what is wrong."""
    texts: list[str] = []
    gold: list[list[Span]] = []
    try:
        lines = Path(name).read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise StockadeError(f"cannot read {name}: {_why(error)}", hint="give a file of JSON lines", code="unreadable") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            text = entry["text"]
            spans = [_span(span, text, table) for span in entry["spans"]]
        except (ValueError, KeyError, TypeError) as error:
            raise StockadeError(f"{name}:{number}{_wrong(error)}", hint=_LINE, code="bad_data") from None
        texts.append(text)
        gold.append([span for span in spans if span])
    if not texts:
        raise StockadeError(f"{name} has no text in it", code="bad_data")
    return texts, gold


def _wrong(error: Exception) -> str:
    match error:
        case json.JSONDecodeError():
            return f":{error.colno}: not JSON: {error.msg}"
        case KeyError():
            return f": there is no `{error.args[0]}`"
        case TypeError():
            return ": a key has a value of another kind"
    return f": {error}"


def _span(span: Mapping[str, object], text: str, table: Mapping[str, str | None]) -> Span | None:
    start, end, label = span["start"], span["end"], span["label"]
    if not isinstance(start, int) or not isinstance(end, int) or not isinstance(label, str) or not 0 <= start < end <= len(text):
        raise ValueError(f"a span of {start!r} to {end!r} in a text of {len(text)} characters")
    mapped = table.get(label, label)
    return None if mapped is None else (start, end, mapped)
