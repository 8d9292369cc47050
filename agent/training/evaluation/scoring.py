"""Counts: a gold span is found when half of its characters are covered by findings of its category (`detect`: of any). A finding is right when
half of its characters lie in gold spans. F2 weighs recall four times as much as precision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from training.evaluation.sets import Span

Counts = tuple[int, int, int, int]
"""Gold spans found, gold spans, findings that are right, findings."""
_ACCOUNTS = {"financial.account", "financial.card", "financial.iban", "financial.crypto"}


def same(said: str, gold: str) -> bool:
    """Whether a finding's category answers a gold one. Kinds of numbers of accounts that the gold does not tell apart are one, and so are
    credentials.
    """
    return said == gold or (said in _ACCOUNTS and gold in _ACCOUNTS) or (gold == "credential" and said.startswith("credential."))


def covered(start: int, end: int, spans: Iterable[Span]) -> bool:
    inside: set[int] = set()
    for s, e, _ in spans:
        inside.update(range(max(start, s), min(end, e)))
    return 2 * len(inside) >= end - start > 0


def score(rows: Sequence[tuple[str, Sequence[Span]]], found: Sequence[Sequence[Span]]) -> dict[str, Counts]:
    """Per category and for `detect`."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for (_, gold), said in zip(rows, found, strict=True):
        for start, end, category in gold:
            for key, those in (("detect", list(said)), (category, [s for s in said if same(s[2], category)])):
                counts[key][1] += 1
                counts[key][0] += covered(start, end, those)
        for start, end, category in said:
            if category.startswith("ip."):  # of documents as a whole, which have no spans here
                continue
            own = "credential" if category.startswith("credential.") and any(g[2] == "credential" for g in gold) else category
            for key, those in (("detect", list(gold)), (own, [g for g in gold if same(category, g[2])])):
                counts[key][3] += 1
                counts[key][2] += covered(start, end, those)
    return {key: (a, b, c, d) for key, (a, b, c, d) in sorted(counts.items())}


def figures(counts: Counts) -> tuple[float, float, float, float]:
    """Precision, recall, F1, F2."""
    hit, gold, right, said = counts
    recall, precision = hit / gold if gold else 0.0, right / said if said else 0.0
    f1 = 2 * recall * precision / (recall + precision) if recall + precision else 0.0
    f2 = 5 * recall * precision / (4 * precision + recall) if recall + precision else 0.0
    return precision, recall, f1, f2


HEAD = f"  {'category':22} {'precision':>9} {'recall':>7} {'F1':>6} {'F2':>6} {'gold':>6} {'said':>6}"


def line(name: str, counts: Counts) -> str:
    """One line of a table."""
    precision, recall, f1, f2 = figures(counts)
    return f"  {name:22} {precision:9.3f} {recall:7.3f} {f1:6.3f} {f2:6.3f} {counts[1]:6} {counts[3]:6}"


def lines_of(rows: Sequence[tuple[str, Sequence[Span]]], found: Sequence[Sequence[Span]]) -> tuple[int, int, int]:
    """Of files with secrets: lines with one that were found, lines with one, and other lines in which a credential is reported."""
    hit = risk = excess = 0
    for (text, gold), said in zip(rows, found, strict=True):
        at = 0
        for row in text.split("\n"):
            end = at + len(row)
            here = any(s < end and e > at for s, e, _ in gold)
            told = any(s < end and e > at and c.startswith("credential.") for s, e, c in said)
            risk += here
            hit += here and told
            excess += told and not here
            at = end + 1
    return hit, risk, excess
