"""What the model learns from and is measured by: the spans are exact, the seed decides, and the held-out is held out."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from itertools import islice

import pytest

from stockade.privacy.finding import CATEGORIES
from stockade.privacy.ner import MODEL
from stockade.privacy.wordpiece import SHAPES, WordPiece
from training import generate
from training.labels import LABELS, TERM
from training.values.lists import SPLITS, listed, split_of

LISTS = ("given", "family", "diseases", "drugs", "organisations", "countries", "demographics", "streets")


@pytest.mark.parametrize("split", SPLITS)
def test_spans_are_inside_the_text_in_order_and_of_known_labels(split: str) -> None:
    for made in islice(generate.stream(3, split), 400):
        at = 0
        for start, end, label in made.spans:
            assert at <= start < end <= len(made.text)
            assert label in LABELS and (label in CATEGORIES or label == TERM)
            assert made.text[start:end].strip()
            at = end


def test_the_seed_decides() -> None:
    assert list(islice(generate.stream(5, "train"), 60)) == list(islice(generate.stream(5, "train"), 60))
    assert list(islice(generate.stream(5, "train"), 60)) != list(islice(generate.stream(6, "train"), 60))


def test_the_seed_decides_in_every_process() -> None:
    """Sets have another order in each, and Faker draws from one."""
    program = (
        "from itertools import islice; from training import generate; print([m.text for m in islice(generate.stream(5, 'train'), 80)])"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(MODEL.parents[2]), "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
        )
        for seed in ("1", "2")
    ]
    texts = [run.communicate(timeout=120)[0] for run in runs]
    assert all(run.returncode == 0 for run in runs)
    assert texts[0] == texts[1] != b""


def test_no_template_and_no_value_is_in_two_splits() -> None:
    lines = [{line for family in generate.templates(split).values() for line in family} for split in SPLITS]
    assert all(lines) and not lines[0] & lines[1] | lines[0] & lines[2] | lines[1] & lines[2]
    assert not set(generate.HELD_OUT) & (set(generate.templates("train")) | set(generate.templates("dev")))
    assert set(generate.HELD_OUT) <= set(generate.templates("test"))
    for name in LISTS:
        for split in SPLITS:
            assert all(split_of(value) == split for value in listed(name, split))


def test_every_slot_of_every_template_can_be_filled() -> None:
    for split in SPLITS:
        for family, lines in generate.templates(split).items():
            for line in lines:
                made = generate.fill(line, random.Random(1), split, family)
                assert "{" not in made.text or "{" in line.replace("{", "", 1)


def test_a_name_is_labelled_by_its_role() -> None:
    made = generate.fill("{patient} saw {dr} {staff_last}; {person} waited. {patient}", random.Random(2), "test")
    assert [label for _, _, label in made.spans] == ["phi.identifier", "pii.demographic", "pii.staff", "pii.person", "phi.identifier"]


def test_every_visible_character_lies_in_one_word() -> None:
    words = WordPiece.read(MODEL / "vocab.txt")
    for text in (
        "Dr. José Müller-Łukasz (b. 03/04/1961)\nMRN_123",
        "e\u0301te\u0301\u200b x",
        "张伟 lives in 北京",
        "a" * 500,
        "🙂👩‍👩‍👧 x_y",
    ):
        cut = words.words(text)
        assert all(0 < w.shape < SHAPES and w.pieces for w in cut)
        covered = {n for w in cut for n in range(w.start, w.end)}
        assert [w.start for w in cut] == sorted({w.start for w in cut})
        assert all(n in covered for n, c in enumerate(text) if c.isalnum())
