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


@pytest.mark.skipif(os.geteuid() != 0, reason="who ends sandboxes is root")
def test_a_sandbox_that_is_not_there_is_said_not_to_be() -> None:
    """Not that it waits for no agent: whoever ends one does not ask for one that waits."""
    done = _stockade("sandbox kill no-such-sandbox", subprocess.PIPE, "")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "stockade: no sandbox is called no-such-sandbox [no_sandbox]\n  hint: stockade sandbox ls says which there are\n"


def test_a_kubeconfig_that_is_none_is_named() -> None:
    done = _stockade("fleet status --kubernetes /no/such/config", subprocess.PIPE, "")
    assert (done.returncode, done.stdout) == (2, "")
    said, hint = done.stderr.splitlines()
    assert said.startswith("stockade: the cluster's API is not known by /no/such/config: ") and said.endswith(" [kubernetes]")
    assert hint == "  hint: name the kubeconfig that kubectl uses, as ~/.kube/config"


@pytest.mark.skipif(os.geteuid() != 0, reason="runtimes run it as root")
def test_words_that_are_no_state_of_a_container_are_said_to_be_no_json() -> None:
    command = [sys.executable, "-m", "stockade", "oci-hook"]
    done = subprocess.run(command, input="{", capture_output=True, text=True, check=False)
    assert (done.returncode, "not JSON: Expecting property name" in done.stderr, "[bad_state]" in done.stderr) == (2, True, True)
