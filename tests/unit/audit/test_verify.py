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
from stockade.audit.keys import Signer, replace_key
from stockade.audit.record import canonical
from stockade.cli import main
from stockade.settings import Audit, Checkpoint, Rotate
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


def said(second: Any, path: Path) -> tuple[str, int]:
    """The file and the line that the second verifier names."""
    file, line, _ = second.verify(path, f"{path}.pub", f"{path}.head")
    return str(file), line


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


def moved_checkpoint(lines: Lines) -> bytes:
    """The later checkpoint, whose signature is good, chained in where the earlier one stood."""
    return rehash(lines[8], json.loads(lines[3])["hash"])


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
    ("first dropped, seq begins at 0", lambda x: [rehash(x[0], "a" * 64, seq=0), *x[1:]], 1, "before it are missing"),
    ("checkpoint of another place", lambda x: [*x[:4], moved_checkpoint(x), *x[5:]], 5, "for another place in the chain"),
    ("checkpoint swapped", lambda x: [*x[:4], x[8], *x[5:8], x[4]], 5, "reordered: it belongs after line 8, and line 9 belongs here"),
    ("zeroed block", lambda x: [*x[:6], b"\0" * 512 + x[6][512:], *x[7:]], 7, ""),
]


@pytest.mark.parametrize(("damage", "line", "problem"), [row[1:] for row in DAMAGES], ids=[row[0] for row in DAMAGES])
def test_damage_is_found_at_its_line(written: Path, second: Any, damage: Callable[[Lines], Lines], line: int, problem: str) -> None:
    written.write_bytes(b"".join(damage(written.read_bytes().splitlines(keepends=True))))
    verdict = verify(written)
    assert (verdict.ok, verdict.first_bad_line) == (False, line), verdict
    assert problem in str(verdict.problem)
    assert said(second, written) == (verdict.file, line)


# --- over several files ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def rotated(path: Path) -> Path:
    """.000001: records 1–3 and a checkpoint; .000002: 4–6 and a checkpoint; PATH: 7–9 and a checkpoint."""
    trail = Trail.open(path)
    for number in range(1, 10):
        trail.append(BOX, connect(f"host{number}.example"))
        if number in (3, 6):
            trail.rotate(now=True)
    trail.close()
    return path


def edit(path: Path, damage: Callable[[Lines], Lines]) -> None:
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))


def part(path: Path, number: int) -> Path:
    return Path(f"{path}.{number:06d}")


def swap_files(path: Path) -> None:
    part(path, 1).rename(part(path, 9))
    part(path, 2).rename(part(path, 1))
    part(path, 9).rename(part(path, 2))


def swap_lines(path: Path) -> None:
    one, two = (part(path, number).read_bytes().splitlines(keepends=True) for number in (1, 2))
    part(path, 1).write_bytes(b"".join([*one[:2], two[0], *one[3:]]))
    part(path, 2).write_bytes(b"".join([one[2], *two[1:]]))


def foreign_checkpoint(path: Path) -> None:
    """One by a key of one's own, chained in and everything after it rechained."""
    signer = Signer(Ed25519PrivateKey.generate())

    def sign(lines: Lines) -> Lines:
        what = json.loads(lines[3])["checkpoint"] | {"key": signer.name}
        return [*lines[:3], rehash(lines[3], checkpoint=what, signature=signer.sign(canonical(what)))]

    edit(part(path, 2), sign)


def renumbered(path: Path) -> None:
    """The gap that a missing file leaves, closed up."""
    part(path, 1).unlink()
    part(path, 2).rename(part(path, 1))


ROTATED: list[tuple[str, Callable[[Path], None], str, int, str]] = [
    ("changed", lambda p: edit(part(p, 1), changed), ".000001", 3, "changed"),
    ("dropped at the start", lambda p: edit(part(p, 2), lambda x: x[1:]), ".000002", 1, "dropped: records 4 to 4"),
    ("dropped at the end", lambda p: edit(part(p, 1), lambda x: x[:3]), ".000002", 1, "does not follow the end of the file before it"),
    ("reordered over files", swap_lines, ".000001", 3, "reordered: it belongs after line 4, and audit.jsonl.000002:1 belongs here"),
    ("files exchanged", swap_files, ".000002", 1, "inserted: audit.jsonl:1 belongs here"),
    ("file missing", lambda p: part(p, 2).unlink(), "", 1, "dropped: records 4 to 6"),
    ("first file missing", lambda p: part(p, 1).unlink(), ".000002", 1, "the lines before it are missing: records 1 to 3"),
    ("first file missing, the others renumbered", renumbered, ".000001", 1, "the lines before it are missing: records 1 to 3"),
    ("a file twice", lambda p: shutil.copy(part(p, 2), part(p, 3)), ".000003", 1, "duplicated: it repeats audit.jsonl.000002:1"),
    ("duplicated over files", lambda p: edit(p, lambda x: [x[0], part(p, 1).read_bytes().splitlines(keepends=True)[1], *x[1:]]), "", 2,
     "duplicated: it repeats audit.jsonl.000001:2"),
    ("inserted", lambda p: edit(part(p, 2), lambda x: [rehash(x[0], "a" * 64, pid=1), *x]), ".000002", 1, "inserted: line 2 belongs here"),
    ("truncated in a closed file", lambda p: edit(part(p, 1), lambda x: [*x[:3], x[3][:50]]), ".000001", 4, "truncated"),
    ("tail cut", lambda p: edit(p, lambda x: x[:2]), "", 3, "cut tail: the file ends at record 8, its pinned head is record 9"),
    ("the newest file emptied", lambda p: edit(p, lambda x: []), "", 1, "cut tail: the file ends at record 6"),
    ("the newest file missing", lambda p: p.unlink(), ".000002", 5, "cut tail: the file ends at record 6"),
    ("the two newest files missing", lambda p: (p.unlink(), part(p, 2).unlink()), ".000001", 5, "cut tail: the file ends at record 3"),
    ("wrong key", foreign_checkpoint, ".000002", 4, "a key that is not the trail's"),
    ("rewritten over files", lambda p: rewrite_over_files(p), ".000001", 4, "forged: the checkpoint"),
]  # fmt: skip


