"""The model alone, the whole classifier and Presidio on the same texts in the same run.

python -m training.evaluation make FOLDER             the sets, as `.jsonl` (--split dev: those that thresholds are chosen on)
python -m training.evaluation.presidio FOLDER         Presidio's findings (an environment of its own)
python -m training.evaluation report FOLDER           ours, then the tables and the latency (--model: another folder of a model, beside)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stockade.cli.privacy import detectors
from stockade.policy.privacy import Privacy
from stockade.privacy.classify import Classifier
from stockade.privacy.documents.registry import PATH
from stockade.privacy.finding import Detector, Finding
from stockade.privacy.ner import TERM, TokenModel
from stockade.privacy.route import route
from stockade.types import Effect
from training.evaluation.scoring import HEAD, Counts, figures, line, lines_of, score
from training.evaluation.sets import SETS, Kind, Row, Span, make, read, write

ROUTED = ("clinical", "asked", "written-asked", "medical", "written-med", "harmless", "written-none")
"""Sets whose texts are, or are not, to be held back as a whole."""
Find = Callable[[Sequence[str]], list[list[Span]]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call with one text, as the router takes it."""

    texts: tuple[str, ...]
    model: str | None = "m"


def held(text: str, found: Sequence[Span]) -> bool:
    """Whether the default routes keep a prompt with these findings from going out as it is."""
    findings = [Finding(start, end, category, "evaluation", 1.0) for start, end, category in found]
    return route(_Asked((text,)), [findings], "llm.example", Privacy()).effect is not Effect.PASS


def spans(found: Sequence[Sequence[Finding]]) -> list[list[Span]]:
    return [[(f.start, f.end, f.category) for f in one] for one in found]


def whole(model: TokenModel) -> Classifier:
    """All layers as they ship, with a model in the shipped one's place."""
    shipped, _ = detectors.classifier(PATH)
    parts: list[Detector] = [model if isinstance(part, TokenModel) else part for part in shipped.detectors]
    return Classifier(parts)


def systems(others: Sequence[Path]) -> dict[str, Find]:
    found: dict[str, Find] = {}
    for path in (None, *others):
        model = TokenModel.load(path)
        tag = f" ({path.name})" if path else ""
        classifier = whole(model)
        print(f"model{tag} {model.version} on {model.provider}")
        found[f"model{tag}"] = lambda texts, model=model: spans(model.find(texts))  # type: ignore[misc]
        found[f"classifier{tag}"] = lambda texts, classifier=classifier: spans(classifier.classify(texts))  # type: ignore[misc]
    return found


def answers(kind: Kind, rows: Sequence[Row], folder: Path, ours: dict[str, Find]) -> dict[str, list[list[Span]]]:
    texts = [text for text, _ in rows]
    said = {name: find(texts) for name, find in ours.items()}
    if kind.corpus.startswith("clinical"):  # about nobody, so nobody reports them: here the label for terms in general counts as well
        said["model, with general terms"] = spans(TokenModel.load(terms=True).find(texts))
    theirs = folder / f"{kind.name}.presidio.json"
    if theirs.exists():
        said["presidio"] = [[(s, e, c) for s, e, c in one] for one in json.loads(theirs.read_text())]
    return said


def report(folder: Path, others: Sequence[Path] = ()) -> None:
    """Every set with every system, then all of it in one table."""
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at the start")
    ours = systems(others)
    theirs = folder / "presidio.txt"
    print(theirs.read_text().strip() if theirs.exists() else "Presidio was not run on these")
    short: list[str] = []
    routed: list[str] = []
    for kind in SETS:
        rows = read(folder / f"{kind.name}.jsonl")
        for system, found in answers(kind, rows, folder, ours).items():
            print(f"\n{kind.name}: {system}, {len(rows)} texts ({kind.about})\n{HEAD}")
            table = score(rows, found)
            if kind.corpus.startswith("clinical"):
                table = {key: value for key, value in table.items() if key in ("detect", TERM)}
            for category, counts in table.items():
                print(line(category, counts))
            stopped = sum(held(text, one) for (text, _), one in zip(rows, found, strict=True))
            print(f"  held back by the default routes: {stopped} of {len(rows)} texts ({stopped / len(rows):.1%})")
            if kind.secrets:
                hit, risk, excess = lines_of(rows, found)
                print(f"  lines with a credential: {hit} of {risk} found ({hit / risk:.1%}), {excess} other lines reported")
            else:
                detect: Counts = table.get("detect", (0, 0, 0, 0))
                if detect[1]:
                    precision, recall, _, f2 = figures(detect)
                    short.append(f"  {kind.name:13} {system:28} {precision:9.3f} {recall:7.3f} {f2:6.3f}")
            if kind.name in ROUTED:
                routed.append(f"  {kind.name:13} {system:28} {stopped:4} of {len(rows):4} {stopped / len(rows):7.1%}")
    print(f"\ndetect (any category)\n  {'set':13} {'system':28} {'precision':>9} {'recall':>7} {'F2':>6}", *short, sep="\n")
    print("\nheld back by the default routes (clinical, asked: about a patient; medical, harmless: about nobody)", *routed, sep="\n")
    latency(ours)


def latency(ours: dict[str, Find]) -> None:
    """Medians over 40 runs, with 2 threads. No text comes twice, so nothing is remembered."""
    sentence = "Patient Maria Keller, born 3 May 1961, was seen in Leipzig for hypertension and takes ramipril. "
    words = TokenModel.load().words
    print()
    for tokens in (128, 512):
        text = sentence
        while sum(len(w.pieces) for w in words(text)) < tokens - 2:
            text += sentence
        while sum(len(w.pieces) for w in words(text)) > tokens - 2:
            text = text[:-1]
        for name, find in ours.items():
            times = []
            for number in range(43):
                begun = time.perf_counter()
                find([text + " " * number])
                times.append(time.perf_counter() - begun)
            print(f"latency, {name}, {tokens} tokens: p50 {statistics.median(times[3:]) * 1000:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "report"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", choices=["test", "dev"], default="test")
    parser.add_argument("--model", type=Path, action="append", default=[])
    options = parser.parse_args()
    if options.what == "report":
        report(options.folder, options.model)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    for old in options.folder.glob("*.json*"):
        old.unlink()
    for kind in SETS:
        write(options.folder / f"{kind.name}.jsonl", make(kind, options.split))


if __name__ == "__main__":
    main()
