"""How much must speak against `nothing` for a word to count, per label, chosen on the split `dev`: `python -m training.evaluation.thresholds MODEL`.

Of a grid, the threshold with the best F2 over words, found or not, whatever their label; words in texts that hold nothing to protect are
counted threefold, since each of them may hold a whole prompt back. A small number of words gives no reason to leave START.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from stockade.privacy.ner import TERM, TokenModel, UnusableModel
from training.evaluation.sets import SETS, make

OUT = Path(__file__).parent.parent / "thresholds.json"
GRID = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)  # none above one half: a name missed is worse than one too many
START = 0.4
ENOUGH = 40
"""Words between the ends of the grid that a label must have to move."""


def main(folder: Path) -> None:
    model = TokenModel.load(folder, providers=["CPUExecutionProvider"])
    labels = model.labels
    term = labels.index(TERM)
    against: list[np.ndarray] = []
    named: list[np.ndarray] = []
    gold: list[np.ndarray] = []
    weight: list[np.ndarray] = []
    for kind in SETS:
        if kind.corpus or kind.secrets or kind.part:  # these are of no split
            continue
        for text, spans in make(kind, "dev"):
            words, table = model.table(text)
            if not words:
                continue
            told = table.copy()
            told[:, [0, term]] = 0
            named.append(told.argmax(axis=1))
            against.append(1.0 - table[:, 0] - table[:, term])
            gold.append(np.array([any(s < w.end and e > w.start for s, e, _ in spans) for w in words]))
            weight.append(np.full(len(words), 1.0 if spans else 3.0))
    a, n, g, w = (np.concatenate(part) for part in (against, named, gold, weight))
    chosen: dict[str, float] = {}
    for number, label in enumerate(labels):
        if number in (0, term):
            continue
        mine = n == number
        open_ = mine & (a >= GRID[0]) & (a < GRID[-1])
        rest_hit, rest_false = (w * g)[~mine & (a >= START)].sum(), (w * ~g)[~mine & (a >= START)].sum()
        everything = (w * g).sum()

        def f2(least: float) -> float:
            hit = rest_hit + (w * g)[mine & (a >= least)].sum()  # noqa: B023
            false = rest_false + (w * ~g)[mine & (a >= least)].sum()  # noqa: B023
            return float(5 * hit / (5 * hit + 4 * (everything - hit) + false))  # noqa: B023

        chosen[label] = max(GRID, key=lambda least: (f2(least), -abs(least - START))) if open_.sum() >= ENOUGH else START
        print(f"{label:22} {chosen[label]:.2f}  {int(open_.sum()):4} words in between, {int((open_ & g).sum())} of them of something")
    OUT.write_text(json.dumps(chosen) + "\n")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except UnusableModel as error:
        raise SystemExit(str(error)) from None
