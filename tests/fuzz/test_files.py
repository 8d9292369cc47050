"""Files: policies, suites and trails that somebody damaged. Mutated from what is shipped and what the agent writes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from fuzz.campaign import mutate
from fuzz.corpus import shipped, spoilt
from fuzz.test_structs import JSON, lied
from stockade.audit import Trail
from stockade.audit.chain import GENESIS, seal
from stockade.audit.pin import beside
from stockade.audit.read import Broken, Filter, read
from stockade.audit.verify import verify
from stockade.cli import main
from stockade.policy.cases.suite import MOST, read_suite
from stockade.policy.format.problems import PolicyError
from unit.audit.samples import BOX, connect, request
from unit.policy.test_load_fuzz import loads


def test_policies(tmp_path: Path) -> None:
    """The octets of shipped policies, mutated: they load and can be used, or the loader says where and what."""
    mutate(spoilt([path.read_bytes() for path in shipped(tests=False)]), lambda data: loads(data, tmp_path), examples=150)


def test_suites(tmp_path: Path) -> None:
    """A suite, or every mistake of it with its place."""
    for path in shipped(tests=False):
        shutil.copy(path, tmp_path)
    shutil.copy(shipped(tests=False)[0].parent / "rego.rego", tmp_path)
    file = tmp_path / "slack_test.yaml"

    def check(data: bytes) -> None:
        file.write_bytes(data)
        try:
            suite = read_suite(file)
        except PolicyError as error:
            assert any(problem.severity == "error" for problem in error.problems)
            assert all(problem.line >= 1 and problem.column >= 1 and problem.code for problem in error.problems)
            return
        assert len(suite.cases) <= MOST and all(case.expected.outcome for case in suite.cases)

    mutate(spoilt([path.read_bytes() for path in shipped(tests=True) if path.stat().st_size < 20_000]), check, examples=150)


# trails


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trail of nine lines, with its keys and its pinned head."""
    path = tmp_path_factory.mktemp("trail") / "audit.jsonl"
    for count in (4, 3):
        trail = Trail.open(path)
        for number in range(count):
            trail.append(BOX, request(f"/{number}") if number & 1 else connect(f"host{number}.example"))
        trail.close()
    assert verify(path).ok and verify(path).checkpoints == 2
    return path


@pytest.fixture
def damaged(whole: Path, tmp_path: Path) -> Path:
    for suffix in ("pub", "head"):
        shutil.copy(beside(whole, suffix), beside(tmp_path / "audit.jsonl", suffix))
    return tmp_path / "audit.jsonl"


def shown(path: Path) -> None:
    """What every way of reading a trail makes of it, printed as a person would have it; none may end in anything but an exit status."""
    pattern = ["--host", "*", "--binary", "*", "--sandbox", "box-7f"]
    for action in (["verify"], ["tail"], ["grep", *pattern], ["stats"], ["show", "2"]):
        for form in ("text", "json"):
            out = io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                status = main(["audit", *action, str(path), "-o", form])
            assert status in (0, 1) or "[several_records]" in out.getvalue(), out.getvalue()
            assert "\x1b" not in out.getvalue()


def test_damaged_trails(whole: Path, damaged: Path) -> None:
    """Whatever is done to its octets is found, and what is shown of it is a record that was written, or a line named as broken."""
    good = whole.read_bytes()
    written = list(read(whole, Filter()))

    def check(data: bytes) -> None:
        damaged.write_bytes(data)
        assert verify(damaged).ok is (data == good)
        for each in read(damaged, Filter()):
            assert isinstance(each, Broken) or each in written

    mutate(spoilt([good]), check, examples=250)

    def print_it(data: bytes) -> None:
        damaged.write_bytes(data)
        shown(damaged)

    mutate(spoilt([good]), print_it, examples=20)


def forged(fields: dict[str, Any]) -> bytes:
    """A line with a hash of its own: whoever can write the file can compute that."""
    body = json.dumps(fields | {"prev": GENESIS}, sort_keys=True, separators=(",", ":")).encode("ascii")
    return body[:-1] + b',"hash":"' + hashlib.sha256(body).hexdigest().encode("ascii") + b'"}\n'


def test_forged_lines(whole: Path, damaged: Path) -> None:
    """A line whose hash is right and whose content is any JSON: not verified, and read without a traceback."""
    record, checkpoint = (json.loads(line) for line in (whole.read_bytes().splitlines()[at] for at in (1, 4)))
    for line in (record, checkpoint):
        del line["hash"], line["prev"]
    first = record | {"seq": 1}
    assert forged(first) == seal(dict(first), GENESIS)[0]

    def check(fields: dict[str, Any]) -> None:
        damaged.write_bytes(forged(fields))
        assert not verify(damaged).ok
        shown(damaged)

    mutate(lied(first) | lied(record) | lied(checkpoint) | st.dictionaries(st.text(max_size=8), JSON, max_size=4), check, examples=60)


def test_forged_checkpoints(damaged: Path) -> None:
    """With no key to compare with, a checkpoint is weighed by its signature alone, whatever else is in it."""
    beside(damaged, "pub").unlink()
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    for more in (float("nan"), float("-inf"), 10**3000, "\ud800", deep, {"": None}):
        damaged.write_bytes(forged({"checkpoint": {"seq": 0, "hash": GENESIS, "key": "00" * 32, "signature": "00" * 64, "more": more}}))
        verdict = verify(damaged)
        assert (verdict.ok, verdict.first_bad_line) == (False, 1) and "forged" in (verdict.problem or "")
        shown(damaged)
