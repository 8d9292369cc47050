"""Every damage is found, at the right line, and two verifiers that share no code agree on it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stockade.audit import Trail, verify
from stockade.audit.chain import seal
from stockade.audit.keys import Signer
from stockade.audit.record import canonical
from stockade.cli import main
from stockade.types import StockadeError
from unit.audit.samples import BOX, connect

DOC = Path(__file__).parents[3] / "docs" / "audit-verify.md"
Lines = list[bytes]


@pytest.fixture(scope="session")
def second() -> Any:
    """The verifier of the documentation."""
    (source,) = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.S)
    module = types.ModuleType("second_verifier")
    exec(compile(source, str(DOC), "exec"), module.__dict__)
    return module


def rehash(line: bytes, prev: str | None = None, **changes: Any) -> bytes:
    """A forger's line: changed, with a hash that fits."""
    fields = json.loads(line) | changes
    del fields["hash"]
    return seal(fields, prev or fields["prev"])[0]


def rechain(lines: Lines, first: int) -> Lines:
    """A forger's file: every line from index `first` on follows the one before it again."""
    out = lines[:first]
    for line in lines[first:]:
        out.append(rehash(line, json.loads(out[-1])["hash"]))
    return out


def changed(lines: Lines) -> Lines:
    return [*lines[:2], lines[2].replace(b'"deny"', b'"allow"'), *lines[3:]]


def respaced(lines: Lines) -> Lines:
    return [*lines[:2], lines[2].replace(b'":', b'": ', 1), *lines[3:]]


def spelt_otherwise(lines: Lines) -> Lines:
    fields = json.loads(lines[2])
    del fields["hash"]
    body = json.dumps(fields).encode()  # not canonical, but its hash is right
    seal_of = hashlib.sha256(body).hexdigest().encode()
    return [*lines[:2], body[:-1] + b',"hash":"' + seal_of + b'"}\n', *lines[3:]]


DAMAGES: list[tuple[str, Callable[[Lines], Lines], int, str]] = [
    ("changed", changed, 3, "changed"),
    ("respaced", respaced, 3, "changed"),
    ("spelt otherwise and rehashed", spelt_otherwise, 4, "rewritten"),
    ("changed and rehashed", lambda x: [*x[:2], rehash(x[2], decision="allow"), *x[3:]], 4, "rewritten"),
    ("last line changed and rehashed", lambda x: [*x[:8], rehash(x[8], signature="00")], 9, "signature"),
    ("dropped", lambda x: x[:2] + x[3:], 3, "dropped: records 3 to 3"),
    ("first dropped", lambda x: x[1:], 1, "before it are missing"),
    ("checkpoint dropped", lambda x: x[:4] + x[5:], 5, "does not follow line 4"),
    ("reordered", lambda x: [x[0], x[2], x[1], *x[3:]], 2, "reordered: it belongs after line 3, and line 3 belongs here"),
    ("moved", lambda x: [x[0], x[3], x[1], x[2], *x[4:]], 2, "reordered: it belongs after line 4, and line 3 belongs here"),
    ("duplicated", lambda x: x[:3] + x[2:], 4, "duplicated: it repeats line 3"),
    ("duplicated later", lambda x: [*x[:7], x[1], *x[7:]], 8, "duplicated: it repeats line 2"),
    ("inserted", lambda x: [*x[:3], rehash(x[3], "a" * 64, pid=1), *x[3:]], 4, "inserted: line 5 belongs here"),
    ("inserted text", lambda x: [*x[:3], b"hello\n", *x[3:]], 4, "not a line"),
    ("inserted empty", lambda x: [*x[:3], b"\n", *x[3:]], 4, "not a line"),
    ("inserted array", lambda x: [*x[:3], b"[]\n", *x[3:]], 4, "not a line"),
    ("truncated in mid-line", lambda x: [*x[:7], x[7][:100]], 8, "truncated"),
    ("newline lost", lambda x: [*x[:8], x[8][:-1]], 9, "truncated"),
    ("tail cut", lambda x: x[:7], 8, "cut tail: the file ends at record 6, its pinned head is record 7"),
    ("tail cut at a checkpoint", lambda x: x[:5], 6, "cut tail"),
    ("last checkpoint cut", lambda x: x[:8], 9, "cut tail"),
    ("emptied", lambda x: [], 1, "cut tail: the file ends at record 0"),
    ("rewritten from line 3 on", lambda x: rechain([*x[:2], rehash(x[2], decision="allow"), *x[3:]], 3), 5, "forged: the checkpoint"),
    ("seq skipped", lambda x: rechain([*x[:5], rehash(x[5], seq=9), *x[6:]], 6), 6, "forged: it follows record 4"),
    ("seq is text", lambda x: [*x[:8], rehash(x[8], checkpoint="none")], 9, "forged"),
    ("zeroed block", lambda x: [*x[:6], b"\0" * 512 + x[6][512:], *x[7:]], 7, ""),
]