def rewrite_over_files(path: Path) -> None:
    files = [part(path, 1), part(path, 2), path]
    lines = [file.read_bytes().splitlines(keepends=True) for file in files]
    whole = [line for one in lines for line in one]
    whole = rechain([*whole[:1], rehash(whole[1], decision="allow"), *whole[2:]], 2)
    for file, one in zip(files, lines, strict=True):
        file.write_bytes(b"".join(whole[: len(one)]))
        whole = whole[len(one) :]


@pytest.mark.parametrize(("damage", "file", "line", "problem"), [row[1:] for row in ROTATED], ids=[row[0] for row in ROTATED])
def test_damage_is_found_over_files(rotated: Path, second: Any, damage: Callable[[Path], None], file: str, line: int, problem: str) -> None:
    damage(rotated)
    verdict = verify(rotated)
    assert (verdict.ok, verdict.file, verdict.first_bad_line) == (False, f"{rotated}{file}", line), verdict
    assert problem in str(verdict.problem)
    assert said(second, rotated) == (f"{rotated}{file}", line)


def test_a_whole_trail_of_several_files(rotated: Path, second: Any) -> None:
    verdict = verify(rotated)
    assert (verdict.ok, verdict.records, verdict.checkpoints, verdict.files, verdict.removed) == (True, 9, 3, 3, 0)
    assert verify(part(rotated, 2)) == verdict, "any of its files names the trail"
    assert second.verify(rotated, f"{rotated}.pub", f"{rotated}.head") is None


def test_the_quick_look_and_the_slow_one_say_the_same(path: Path, second: Any) -> None:
    """Records that a trusted signature covers are not parsed. Damage to any octet of any of them is found all the same, at its line."""
    trail = Trail.open(path, Audit(checkpoint=Checkpoint(records=6)))
    for number in range(30):
        trail.append(BOX, connect(f"host{number}.example"))
        if number % 5 == 4:
            trail.checkpoint()
    trail.close()
    assert verify(path).ok and verify(path).checkpoints == 6
    data = path.read_bytes()
    for place in range(0, len(data), 97):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        line = data[:place].count(b"\n") + 1
        quick, slow = verify(path), verify(path, head=Path(f"{path}.head"))
        assert quick == slow and (quick.ok, quick.first_bad_line) == (False, line), (place, quick)
        assert second.verify(path, f"{path}.pub", f"{path}.head")[1] == line


def test_files_that_the_settings_let_go_are_vouched_for(path: Path, second: Any) -> None:
    trail = Trail.open(path, Audit(rotate=Rotate(keep=2)))
    for number in range(1, 9):
        trail.append(BOX, connect(f"host{number}.example"))
        trail.rotate(now=True)
    trail.close()
    assert [number for number in range(1, 9) if part(path, number).exists()] == [7, 8]
    verdict = verify(path)
    assert verdict.ok and verdict.removed > 6 and verdict.pinned_key, verdict
    assert second.verify(path, f"{path}.pub", f"{path}.head") is None
    part(path, 7).unlink()  # and one more, by somebody who cannot sign
    assert (verify(path).file, verify(path).first_bad_line) == (str(part(path, 8)), 1)
    assert said(second, path) == (str(part(path, 8)), 1)


def test_an_old_key_is_good_for_nothing_new(path: Path, second: Any) -> None:
    """Whoever stole the key that was replaced can sign; but not behind a checkpoint by the newer one."""
    trail = Trail.open(path)
    trail.append(BOX, connect())
    stolen = trail._signer
    replace_key(Path(f"{path}.key"))
    trail.take_key()
    trail.append(BOX, connect())
    trail.close()
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [line.get("reason", "checkpoint") for line in records] == ["no_rule", "key_replaced", "checkpoint", "no_rule", "checkpoint"]
    assert records[1]["detail"] == {"old": stolen.name, "new": records[4]["checkpoint"]["key"]}
    assert records[2]["checkpoint"]["key"] == stolen.name, "the old key vouches for the new one"
    assert verify(path).ok and second.verify(path, f"{path}.pub", f"{path}.head") is None

    def sign(lines: Lines) -> Lines:
        last = json.loads(lines[4])
        what = last["checkpoint"] | {"key": stolen.name, "hash": last["hash"]}
        return [*lines, rehash(lines[4], last["hash"], checkpoint=what, signature=stolen.sign(canonical(what)))]

    edit(path, sign)
    assert (verify(path).first_bad_line, "had been replaced" in str(verify(path).problem)) == (6, True)
    assert second.verify(path, f"{path}.pub", f"{path}.head")[1] == 6


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
    assert (verify(written).first_bad_line, second.verify(written, f"{written}.pub")[1]) == (5, 5)


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
    assert second.verify(written, None, copy)[1] == 6


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
