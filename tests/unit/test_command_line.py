"""What every verb does with its answer and its words: pipes that are closed early, disks that are full, options that nobody knows."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# without it Python writes when its buffer is full or it exits, as on every user's machine; with it each line at once
BUFFERED = {"": {}, "unbuffered": {"PYTHONUNBUFFERED": "1"}}
ANSWERS = ("presets", "policy schema", "seccomp show", "--help", "policy check --help")


def _stockade(words: str, stdout: int, buffering: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | BUFFERED[buffering]
    command = [sys.executable, "-m", "stockade", *words.split()]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment, check=False)


@pytest.mark.parametrize("buffering", BUFFERED)
@pytest.mark.parametrize("words", ANSWERS)
def test_a_reader_that_has_gone_ends_it_as_sigpipe_would_and_nothing_is_said(words: str, buffering: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = _stockade(words, writer, buffering)
    finally:
        os.close(writer)
    # argparse itself overlooks a help that could not be written at once
    assert (done.returncode, done.stderr) in ([(141, ""), (0, "")] if "--help" in words and buffering else [(141, "")])


@pytest.mark.parametrize("buffering", BUFFERED)
@pytest.mark.parametrize("words", ["presets", "policy schema", "policy show --preset pypi"])
def test_an_answer_that_a_full_disk_does_not_take_is_an_error_and_no_traceback(words: str, buffering: str) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = _stockade(words, full, buffering)
    finally:
        os.close(full)
    assert (done.returncode, done.stderr) == (2, "stockade: cannot write: No space left on device [no_space]\n")


@pytest.mark.parametrize(
    ("words", "verb"),
    [
        ("doctor --loud", "doctor"),
        ("run --polcy a.yaml -- true", "run"),
        ("policy diff a.yaml b.yaml c.yaml", "policy diff"),
        ("privacy explain a.txt b.txt", "privacy explain"),
    ],
)
def test_a_word_that_nobody_knows_is_told_by_the_verb_it_was_given_to(words: str, verb: str) -> None:
    done = _stockade(words, subprocess.PIPE, "")
    assert (done.returncode, done.stdout) == (2, "")
    said, hint = done.stderr.splitlines()
    assert said.startswith(f"stockade {verb}: error: unrecognized arguments: ")
    assert hint == f"  hint: stockade {verb} --help"