@pytest.mark.parametrize(("damage", "line", "problem"), [row[1:] for row in DAMAGES], ids=[row[0] for row in DAMAGES])
def test_damage_is_found_at_its_line(written: Path, second: Any, damage: Callable[[Lines], Lines], line: int, problem: str) -> None:
    written.write_bytes(b"".join(damage(written.read_bytes().splitlines(keepends=True))))
    verdict = verify(written)
    assert (verdict.ok, verdict.first_bad_line) == (False, line), verdict
    assert problem in str(verdict.problem)
    assert second.verify(written, f"{written}.pub", f"{written}.head")[0] == line


def test_a_whole_trail(written: Path, second: Any) -> None:
    verdict = verify(written)
    assert (verdict.ok, verdict.records, verdict.checkpoints, verdict.unsigned, verdict.pinned_key) == (True, 7, 2, 0, True)
    assert second.verify(written, f"{written}.pub", f"{written}.head") is None
    assert second.verify(written) is None


def test_an_empty_trail(path: Path, second: Any) -> None:
    Trail.open(path).close()
    assert verify(path) == verify(path, Path(f"{path}.pub"))
    assert verify(path).ok and verify(path).records == 0
    assert second.verify(path, f"{path}.pub", f"{path}.head") is None


def test_a_trail_being_written_is_whole_and_counts_what_is_not_signed(path: Path) -> None:
    trail = Trail.open(path)
    trail.append(BOX, connect())
    assert (verify(path).ok, verify(path).unsigned) == (True, 1)
    trail.close()
    assert verify(path).unsigned == 0


def forge_all(path: Path) -> None:
    """Rewrite the trail with a key of one's own: chain, signatures, PATH.pub and PATH.head all fit."""
    signer = Signer(Ed25519PrivateKey.generate())
    out: Lines = []
    prev = "0" * 64
    for raw in path.read_bytes().splitlines():
        fields = json.loads(raw)
        fields.pop("hash")
        if "checkpoint" in fields:
            what = fields["checkpoint"] | {"hash": prev, "key": signer.name}
            fields |= {"checkpoint": what, "signature": signer.sign(canonical(what))}
        else:
            fields["decision"] = "allow"
        line, prev = seal(fields, prev)
        out.append(line)
    path.write_bytes(b"".join(out))
    Path(f"{path}.head").write_text(json.dumps({"seq": 7, "hash": prev}))


def test_a_forged_trail_falls_to_the_public_key(written: Path, second: Any) -> None:
    forge_all(written)
    assert "key that is not the trail's" in str(verify(written).problem)
    assert (verify(written).first_bad_line, second.verify(written, f"{written}.pub")[0]) == (5, 5)


def test_without_a_public_key_a_forged_trail_passes_and_the_verdict_says_so(written: Path) -> None:
    forge_all(written)
    Path(f"{written}.pub").unlink()
    assert (verify(written).ok, verify(written).pinned_key) == (True, False)


def test_a_copy_of_the_head_kept_elsewhere_outlives_the_one_beside_the_trail(written: Path, tmp_path: Path, second: Any) -> None:
    copy = tmp_path / "elsewhere.head"
    shutil.copy(f"{written}.head", copy)
    Trail.open(written).close()
    assert verify(written, head=copy).ok
    lines = written.read_bytes().splitlines(keepends=True)
    written.write_bytes(b"".join(lines[:5]))
    Path(f"{written}.head").write_text(json.dumps({"seq": 4, "hash": json.loads(lines[4])["hash"]}))
    assert verify(written).ok  # both cut alike: what is beside the trail cannot tell
    assert verify(written, head=copy).first_bad_line == 6
    assert second.verify(written, None, copy)[0] == 6


def test_a_replaced_key_keeps_older_checkpoints_valid(written: Path, second: Any) -> None:
    Path(f"{written}.key").unlink()
    trail = Trail.open(written)
    trail.append(BOX, connect())
    trail.close()
    assert Path(f"{written}.pub").read_text().count("BEGIN PUBLIC KEY") == 2
    assert verify(written).ok
    assert second.verify(written, f"{written}.pub", f"{written}.head") is None


def test_the_command_says_where(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify", str(written)]) == 0
    written.write_bytes(changed(written.read_bytes().splitlines(keepends=True))[2])
    assert main(["audit", "verify", str(written), "-o", "json"]) == 1
    text = capsys.readouterr().out.splitlines()
    assert "ok, 7 records" in text[0] and json.loads(text[1])["first_bad_line"] == 1
    assert main(["audit", "verify", str(written) + ".nowhere"]) == 2


def test_keys_and_heads_that_are_none(written: Path) -> None:
    for wrong in ({"public_key": written}, {"head": written}, {"head": Path("/nonexistent")}):
        with pytest.raises(StockadeError):
            verify(written, **wrong)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
def test_the_second_verifier_runs_alone(written: Path, tmp_path: Path, second: Any) -> None:
    script = tmp_path / "verify.py"
    (source,) = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.S)
    script.write_text(source)
    done = subprocess.run(["python3", script, written, f"{written}.pub", f"{written}.head"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
