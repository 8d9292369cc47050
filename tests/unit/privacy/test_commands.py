"""`stockade privacy`, as it is typed: every example of its help, its JSON, its exit status, and errors that say where and what instead."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stockade.cli.privacy import ACTIONS
from stockade.privacy.patterns.canary import valid

STOCKADE = Path(sys.executable).parent / "stockade"
LETTER = "Dear Jane,\nmy card is 4111 1111 1111 1111.\n"
POLICY = """\
version: 1
name: mine
privacy:
  detect:
    custom: [{name: ward, pattern: 'W-[0-9]{4}', category: phi.identifier}]
"""
SECRET = "The blend is aged for nine winters in barrels of wild cherry and turned by hand at every second full moon of the year.\n"


@pytest.fixture
def room(tmp_path: Path) -> Path:
    for name, text in {
        "letter.txt": LETTER,
        "prompt.txt": f"Ward W-1234 asks.\n{LETTER}",
        "my-policy.yaml": POLICY,
        "formula.txt": SECRET,
        "roadmap.md": SECRET.replace("winters", "summers"),
        "test.jsonl": json.dumps({"text": LETTER, "spans": [{"start": 21, "end": 40, "label": "CARD"}]}) + "\n",
        "labels.json": '{"CARD": "financial.card"}',
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def run(room: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [str(STOCKADE), "privacy", *words, "--registry", str(room / "registry.json")]
    return subprocess.run(command, cwd=room, input=stdin, capture_output=True, text=True, timeout=120)


def said(done: subprocess.CompletedProcess[str], status: int = 0) -> Any:
    assert done.returncode == status, done
    return json.loads(done.stdout)


def test_every_example_of_the_help_runs(room: Path) -> None:
    """As it stands there, but for sudo, the pipe before it, and the id of a document, which is another each time."""
    helped = subprocess.run([str(STOCKADE), "privacy", "--help"], capture_output=True, text=True, timeout=60).stdout
    examples = [line.strip() for module in ACTIONS.values() for line in module.EXAMPLES.splitlines()]
    document = ""
    for example in examples:
        assert example in helped
        match = re.search(r"stockade privacy (.*?)\)?$", example)
        assert match, example
        words = [document if word.startswith("doc-") else word for word in shlex.split(match[1])]
        done = run(room, *words, stdin=LETTER)
        found = words[0] == "explain" and "--to" not in words
        assert done.returncode in ((1,) if found else (0, 1)), (example, done)
        assert "Traceback" not in done.stderr
        if words[0] == "register" and "--list" in words:
            document = done.stdout.split()[0]
    assert document


def test_explain_tells_in_json_where_what_and_by_whom(room: Path) -> None:
    explained = said(run(room, "explain", "letter.txt", "-o", "json"), 1)
    (card,) = [each for each in explained["findings"] if each["category"] == "financial.card"]
    assert (card["line"], card["column"], card["detector"], card["text"]) == (2, 12, "pattern:card", "4111 1111 1111 1111")
    assert explained["missing"] == []
    assert explained["detectors"].keys() == {"pattern", "credential", "document", "model"}
    assert said(run(room, "explain", "-", "-o", "json", stdin="What is a cache?"))["findings"] == []
    own = said(run(room, "explain", "--policy", "my-policy.yaml", "prompt.txt", "-o", "json"), 1)
    assert "custom:ward" in [each["detector"] for each in own["findings"]]


def test_eval_measures(room: Path) -> None:
    measured = said(run(room, "eval", "test.jsonl", "--map", "labels.json", "-o", "json"))
    assert measured["categories"]["financial.card"]["recall"] == 1
    assert measured["texts"] == 1


def test_what_is_registered_is_explained_and_forgotten(room: Path) -> None:
    (document,) = said(run(room, "register", "formula.txt", "-o", "json"))
    assert SECRET[:20] not in (room / "registry.json").read_text()
    found = said(run(room, "explain", "formula.txt", "-o", "json"), 1)["findings"]
    assert f"document:{document['id']}" in [each["detector"] for each in found]
    assert said(run(room, "register", "--remove", document["id"], "-o", "json")) == []
    done = run(room, "explain", "formula.txt", "-o", "json")
    assert "ip.document" not in done.stdout


def test_a_canary_is_printed_once_listed_by_name_and_found(room: Path) -> None:
    made = said(run(room, "canary", "billing-bot", "-o", "json"))
    assert valid(made["canary"])
    assert made["canary"] not in (room / "registry.json").read_text()
    assert [each["name"] for each in said(run(room, "canary", "--list", "-o", "json"))] == ["billing-bot"]
    (room / "leak").write_text(f"x={made['canary']}")
    assert "canary:billing-bot" in [each["detector"] for each in said(run(room, "explain", "leak", "-o", "json"), 1)["findings"]]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("explain", "none.txt"), ("none.txt", "No such file")),
        (("explain", "--policy", "bad.yaml", "letter.txt"), ("bad.yaml:4:", "categry", "accepted:")),
        (("explain", "--policy", "none.yaml", "letter.txt"), ("none.yaml",)),
        (("eval", "bad.jsonl"), ("bad.jsonl:2:", "spans")),
        (("eval", "empty.jsonl"), ("empty.jsonl", "no text")),
        (("eval", "letter.txt"), ("letter.txt:1:1: not JSON", '{"text": "…"')),
        (("eval", "no-spans.jsonl"), ("no-spans.jsonl:1: there is no `spans`",)),
        (("eval", "none.jsonl"), ("cannot read none.jsonl: No such file or directory",)),
        (("eval", "test.jsonl", "--map", "letter.txt"), ("letter.txt:1:1: not JSON",)),
        (("eval", "test.jsonl", "--map", "bad-map.json"), ("bad-map.json", "financial.card")),
        (("register", "short.txt"), ("short.txt", "too few")),
        (("register", "--remove", "doc-x"), ("doc-x", "--list")),
        (("register",), ("nothing to do", "--list")),
        (("canary", "a b"), ("'a b'", "without spaces")),
        (("canary", "--remove", "nobody"), ("nobody", "--list")),
        (("canary",), ("nothing to do",)),
    ],
)
def test_an_error_says_where_and_what_instead(room: Path, words: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    (room / "bad.yaml").write_text("version: 1\nname: x\nprivacy:\n  detect: {custom: [{name: a, pattern: b, categry: pii.person}]}\n")
    (room / "bad.jsonl").write_text('{"text": "a", "spans": []}\n{"text": "b"}\n')
    (room / "no-spans.jsonl").write_text('{"text": "b"}\n')
    (room / "empty.jsonl").write_text("\n")
    (room / "bad-map.json").write_text('{"CARD": "no.such"}')
    (room / "short.txt").write_text("two words\n")
    done = run(room, *words)
    assert done.returncode not in (0, 1), done
    assert not done.stdout
    for each in wanted:
        assert each in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    if words[0] in ("register", "canary"):
        assert not (room / "registry.json").exists() or '"documents": []' in (room / "registry.json").read_text()


def test_a_registry_that_cannot_be_written_stays_as_it_was_and_says_so(room: Path) -> None:
    said(run(room, "register", "formula.txt", "-o", "json"))
    before = (room / "registry.json").read_bytes()
    words = [str(STOCKADE), "privacy", "register", "roadmap.md", "--registry", "registry.json"]
    limited = ["prlimit", f"--fsize={len(before)}", *words]  # a full disk, to whoever writes
    done = subprocess.run(limited, cwd=room, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot write registry.json: File too large [privacy_registry]" in done.stderr and "nothing was changed" in done.stderr
    assert "Traceback" not in done.stderr
    assert (room / "registry.json").read_bytes() == before
    assert not list(room.glob(".registry.*"))
