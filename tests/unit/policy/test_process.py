"""process.{user,pids,memory,cpu,devices}: what a policy says, what holds of several, and how it is shown and compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockade.policy import PolicyError, load
from stockade.policy.format.amounts import size, size_text
from stockade.policy.model import Policy
from stockade.policy.proof.diff import diff

KEYS = "process: {user: builder, pids: 100, memory: 512M, cpu: 1.5, devices: [nvidia]}\n"


def policy(directory: Path, *texts: str) -> Policy:
    paths = []
    for number, text in enumerate(texts):
        paths.append(directory / f"{number}.yaml")
        paths[-1].write_text(f"version: 1\nexec: {{allow: [sh]}}\n{text}")
    return load(paths)


def test_what_is_said(tmp_path: Path) -> None:
    process = policy(tmp_path, KEYS).process
    assert (process.user, process.pids, process.memory, process.cpu, process.devices) == ("builder", 100, 512 << 20, 1.5, ("nvidia",))
    nothing = policy(tmp_path, "").process
    assert (nothing.user, nothing.pids, nothing.memory, nothing.cpu, nothing.devices) == (None, None, None, None, ())


@pytest.mark.parametrize("texts", [("memory: 1G", "memory: 900M"), ("memory: 900Mi", "memory: 1Gi")])
def test_of_several_limits_the_least_holds(tmp_path: Path, texts: tuple[str, str]) -> None:
    assert policy(tmp_path, *(f"process: {{{text}, pids: {pids}}}\n" for text, pids in zip(texts, (9, 10), strict=True))).process.pids == 9
    assert policy(tmp_path, *(f"process: {{{text}}}\n" for text in texts)).process.memory == 900 << 20


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("pids: 0", "bad_number"),
        ("cpu: 0", "bad_number"),
        ("cpu: 0.001", "bad_number"),
        ("memory: 15M", "bad_size"),
        ("memory: 512K", "bad_size"),
        ("memory: lots", "bad_size"),
        ("user: nobody", "bad_user"),
        ("user: 65534", "bad_user"),
        ("devices: [kmsg]", "bad_value"),
    ],
)
def test_what_makes_no_sense_is_an_error_in_its_place(tmp_path: Path, text: str, code: str) -> None:
    with pytest.raises(PolicyError) as refused:
        policy(tmp_path, f"process: {{{text}}}\n")
    assert [problem.code for problem in refused.value.problems] == [code]


@pytest.mark.parametrize(("text", "bytes_"), [("16M", 16 << 20), ("16Mi", 16 << 20), ("2G", 2 << 30), ("3T", 3 << 40)])
def test_sizes(text: str, bytes_: int) -> None:
    assert size(text) == bytes_
    assert size_text(bytes_) == text.removesuffix("i")


def test_what_becomes_possible_and_what_stops_being(tmp_path: Path) -> None:
    def changes(old: str, new: str) -> list[tuple[str, str]]:
        a, b = policy(tmp_path, old), policy(tmp_path, new)
        return [(change.effect, change.text) for change in diff(a, b) if change.area == "process"]

    assert changes("", "process: {pids: 100, memory: 64M}\n") == [
        ("impossible", "pids: 4096 before, 100 after"),
        ("impossible", "memory: no limit before, 64M after"),
    ]
    assert changes("process: {cpu: 2}\n", "process: {cpu: 4, devices: [nvidia]}\n") == [
        ("possible", "cpu: 2 before, 4 after"),
        ("possible", "device files that are shown: nvidia"),
    ]
    assert changes("process: {pids: 4096}\n", "") == []
