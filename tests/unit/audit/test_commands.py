"""`stockade audit verify` over directories, `rotate-key` and `ship`, as a person calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stockade.audit import Trail, verify
from stockade.cli import main
from stockade.settings import Audit, Checkpoint
from unit.audit.samples import BOX, connect


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_directory_of_trails_is_verified_one_by_one(written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trail = Trail.open(tmp_path / "other.jsonl")
    for _ in range(2):
        trail.append(BOX, connect())
        trail.rotate(now=True)
    trail.close()
    assert main(["audit", "verify", str(tmp_path)]) == 0
    first, second = lines(capsys)
    assert first.startswith(f"{written}: ok, 7 records, 2 checkpoints") and "2 records in 3 files" in second
    (tmp_path / "other.jsonl.000001").unlink()
    assert main(["audit", "verify", str(tmp_path)]) == 1
    assert f"{tmp_path}/other.jsonl.000002:1: the lines before it are missing" in lines(capsys)[1]
    assert main(["audit", "verify", str(tmp_path / "other.jsonl.000002"), "-o", "json"]) == 1
    assert json.loads(lines(capsys)[0])["file"] == f"{tmp_path}/other.jsonl.000002"
    (tmp_path / "none").mkdir()
    assert main(["audit", "verify", str(tmp_path / "none")]) == 2
    assert main(["audit", "verify", str(tmp_path), "--head", f"{written}.head"]) == 2


@pytest.mark.parametrize("running", [False, True])
def test_a_key_is_replaced(written: Path, capsys: pytest.CaptureFixture[str], running: bool) -> None:
    trail = Trail.open(written, Audit(checkpoint=Checkpoint(seconds=0.1))) if running else None
    assert main(["audit", "rotate-key", str(written), "-o", "json"]) == 0
    said = json.loads(lines(capsys)[0])
    assert said["taken"] and said["old"] != said["new"]
    if trail is not None:
        trail.append(BOX, connect())
        trail.close()
    records = [json.loads(line) for line in written.read_bytes().splitlines()]
    (told,) = [one for one in records if one.get("reason") == "key_replaced"]
    assert told["detail"] == {"old": said["old"], "new": said["new"]}
    assert verify(written).ok
    Trail.open(written).close()
    assert main(["audit", "rotate-key", str(written) + ".nowhere"]) == 2


@pytest.mark.root
def test_what_no_agent_delivers_any_more_is_shipped(written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings, out = tmp_path / "stockade.yaml", tmp_path / "out"
    settings.write_text(
        f'audit: {{sinks: [{{type: file, path: "{out}.{{trail}}"}}, {{type: syslog, address: "127.0.0.1:9", transport: tcp}}]}}\n'
    )
    command = ["audit", "ship", str(tmp_path), "--settings", str(settings), "--wait", "0.3", "-o", "json"]
    assert main(command) == 1, "nobody listens on port 9"
    file, syslog = map(json.loads, lines(capsys))
    assert (file["name"], file["now"], file["behind"]) == ("file", 7, 0)
    assert (syslog["name"], syslog["now"], syslog["lost"]) == ("syslog", 0, 0) and syslog["behind"] and "refused" in syslog["failing"]
    shipped = [json.loads(line) for line in Path(f"{out}.audit.jsonl").read_bytes().splitlines()]
    assert [one["seq"] for one in shipped] == list(range(1, 8))
    settings.write_text(f'audit: {{sinks: [{{type: file, path: "{out}.{{trail}}"}}]}}\n')
    assert main(command) == 0
    assert json.loads(lines(capsys)[0])["now"] == 0, "once is enough"
    settings.write_text("version: 1\n")
    assert main(command) == 2
